"""The table in docs/ansible.md: the state of the lock after each end of a run. It is never free too early."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, Gate, Run
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import BOUND, is_running, wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
PAGE = ROOT / "docs" / "ansible.md"
ENDINGS = ("success", "failure", "unreachable", "SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
MECHANISMS = ("always", "run_end", "linear", "host_pinned", "keep")
PF_EXITING = 0x4  # of the flags in /proc/PID/stat
WORKERS_LIVE_ON = ("SIGHUP", "SIGKILL")  # they are in separate sessions


def table() -> dict[tuple[str, str], str]:
    """The promises of the page: by ending and mechanism `released`, `stays` or `kept`."""
    section = PAGE.read_text(encoding="utf-8").partition("## How a run ends")[2].partition("\n## ")[0]
    rows = [re.findall(r"[^|]+", line.strip("|")) for line in section.splitlines() if line.startswith("|")][2:]
    words = [[cell.strip().split(",")[0].split(" ")[0] for cell in row[1:]] for row in rows]
    return {
        (ending, mechanism): word for ending, row in zip(ENDINGS, words) for mechanism, word in zip(MECHANISMS, row)
    }


def play(mechanism: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    """A play of these tasks, under the lock x."""
    lock: dict[str, Any] = {"name": "x", "state": "locked"}
    module, strategy = "distlock.distlock.distlock", "ansible.builtin.linear"
    body, variables = list(tasks), {}
    if mechanism == "always":
        unlock = {module: {"name": "x", "state": "unlocked"}}
        body = [{"block": [{module: lock}, *tasks], "always": [unlock]}]
    elif mechanism == "run_end":
        body = [{module: {**lock, "until": "run_end"}}, *tasks]
    else:
        strategy = f"distlock.distlock.{'linear' if mechanism == 'keep' else mechanism}"
        variables = {"distlock_name": "x"}
        if mechanism == "keep":
            variables["distlock_on_failure"] = "keep"
    return {"hosts": "all", "gather_facts": False, "strategy": strategy, "vars": variables, "tasks": body}


LAST: dict[str, dict[str, Any]] = {
    "success": {"ansible.builtin.raw": "true"},
    "failure": {"ansible.builtin.raw": "false"},
    "unreachable": {
        "ansible.builtin.ping": {},
        "vars": {"ansible_remote_tmp": "/proc/nowhere", "ansible_pipelining": False},
    },
}
CODES = {"success": 0, "failure": 2, "unreachable": 4}


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def never_free_before_all_are_gone(run: Run, workers: set[int], keys: Etcd) -> None:
    """Look until the run and its workers are gone. First at the lock, then at them: who lives then has lived before."""

    def look() -> bool:
        taken = keys.keys()
        alive = [pid for pid in workers if is_at_work(pid)]
        assert taken or not alive, f"free, and the workers {alive} are alive"
        return not alive and not run.is_alive()

    wait_until(look, "the end of the run and its workers", BOUND)


def is_at_work(pid: int) -> bool:
    """True but for a process that is gone, or being taken down by the kernel, and runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and not int(fields[6]) & PF_EXITING


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_lock_is_where_the_table_says(
    controller: Controller, realm: Realm, keys: Etcd, tmp_path: Path, ending: str, mechanism: str
) -> None:
    gate = Gate(tmp_path)
    run = controller.start([play(mechanism, gate.task(), LAST.get(ending, LAST["success"]))])
    gate.reached()
    workers = run.workers()
    assert workers
    (holder,) = realm.show("x").holders
    if ending in CODES:
        gate.open()
        assert run.end() == CODES[ending], run.output
    else:
        run.send(signal.Signals[ending])
        run.end()
        if ending in WORKERS_LIVE_ON:
            assert any(is_running(pid) for pid in workers)
            assert realm.show("x").holders == (holder._replace(ttl_left=realm.show("x").holders[0].ttl_left),)
        gate.open()
    never_free_before_all_are_gone(run, workers, keys)
    promised = table()[ending, mechanism]
    if promised == "released":
        wait_until(lambda: keys.keys() == [], "the lock released")
        wait_until(lambda: keys.new_leases() == set(), "no lease left")
        return
    state = {"stays": "held", "kept": "kept"}[promised]
    wait_until(lambda: [found.record.state for found in realm.show("x").holders] == [state], f"the lock {state}")
    (left,) = realm.show("x").holders
    assert left.token == holder.token
    assert left.lifetime == "persistent"


def test_a_killed_runs_lock_stays_until_the_last_of_its_workers_is_gone(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    gates = {host: Gate(tmp_path, host) for host in ("h1", "h2")}
    stem = f"{tmp_path}/{{{{ inventory_hostname }}}}"
    script = f"echo $$ >> {stem}.arrived; exec cat {stem}.fifo"
    run = controller.start([play("linear", {"ansible.builtin.raw": script})], hosts="h1,h2")
    for gate in gates.values():
        gate.reached()
    workers = run.workers()
    assert len(workers) == 2
    run.send(signal.SIGKILL)
    run.end()
    gates["h1"].open()
    wait_until(lambda: sum(is_running(pid) for pid in workers) == 1, "one worker gone")
    assert keys.keys() == ["x"]
    gates["h2"].open()
    never_free_before_all_are_gone(run, workers, keys)
    wait_until(lambda: keys.keys() == [], "the lock released")
