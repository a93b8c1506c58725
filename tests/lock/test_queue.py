"""The queue: waiters are served in order, whatever happens to tickets, watches and other waiters."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, Lock, LockLost, Realm
from distlock_core.base.deadline import Patience
from distlock_core.etcd.http.gateway import Gateway
from distlock_core.etcd.values import REREAD, Event
from distlock_core.lock import queue
from distlock_core.lock.lease import TICKET_TTL
from distlock_core.testing import Cluster, Proxy
from tests.support.processes import Process
from tests.support.scene import BOUND, GRANT, KEEPALIVE, PROMPT, TXN, WATCH, Scene, deletes, gateway, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Watch


def test_thirty_waiters_are_served_in_order_of_arrival(scene: Scene) -> None:
    realm, served = scene.realm(), []
    holder = realm.lock("web").acquire(0)

    def take_turn(number: int, lock: Lock) -> None:
        lock.acquire(cancel=scene.curtain)
        served.append(number)
        lock.release()

    waiters = []
    for number in range(30):
        lock = realm.lock("web", f"node-{number}")
        waiters.append(scene.start(partial(take_turn, number, lock)))
        scene.until_in_line("web", number + 1)
    holder.release()
    for waiter in waiters:
        waiter.result(BOUND * 3)
    assert served == list(range(30))
    scene.assert_clean()


def has_streams(proxy: Proxy, count: int) -> bool:
    return proxy.streams == count


def test_a_release_wakes_the_first_waiters_only(scene: Scene, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "REREAD", 600.0)  # or one of them may look just now
    holder = scene.realm().lock("web").acquire(0)
    waiters = []
    for number in range(8):
        waiters.append(scene.queue(scene.realm(proxy.url).lock("web", f"node-{number}")))
        until(partial(has_streams, proxy, number + 1))
    asked = len(proxy.wait_for_requests(TXN))
    holder.release()
    waiters[0].result(PROMPT)
    until(lambda: proxy.streams == 7)  # those behind it have looked, and watch again
    # The claim of the first, and a read of the third, which has become the second.
    assert len(proxy.wait_for_requests(TXN)) - asked <= 2


def test_waiting_costs_no_commits(start_etcd: Callable[..., Cluster], realm_prefix: str) -> None:
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)
        with Proxy(cluster.endpoints[0]) as proxy:
            scene.put("web")
            for _ in range(3):
                scene.queue(scene.realm(proxy.url).lock("web"))
            until(lambda: proxy.streams == 3)
            before = cluster.members[0].metric("etcd_server_proposals_committed_total")
            proxy.wait_for_requests(KEEPALIVE, 3)  # each has renewed its ticket
            assert cluster.members[0].metric("etcd_server_proposals_committed_total") == before
        scene.close()


def test_a_waiter_killed_in_mid_queue_delays_it_by_its_ticket_at_most(
    scene: Scene, spawn_distlock: Callable[..., Process]
) -> None:
    realm = scene.realm()
    holder = realm.lock("web").acquire(0)
    first = scene.queue(realm.lock("web", "first"))
    killed = spawn_distlock("--lock-name=web", "--", "true")
    until(lambda: len(scene.line("web")) == 2)
    last = scene.queue(realm.lock("web", "last"))
    tickets = scene.line("web")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    holder.release()
    first.result(PROMPT).release()
    since = time.monotonic()
    last.result(TICKET_TTL + PROMPT)
    assert time.monotonic() - since < TICKET_TTL + PROMPT
    # The living one has stood in the same place all the while: its ticket was renewed.
    assert scene.record("web").owner == "last"
    assert tickets[2].create_revision > tickets[1].create_revision


def test_a_waiter_whose_ticket_is_deleted_queues_again(scene: Scene) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm().lock("web"))
    (old,) = scene.line("web")
    scene.clear("web/queue/")
    until(lambda: scene.line("web"), PROMPT)
    (new,) = scene.line("web")
    assert new.key != old.key
    until(lambda: old.lease not in scene.leases(), TICKET_TTL / 2)
    scene.delete("web")
    assert waiter.result(PROMPT).held


def test_a_waiter_whose_ticket_is_recreated_by_another_queues_again(scene: Scene) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm().lock("web"))
    (old,) = scene.line("web")
    name = old.key.decode()[len(scene.prefix) :]
    scene.replace(name, old.value.decode())
    until(lambda: len(scene.line("web")) == 2, PROMPT)
    assert scene.line("web")[0].key == old.key
    scene.delete("web")
    assert scene.get("web") is None
    scene.delete(name)
    assert waiter.result(PROMPT).held


def test_a_waiter_in_mid_queue_whose_ticket_is_recreated_queues_again(scene: Scene) -> None:
    scene.put("web")
    first = scene.queue(scene.realm().lock("web", "first"))
    second = scene.queue(scene.realm().lock("web", "second"))
    mine = scene.line("web")[1]
    name = mine.key.decode()[len(scene.prefix) :]
    scene.replace(name, mine.value.decode())
    until(lambda: len(scene.line("web")) == 3, PROMPT)
    scene.delete("web")
    first.result(PROMPT).release()
    scene.delete(name)
    assert second.result(PROMPT).held


def test_a_waiter_whose_lease_expired_queues_again(scene: Scene) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm().lock("web"))
    (old,) = scene.line("web")
    scene.revoke(old.lease)
    until(lambda: scene.line("web"), PROMPT)
    assert scene.line("web")[0].lease != old.lease
    scene.delete("web")
    assert waiter.result(PROMPT).held


def test_a_realm_deleted_during_use_is_reacquired_by_one_at_a_time(scene: Scene) -> None:
    realm, inside, served, gate = scene.realm(), [], [], threading.Event()
    holder = realm.lock("web").acquire(0)

    def take_turn(number: int, lock: Lock) -> None:
        lock.acquire(cancel=scene.curtain)
        inside.append(number)
        assert gate.wait(BOUND)
        assert inside == [number]
        assert lock.verify()
        inside.remove(number)
        served.append(number)
        lock.release()

    waiters = []
    for number in range(6):
        lock = realm.lock("web", f"node-{number}")
        waiters.append(scene.start(partial(take_turn, number, lock)))
        scene.until_in_line("web", number + 1)
    scene.clear()
    until(lambda: len(scene.line("web")) == 5 and scene.get("web"), PROMPT)
    with pytest.raises(LockLost):
        holder.release()
    gate.set()
    for waiter in waiters:
        waiter.result(BOUND)
    assert sorted(served) == list(range(6))
    scene.assert_clean()


def test_a_change_between_the_read_and_the_watch_is_not_missed(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    held = proxy.hold_request(WATCH)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    held.wait()
    scene.delete("web")
    held.release()
    assert waiter.result(PROMPT).held


@pytest.mark.parametrize("watched", ["web", "web/slot/1", "__freeze", "web/freeze", "__internal_lock/1"])
def test_a_change_while_the_watch_is_broken_is_not_missed(scene: Scene, proxy: Proxy, watched: str) -> None:
    scene.put(watched)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    until(lambda: proxy.streams == 1)
    held = proxy.hold_request(WATCH)
    assert proxy.break_streams() == 1
    held.wait()  # it has read before it watches again
    scene.delete(watched)
    held.release()
    assert waiter.result(PROMPT).held


def test_a_watch_of_compacted_history_is_reopened(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    before = [scene.queue(scene.realm().lock("web")) for _ in range(2)]  # the third watches from its read on
    held = proxy.hold_request(WATCH)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    held.wait()
    scene.put("other")
    scene.cluster.etcdctl("compact", str(scene.put("other")))
    held.release()
    proxy.wait_for_requests(WATCH, 2)
    until(lambda: proxy.streams == 1)
    scene.delete("web")
    for other in before:
        other.result(PROMPT).release()
    assert waiter.result(PROMPT).held


def test_a_silent_watch_is_outlasted_by_reading_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server can lose a DELETE: that cannot be provoked, so the watch reports nothing."""
    assert REREAD <= 10
    monkeypatch.setattr(queue, "REREAD", 1.0)
    scene.put("web")
    waiter = scene.queue(Realm(DeafEtcd(gateway(*scene.cluster.endpoints)), scene.prefix).lock("web"))
    scene.delete("web")
    assert waiter.result(PROMPT).held


