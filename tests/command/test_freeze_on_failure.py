"""--on-failure freeze: what releases the lock after a failure also freezes it, for every slot and every tool."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any, Callable

import pytest

from distlock_core import Frozen, LockLost
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_servers import ENDS
from tests.support.etcd_view import Etcd, text
from tests.support.process_trees import LOST, Spawn, finish
from tests.support.processes import BOUND, Output, one_line, wait_until
from tests.support.scene import TXN, Scene, deletes, until

Run = Callable[..., "subprocess.CompletedProcess[str]"]
LIFETIMES = pytest.mark.parametrize("lifetime", [[], ["--ttl=30"]], ids=["persistent", "leased"])
FREEZE = ("--lock-name=x", "--on-failure=freeze")
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")


def freeze_of(run_distlock: Run) -> dict[str, Any] | None:
    (lock,) = json.loads(run_distlock("--show", "--lock-name=x", "--json").stdout)["locks"]
    assert lock["owner"] is None
    found: dict[str, Any] | None = lock["frozen"]
    return found


@LIFETIMES
def test_a_failed_command_leaves_a_free_and_frozen_lock_that_says_what_failed(
    run_distlock: Run, in_etcd: Etcd, lifetime: list[str]
) -> None:
    done = run_distlock(*FREEZE, *lifetime, "--id=node-1", "--reason=Upgrade RPMs", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert frozen["by"] == "node-1"
    assert (frozen["scope"], frozen["exit_code"], frozen["until"]) == ("lock", 7, None)
    assert frozen["reason"] == f"sh ended with 7 on {socket.gethostname()} (Upgrade RPMs)"
    assert in_etcd.keys() == ["x/freeze"]
    assert in_etcd.new_leases() == set()
    refused = run_distlock("--lock-name=x", "--nowait", "--id=node-1", "--", "echo", "ran")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "x is frozen by node-1" in one_line(refused.stderr)
    assert "sh ended with 7 on" in refused.stderr
    assert run_distlock("--thaw", "--lock-name=x").returncode == 0
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 0
    in_etcd.assert_nothing_left()


def test_one_failure_stops_all_slots_and_holders_go_on(run_distlock: Run, spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    three = ("--lock-name=x", "--slots=3")
    holder = spawn_distlock(*three, "--", "sh", "-c", "echo in; read line; echo done", stdin=subprocess.PIPE)
    assert holder.stdout.readline() == "in\n"
    assert run_distlock(*three, "--on-failure=freeze", "--nowait", "--", "false").returncode == 1
    refused = run_distlock(*three, "--nowait", "--", "echo", "in")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "x is frozen by" in one_line(refused.stderr)
    assert holder.communicate("go\n", timeout=BOUND)[0] == "done\n"
    assert holder.returncode == 0
    assert in_etcd.keys() == ["x/freeze"]


def test_the_first_freeze_stays(run_distlock: Run, spawn_distlock: Spawn) -> None:
    failing = spawn_distlock(*FREEZE, "--", "sh", "-c", "echo in; read line; exit 7", stdin=subprocess.PIPE)
    assert failing.stdout.readline() == "in\n"
    run_distlock("--freeze", "--lock-name=x", "--id=boss")
    failing.communicate("go\n", timeout=BOUND)
    assert failing.returncode == 7
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert (frozen["by"], frozen["exit_code"]) == ("boss", None)


def test_no_argument_of_the_command_goes_to_etcd_unless_that_is_asked_for(run_distlock: Run, in_etcd: Etcd) -> None:
    secret = "--password=geheim"
    arguments = ("--", "/bin/sh", "-c", "exit 7", secret)
    assert run_distlock(*FREEZE, "--verbose", *arguments).returncode == 7
    assert "geheim" not in json.dumps([text(kv["value"]) for kv in in_etcd.found().values()])
    run_distlock("--thaw", "--lock-name=x")
    assert run_distlock(*FREEZE, "--record-arguments", *arguments).returncode == 7
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert frozen["reason"] == f"/bin/sh -c exit 7 {secret} ended with 7 on {socket.gethostname()}"


@LIFETIMES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_command_that_a_signal_ends_has_failed(
    spawn_distlock: Spawn, run_distlock: Run, lifetime: list[str], number: signal.Signals
) -> None:
    code, _ = finish(spawn_distlock(*FREEZE, *lifetime, "--", "sh", "-c", "kill -$0 $$", str(int(number))))
    assert code == 128 + number
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert frozen["exit_code"] == 128 + number


@LIFETIMES
def test_a_success_releases_and_freezes_nothing(run_distlock: Run, in_etcd: Etcd, lifetime: list[str]) -> None:
    assert run_distlock(*FREEZE, *lifetime, "--", "true").returncode == 0
    in_etcd.assert_nothing_left()


def test_a_command_that_cannot_be_started_freezes_nothing(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock(*FREEZE, "--", "/no/such").returncode == 3
    in_etcd.assert_nothing_left()


def test_a_command_that_shows_no_life_has_failed(run_distlock: Run) -> None:
    assert run_distlock(*FREEZE, "--heartbeat=0.5", "--", "sleep", "60").returncode == 4
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert "sleep showed no life on" in frozen["reason"]
    assert frozen["exit_code"] == 4


def test_a_command_that_is_killed_as_its_lock_is_lost_freezes_it_for_the_others(
    spawn_distlock: Spawn, run_distlock: Run, in_etcd: Etcd
) -> None:
    process = spawn_distlock(*FREEZE, "--ttl=30", "--id=node-1", "--", "sh", "-c", "echo ready; exec sleep 300")
    Output(process.stdout).until("ready")
    in_etcd.unlock("x")
    assert process.wait(BOUND) == LOST
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert "sleep" not in frozen["reason"]
    assert "sh lost the lock, and ended with " in frozen["reason"]
    assert (frozen["by"], frozen["exit_code"]) == ("node-1", LOST)


def test_a_command_that_ends_well_without_its_lock_freezes_nothing(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*FREEZE, "--", "sh", "-c", "echo ready; read line", stdin=subprocess.PIPE)
    Output(process.stdout).until("ready")
    in_etcd.unlock("x")
    Output(process.stderr).until("RUNS ON WITHOUT ITS LOCK\n")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.close()
    assert process.wait(BOUND) == LOST
    assert in_etcd.keys() == []


@LIFETIMES
def test_a_gate_that_stays_red_after_the_command_freezes_it(
    run_distlock: Run, in_etcd: Etcd, lifetime: list[str]
) -> None:
    gate = ("--gate=echo lagging; false", "--gate-at=after", "--gate-timeout=1", "--gate-every=0.2")
    done = run_distlock(*FREEZE, *lifetime, *gate, "--", "true")
    assert done.returncode != 0
    frozen = freeze_of(run_distlock)
    assert frozen is not None
    assert "not healthy after true on" in frozen["reason"]
    assert "lagging" in frozen["reason"]
    assert frozen["exit_code"] == done.returncode
    assert in_etcd.keys() == ["x/freeze"]
    assert in_etcd.new_leases() == set()


@pytest.mark.parametrize("outer", ["a step", "a command"])
def test_inside_a_hold_of_its_owner_the_hold_stays_and_the_lock_is_frozen(
    run_distlock: Run, in_etcd: Etcd, outer: str
) -> None:
    inner = [*FREEZE, "--id=me", "--", "sh", "-c", "exit 7"]
    if outer == "a step":
        assert run_distlock("--lock-name=x", "--id=me", "--lock").returncode == 0
        assert run_distlock(*inner).returncode == 7
        assert sorted(in_etcd.keys()) == ["x", "x/freeze"]
        assert run_distlock("--lock-name=x", "--id=me", "--", "true").returncode == 0  # entered while frozen
        assert run_distlock("--lock-name=x", "--id=me", "--unlock").returncode == 0
    else:
        done = run_distlock("--lock-name=x", "--id=me", "--", DISTLOCK, *inner)
        assert done.returncode == 7
    assert in_etcd.keys() == ["x/freeze"]


@pytest.fixture(params=ENDS)
def quiet(start_etcd: Callable[..., Cluster], request: pytest.FixtureRequest, realm_prefix: str) -> Any:
    with start_etcd(version=request.param) as cluster:
        yield cluster


def test_the_freeze_costs_no_commit(quiet: Cluster, run_distlock: Run) -> None:
    def commits() -> float:
        return quiet.members[0].metric("etcd_server_proposals_committed_total")

    env = {"DISTLOCK_ENDPOINTS": quiet.endpoints[0]}
    before = commits()
    assert run_distlock(*FREEZE, "--", "false", env=env).returncode == 1
    assert commits() - before == 2


# The transaction itself.


@pytest.mark.parametrize("lost", ["reply", "request"])
def test_a_lost_release_is_resolved_and_the_lock_is_frozen_once(scene: Scene, proxy: Proxy, lost: str) -> None:
    lock = scene.realm(proxy.url).lock("web", "me").acquire(0)
    (proxy.lose_reply if lost == "reply" else proxy.lose_request)(TXN, deletes(scene.key("web")))
    lock.freeze("failed", exit_code=3)
    assert scene.get("web") is None
    freeze = scene.realm().frozen("web")
    assert freeze is not None
    assert (freeze.by, freeze.reason, freeze.exit_code) == ("me", "failed", 3)


def test_a_freeze_that_comes_between_does_not_keep_it_from_being_released(scene_each: Scene, proxy_each: Proxy) -> None:
    lock = scene_each.realm(proxy_each.url).lock("web", "me").acquire(0)
    held = proxy_each.hold_request(TXN, deletes(scene_each.key("web")))
    end = scene_each.start(lambda: lock.freeze("failed"))
    held.wait()
    first = scene_each.realm().freeze("web", owner="boss")
    held.release()
    end.result(BOUND)
    assert scene_each.get("web") is None
    assert scene_each.realm().frozen("web") == first


def test_a_freeze_that_is_thawed_meanwhile_does_not_stand_in_for_its_own(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url).lock("web", "me").acquire(0)
    scene.realm().freeze("web", owner="boss")
    fails, succeeds = (proxy.hold_request(TXN, deletes(scene.key("web"))) for _ in range(2))
    end = scene.start(lambda: lock.freeze("failed"))
    fails.wait()
    fails.release()
    succeeds.wait()
    scene.realm().thaw("web")
    succeeds.release()
    end.result(BOUND)
    assert scene.get("web") is None
    assert scene.record("web/freeze").owner == "me"


def test_the_next_waiter_does_not_get_in_between(scene_each: Scene) -> None:
    """Released and frozen at one revision: the first waiter, which claims without a read, is refused."""
    lock = scene_each.realm().lock("web", "me").acquire(0)
    waiter = scene_each.queue(scene_each.realm().lock("web", "next"))
    place = scene_each.line("web")
    lock.freeze("failed")
    freeze = scene_each.get("web/freeze")
    note = scene_each.get("__last/web")
    assert freeze is not None
    assert note is not None
    assert freeze.create_revision == note.mod_revision
    with pytest.raises(Frozen):
        scene_each.realm().lock("web").acquire(0)
    assert not waiter.done()
    assert scene_each.line("web") == place
    scene_each.realm().thaw("web")
    assert waiter.result(BOUND).held


def test_a_lost_lock_is_frozen_all_the_same(scene: Scene) -> None:
    lock = scene.realm().lock("web", "me").acquire(0)
    scene.replace("web")
    with pytest.raises(LockLost):
        lock.freeze("failed")
    assert scene.record("web").owner == "another"
    assert scene.record("web/freeze").owner == "me"


def test_a_lock_is_not_released_without_the_freeze_while_etcd_is_away(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url, release_timeout=30).lock("web", "me").acquire(0)
    proxy.cut()
    end = scene.start(lambda: lock.freeze("failed"))
    assert scene.get("web") is not None
    proxy.heal()
    end.result(BOUND)
    until(lambda: scene.get("web") is None)
    assert scene.record("web/freeze").text("reason") == "failed"


@pytest.mark.parametrize("by", ["option", "variable", "file"])
def test_it_can_be_set_in_each_way(run_distlock: Run, tmp_path: Any, by: str) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("on_failure: freeze\n" if by == "file" else "", encoding="utf-8")
    options = ["--on-failure=freeze"] if by == "option" else []
    env = {"DISTLOCK_ON_FAILURE": "freeze"} if by == "variable" else {}
    done = run_distlock("--lock-name=x", f"--config={config}", *options, "--", "false", env=env)
    assert done.returncode == 1
    wait_until(lambda: freeze_of(run_distlock), "frozen", BOUND)
