"""A process that waits for a lock and keeps it, for a run of several processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import DistlockError, LockLost, Realm, connect
from distlock_core.adapters.ansible_run_lock import start_run_keeper
from distlock_core.adapters.settings import read_settings
from distlock_core.keeper.run_keeper import RunKeeper, wait_for
from distlock_core.keeper.run_keeper_process import COOL, FREEZE, KEEP, RELEASE
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, is_running, wait_until

New = Callable[..., RunKeeper]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def keys(etcd: Cluster, realm_prefix: str) -> Etcd:
    return Etcd(etcd, realm_prefix)


@pytest.fixture
def new(etcd: Cluster, realm_prefix: str) -> Iterator[New]:
    """new(owner="a", **settings) -> a keeper for the lock x, with a ttl of 20 seconds."""
    started: list[RunKeeper] = []

    def start(owner: str = "a", **words: Any) -> RunKeeper:
        said = {"endpoints": list(etcd.endpoints), "prefix": realm_prefix, "lockname": "x", "ttl": 20, **words}
        started.append(start_run_keeper(read_settings(said, owner)))
        return started[-1]

    yield start
    for keeper in started:
        if not keeper.over:
            os.kill(keeper.pid, signal.SIGKILL)


def until(keeper: RunKeeper, condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, (what, keeper.waiting, keeper.hold, keeper.trouble)
        keeper.wait(1)


def kept(keeper: RunKeeper) -> RunKeeper:
    until(keeper, lambda: keeper.hold or keeper.over, "an answer")
    assert keeper.hold is not None, keeper.trouble
    return keeper


def over(keeper: RunKeeper) -> DistlockError | None:
    until(keeper, lambda: keeper.over, "its end")
    return keeper.trouble


def token_of(keeper: RunKeeper) -> int | None:
    return None if keeper.hold is None else keeper.hold.token


def test_a_keeper_queues_reports_the_holder_and_gets_its_turn(new: New, realm: Realm, keys: Etcd) -> None:
    first = kept(new("a"))
    second = new("b", timeout=-1)
    until(second, lambda: second.waiting, "for whom it waits")
    assert "x is held by a since" in second.waiting
    assert token_of(second) is None
    first.end_hold(RELEASE)
    assert over(first) is None
    kept(second)
    (holder,) = realm.show("x").holders
    assert (holder.owner, holder.token, holder.keeper) == ("b", token_of(second), second.pid)
    second.end_hold(RELEASE)
    assert over(second) is None
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "nothing left")


def test_a_refusal_is_reported_with_its_kind(new: New, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    trouble = over(new())
    assert trouble is not None
    assert (trouble.kind, "x is held by node-3" in trouble.message) == ("busy", True)
    assert keys.keys() == ["x"]


def test_the_lock_is_renewed_for_longer_than_its_ttl(new: New, realm: Realm) -> None:
    keeper = kept(new(ttl=4))
    keeper.wait(5.5)
    assert keeper.hold is not None
    assert realm.verify("x", keeper.hold.token)


@pytest.mark.parametrize(
    ("how", "detail", "state"), [(KEEP, "look at it", "kept"), (COOL, 60, "cooling")], ids=[KEEP, COOL]
)
def test_the_keeper_releases_keeps_or_cools_on_request(
    new: New, realm: Realm, how: str, detail: str | int, state: str
) -> None:
    keeper = kept(new())
    keeper.end_hold(how, detail)
    assert over(keeper) is None
    (holder,) = realm.show("x").holders
    assert holder.record.state == state


def test_the_keeper_freezes_on_request(new: New, realm: Realm) -> None:
    keeper = kept(new())
    keeper.end_hold(FREEZE, "look at it")
    assert over(keeper) is None
    freeze = realm.frozen("x")
    assert freeze is not None
    assert freeze.reason == "look at it"
    assert realm.show("x").holders == ()


@pytest.mark.parametrize(("on_failure", "left"), [("release", []), ("keep", ["kept"]), ("freeze", [])])
def test_the_keeper_releases_when_the_run_and_all_its_children_are_gone(
    new: New, realm: Realm, on_failure: str, left: list[str]
) -> None:
    reader, writer = os.pipe()
    run = os.fork()
    if run == 0:  # the run: starts its keeper, forks a worker, and is killed
        try:
            keeper = kept(new(on_failure=on_failure))
            worker = os.fork()
            if worker:
                os.write(writer, f"{keeper.pid} {worker}\n".encode())
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writer)
    keeper_pid, worker = map(int, os.read(reader, 100).split())
    try:
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        time.sleep(0.3)  # long enough for what must not happen
        assert [holder.record.state for holder in realm.show("x").holders] == ["held"]
    finally:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_running(keeper_pid), "the keeper's end")
    assert [holder.record.state for holder in realm.show("x").holders] == left
    assert (realm.frozen("x") is not None) is (on_failure == "freeze")


def test_a_run_that_ends_while_it_waits_leaves_no_ticket(new: New, keys: Etcd) -> None:
    keys.lock("x")
    run = os.fork()
    if run == 0:
        code = 1
        try:
            keeper = new(timeout=-1)
            until(keeper, lambda: keeper.waiting, "for whom it waits")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(run, 0)[1] == 0
    wait_until(lambda: keys.keys() == ["x"] and keys.new_leases() == set(), "no place in line left")


def test_a_lock_that_is_taken_away_is_lost_at_once(new: New, keys: Etcd) -> None:
    keeper = kept(new())
    keys.unlock("x")
    trouble = over(keeper)
    assert isinstance(trouble, LockLost)
    assert "x was lost: its key was deleted" in trouble.message


def test_a_keeper_that_is_signalled_keeps_the_lock_for_a_living_run(new: New, realm: Realm, keys: Etcd) -> None:
    # Whoever stops a service tells all its processes at once: the run may be about to end too.
    keeper = kept(new())
    os.kill(keeper.pid, signal.SIGTERM)
    keeper.wait(1)
    assert keeper.hold is not None
    assert realm.verify("x", keeper.hold.token)
    keeper.end_hold(RELEASE)
    assert over(keeper) is None
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "nothing left")


def test_a_deputy_that_is_killed_is_a_loss(new: New) -> None:
    keeper = kept(new())
    os.kill(keeper.pid, signal.SIGKILL)
    trouble = over(keeper)
    assert isinstance(trouble, LockLost)
    assert "the process that kept it has ended" in trouble.message


def test_a_loss_by_silence_of_etcd_is_reported_before_the_lease_can_expire(
    new: New, realm: Realm, proxy: Proxy
) -> None:
    keeper = kept(new(endpoints=[proxy.url], ttl=9, kill_after=5))
    assert keeper.hold is not None
    token = keeper.hold.token
    proxy.blackhole()
    trouble = over(keeper)
    assert isinstance(trouble, LockLost)
    assert "etcd has confirmed no renewal" in trouble.message
    assert realm.verify("x", token), "the lease has run out before its loss was told"


def test_several_are_waited_for_at_once(new: New) -> None:
    first, second = kept(new("a")), new("b", timeout=-1)
    until(second, lambda: second.waiting, "for whom it waits")
    first.end_hold(RELEASE)
    deadline = time.monotonic() + BOUND
    while second.hold is None:
        assert time.monotonic() < deadline
        wait_for([first, second], 1)
        first.update()
        second.update()
    assert over(first) is None  # it may say so a moment after the next one has got its turn