class DeafEtcd:
    """An etcd whose watches never report anything."""

    def __init__(self, etcd: Gateway) -> None:
        self._etcd = etcd

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    def watch(self, *arguments: Any, **options: Any) -> Watch:
        return DeafWatch(self._etcd.watch(*arguments, **options))


class DeafWatch:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.endpoint = watch.endpoint

    def wait(self, patience: Patience) -> list[Event]:
        patience.wait()
        return []

    def close(self) -> None:
        self._watch.close()


def test_a_waiter_that_reaches_the_head_after_the_release_reads_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd sends events to a watch that begins in the past up to 100 ms late; this watch never gets any."""
    monkeypatch.setattr(queue, "REREAD", 10 * PROMPT)
    scene.put("web")
    etcd = LateEtcd(gateway(*scene.cluster.endpoints), meanwhile=lambda: scene.delete("web"))
    assert scene.start(Realm(etcd, scene.prefix).lock("web").acquire).result(PROMPT).held


class LateEtcd(DeafEtcd):
    """etcd, where something happens right before a watch is opened, which reports nothing."""

    def __init__(self, etcd: Gateway, meanwhile: Callable[[], object]) -> None:
        super().__init__(etcd)
        self._meanwhile = meanwhile

    def watch(self, *arguments: Any, **options: Any) -> Watch:
        self._meanwhile()
        return DeafWatch(self._etcd.watch([(b"/elsewhere", None)], *arguments[1:], **options))


def test_a_waiter_that_gives_up_frees_its_place_for_the_next(scene: Scene) -> None:
    scene.put("web")
    first = scene.queue(scene.realm().lock("web", "first"), 3.0)
    second = scene.queue(scene.realm().lock("web", "second"))
    with pytest.raises(AcquireTimeout):
        first.result(BOUND)
    assert len(scene.line("web")) == 1
    scene.delete("web")
    assert second.result(PROMPT).owner == "second"


def test_a_waiter_learns_its_position_and_the_holder(scene: Scene) -> None:
    seen: list[Any] = []
    scene.put("web", '1;node-9;{"reason":"Upgrade"}')
    scene.queue(scene.realm().lock("web"))
    waiter = scene.queue(scene.realm().lock("web"), progress=seen.append)
    until(lambda: seen)
    assert seen[0].position == 2
    assert [holder.owner for holder in seen[0].state.holders] == ["node-9"]
    scene.delete(scene.line("web")[0].key.decode()[len(scene.prefix) :])
    until(lambda: seen[-1].position == 1)
    assert not waiter.done()


def test_the_claim_deletes_the_ticket(scene: Scene, proxy: Proxy) -> None:
    """In one transaction: no waiter may see the lock taken with the ticket still there, or the reverse."""
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    (ticket,) = scene.line("web")
    scene.delete("web")
    waiter.result(PROMPT)
    assert any(deletes(ticket.key)(body) for body in proxy.wait_for_requests(TXN))
    assert len(proxy.wait_for_requests(GRANT)) == 1
    assert scene.line("web") == ()
