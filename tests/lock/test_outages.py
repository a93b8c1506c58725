"""Outages of etcd: before the first contact soon an error, in the queue only a longer wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, EtcdUnavailable, Lock
from distlock_core.base.deadline import Patience
from distlock_core.lock import queue
from distlock_core.testing import Cluster, Member, Proxy
from tests.support.scene import BOUND, GRANT, KEEPALIVE, PROMPT, TXN, WATCH, Scene, gateway, until


@pytest.fixture
def own(start_etcd: Callable[..., Cluster], realm_prefix: str) -> Iterator[Scene]:
    """A scene in an etcd of the test's own, to stop and pause."""
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)
        yield scene
        scene.close()


# The first contact.


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
@pytest.mark.parametrize(
    ("timeout", "connect_timeout", "ends"), [(2.0, 60.0, 2.0), (60.0, 1.0, 1.0), (0, 1.0, 1.0), (-1, 1.0, 1.0)]
)
def test_the_first_contact_fails_after_its_own_timeout_or_the_callers(
    scene: Scene, proxy: Proxy, silent: bool, timeout: float, connect_timeout: float, ends: float
) -> None:
    if silent:
        proxy.blackhole()
    else:
        proxy.cut()
    since = time.monotonic()
    with pytest.raises(EtcdUnavailable, match=proxy.url):
        scene.realm(proxy.url, connect_timeout=connect_timeout).lock("web").acquire(timeout)
    assert ends - 0.1 <= time.monotonic() - since < ends + 9
    proxy.heal()
    scene.assert_clean()


def test_a_paused_etcd_fails_in_time(own: Scene) -> None:
    own.cluster.members[0].pause()
    since = time.monotonic()
    with pytest.raises(EtcdUnavailable):
        own.realm(connect_timeout=1.0).lock("web").acquire(-1)
    assert time.monotonic() - since < 10
    own.cluster.members[0].resume()


def test_the_error_names_every_endpoint_and_its_fault(scene: Scene, proxy: Proxy) -> None:
    with Proxy("http://127.0.0.1:9") as other:
        proxy.blackhole()
        other.cut()
        realm = scene.realm(proxy.url, other.url, connect_timeout=1.0)
        with pytest.raises(EtcdUnavailable) as caught:
            realm.lock("web").acquire(0)
    assert f"{proxy.url} (timed out)" in caught.value.message
    assert f"{other.url} (connection refused)" in caught.value.message


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
def test_a_dead_endpoint_leaves_the_others_their_share(scene: Scene, proxy: Proxy, silent: bool) -> None:
    if silent:
        proxy.blackhole()
    else:
        proxy.cut()
    since = time.monotonic()
    lock = scene.realm(proxy.url, *scene.endpoints).lock("web").acquire(4.0)
    assert time.monotonic() - since < 4
    # It is remembered which one answered.
    asked = len(proxy.wait_for_requests("*", 0))
    lock.release()
    assert len(proxy.wait_for_requests("*", 0)) == asked


def test_an_endpoint_that_died_while_idle_is_replaced_by_another(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url, *scene.endpoints).lock("web").acquire(0)
    proxy.cut()
    lock.release()
    scene.assert_clean()


def test_a_connection_closed_while_idle_puts_nothing_in_doubt(scene: Scene, proxy: Proxy) -> None:
    etcd = gateway(proxy.url)
    etcd.read([], Patience.lasting(BOUND))
    proxy.cut()
    proxy.heal()
    assert etcd.txn([], [], [], Patience.lasting(BOUND)).succeeded


def test_nothing_is_sent_when_no_time_is_left(scene: Scene, proxy: Proxy) -> None:
    with pytest.raises(EtcdUnavailable, match="no time was left"):
        gateway(proxy.url).txn([], [], [], Patience.lasting(0))
    assert proxy.requests == []


# In line.


def two_in_line(scene: Scene, *endpoints: str) -> tuple[Callable[[], Lock], Callable[[], None]]:
    """Two waiters. Returns what waits for the first to be served, and what checks that both kept their places."""
    scene.put("web")
    first = scene.queue(scene.realm(*endpoints).lock("web", "first"))
    second = scene.queue(scene.realm(*endpoints).lock("web", "second"))
    places = scene.line("web")

    def check() -> None:
        assert [(kv.key, kv.create_revision) for kv in scene.line("web")] == [
            (kv.key, kv.create_revision) for kv in places
        ]
        assert not first.done()
        assert not second.done()

    def served() -> Lock:
        lock: Lock = first.result(BOUND)
        assert lock.verify()
        assert not second.done()
        return lock

    return served, check


