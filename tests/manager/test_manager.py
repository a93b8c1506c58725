"""LockManager: one of many has the lock, knows it, and releases it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Callable

import pytest

from distlock_core import ConfigError, LockManager, Realm
from distlock_core.events.notices import ACQUIRED, REMOVED
from distlock_core.manager import AT_ONCE
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.managers import Heard, Remote, holders
from tests.support.processes import BOUND, wait_until
from tests.support.threads import own_threads

Stand = Callable[..., LockManager]
StandApart = Callable[..., Remote]
TTL = 60  # where an expiry would be far too late to be what has helped


def test_one_of_many_has_the_lock_and_the_next_has_it_as_soon_as_it_is_released(stand: Stand, in_etcd: Etcd) -> None:
    managers = [stand(ttl=TTL) for _ in range(4)]
    tokens = []
    while managers:
        (holder,) = wait_until(lambda: holders(managers), "a holder")
        tokens.append(holder.token)
        assert [manager.token for manager in managers if manager is not holder] == [None] * (len(managers) - 1)
        holder.shutdown()
        assert not holder.have_lock()
        managers.remove(holder)
    assert tokens == sorted(set(tokens))
    in_etcd.assert_nothing_left()


def test_bad_arguments_are_refused_at_once_and_leave_no_thread(realm: Realm) -> None:
    for wrong in ({"name": "a/b"}, {"name": "x", "ttl": 0}, {"name": "x", "ttl": 9, "refresh": 9}, {"name": ""}):
        with pytest.raises(ConfigError):
            LockManager(realm, **wrong)
    with pytest.raises(ConfigError):
        LockManager(realm, "x", owner="a;b")
    assert own_threads() == []


def test_others_see_host_and_id_of_the_holder_with_its_value_and_reason(stand: Stand, realm: Realm) -> None:
    first, second = stand(value="10.0.0.1", reason="cron", ttl=TTL), stand(ttl=TTL)
    assert first.id != second.id
    wait_until(lambda: holders([first, second]), "a holder")
    state = realm.show("x")
    assert {state.holders[0].owner, *(waiter.owner for waiter in state.waiters)} <= {first.owner, second.owner}
    assert first.owner == f"{state.holders[0].record.text('host')}:{first.id}"
    if first.have_lock():
        assert (state.holders[0].value, state.holders[0].reason) == ("10.0.0.1", "cron")


def test_a_shutdown_leaves_no_thread_and_nothing_in_etcd_and_can_be_called_again(stand: Stand, in_etcd: Etcd) -> None:
    holder, waiter = stand(ttl=TTL, listener=Heard()), stand(ttl=TTL)
    wait_until(lambda: holders([holder, waiter]), "a holder")
    for manager in (waiter, holder, waiter, holder):
        manager.shutdown()
        assert not manager.have_lock()
    assert own_threads() == []
    in_etcd.assert_nothing_left()


def test_a_with_block_contends_and_releases(realm: Realm, in_etcd: Etcd) -> None:
    with LockManager(realm, "x", TTL) as manager:
        wait_until(manager.have_lock, "the lock")
    assert not manager.have_lock()
    assert own_threads() == []
    in_etcd.assert_nothing_left()


def test_many_threads_may_shut_down_at_once(stand: Stand, in_etcd: Etcd) -> None:
    manager = stand(ttl=TTL)
    wait_until(manager.have_lock, "the lock")
    callers = [threading.Thread(target=manager.shutdown) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(BOUND)
    assert own_threads() == []
    in_etcd.assert_nothing_left()


def test_a_shutdown_while_etcd_is_away_gives_up_soon(stand: Stand, proxy: Proxy) -> None:
    managers = [stand(ttl=TTL), stand(ttl=TTL)]
    wait_until(lambda: holders(managers), "a holder")
    proxy.blackhole()
    began = time.monotonic()
    for manager in managers:
        manager.shutdown()
    assert time.monotonic() - began < 2 * (AT_ONCE + 8)  # far below the ttl
    assert own_threads() == []


def test_an_etcd_that_is_away_at_the_start_is_waited_for(stand: Stand, proxy: Proxy) -> None:
    proxy.cut()
    manager = stand()
    wait_until(lambda: manager.trouble, "what is wrong")
    assert proxy.url in (manager.trouble or "")
    assert not manager.have_lock()
    proxy.heal()
    wait_until(manager.have_lock, "the lock")
    assert manager.trouble is None


def test_a_signal_handler_may_shut_down(stand_apart: StandApart, in_etcd: Etcd) -> None:
    remote = stand_apart(ttl=TTL)
    remote.send(
        # Not print(), which is not reentrant and may still be running.
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: (manager.shutdown(), os.write(1, b'down\\n')))"
    )
    wait_until(remote.have_lock, "the lock")
    os.kill(remote.pid, signal.SIGUSR1)
    remote.output.until("down\n")
    in_etcd.assert_nothing_left()
    assert not remote.have_lock()


@pytest.mark.parametrize("end", ["sys.exit(0)", "raise RuntimeError"])
def test_the_lock_is_released_at_the_end_of_the_interpreter(stand_apart: StandApart, in_etcd: Etcd, end: str) -> None:
    remote = stand_apart(ttl=TTL)
    wait_until(remote.have_lock, "the lock")
    remote.process.stderr = None
    remote.send(end)
    remote.process.wait(BOUND)
    in_etcd.assert_nothing_left()


def test_a_forked_child_never_has_the_lock_and_releases_none(stand_apart: StandApart, in_etcd: Etcd) -> None:
    remote = stand_apart(ttl=TTL)
    wait_until(remote.have_lock, "the lock")
    child = "print('child', manager.have_lock(), list(manager.ownership()), flush=True), manager.shutdown(), sys.exit()"
    remote.send(f"pid = os.fork() or [{child}]")
    remote.output.until(r"child False \[False\]\n")
    remote.send("os.waitpid(pid, 0)")  # it has gone through the interpreter's exit too
    assert remote.have_lock()
    assert in_etcd.keys() == ["x"]


def test_update_changes_the_present_and_the_next_value(stand: Stand, realm: Realm, in_etcd: Etcd) -> None:
    manager = stand(value="a", ttl=TTL)
    wait_until(manager.have_lock, "the lock")
    token = manager.token
    assert manager.update("b", reason="moved")
    held = realm.show("x").holders[0]
    assert (held.value, held.reason, held.token) == ("b", "moved", token)
    in_etcd.unlock("x")
    wait_until(lambda: manager.token not in (None, token), "the lock again")
    held = realm.show("x").holders[0]
    assert (held.value, held.reason) == ("b", "moved")


def test_an_update_in_the_queue_applies_when_the_turn_comes(stand: Stand, realm: Realm, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    manager = stand(value="a", ttl=TTL)
    wait_until(lambda: realm.show("x").waiting, "a place in line")
    assert not manager.update("b")
    with pytest.raises(ConfigError):
        manager.update("\ud800")  # it is what it was
    in_etcd.unlock("x")
    wait_until(manager.have_lock, "the lock")
    assert realm.show("x").holders[0].value == "b"


def test_ownership_follows_have_lock_and_ends_with_it(stand: Stand, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    manager = stand(ttl=TTL)
    seen = manager.ownership()
    assert next(seen) is False
    in_etcd.unlock("x")
    assert next(seen) is True
    assert manager.have_lock()
    in_etcd.unlock("x")
    assert next(seen) is False
    assert next(seen) is True
    manager.shutdown()
    assert list(seen) == [False]
    assert list(manager.ownership()) == [False]


def test_readers_and_listeners_that_do_nothing_hold_up_nothing(stand: Stand, in_etcd: Etcd) -> None:
    stuck, heard = threading.Event(), Heard()

    def failing(_notice: object) -> None:
        raise RuntimeError("a listener of the test")

    # One renewal that takes its time is no matter here: the lock would be lost at the deadline.
    manager = stand(ttl=3, refresh=0.4, ride_out=True, listener=failing)
    manager.add_listener(heard)
    manager.add_listener(lambda _notice: stuck.wait(BOUND))
    manager.ownership()
    try:
        wait_until(manager.have_lock, "the lock")
        token, since = manager.token, time.monotonic()
        while time.monotonic() < since + 6.5:  # more than two times the ttl
            assert manager.token == token
            time.sleep(0.02)
        heard.until(ACQUIRED)  # though the one before it fails
        in_etcd.unlock("x")
        wait_until(lambda: manager.token not in (None, token), "the lock again, with a listener that is stuck")
    finally:
        stuck.set()
    heard.until(ACQUIRED, REMOVED, ACQUIRED)


def test_a_listener_may_shut_down_and_hears_the_end(stand: Stand, in_etcd: Etcd) -> None:
    heard = Heard()
    in_etcd.lock("x")  # so that nothing is to be heard before both listen
    manager = stand(ttl=TTL)
    manager.add_listener(heard)

    def once(notice: object) -> None:
        manager.remove_listener(once)
        manager.shutdown()

    manager.add_listener(once)
    in_etcd.unlock("x")
    wait_until(lambda: len(heard.notices) == 2 or not own_threads(), "the end")
    notices = heard.until(ACQUIRED, REMOVED)
    assert [(notice.lock, notice.token) for notice in notices] == [("x", notices[0].token)] * 2
    wait_until(lambda: own_threads() == [], "no thread")
    in_etcd.assert_nothing_left()


def test_a_removed_lock_costs_as_much_with_many_waiters_as_with_one(
    start_etcd: Callable[..., Cluster], realm_prefix: str
) -> None:
    from distlock_core import connect

    with start_etcd() as quiet, connect(quiet.endpoints, realm_prefix) as realm:
        managers = [LockManager(realm, "x", 30) for _ in range(12)]
        try:
            wait_until(lambda: holders(managers) and realm.show("x").waiting == 11, "one holder, and a line")
            settled = quiet.members[0].metric("etcd_server_proposals_committed_total")
            before = holders(managers)[0].token
            quiet.etcdctl("del", realm_prefix + "x")
            wait_until(lambda: any(m.token not in (None, before) for m in holders(managers)), "the next holder")
            wait_until(lambda: realm.show("x").waiting == 11, "who had it, at the end of the line")
            # The delete; the next one's lease, claim and ticket's end; the first one's lease, ticket and old lease.
            assert quiet.members[0].metric("etcd_server_proposals_committed_total") - settled <= 10
        finally:
            for manager in managers:
                manager.shutdown()
