"""LockManager under faults: its answer while the state is unknown, and its recovery."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Callable

import pytest

from distlock_core import LockManager, connect
from distlock_core.base.deadline import now
from distlock_core.events.notices import ACQUIRED, REMOVED, UNKNOWN
from distlock_core.manager import _Hold
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.managers import Heard, Remote, holders
from tests.support.processes import BOUND, wait_until

Stand = Callable[..., LockManager]
StandApart = Callable[..., Remote]


def test_it_is_unknown_from_the_first_renewal_that_fails_until_etcd_confirms(stand: Stand, proxy: Proxy) -> None:
    heard = Heard()
    manager = stand(ttl=30, refresh=2, listener=heard)  # a renewal may take this long
    heard.until(ACQUIRED)
    token = manager.token
    since = now()
    proxy.cut()
    heard.until(ACQUIRED, UNKNOWN)
    assert now() < since + 20  # it did not wait for the deadline
    assert not manager.have_lock()
    assert manager.token is None
    proxy.heal()
    notices = heard.until(ACQUIRED, UNKNOWN, ACQUIRED)
    assert manager.have_lock()
    assert {notice.token for notice in notices} == {token} == {manager.token}


def test_with_ride_out_it_is_held_until_the_deadline_and_no_longer(stand: Stand, proxy: Proxy) -> None:
    heard = Heard()
    manager = stand(ttl=4, refresh=0.5, ride_out=True, listener=heard)
    heard.until(ACQUIRED)
    proxy.blackhole()
    since = now()
    wait_until(lambda: not manager.have_lock(), "the deadline")
    assert now() - since > 2.0  # the last renewal was a while ago; a failed one alone would have been noticed sooner
    heard.until(ACQUIRED, UNKNOWN)
    assert now() - since < 4 + BOUND
    proxy.heal()
    # The lease may or may not have expired: only etcd knows.
    wait_until(manager.have_lock, "the lock again")


def test_with_ride_out_a_short_outage_goes_unnoticed(stand: Stand, proxy: Proxy) -> None:
    heard = Heard()
    manager = stand(ttl=30, refresh=0.5, ride_out=True, listener=heard)
    heard.until(ACQUIRED)
    tried = len(proxy.requests)
    proxy.cut()
    since = now()
    while now() < since + 2.5:
        assert manager.have_lock()
    proxy.heal()
    wait_until(lambda: any(path.endswith("keepalive") for path, _ in proxy.requests[tried:]), "a renewal")
    assert manager.have_lock()
    assert [notice.kind for notice in heard.notices] == [ACQUIRED]


def test_a_process_stopped_past_its_ttl_finds_its_lock_lost(stand_apart: StandApart, stand: Stand) -> None:
    first = stand_apart(ttl=2, ride_out=True)
    wait_until(first.have_lock, "the lock")
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = stand()
        wait_until(second.have_lock, "the lock has run out")
        first.send("?")  # it is the first thing that it reads when it wakes
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert not first.answer()
    second.shutdown()
    wait_until(first.have_lock, "the lock again")


@pytest.mark.parametrize("ride_out", [False, True])
def test_the_clock_is_compared_in_the_call(ride_out: bool) -> None:
    # The state that a stopped process finds if its first thread wakes before the renewing one: it cannot be provoked.
    session = SimpleNamespace(loss=None, overdue=False, doubt=False, deadline=now() + BOUND)
    hold = _Hold(None, session, 7)  # type: ignore[arg-type]
    assert hold.is_sure(ride_out)
    session.deadline = now()
    assert not hold.is_sure(ride_out)


def test_a_removed_lock_goes_to_the_next_and_its_holder_queues_again(stand: Stand, in_etcd: Etcd) -> None:
    heard = Heard()
    first = stand(ttl=30, listener=heard)
    heard.until(ACQUIRED)
    second = stand(ttl=30)
    wait_until(lambda: len(in_etcd.keys()) == 2, "the second in line")
    in_etcd.unlock("x")
    wait_until(second.have_lock, "the lock")
    heard.until(ACQUIRED, REMOVED)
    second.shutdown()
    notices = heard.until(ACQUIRED, REMOVED, ACQUIRED)
    assert notices[0].token == notices[1].token < notices[2].token == first.token


def test_a_holder_that_is_killed_is_followed_within_the_ttl(stand_apart: StandApart, stand: Stand) -> None:
    first = stand_apart(ttl=3)
    wait_until(first.have_lock, "the lock")
    second = stand()
    first.end()
    since = now()
    wait_until(second.have_lock, "the next holder")
    assert now() - since < 3 + 9


def test_a_dead_waiter_blocks_the_queue_for_the_ttl_at_most(
    stand_apart: StandApart, stand: Stand, in_etcd: Etcd
) -> None:
    holder = stand(ttl=3)
    wait_until(holder.have_lock, "the lock")
    dead = stand_apart(ttl=3)
    wait_until(lambda: len(in_etcd.keys()) == 2, "the one who is to die in line")
    heir = stand(ttl=3)
    wait_until(lambda: len(in_etcd.keys()) == 3, "one behind it")
    dead.end()
    since = now()
    holder.shutdown()
    wait_until(heir.have_lock, "the next holder")
    assert now() - since < 9  # where a place lived on for 10 s


def test_after_an_outage_of_etcd_one_of_them_has_it(start_etcd: Callable[..., Cluster], realm_prefix: str) -> None:
    with start_etcd() as own, connect(own.endpoints, realm_prefix) as realm:
        managers = [LockManager(realm, "x", 3) for _ in range(3)]
        try:
            wait_until(lambda: holders(managers), "a holder")
            own.members[0].kill()
            wait_until(lambda: not holders(managers), "that nobody can tell")
            own.members[0].start()
            wait_until(lambda: holders(managers), "a holder again")
            for _ in range(50):
                assert len(holders(managers)) <= 1
        finally:
            for manager in managers:
                manager.shutdown()
        assert [
            key for key in own.etcdctl("get", "--prefix", "--keys-only", realm_prefix).split() if "__last" not in key
        ] == []
