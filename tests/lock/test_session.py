"""Session: what looks after a hold in a program: renewal, the deadline, the loss."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Callable

import pytest

from distlock_core import Lock, LockLost, Realm, connect
from distlock_core.base.deadline import now
from distlock_core.lock.loss_reasons import Loss
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.process_trees import Key, until_after
from tests.support.processes import BOUND, wait_until
from tests.support.threads import own_threads

TTL = 3
KEEPALIVE = "/v3/lease/keepalive"


@pytest.fixture
def key(etcd: Cluster, realm_prefix: str) -> Key:
    return Key(etcd, realm_prefix)


@pytest.fixture
def realm(proxy: Proxy, realm_prefix: str) -> Iterator[Realm]:
    with connect(proxy.url, realm_prefix, release_timeout=2) as realm:
        yield realm
    proxy.heal()


class Told:
    """Counts the calls of `on_lost`."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.came = threading.Event()

    def __call__(self, loss: Loss) -> None:
        self.losses.append(loss)
        self.came.set()


def renewals(proxy: Proxy) -> int:
    return sum(path == KEEPALIVE for path, _ in proxy.requests)


def put_an_end_to(lock: Lock) -> None:
    with pytest.raises(LockLost):
        lock.release()


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("revoke", "its lease has expired or was revoked"),
        ("delete", "its key was deleted"),
        ("replace", "it is held by another now"),
    ],
)
def test_a_loss_is_reported_once_at_once_and_remembered(realm: Realm, key: Key, way: str, why: str) -> None:
    told = Told()
    lock = realm.lock("x", ttl=60, on_lost=told).acquire()
    session = lock.session
    getattr(key, way)()
    assert told.came.wait(9.0)  # below the refresh, and the 10 s of a read in any case
    assert session.loss is not None
    assert session.loss.why == why
    assert not lock.verify()
    put_an_end_to(lock)
    assert told.losses == [session.loss]
    wait_until(lambda: not own_threads(), "its threads have ended")  # a renewal under way ends by its own time limit


def test_a_lock_of_another_that_came_in_between_survives_the_release(realm: Realm, key: Key, in_etcd: Etcd) -> None:
    told = Told()
    lock = realm.lock("x", ttl=TTL, on_lost=told).acquire()
    key.delete()
    in_etcd.lock("x", owner="next")
    token = key.token()
    assert told.came.wait(BOUND)
    put_an_end_to(lock)
    assert key.token() == token
    assert in_etcd.new_leases() == set()


def test_an_etcd_that_is_away_for_the_ttl_is_a_loss_by_the_deadline(realm: Realm, proxy: Proxy) -> None:
    told = Told()
    lock = realm.lock("x", ttl=TTL, on_lost=told).acquire()
    session = lock.session
    proxy.blackhole()
    assert told.came.wait(TTL + BOUND)
    assert session.loss is not None
    assert session.loss.why == f"etcd has confirmed no renewal for {TTL}s"
    assert now() >= session.deadline
    proxy.heal()
    try:
        lock.release()
    except LockLost:
        pass  # it depends on whether etcd has ended the lease by now
    assert len(told.losses) == 1


@pytest.mark.parametrize("outage", ["cut", "blackhole"])
def test_an_outage_shorter_than_the_ttl_is_survived(realm: Realm, proxy: Proxy, in_etcd: Etcd, outage: str) -> None:
    told = Told()
    lock = realm.lock("x", ttl=6, refresh=1, on_lost=told).acquire()
    before = now()
    getattr(proxy, outage)()
    until_after(before + 2.5)
    proxy.heal()
    wait_until(lambda: lock.session.deadline > before + 6 + 2.5, "a renewal after the outage")
    assert lock.verify()
    lock.release()
    assert told.losses == []
    in_etcd.assert_nothing_left()


def test_a_watch_whose_history_is_compacted_is_reopened(start_etcd: Callable[..., Cluster], realm_prefix: str) -> None:
    told = Told()
    with start_etcd() as own, Proxy(own.endpoints[0]) as proxy, connect(proxy.url, realm_prefix) as realm:
        lock = realm.lock("x", ttl=60, on_lost=told).acquire()
        for count in range(3):
            own.etcdctl("put", "/other", str(count))
        revision = json.loads(own.etcdctl("get", "/other", "-w", "json"))["header"]["revision"]
        own.etcdctl("compact", str(revision))
        watches = sum(path == "/v3/watch" for path, _ in proxy.requests)
        proxy.cut()
        proxy.heal()
        wait_until(lambda: sum(path == "/v3/watch" for path, _ in proxy.requests) > watches, "another watch")
        Key(own, realm_prefix).delete()
        assert told.came.wait(8)  # far below the refresh, and below the time after which it reads in any case
        put_an_end_to(lock)


def test_a_lease_is_renewed_as_long_as_it_is_held(realm: Realm, proxy: Proxy) -> None:
    lock = realm.lock("x", ttl=4, refresh=0.4).acquire()
    granted = now()
    wait_until(lambda: lock.session.deadline > granted + 8, "two times the ttl")
    assert lock.verify()
    assert renewals(proxy) >= 4
    lock.release()


def test_the_ttl_that_was_granted_counts(start_etcd: Callable[..., Cluster], realm_prefix: str) -> None:
    # The floor is one and a half election timeouts.
    with start_etcd(heartbeat_ms=400, election_ms=4000) as slow, connect(slow.endpoints, realm_prefix) as realm:
        before = now()
        lock = realm.lock("x", ttl=2).acquire()
        assert lock.session.lease is not None
        assert lock.session.lease.ttl == 6
        assert lock.session.deadline >= before + 6
        lock.release()


def test_the_deadline_counts_from_the_sending(realm: Realm, proxy: Proxy) -> None:
    held = proxy.hold_reply(KEEPALIVE)
    ttl = 12
    lock = realm.lock("x", ttl=ttl, refresh=3).acquire()  # a renewal is waited for as long as a refresh takes
    held.wait(BOUND)
    asked = now()  # or a little before
    before = lock.session.deadline
    until_after(asked + 0.7)
    following = proxy.hold_request(KEEPALIVE)  # so that the deadline stays that of the late reply
    held.release()
    wait_until(lambda: lock.session.deadline != before, "the late reply")
    assert lock.session.deadline <= asked + ttl
    following.release()
    lock.release()


def test_no_thread_and_no_lease_is_left_after_a_release(realm: Realm, in_etcd: Etcd) -> None:
    before = threading.active_count()
    for _ in range(3):
        with realm.lock("x", ttl=TTL):
            assert own_threads() == ["distlock-session"]
            assert len(in_etcd.new_leases()) >= 1
        assert own_threads() == []
        in_etcd.assert_nothing_left()
    # The proxy has a thread per connection, which ends a moment after that.
    wait_until(lambda: threading.active_count() <= before + 1, "no thread")


def test_a_persistent_hold_can_be_looked_after_too(realm: Realm, key: Key) -> None:
    told = Told()
    lock = realm.lock("x", on_lost=told).acquire()
    assert own_threads() == []  # nothing to renew, and no notification was requested
    lock.session.start()
    key.delete()
    assert told.came.wait(BOUND)
    put_an_end_to(lock)
    assert len(told.losses) == 1
    assert own_threads() == []
