"""The fact `distlock`, by the real Facter and by Puppet: with etcd there, and away."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.testing import Proxy
from tests.support.etcd_view import Etcd
from tests.support.puppet_module_node import MODULE, ModuleNode

pytestmark = pytest.mark.timeout(240)

# Times the fact alone: Facter itself takes longer than it.
TIMED = """
require ARGV[0]
began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
value = PuppetX::Distlock::Fact.value
puts JSON.generate(seconds: Process.clock_gettime(Process::CLOCK_MONOTONIC) - began, value: value)
"""


@pytest.fixture
def patient(modules: Path) -> Path:
    """The module, in a copy that waits for an answer as long as a busy machine takes to give one."""
    (modules / "distlock").unlink()
    shutil.copytree(MODULE, modules / "distlock", ignore=shutil.ignore_patterns("spec"))
    fact = modules / "distlock/lib/puppet_x/distlock/fact.rb"
    text, count = re.subn(r"\bBOUND = 1\.0\b", "BOUND = 60.0", fact.read_text())
    assert count == 1
    fact.write_text(text)
    return modules / "distlock"


def facter(need: Callable[..., str], env: dict[str, str], module: Path = MODULE) -> dict[str, Any]:
    command = [need("facter"), "--json", "--custom-dir", str(module / "lib/facter"), "distlock"]
    fact: dict[str, Any] = json.loads(output(command, env))["distlock"]
    return fact


def output(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_the_locks_of_this_node_and_what_is_known_while_etcd_is_away(
    need: Callable[..., str],
    patient: Path,
    node: ModuleNode,
    seen: Etcd,
    proxy: Proxy,
    run_distlock: Callable[..., Any],
    tmp_path: Path,
) -> None:
    run_distlock("--lock-name=own", "--lock", "--id=puppet:db1", "--reason=Replace RAM")
    run_distlock("--lock-name=by hand", "--lock")
    seen.lock("elsewhere", "node-3")
    env = {**node.env, "XDG_CACHE_HOME": str(tmp_path / "cache"), "DISTLOCK_ENDPOINTS": proxy.url}

    found = facter(need, env, patient)
    assert found["stale"] is False
    assert set(found["locks"]) == {"own", "by hand"}
    own = found["locks"]["own"]
    assert (own["owner"], own["reason"], own["lifetime"]) == ("puppet:db1", "Replace RAM", "persistent")

    proxy.blackhole()
    timed = json.loads(output(["ruby", "-e", TIMED, str(MODULE / "lib/puppet_x/distlock/fact.rb")], env))
    assert timed["seconds"] < 4  # one, and what a busy machine takes to end the command
    stale = timed["value"]
    assert (stale["stale"], stale["locks"]) == (True, found["locks"])
    assert stale["asked"]
    assert stale["error"]

    proxy.heal()
    proxy.cut()
    assert facter(need, env)["locks"] == found["locks"]
    (tmp_path / "cache/distlock/fact.json").write_text("nonsense")
    assert set(facter(need, env)) == {"stale", "error"}


def test_in_puppet_the_locks_are_those_of_the_certname(
    need: Callable[..., str], patient: Path, node: ModuleNode, run_distlock: Callable[..., Any]
) -> None:
    run_distlock("--lock-name=own", "--lock", "--id=puppet:db1")
    run_distlock("--lock-name=other", "--lock", "--id=puppet:db2")
    places = ["--confdir", str(node.confdir), "--vardir", str(node.vardir), *node.places]
    found = json.loads(output([need("puppet"), "facts", "show", "--color=false", *places, "distlock"], node.env))
    assert found["distlock"]["stale"] is False
    assert set(found["distlock"]["locks"]) == {"own"}
    assert (node.vardir / "state/distlock_fact.json").exists()


def test_where_distlock_is_not_installed_there_is_no_such_fact(need: Callable[..., str], tmp_path: Path) -> None:
    script = (
        "require ARGV[0]; PuppetX::Distlock::Command.send(:remove_const, :FOLDERS);"
        "PuppetX::Distlock::Command::FOLDERS = [].freeze; puts PuppetX::Distlock::Fact.value.inspect"
    )
    fact = str(MODULE / "lib/puppet_x/distlock/fact.rb")
    assert output([need("ruby"), "-e", script, fact], {"PATH": str(tmp_path)}) == "nil\n"
