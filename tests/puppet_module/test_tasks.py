"""The tasks of the module, started as Bolt starts them, and their metadata as Puppet reads them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.cli.puppet.task import PARAMETERS, REACH
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, Process, wait_until
from tests.support.puppet_module_node import MODULE
from tests.support.puppet_node import BIN

TASKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(MODULE.glob("tasks/*.json"))}
SECRET = "it's $(a) secret"

# Puppet's own reader of tasks, of their types, and of a plan, whose errors end it. Its answer has for each task whether
# it is valid, the files that it is made of, and which of some values each of its parameters accepts.
READ = """
require 'puppet'
require 'puppet/module/task'
require 'json'
folder, values, plan = ARGV
Puppet.initialize_settings(['--confdir', folder, '--vardir', folder])
Puppet[:tasks] = true
environment = Puppet::Node::Environment.create(:production, [folder])
Puppet.push_context(environments: Puppet::Environments::Static.new(environment))
Puppet::Pops::Parser::EvaluatingParser.new.parse_string(plan, 'upgrade.pp')
parser = Puppet::Pops::Types::TypeParser.singleton
found = environment.module('distlock').tasks.to_h do |task|
  accepted = task.metadata['parameters'].to_h do |name, about|
    type = parser.parse(about['type'])
    [name, JSON.parse(values).select { |value| type.instance?(value) }]
  end
  [task.name, { valid: task.validate, files: task.files.map { |file| file['name'] }, accepted: accepted }]
end
puts found.to_json
"""
VALUES = [
    None,
    "x",
    "a/b",
    "__x",
    "",
    "/etc/x",
    0,
    1,
    -1,
    1.5,
    "10m",
    "1h30m",
    "soon",
    True,
    ["x"],
    [],
    ["a/b"],
    "idle",
]
TIMES = [1, 1.5, "10m", "1h30m"]
GATE = ("gate_timeout", "gate_every", "gate_for")
# What each parameter accepts, by its name; None if it may be left out.
ACCEPTED: dict[str, list[Any]] = {
    "name": ["x", "10m", "1h30m", "soon", "idle"],
    "lock_names": [["x"]],
    "timeout": [0, 1, -1, 1.5, "10m", "1h30m"],
    **dict.fromkeys(("ttl", "expect", "cooldown", "duration", "since", "connect_timeout", *GATE), TIMES),
    **{word: [1] for word in ("token", "slots")},
    "rank": [0, 1],
    **{word: [True] for word in ("shared", "force")},
    "until": ["idle"],
    "endpoints": ["x", "a/b", "__x", "/etc/x", "10m", "1h30m", "soon", ["x"], ["a/b"], "idle"],
    **{word: ["/etc/x"] for word in ("config", "cacert", "cert", "key", "password_file")},
}
TEXT = ["x", "a/b", "__x", "/etc/x", "10m", "1h30m", "soon", "idle"]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def bolt(distlock_env: dict[str, str], tmp_path: Path) -> Callable[..., Process]:
    """bolt("lock", env={}, parameter=value...) starts a task as Bolt does: its files copied, and JSON on stdin."""

    def start(task: str, /, env: dict[str, str] | None = None, **parameters: Any) -> Process:
        folder = tmp_path / "install dir"
        for file in (f"distlock/tasks/{task}.sh", *TASKS[task]["files"]):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(MODULE / file.partition("/")[2], target)
            target.chmod(0o644)
        executable = folder / f"distlock/tasks/{task}.sh"
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
        pipe = subprocess.PIPE
        full = {**distlock_env, "PATH": f"{BIN}:/usr/bin:/bin", **(env or {})}
        process = Process([str(executable)], env=full, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        told = {"_task": f"distlock::{task}", "_installdir": str(folder), **parameters}
        process.stdin.write(json.dumps(told))
        process.stdin.close()
        return process

    return start


def ended(process: Process) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of a task. Anything on stderr is a fault."""
    process.stdin = None  # type: ignore[assignment] # it is closed
    out, err = process.communicate(timeout=BOUND)
    assert err == ""
    assert len(out.splitlines()) == 1
    return process.returncode, json.loads(out)