def test_no_waiter_loses_its_place_over_a_restart_of_etcd(own: Scene) -> None:
    served, check = two_in_line(own)
    own.cluster.members[0].restart()
    own.cluster.wait_ready()
    check()
    own.delete("web")
    served()


def test_no_waiter_loses_its_place_over_a_pause_of_etcd(own: Scene) -> None:
    with Proxy(own.cluster.endpoints[0]) as proxy:
        served, check = two_in_line(own, proxy.url)
        own.cluster.members[0].pause()
        unanswered = len(proxy.wait_for_requests(KEEPALIVE, 0))
        proxy.wait_for_requests(KEEPALIVE, unanswered + 2)  # both tickets want to be renewed, and none is
        own.cluster.members[0].resume()
        check()
        own.delete("web")
        served().release()


@pytest.mark.parametrize("fault", [Member.kill, Member.pause], ids=["killed", "paused"])
def test_a_member_in_use_that_fails_is_replaced_without_losing_the_place(
    cluster3: Cluster, realm_prefix: str, fault: Callable[[Member], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "REREAD", 60.0)  # that is not what is to help here
    in_use = cluster3.leader()  # the worst of them
    others = [member.client_url for member in cluster3.members if member is not in_use]
    scene = Scene(cluster3, realm_prefix, others)
    served, check = two_in_line(scene, in_use.client_url, *others)
    fault(in_use)
    until(lambda: any(member.is_leader() for member in cluster3.members if member is not in_use))
    check()
    scene.delete("web")
    served().release()
    scene.close()


def test_an_outage_longer_than_the_ticket_lives_means_to_queue_again(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    (old,) = scene.line("web")
    proxy.cut()
    scene.revoke(old.lease)  # as if it had run out
    scene.delete("web")
    rival = scene.realm().lock("web").acquire(0)
    proxy.heal()
    until(lambda: scene.line("web"))
    assert scene.line("web")[0].lease != old.lease
    rival.release()
    assert waiter.result(PROMPT).held


def test_a_waiter_outlasts_an_outage_even_between_two_tickets(scene: Scene, proxy: Proxy) -> None:
    """The old ticket is gone; etcd answers reads already, but grants no lease for longer than connect_timeout."""
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url, connect_timeout=1.0).lock("web"))
    proxy.lose_request(GRANT, times=8)
    scene.clear("web/queue/")
    proxy.wait_for_requests(GRANT, 9)
    until(lambda: scene.line("web"))
    scene.delete("web")
    assert waiter.result(PROMPT).held


def test_a_timeout_during_an_outage_reports_that_etcd_is_silent(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    seen: list[Any] = []
    waiter = scene.queue(scene.realm(proxy.url).lock("web"), 3.0, progress=seen.append)
    until(lambda: seen)  # it knows that it is in the queue
    proxy.cut()
    with pytest.raises(AcquireTimeout, match=r"held by node-9.*no etcd answered"):
        waiter.result(BOUND)


def test_a_waiter_is_notified_of_the_outage(scene: Scene, proxy: Proxy) -> None:
    seen: list[Any] = []
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"), progress=seen.append)
    until(lambda: seen)
    assert not seen[-1].away
    proxy.cut()
    until(lambda: seen[-1].away)
    proxy.heal()
    until(lambda: not seen[-1].away)
    assert not waiter.done()


def test_a_watch_that_cannot_be_opened_is_no_end(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    proxy.lose_request(WATCH, times=3)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    proxy.wait_for_requests(WATCH, 4)
    scene.delete("web")
    assert waiter.result(PROMPT).held


def test_a_slow_network_loses_nothing(scene: Scene, proxy: Proxy) -> None:
    proxy.delay(0.1)
    lock = scene.realm(proxy.url).lock("web", timeout=BOUND)
    with lock:
        waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    waiter.result(PROMPT).release()
    assert len(proxy.wait_for_requests(TXN)) < 20
    scene.assert_clean()
