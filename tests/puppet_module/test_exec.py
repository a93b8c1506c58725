"""`distlock::exec` in real runs of Puppet against a real etcd."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import LockState, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.processes import is_running, wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, CHANGED_AND_FAILED, quoted

pytestmark = pytest.mark.timeout(240)

BOUND = 90.0  # seconds for a run to come to where it is to be
# Writes down its words, its folder, a variable, and who holds the lock.
WITNESS = """
import json, os, subprocess, sys
held = subprocess.run(["distlock", "--json", "--show", "--lock-name=x"], capture_output=True, text=True).stdout
with open(sys.argv[1], "w") as file:
    json.dump({"words": sys.argv[2:], "cwd": os.getcwd(), "var": os.environ.get("VAR"), "held": json.loads(held)}, file)
print("the command has said this")
sys.exit(3)
"""


@pytest.fixture
def show(etcd: Cluster, realm_prefix: str) -> Callable[[str], LockState]:
    return connect(etcd.endpoints, realm_prefix).show


def test_a_command_runs_under_the_lock_with_execs_own_parameters(node: ModuleNode, tmp_path: Path, show: Any) -> None:
    words = ["$(id)", "`id`; false", "it's", '"', "", "--timeout=9", "a  b", "*", "ä"]
    (tmp_path / "cwd").mkdir()
    ran = tmp_path / "ran"

    def touch(name: str, more: str) -> str:
        path = quoted("/usr/bin/touch", f"{tmp_path}/{name}")
        return f"distlock::exec {{ '{name}': command => {path}, path => ['/bin'], {more} }}\n"

    code, said = node.apply(
        f"""
        distlock::exec {{ 'witness':
          lock_name   => 'x',
          reason      => 'it\\'s; $(odd)',
          beat        => '1m',
          command     => {quoted(sys.executable, "-c", WITNESS, ran, *words)},
          path        => split('{node.env["PATH"]}', ':'),
          cwd         => '{tmp_path}/cwd',
          environment => ['VAR=of the manifest'],
          returns     => [0, 3],
          logoutput   => true,
        }}
        Distlock::Exec {{ program => '{Path(sys.executable).parent}/distlock-puppet' }}
        """
        + touch("unless", "unless => [['/usr/bin/test', '-d', '/']]")
        + touch("onlyif", "onlyif => [['/usr/bin/test', '-d', '/no such']]")
        + touch("creates", "creates => '/usr/bin'")
        + touch("refreshonly", "refreshonly => true")
        + touch("notified", "refreshonly => true")
        + touch("passes", "unless => [['/usr/bin/test', '-d', '/no such']], onlyif => '/usr/bin/test -d /'")
        + "Distlock::Exec['witness'] ~> Distlock::Exec['notified']"
    )
    assert code == CHANGED, said
    found = json.loads(ran.read_text())
    assert found["words"] == words
    assert found["cwd"] == str(tmp_path / "cwd")
    assert found["var"] == "of the manifest"
    (held,) = found["held"]["locks"]
    assert (held["owner"], held["reason"], held["lifetime"]) == ("puppet:db1", "it's; $(odd)", "persistent")
    assert (held["beat"]["every"], held["beat"]["alive"]) == (60, True)
    assert "the command has said this" in said
    assert {path.name for path in tmp_path.iterdir()} & {
        "unless",
        "onlyif",
        "creates",
        "refreshonly",
        "notified",
        "passes",
    } == {"notified", "passes"}
    assert not show("x").holders


def test_busy_fails_with_the_holders_name_and_a_command_that_hangs_is_ended(
    node: ModuleNode, seen: Etcd, tmp_path: Path, show: Any
) -> None:
    seen.lock("busy", "puppet:db2", "Upgrade RPMs")
    hangs = quoted("/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 300 & wait")
    code, said = node.apply(
        f"""
        Distlock::Exec {{ path => split('{node.env["PATH"]}', ':') }}
        distlock::exec {{ 'busy': command => {quoted("/usr/bin/touch", f"{tmp_path}/busy")} }} -> notify {{ 'after': }}
        distlock::exec {{ 'hangs': command => {hangs}, timeout => 3 }}
        distlock::exec {{ 'kept': command => ['/bin/false'], on_failure => 'keep' }}
        """
    )
    assert code == CHANGED_AND_FAILED or "failed" in said, said
    # The error itself, not a line beside it.
    assert re.search(r'busy\]/returns: change from .* failed: busy is held by puppet:db2 since .*: "Upgrade', said)
    assert "Notify[after]: Skipping because of failed dependencies" in said
    assert not (tmp_path / "busy").exists()
    assert re.search(r"hangs.*returned 124 instead of", said)
    assert not is_running(int((tmp_path / "pid").read_text()))
    assert not show("hangs").holders
    assert [holder.record.state for holder in show("kept").holders] == ["kept"]
    assert [holder.owner for holder in show("busy").holders] == ["puppet:db2"]


def test_the_timeout_is_the_commands_and_not_the_waits(node: ModuleNode, seen: Etcd, show: Any, tmp_path: Path) -> None:
    seen.lock("x", "node-3")
    command = quoted("/usr/bin/touch", tmp_path / "ran")
    run = node.start(
        f"distlock::exec {{ 'x': command => {command}, lock_timeout => -1, timeout => 4,"
        f" path => split('{node.env['PATH']}', ':') }}"
    )
    wait_until(lambda: show("x").waiting == 1, "it stands in line", BOUND)
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 5, "longer than the command may take")
    assert show("x").waiting == 1
    assert not (tmp_path / "ran").exists()
    seen.unlock("x")
    assert run.wait() == CHANGED, run.said
    assert (tmp_path / "ran").exists()
    assert re.search(r"Notice: .*Exec\[distlock: x\].*waiting: x is held by node-3 since", run.said)
    assert re.search(
        r"Notice: .*Exec\[distlock: x\].*x is locked, token \d+, after .* in the queue from position 1", run.said
    )
    assert not show("x").holders


def test_the_recipe_freezes_its_lock_if_the_command_fails(node: ModuleNode, show: Any) -> None:
    command = "['/usr/bin/yum', '--assumeyes', 'upgrade', 'percona-server-server']"
    text = with_stand_ins(recipe("freeze in Puppet"), (command, "['/bin/false']"))
    where = f"Distlock::Exec {{ path => split('{node.env['PATH']}', ':') }}\n"
    code, said = node.apply(where + text)
    assert code == CHANGED_AND_FAILED or "failed" in said, said
    state = show("percona_prod")
    assert state.holders == ()
    assert state.frozen is not None
    assert (state.frozen.by, state.frozen.exit_code) == (f"puppet:{node.certname}", 1)
    code, said = node.apply(where + text)
    assert "percona_prod is frozen by puppet:" in said
    assert "To thaw it: distlock --thaw --lock-name=percona_prod" in said
