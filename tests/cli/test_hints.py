"""A pasted command from a message reaches the same realm, whatever options the call had."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.cli.command_line import advise_with
from distlock_core.cli.hint import in_commands
from distlock_core.errors import LockBusy
from distlock_core.hints import see as hint_to_see
from distlock_core.testing import Cluster, Proxy
from tests.support.realm_view import Holding, RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
BIN = os.path.dirname(sys.executable)
# Names and prefixes that a shell, or a sentence, would take apart.
NAME = "it's a lock; or $HOME"
ELSEWHERE = "/else where/"


def pasted(line: str) -> subprocess.CompletedProcess[str]:
    """Run a pasted command in a shell without the settings of the call."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    env["PATH"] = f"{BIN}:{env['PATH']}"
    return subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=100, check=False)


def see(line: str) -> str:
    """The command behind `See: `."""
    found = re.search(r"See: (.*)$", line)
    assert found is not None, line
    return found[1]


@pytest.fixture
def call(run_distlock: Run, etcd: Cluster, realm: RealmView) -> Run:
    """call(*args) -> distlock that knows its realm by options alone."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        where = [f"--endpoints={etcd.endpoints[0]}", f"--prefix={realm.prefix[:-1]}{ELSEWHERE}"]
        return run_distlock(*where, *arguments, env={"DISTLOCK_ENDPOINTS": None, "DISTLOCK_PREFIX": None}, **options)

    return run


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--nowait", "--", "true"], 1),
        (["--timeout=0.3", "--quiet", "--", "true"], 1),
        (["--nowait", "--slots=3", "--", "true"], 1),
        (["--id=me", "--unlock"], 1),
        (["--unlock", "--token=1"], 1),
    ],
)
def test_a_hint_that_shows_a_lock_works_from_anywhere(call: Run, arguments: list[str], code: int) -> None:
    assert call(f"--lock-name={NAME}", "--id=other", "--reason=Upgrade", "--lock").returncode == 0
    done = call(f"--lock-name={NAME}", *arguments)
    assert done.returncode == code
    shown = pasted(see(one_line(done.stderr)))
    assert "held by   other" in shown.stdout, (done, shown)


def test_a_config_file_and_what_is_needed_to_speak_to_etcd_are_carried(
    run_distlock: Run, etcd: Cluster, realm: RealmView, config_file: Callable[[str], str]
) -> None:
    path = config_file(f"endpoints: [{etcd.endpoints[0]}]\nprefix: {realm.prefix}\n")
    env = {"DISTLOCK_ENDPOINTS": None, "DISTLOCK_PREFIX": None}
    realm.put("x", "1500000000;other;reason")
    done = run_distlock("--lock-name=x", f"--config={path}", "--transport=http", "--nowait", "--", "true", env=env)
    hint = see(one_line(done.stderr))
    assert {"--transport=http", f"--config={path}"} <= set(shlex.split(hint))
    assert "held by   other" in pasted(hint).stdout


def test_a_failed_release_can_be_repeated_from_anywhere(
    hold: Callable[..., Holding], proxy: Proxy, realm: RealmView, etcd: Cluster
) -> None:
    holder = hold(
        *(f"--endpoints={proxy.url}", f"--prefix={realm.prefix}", f"--lock-name={NAME}", "--release-timeout=0.5"),
        env={"DISTLOCK_ENDPOINTS": None, "DISTLOCK_PREFIX": None},
    )
    proxy.cut()
    assert holder.let_go() == 1
    said = one_line(holder.process.stderr.read())
    hint = said.partition("When etcd is back: ")[2]
    assert hint.startswith("distlock ")
    proxy.heal()
    assert pasted(hint).returncode == 0
    assert realm.entries() == {}


def test_where_a_lock_was_never_held_the_list_is_that_of_the_realm(call: Run) -> None:
    assert call("--lock-name=there", "--id=other", "--lock").returncode == 0
    shown = call("--lock-name=here", "--show").stdout
    hint = re.search(r"spelled right\? (distlock --list.*) has those held", shown)
    assert hint is not None, shown
    assert "there" in pasted(hint[1]).stdout


def test_etcdlocker_shows_where_its_raw_key_is(etcd: Cluster, realm: RealmView, need: Callable[..., str]) -> None:
    realm.put("raw key", "1500000000;other;reason")
    key = f"{realm.prefix}raw key"
    advise_with({}, etcd.endpoints[0])
    try:
        hint = see(in_commands(LockBusy(f"{key} is held by other", hints=[hint_to_see(key)])))
    finally:
        advise_with({})
    assert shlex.split(hint) == ["etcdctl", f"--endpoints={etcd.endpoints[0]}", "get", "--prefix", key]
    assert "other" in pasted(hint.replace("etcdctl", f"ETCDCTL_API=3 {need('etcdctl')}", 1)).stdout


def test_a_line_for_a_shell_is_advised_to_use_one(run_distlock: Run, realm: RealmView, tmp_path: Path) -> None:
    for line in ("echo a && echo b", "echo a; echo b", "echo $HOME", "echo a"):
        done = run_distlock("--lock-name=x", "--", line)
        assert done.returncode == 3
        advice = one_line(done.stderr).partition("for a line of shell: -- ")[2]
        assert shlex.split(advice) == ["sh", "-c", line]
        assert run_distlock("--lock-name=x", "--", *shlex.split(advice)).returncode == 0
    assert "sh -c" not in run_distlock("--lock-name=x", "--", "/no/such").stderr
    assert realm.entries() == {}


@pytest.mark.parametrize("command", ["distlock", "distlock-etcd", "distlock-puppet", "etcdlocker"])
def test_help_fits_80_columns(run_distlock: Run, command: str) -> None:
    text = run_distlock("--help", command=command, env={"COLUMNS": "80"}).stdout
    assert [line for line in text.splitlines() if len(line) > 80] == []


LEFT_OPEN = {
    "distlock": (
        "--lock-name=x --lock",
        "--list",
        "--lock-name=x --show",
        "--lock-name=x --nowait -- true",
        "--lock-name=x --unlock",
        "--lock-name=x -- true",
    ),
    "distlock_puppet": ("exec x --certname=db1 -- true", "check x --certname=db1"),
    "etcdlocker": ("--etcd={etcd} --id=a --key=x --ttl=5 --refresh=1 true",),
}


@pytest.mark.parametrize("command", LEFT_OPEN)
def test_nothing_is_left_open_that_causes_a_resource_warning(distlock_env: dict[str, str], command: str) -> None:
    program = f"from distlock_core.cli.start import {command}; {command}()"
    etcd = distlock_env["DISTLOCK_ENDPOINTS"].partition("://")[2]
    for line in LEFT_OPEN[command]:
        done = in_development_mode(program, *line.format(etcd=etcd).split(), env=distlock_env)
        assert "Warning" not in done.stderr, (line, done.stderr)


def test_a_program_that_drops_its_realm_has_nothing_to_close(distlock_env: dict[str, str]) -> None:
    program = """
import gc, os
from distlock_core import connect
realm = connect(os.environ["DISTLOCK_ENDPOINTS"], os.environ["DISTLOCK_PREFIX"])
with realm.lock("x", ttl=5) as lock:
    assert realm.lock("x").try_acquire() is None
del realm, lock
gc.collect()
"""
    done = in_development_mode(program, env=distlock_env)
    assert (done.returncode, done.stderr) == (0, "")


def in_development_mode(program: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", program, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