def test_a_lock_goes_through_the_tasks_of_a_plan(
    bolt: Callable[..., Process], realm: Realm, in_etcd: Etcd, etcd: Cluster
) -> None:
    code, taken = ended(bolt("lock", name="percona_prod", reason="it's $(odd); `x`", timeout="10m"))
    assert (code, taken["changed"], taken["locks"][0]["reason"]) == (0, True, "it's $(odd); `x`")
    holder = taken["locks"][0]
    assert holder["owner"].startswith("bolt:")
    code, refused = ended(bolt("lock", name="percona_prod"))
    error = refused["_error"]
    assert (code, list(refused), list(error)) == (1, ["_error"], ["kind", "msg", "details"])
    assert error["kind"] == "distlock/busy"
    assert f"percona_prod is held by {taken['owner']} since " in error["msg"]
    assert error["details"]["locks"][0]["token"] == taken["token"]
    waits = bolt("lock", name="percona_prod", timeout=-1)
    wait_until(lambda: realm.show("percona_prod").waiting == 1, "a task in the queue")
    code, would = ended(bolt("unlock", name="percona_prod", token=taken["token"], _noop=True))
    assert (code, would["changed"], would["msg"].endswith("would be unlocked")) == (0, True, True)
    assert realm.show("percona_prod").holders[0].token == taken["token"]
    assert ended(bolt("unlock", name="percona_prod", token=taken["token"]))[1]["changed"]
    code, second = ended(waits)
    assert (code, second["token"] > taken["token"]) == (0, True)
    code, shown = ended(bolt("show", env={"DISTLOCK_ENDPOINTS": ""}, endpoints=list(etcd.endpoints)))
    assert (code, [lock["owner"] for lock in shown["locks"]]) == (0, [second["owner"]])
    assert ended(bolt("unlock", name="percona_prod"))[1]["token"] == second["token"]
    in_etcd.assert_nothing_left()


def test_a_waiting_task_whose_connection_ends_gives_up(
    bolt: Callable[..., Process], realm: Realm, in_etcd: Etcd
) -> None:
    realm.lock("x", "web-1").acquire(0)
    process = bolt("lock", name="x", timeout=-1)
    wait_until(lambda: realm.show("x").waiting == 1, "a task in the queue")
    process.stdout.close()
    process.stderr.close()
    process.wait(BOUND)
    assert in_etcd.keys() == ["x"]


def test_what_is_missing_or_secret_is_said_as_an_error(bolt: Callable[..., Process]) -> None:
    code, missing = ended(bolt("show", env={"PATH": "/usr/bin:/bin"}))
    # On a machine with an installed distlock the task finds that one.
    if not any(Path(folder, "distlock-puppet").exists() for folder in ("/usr/local/bin", "/opt/distlock/bin")):
        assert (code, missing["_error"]["kind"]) == (1, "distlock/missing")
        assert "is not installed on this target" in missing["_error"]["msg"]
    away = {"endpoints": "http://127.0.0.1:1", "connect_timeout": 0.2}
    code, failed = ended(bolt("freeze", name="x", reason="why", user="distlock", password=SECRET, **away))
    assert (code, failed["_error"]["kind"]) == (1, "distlock/unreachable")
    assert SECRET not in json.dumps(failed)
    code, failed = ended(bolt("freeze", name="x", passwrd=SECRET))
    assert (code, failed["_error"]["kind"]) == (1, "distlock/config")
    assert SECRET not in json.dumps(failed)


def test_puppet_reads_the_tasks_and_their_types(need: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "distlock").symlink_to(MODULE)
    plan = recipe("Bolt plan")
    command = [need("ruby"), "-e", READ, str(tmp_path), json.dumps(VALUES), plan]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {f"distlock::{name}" for name in PARAMETERS}
    named = set(re.findall(r"'(distlock::\w+)'", plan))
    assert named
    assert named <= set(found)
    for name, metadata in TASKS.items():
        read = found[f"distlock::{name}"]
        assert read["valid"] is True
        assert read["files"] == [f"{name}.sh", "distlock/files/task.sh"]
        for word, accepted in read["accepted"].items():
            expected = ACCEPTED.get(word, TEXT)
            if metadata["parameters"][word]["type"].startswith("Optional["):
                expected = [None, *expected]
            assert accepted == expected, (name, word)


def test_the_commands_of_the_page_name_tasks_and_parameters() -> None:
    lines = recipe("Bolt commands").splitlines()
    assert len(lines) >= 4
    for line in lines:
        *command, task = shlex.split(line)[:4]
        assert command == ["bolt", "task", "run"]
        assert task.startswith("distlock::")
        words = [word.partition("=")[0] for word in shlex.split(line)[4:] if "=" in word]
        assert set(words) <= set(PARAMETERS[task.partition("::")[2]])


def test_the_metadata_is_that_of_the_specification_and_of_the_implementation() -> None:
    assert set(TASKS) == set(PARAMETERS)
    for name, metadata in TASKS.items():
        assert set(metadata) == {
            "puppet_task_version",
            "description",
            "supports_noop",
            "input_method",
            "parameters",
            "files",
        }
        assert (metadata["puppet_task_version"], metadata["input_method"]) == (1, "stdin")
        assert metadata["supports_noop"] is True
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert list(metadata["parameters"]) == [*PARAMETERS[name], *REACH]
        for word, about in metadata["parameters"].items():
            assert set(about) - {"sensitive"} == {"description", "type"}, (name, word)
            assert about.get("sensitive", False) is (word == "password")
            assert about["description"].endswith((".", ")"))
        script = (MODULE / f"tasks/{name}.sh").read_text()
        assert script == f'#!/bin/sh\nexec sh "$(dirname -- "$0")/../files/task.sh" {name}\n'
