"""A lock with a ttl, taken again: it is renewed, moved to another ttl, or found lost; and what it tells of that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from distlock_core import Cancelled, ConfigError, EtcdUnavailable, Lock, LockLost, NotHolder, Realm, connect
from distlock_core.base.deadline import now
from distlock_core.testing import Cluster, Proxy
from tests.support.lease_view import Seen
from tests.support.process_trees import Key, until_after
from tests.support.processes import BOUND, wait_until
from tests.support.threads import own_threads


@pytest.fixture
def key(etcd: Cluster, realm_prefix: str) -> Key:
    return Key(etcd, realm_prefix)


@pytest.fixture
def realm(proxy: Proxy, realm_prefix: str) -> Iterator[Realm]:
    with connect(proxy.url, realm_prefix) as realm:
        yield realm
    proxy.heal()


def test_acquiring_again_renews_at_once(realm: Realm) -> None:
    lock = realm.lock("x", ttl=60).acquire()
    token, deadline = lock.token, lock.session.deadline
    until_after(now() + 0.1)
    assert lock.acquire() is lock
    assert lock.session.deadline >= deadline + 0.1
    assert lock.token == token
    lock.release()


def test_acquiring_a_lost_lock_reports_the_loss_and_the_next_acquire_takes_it(realm: Realm, seen: Seen) -> None:
    lock = realm.lock("x", ttl=60).acquire()
    token = lock.token
    lock.session.stop()  # so that it is acquire that finds out
    seen.delete("x")
    with pytest.raises(LockLost):
        lock.acquire()
    assert lock.lost.is_set()
    with pytest.raises(NotHolder):
        lock.release()
    assert lock.acquire().token > token
    assert not lock.lost.is_set()
    lock.release()
    seen.assert_nothing_left()
    assert own_threads("distlock-session") == []


def test_an_etcd_that_is_away_is_no_loss_when_it_is_acquired_again(realm: Realm, proxy: Proxy) -> None:
    lock = realm.lock("x", ttl=60).acquire()
    proxy.cut()
    with pytest.raises(EtcdUnavailable):
        lock.acquire()
    proxy.heal()
    assert lock.acquire().held
    lock.release()


@pytest.mark.parametrize(("before", "after"), [(60, 30), (30, 60), (60, None), (None, 60)])
def test_another_ttl_counts_from_the_next_acquire_on(
    realm: Realm, seen: Seen, before: int | None, after: int | None
) -> None:
    lock = realm.lock("x", ttl=before).acquire()
    token, first = lock.token, seen.held("x").lease
    lock.ttl = after
    assert seen.held("x").lease == first  # not before
    lock.acquire()
    held = seen.held("x")
    assert held.token == lock.token == token
    assert held.lease == (lock.lease or 0)
    assert (seen.ttl(held.lease) if held.lease else None) == after
    assert not first or seen.ttl(first) == 0  # the old one is gone
    assert own_threads("distlock-session") == ["distlock-session"]  # what was looked after still is
    lock.release()
    seen.assert_nothing_left()


def test_a_set_refresh_is_the_interval_of_renewals(realm: Realm, proxy: Proxy) -> None:
    lock = realm.lock("x", ttl=60).acquire()
    lock.refresh = 0.2
    lock.acquire()
    since = len(proxy.requests)
    wait_until(lambda: sum("keepalive" in path for path, _ in proxy.requests[since:]) >= 4, "renewals")
    lock.release()
    lock.ttl, lock.refresh = 5, None  # and when it is not held
    assert lock.acquire().session.lease is not None
    assert lock.session.lease.ttl == 5  # type: ignore[union-attr]
    lock.release()


def test_a_ttl_that_cannot_be_is_refused_and_changes_nothing(realm: Realm) -> None:
    lock = realm.lock("x", ttl=10, refresh=4)
    with pytest.raises(ConfigError):
        lock.ttl = 0
    with pytest.raises(ConfigError):
        lock.ttl = 4  # the refresh comes first
    with pytest.raises(ConfigError):
        lock.refresh = 10
    assert (lock.ttl, lock.refresh) == (10, 4)


def test_another_ttl_for_a_lock_that_is_gone_leaves_no_lease(realm: Realm, seen: Seen) -> None:
    lock = realm.lock("x", ttl=60).acquire()
    lock.session.stop()
    seen.delete("x")
    lock.ttl = 30
    with pytest.raises(LockLost):
        lock.acquire()
    seen.assert_nothing_left()


def test_a_moved_lock_is_still_watched(realm: Realm, seen: Seen) -> None:
    lock = realm.lock("x", ttl=60).acquire()
    lock.ttl = 30
    lock.acquire()
    seen.delete("x")
    assert lock.lost.wait(BOUND)
    with pytest.raises(LockLost):
        lock.release()


def test_releasing_a_lock_that_is_not_held_raises(realm: Realm) -> None:
    lock = realm.lock("x", ttl=60)
    with pytest.raises(NotHolder):
        lock.release()
    lock.acquire().release()
    with pytest.raises(NotHolder):
        lock.release()


def test_on_lost_may_release_and_acquire_again(realm: Realm, seen: Seen) -> None:
    again = threading.Event()
    locks: list[Lock] = []

    def on_lost(_loss: object) -> None:
        with pytest.raises(LockLost):
            locks[0].release()
        locks[0].acquire()
        again.set()

    locks.append(realm.lock("x", ttl=60, on_lost=on_lost).acquire())
    token = locks[0].token
    seen.delete("x")
    assert again.wait(BOUND)
    assert locks[0].token > token
    wait_until(lambda: own_threads("distlock-session") == ["distlock-session"], "the first session's end")
    locks[0].release()
    assert own_threads("distlock-session") == []


def test_a_plain_event_ends_a_blocked_call(realm: Realm, seen: Seen) -> None:
    seen.put("x")
    cancel, ended = threading.Event(), threading.Event()

    def wait() -> None:
        with pytest.raises(Cancelled):
            realm.lock("x").acquire(cancel=cancel)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    wait_until(lambda: len(seen.keys()) == 2, "a place in line")
    began = time.monotonic()
    cancel.set()
    assert ended.wait(BOUND)
    print(f"ended after {(time.monotonic() - began) * 1000:.0f} ms")
    assert seen.keys() == ["x"]
    wait_until(lambda: own_threads("distlock-cancel") == [], "no thread")


def test_an_event_that_is_set_already_sends_nothing(realm: Realm, proxy: Proxy) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        realm.lock("x").acquire(cancel=cancel)
    assert not proxy.requests


def test_a_wait_with_a_cancel_does_not_look_up_all_the_time(
    realm: Realm, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(threading.Event):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return super().is_set()

    seen.put("x")
    cancel = Counting()
    waiter = threading.Thread(target=lambda: realm.lock("x").acquire(timeout=60, cancel=cancel).release(), daemon=True)
    waiter.start()
    wait_until(lambda: len(seen.keys()) == 2, "a place in line")
    asked, since = cancel.asked, time.monotonic()
    until_after(now() + 1)
    assert cancel.asked - asked <= 3 * (time.monotonic() - since)
    seen.delete("x")
    waiter.join(BOUND)


def test_ownership_follows_the_lock_until_its_release(realm: Realm, seen: Seen) -> None:
    lock = realm.lock("x")  # persistent: monitored as long as there is a reader
    read = lock.ownership()
    assert next(read) is False
    lock.acquire()
    assert next(read) is True
    seen.delete("x")
    assert next(read) is False
    with pytest.raises(LockLost):
        lock.acquire()
    lock.acquire()
    assert next(read) is True
    lock.release()
    assert list(read) == [False]
    assert own_threads("distlock-session") == []


def test_ownership_of_a_lock_that_is_held_begins_with_true(realm: Realm, key: Key) -> None:
    with realm.lock("x", ttl=60) as lock:
        with lock.ownership() as read:
            assert next(read) is True
        assert list(read) == []  # closed, not over
        reader = lock.ownership()
    assert list(reader) == [False]  # the True was over before it was read


def test_a_reader_that_does_not_read_holds_up_no_renewal(realm: Realm, proxy: Proxy) -> None:
    lock: Lock = realm.lock("x", ttl=4, refresh=0.3).acquire()
    readers = [lock.ownership() for _ in range(3)]
    since = now()
    wait_until(lambda: lock.session.deadline > since + 4 + 4, "two times the ttl")
    lock.release()
    assert [list(reader) for reader in readers] == [[False]] * 3
