"""Long queues: what a waiter reads does not grow with the queue, and it knows its position all the same."""

from __future__ import annotations

import json
import time
from typing import Any, Callable

import pytest

from distlock_core.base.deadline import Patience
from distlock_core.etcd.http import http1
from distlock_core.etcd.values import Put
from distlock_core.lock import queue
from distlock_core.lock.lease import Lease
from distlock_core.testing import Cluster, Proxy
from tests.support.scene import BOUND, KEEPALIVE, PROMPT, TXN, Scene, gateway, puts_under, reads, until

SHORT, LONG = 10, 300
NEVER = 600.0
OPS = 100  # of one transaction


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of bytes that this process has received from etcd."""
    total = 0
    receive = http1.Connection.receive

    def count(connection: http1.Connection, patience: Patience) -> bytes | None:
        nonlocal total
        data = receive(connection, patience)
        total += len(data or b"")
        return data

    monkeypatch.setattr(http1.Connection, "receive", count)
    return lambda: total


def crowd(scene: Scene, name: str, count: int) -> None:
    """Put tickets of others into the queue."""
    etcd = gateway(*scene.endpoints)
    tickets = [Put(scene.key(f"{name}/queue/50/exclusive/{number:016x}"), b"1;other;{}") for number in range(count)]
    for first in range(0, count, OPS):
        etcd.txn([], tickets[first : first + OPS], [], Patience.lasting(BOUND))
    etcd.close()


def quiet(count: Callable[[], int]) -> int:
    before = -1
    while before != (before := count()):
        time.sleep(0.4)
    return before


def asked(proxy: Proxy) -> int:
    return len(proxy.wait_for_requests(TXN, 0))


def test_what_a_hand_over_reads_does_not_grow_with_the_line(
    scene: Scene, received: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "REREAD", NEVER)

    def hand_over(name: str, length: int) -> int:
        holder = scene.realm().lock(name).acquire(0)
        waiters = []
        for number in range(4):
            waiters.append(scene.queue(scene.realm().lock(name, ticket_ttl=600)))  # no renewals meanwhile
            scene.until_in_line(name, number + 1)
        crowd(scene, name, length)
        before = quiet(received)
        holder.release()
        waiters[0].result(PROMPT)
        return quiet(received) - before

    assert hand_over("long", LONG) <= hand_over("short", SHORT) * 1.1


def test_joining_reads_the_same_in_every_line_and_needs_no_read_behind_it(
    scene: Scene, proxy: Proxy, received: Callable[[], int]
) -> None:
    def join(name: str, length: int) -> int:
        scene.put(name)
        crowd(scene, name, length)
        before, seen = received(), asked(proxy)
        scene.acquire(scene.realm(proxy.url).lock(name, ticket_ttl=600))
        until(lambda: proxy.streams == joined)
        assert [reads(body) for body in proxy.wait_for_requests(TXN)[seen:]] == [True, False]
        return quiet(received) - before

    joined = 1
    short = join("short", SHORT)
    joined = 2
    assert join("long", LONG) <= short * 1.1


def test_reading_again_costs_the_same_in_every_line(
    scene: Scene, proxy: Proxy, received: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "REREAD", 0.05)  # six times that where the queue is long
    monkeypatch.setattr(queue, "COUNTING", NEVER)

    def reread(name: str, length: int) -> float:
        scene.put(name)
        crowd(scene, name, length)
        waiter = scene.queue(scene.realm(proxy.url).lock(name, ticket_ttl=600))
        until(lambda: proxy.streams == 1)
        seen, bytes_seen = asked(proxy), received()
        until(lambda: asked(proxy) >= seen + 15)
        found = (received() - bytes_seen) / (asked(proxy) - seen)
        scene.delete(name)
        scene.clear(f"{name}/queue/50/exclusive/0000")
        waiter.result(BOUND).release()
        return found

    assert reread("long", LONG) <= reread("short", SHORT) * 1.3


def test_a_waiter_far_back_knows_its_position(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(queue, "REREAD", 0.2)
    monkeypatch.setattr(queue, "COUNTING", 0.001)
    scene.put("web")
    crowd(scene, "web", LONG)
    scene.queue(scene.realm().lock("web"), progress=seen.append)
    until(lambda: seen)
    assert seen[0].position == LONG + 1
    scene.clear("web/queue/50/exclusive/00000000000000")  # 256 of them, all but the last 44
    until(lambda: seen[-1].position == LONG - 256 + 1)
    assert {waiting.position for waiting in seen} == {LONG + 1, LONG - 256 + 1}


def test_a_position_that_was_not_counted_again_is_not_beyond_the_end_of_the_queue(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(queue, "REREAD", 0.2)
    monkeypatch.setattr(queue, "COUNTING", NEVER)
    scene.put("web")
    crowd(scene, "web", LONG)
    scene.queue(scene.realm().lock("web"), progress=seen.append)
    until(lambda: seen)
    scene.clear("web/queue/50/exclusive/00000000000000")
    until(lambda: seen[-1].position == LONG - 256 + 1)
    scene.clear("web/queue/50/exclusive/00000000000001")
    until(lambda: seen[-1].position == 1)


def test_tickets_are_counted_less_often_the_further_back_a_waiter_is(
    scene: Scene, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "REREAD", 0.2)
    monkeypatch.setattr(queue, "COUNTING", 0.02)  # 6 s in a queue of 300
    scene.put("web")
    crowd(scene, "web", LONG)
    scene.queue(scene.realm(proxy.url).lock("web"))
    scene.put("other")  # as long as nothing has changed since it joined, its place is known without counting
    until(lambda: proxy.streams == 1)
    seen = asked(proxy)
    until(lambda: asked(proxy) >= seen + 4)
    assert not any(_counts(body) for body in proxy.wait_for_requests(TXN))
    until(lambda: any(_counts(body) for body in proxy.wait_for_requests(TXN)))


def _counts(body: bytes) -> bool:
    """Reads all tickets of its rank that are older than its own."""
    gets = [op.get("request_range", {}) for op in json.loads(body).get("success", ())]
    return reads(body) and any("max_create_revision" in get and "limit" not in get for get in gets)


@pytest.mark.parametrize(("ahead", "least", "most"), [(5, 3, 10), (LONG, 0, 1)])
def test_a_waiter_further_back_reads_again_less_often(
    scene: Scene, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, ahead: int, least: int, most: int
) -> None:
    monkeypatch.setattr(queue, "REREAD", 0.5)
    scene.put("web")
    crowd(scene, "web", ahead)
    scene.queue(scene.realm(proxy.url).lock("web"))
    until(lambda: proxy.streams == 1)
    seen = asked(proxy)
    time.sleep(2.5)
    assert least <= asked(proxy) - seen <= most


@pytest.mark.parametrize("waiters", [10, 1000])
def test_a_hand_over_and_a_look_cost_the_same_commits_in_every_line(
    start_etcd: Callable[..., Cluster], realm_prefix: str, waiters: int
) -> None:
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)

        def commits() -> float:
            return cluster.members[0].metric("etcd_server_proposals_committed_total")

        holder = scene.realm().lock("web").acquire(0)
        first = scene.queue(scene.realm().lock("web"))
        second = scene.queue(scene.realm().lock("web"))
        crowd(scene, "web", waiters)
        before = commits()
        assert scene.realm().show("web").waiting == waiters + 2
        assert commits() == before
        holder.release()
        first.result(PROMPT).release()
        second.result(PROMPT)
        # Two releases, two claims, and the end of the first ticket's lease.
        assert commits() - before == 5
        scene.close()


def test_waiters_do_not_flood_an_etcd_that_answers_no_renewal(
    scene: Scene, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet would otherwise turn a slow etcd into one that answers nobody."""
    monkeypatch.setattr(queue, "REREAD", NEVER)
    scene.put("web")
    scene.queue(scene.realm(proxy.url).lock("web", ticket_ttl=30))
    until(lambda: proxy.streams == 1)
    quiet(lambda: asked(proxy))
    proxy.mute()
    before = len(proxy.wait_for_requests(KEEPALIVE, 1, timeout=15.0))
    time.sleep(6.0)
    assert len(proxy.wait_for_requests(KEEPALIVE)) - before <= 2
    proxy.heal()


def test_waiters_renew_their_tickets_at_different_times() -> None:
    moments = set()
    for _ in range(20):
        lease = Lease(FakeEtcd(), 30, None, of_ticket=True)  # type: ignore[arg-type]
        lease.grant(30, Patience())
        moments.add(round(lease.renew_at - (lease.deadline - 30), 1))
    assert len(moments) > 5
    assert min(moments) >= 7.4
    assert max(moments) <= 10.0


class FakeEtcd:
    """An etcd that grants every lease."""

    def grant(self, lease: int, ttl: int, patience: Patience) -> int:
        return ttl


def test_a_ticket_whose_reply_was_lost_is_found_by_a_read(scene: Scene, proxy: Proxy) -> None:
    """The repeated request shows only that it is there, not what was ahead of it then."""
    seen: list[Any] = []
    scene.put("web")
    crowd(scene, "web", SHORT)
    proxy.lose_reply(TXN, puts_under(scene.key("web/queue/")))
    scene.queue(scene.realm(proxy.url).lock("web"), progress=seen.append)
    until(lambda: seen)
    assert seen[0].position == SHORT + 1
    assert len(scene.line("web")) == SHORT + 1
