"""Hand-over from holder to waiter: claims based on a watch alone, leases granted ahead, and what wakes at a release."""

from __future__ import annotations

import base64
import itertools
import time
from concurrent.futures import Future
from typing import Any, Callable

import pytest

from distlock_core.base.deadline import Patience, now
from distlock_core.etcd.values import Event, KeyValue
from distlock_core.lock import near
from distlock_core.lock.lock import Lock, hold_of
from distlock_core.lock.snapshot import Snapshot
from distlock_core.model.keys import Keys, Place
from distlock_core.model.state import Holder
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, GRANT, KEEPALIVE, PROMPT, REVOKE, TXN, WATCH, Scene, puts, reads, until

TTL = 30


def until_near(scene: Scene, proxy: Proxy) -> None:
    """Return when the waiter behind the proxy watches the lock itself, and has read what was before."""
    key = f'"{base64.b64encode(scene.key("web")).decode()}"'.encode()
    until(lambda: any(key in body for body in proxy.wait_for_requests(WATCH, 0)))
    _until_quiet(lambda: len(proxy.wait_for_requests(TXN, 0)))


def held_and_next(scene: Scene, proxy: Proxy, **options: Any) -> tuple[Lock, Future[Lock]]:
    """A held lock, and the next in its queue, behind the proxy, which watches the lock itself."""
    holder = scene.realm().lock("web").acquire(0)
    waiter = scene.queue(scene.realm(proxy.url).lock("web", **options))
    until_near(scene, proxy)
    return holder, waiter


def claims(proxy: Proxy, scene: Scene) -> int:
    return sum(puts(scene.key("web"))(body) for body in proxy.wait_for_requests(TXN, 0))


def test_a_waiter_claims_at_a_release_without_a_read(scene: Scene, proxy: Proxy) -> None:
    holder, waiter = held_and_next(scene, proxy)
    asked = len(proxy.wait_for_requests(TXN))
    holder.release()
    assert waiter.result(PROMPT).held
    fresh = proxy.wait_for_requests(TXN)[asked:]
    assert [puts(scene.key("web"))(body) for body in fresh] == [True]


def test_the_second_in_the_queue_claims_without_a_read_too(scene: Scene, proxy: Proxy) -> None:
    """It follows what the first does, so that it is ready however short the first one's hold is."""
    holder = scene.realm().lock("web").acquire(0)
    first = scene.queue(scene.realm().lock("web"))
    second = scene.queue(scene.realm(proxy.url).lock("web"))
    until_near(scene, proxy)
    asked = len(proxy.wait_for_requests(TXN))
    holder.release()
    first.result(PROMPT).release()
    assert second.result(PROMPT).held
    assert [puts(scene.key("web"))(body) for body in proxy.wait_for_requests(TXN)[asked:]] == [True]
    assert len(proxy.wait_for_requests(WATCH)) == 1


def test_the_second_in_the_queue_claims_without_a_read_when_the_first_gives_up(scene: Scene, proxy: Proxy) -> None:
    holder = scene.realm().lock("web").acquire(0)
    scene.queue(scene.realm().lock("web", "first"))
    second = scene.queue(scene.realm(proxy.url).lock("web"))
    until_near(scene, proxy)
    asked = len(proxy.wait_for_requests(TXN))
    scene.revoke(scene.line("web")[0].lease)
    _until_quiet(lambda: len(proxy.wait_for_requests(TXN)))
    assert not second.done()
    holder.release()
    assert second.result(PROMPT).held
    assert claims(proxy, scene) == 1
    assert len(proxy.wait_for_requests(TXN)) - asked == 1


def test_the_second_in_the_queue_does_not_claim_a_free_lock_of_the_first(scene: Scene, proxy: Proxy) -> None:
    holder = scene.realm().lock("web").acquire(0)
    with Proxy(scene.cluster.endpoints[0]) as slow:
        first = scene.queue(scene.realm(slow.url).lock("web"))
        until_near(scene, slow)
        second = scene.queue(scene.realm(proxy.url).lock("web"))
        until_near(scene, proxy)
        held = slow.hold_request(TXN, puts(scene.key("web")))
        holder.release()
        held.wait()
        _until_quiet(lambda: len(proxy.wait_for_requests(TXN)))
        assert claims(proxy, scene) == 0
        held.release()
        lock = first.result(PROMPT)
        assert not second.done()
        lock.release()
    assert second.result(PROMPT).held
    assert claims(proxy, scene) == 1


def test_the_third_in_the_queue_gets_ready_while_the_first_holds_the_lock(scene: Scene, proxy: Proxy) -> None:
    holder = scene.realm().lock("web").acquire(0)
    first = scene.queue(scene.realm().lock("web"))
    second = scene.queue(scene.realm().lock("web"))
    third = scene.queue(scene.realm(proxy.url).lock("web"))
    until(lambda: proxy.streams == 1)
    asked = len(proxy.wait_for_requests(TXN))
    holder.release()
    lock = first.result(PROMPT)
    until_near(scene, proxy)
    assert [reads(body) for body in proxy.wait_for_requests(TXN)[asked:]] == [True]
    lock.release()
    second.result(PROMPT).release()
    assert third.result(PROMPT).held
    assert [reads(body) for body in proxy.wait_for_requests(TXN)[asked:]] == [True, False]


@pytest.mark.parametrize("taken", ["web", "web/slot/1", "__freeze", "web/freeze", "__internal_lock/1"])
def test_a_claim_without_a_read_is_refused_by_what_came_after_the_release(
    scene: Scene, proxy: Proxy, taken: str
) -> None:
    holder, waiter = held_and_next(scene, proxy)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    holder.release()
    held.wait()
    scene.put(taken)
    held.release()
    until(lambda: any(reads(body) for body in proxy.wait_for_requests(TXN)) and claims(proxy, scene) == 1)
    assert not waiter.done()
    ahead = [kv.key for kv in scene.line("web")]
    assert len(ahead) == 1
    scene.delete(taken)
    assert waiter.result(PROMPT).held


def test_a_claim_without_a_read_is_void_once_the_last_end_was_written_again(scene: Scene, proxy: Proxy) -> None:
    """So a claim that was held up is never applied after somebody has resolved it."""
    holder, waiter = held_and_next(scene, proxy)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    holder.release()
    held.wait()
    last = scene.get("__last/web")
    assert last is not None
    scene.put("__last/web", last.value.decode())
    held.release()
    lock = waiter.result(PROMPT)
    assert lock.held
    assert claims(proxy, scene) == 2


def test_a_claim_without_a_read_is_refused_without_its_ticket(scene: Scene, proxy: Proxy) -> None:
    holder, waiter = held_and_next(scene, proxy)
    (ticket,) = scene.line("web")
    other = scene.queue(scene.realm().lock("web", "other"))
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    holder.release()
    held.wait()
    scene.revoke(ticket.lease)
    lock = other.result(PROMPT)
    token = lock.token  # its turn, since the ticket before its own is gone
    held.release()
    time.sleep(0.2)
    assert not waiter.done()
    lock.release()
    assert waiter.result(PROMPT).token > token


def test_a_lost_reply_to_a_claim_without_a_read_is_resolved(scene: Scene, proxy: Proxy) -> None:
    holder, waiter = held_and_next(scene, proxy)
    proxy.lose_reply(TXN, puts(scene.key("web")))
    holder.release()
    lock = waiter.result(PROMPT)
    assert lock.verify()
    assert claims(proxy, scene) == 1


def test_a_lock_deleted_by_other_means_goes_to_the_next(scene: Scene, proxy: Proxy) -> None:
    """Then no event tells how the last hold ended."""
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    until_near(scene, proxy)
    scene.delete("web")
    assert waiter.result(PROMPT).held
    assert claims(proxy, scene) == 1


def test_a_waiter_whose_predecessor_gives_up_in_mid_queue_keeps_its_place(scene: Scene, proxy: Proxy) -> None:
    holder = scene.realm().lock("web").acquire(0)
    first = scene.queue(scene.realm().lock("web", "first"))
    scene.queue(scene.realm().lock("web", "second"))
    third = scene.queue(scene.realm().lock("web", "third"))
    scene.queue(scene.realm().lock("web", "fourth"))
    fifth = scene.queue(scene.realm(proxy.url).lock("web", "fifth"))
    until(lambda: proxy.streams == 1)
    scene.revoke(scene.line("web")[3].lease)
    until_near(scene, proxy)  # it looks at the lock too early, and goes back
    until(lambda: len(proxy.wait_for_requests(WATCH)) == 3)
    scene.revoke(scene.line("web")[1].lease)
    holder.release()
    first.result(PROMPT).release()
    lock = third.result(PROMPT)
    assert not fifth.done()
    lock.release()
    assert fifth.result(PROMPT).owner == "fifth"


def test_a_change_of_holder_that_is_followed_is_shown(scene: Scene, proxy: Proxy) -> None:
    seen: list[Any] = []
    holder = scene.realm().lock("web", "holder").acquire(0)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"), progress=seen.append)
    until_near(scene, proxy)
    asked = len(proxy.wait_for_requests(TXN))
    holder.update("a value")
    until(lambda: seen[-1].state.holders[0].value == "a value")
    assert len(proxy.wait_for_requests(TXN)) == asked
    assert not waiter.done()


# Leases.


def granted(proxy: Proxy) -> int:
    return len(proxy.wait_for_requests(GRANT, 0))


def test_the_lease_of_the_next_holder_is_granted_ahead_of_its_turn(scene: Scene, proxy: Proxy) -> None:
    holder, waiter = held_and_next(scene, proxy, ttl=TTL)
    assert granted(proxy) == 2  # the ticket's, and the hold's
    latest = now()
    time.sleep(0.5)
    holder.release()
    lock = waiter.result(PROMPT)
    assert granted(proxy) == 2
    lease = hold_of(lock).lease
    assert lease is not None
    assert lease.deadline <= latest + TTL  # it counts from the sending of the grant, not from the claim
    assert lock.verify()


def test_a_lease_that_was_granted_ahead_is_renewed_in_the_queue(scene: Scene, proxy: Proxy) -> None:
    holder, waiter = held_and_next(scene, proxy, ttl=3, refresh=0.5)
    time.sleep(4)
    assert len(proxy.wait_for_requests(KEEPALIVE, 5)) >= 5
    holder.release()
    lock = waiter.result(PROMPT)
    assert granted(proxy) == 2
    lease = hold_of(lock).lease
    assert lease is not None
    assert now() + 1 < lease.deadline
    time.sleep(0.2)
    assert lock.verify()


def test_a_lease_that_was_granted_ahead_and_is_gone_is_granted_anew(scene: Scene, proxy: Proxy) -> None:
    before = scene.leases()
    holder, waiter = held_and_next(scene, proxy, ttl=TTL)
    (ticket,) = scene.line("web")
    (ahead,) = scene.leases() - before - {ticket.lease}
    scene.revoke(ahead)
    holder.release()
    lock = waiter.result(PROMPT)
    assert lock.lease not in (None, ahead)
    assert lock.verify()


def test_a_lease_whose_renewal_is_overdue_is_not_used_for_a_claim(scene: Scene, proxy: Proxy) -> None:
    """As after a suspension: it may have little time left, so that the hold begins with a lease of its own."""
    holder, waiter = held_and_next(scene, proxy, ttl=3, refresh=0.5)
    proxy.lose_request(KEEPALIVE, times=1000)
    time.sleep(1.5)
    sent = now()
    holder.release()
    lock = waiter.result(BOUND)
    assert granted(proxy) == 3
    lease = hold_of(lock).lease
    assert lease is not None
    assert lease.deadline >= sent + 3


def test_a_waiter_that_gives_up_leaves_no_lease_that_was_granted_ahead(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web", ttl=TTL))
    until_near(scene, proxy)
    assert granted(proxy) == 2
    scene.curtain.set()
    with pytest.raises(Exception, match="interrupted"):
        waiter.result(PROMPT)
    assert len(proxy.wait_for_requests(REVOKE, 2)) == 2
    scene.assert_clean("web")


def test_only_the_first_two_have_a_lease_ahead(scene: Scene) -> None:
    before = scene.leases()
    holder = scene.realm().lock("web").acquire(0)
    waiters = [scene.queue(scene.realm().lock("web", ttl=TTL)) for _ in range(5)]
    tickets = {kv.lease for kv in scene.line("web")}
    until(lambda: len(scene.leases() - before - tickets) == 2)
    holder.release()
    for waiter in waiters:
        waiter.result(PROMPT).release()
    scene.assert_clean()


def _until_quiet(count: Callable[[], int]) -> int:
    before = -1
    while before != (before := count()):
        time.sleep(0.4)
    return before


# The events.


KEYS = Keys("/t/", "web")


def event(key: bytes, revision: int, *, deleted: bool = False) -> Event:
    return Event(deleted, KeyValue(key, b"" if deleted else b"1;x;y", 0 if deleted else revision, revision, 0))


def first_in_line() -> Snapshot:
    holder = event(KEYS.lock, 7).kv
    return Snapshot(8, (Holder.parse(KEYS, holder),), 1, (), (), False, None)


RELEASED = (event(KEYS.lock, 9, deleted=True), event(KEYS.last, 9))
TAKEN_AGAIN = (event(KEYS.lock, 10),)
RELEASED_AGAIN = (event(KEYS.lock, 11, deleted=True), event(KEYS.last, 11))


def test_the_parts_of_a_release_may_come_in_any_order() -> None:
    """The lock counts as free only when the last release was reported, whatever came before it."""
    story = (*RELEASED, *TAKEN_AGAIN, *RELEASED_AGAIN)
    for events in itertools.permutations(story):
        revisions = [[one.kv.mod_revision for one in events if one.kv.key == key] for key in (KEYS.lock, KEYS.last)]
        if any(found != sorted(found) for found in revisions):
            continue  # the events of one key come in order
        snapshot: Snapshot | None = first_in_line()
        for count, one in enumerate(events, 1):
            assert snapshot is not None
            snapshot = near.after(snapshot, [one], KEYS, 8)
            assert snapshot is not None
            is_free = not snapshot.holders and not near.is_incomplete(snapshot)
            assert not is_free or snapshot.last in (RELEASED[1].kv, RELEASED_AGAIN[1].kv)
            assert not is_free or (snapshot.last is not None and snapshot.last.mod_revision == snapshot.revision)
            assert is_free or count < len(story), events


def test_the_parts_of_a_hand_over_to_the_first_may_come_in_any_order() -> None:
    """The second in the queue sees the lock free for itself only when the first has released it."""
    first, lock, note = (
        event(KEYS.ticket(1, Place()), 10, deleted=True),
        event(KEYS.lock, 10),
        event(KEYS.last, 9),
    )
    second = first_in_line()._replace(ahead=(KeyValue(KEYS.ticket(1, Place()), b"", 5, 5, 0),), waiting=2)
    story = (RELEASED[0], note, first, lock, *RELEASED_AGAIN)
    for events in itertools.permutations(story):
        revisions = [[one.kv.mod_revision for one in events if one.kv.key == key] for key in (KEYS.lock, KEYS.last)]
        if any(found != sorted(found) for found in revisions):
            continue  # the events of one key come in order
        snapshot: Snapshot | None = second
        for count, one in enumerate(events, 1):
            assert snapshot is not None
            snapshot = near.after(snapshot, [one], KEYS, 8)
            assert snapshot is not None
            is_mine = snapshot.is_my_turn and not snapshot.holders and not near.is_incomplete(snapshot)
            assert not is_mine or (snapshot.last, snapshot.waiting) == (RELEASED_AGAIN[1].kv, 1), events
            assert is_mine or count < len(story), events


def test_half_a_release_is_incomplete() -> None:
    for one in RELEASED:
        half = near.after(first_in_line(), [one], KEYS, 8)
        assert half is not None
        assert bool(half.holders) or near.is_incomplete(half)


def test_half_a_claim_by_the_first_is_incomplete_for_the_second() -> None:
    second = first_in_line()._replace(ahead=(KeyValue(KEYS.ticket(1, Place()), b"", 5, 5, 0),), waiting=2)
    claimed = near.after(second, [*RELEASED, event(KEYS.lock, 10)], KEYS, 8)
    assert claimed is not None
    assert near.is_incomplete(claimed)
    whole = near.after(claimed, [event(KEYS.ticket(1, Place()), 10, deleted=True)], KEYS, 8)
    assert whole is not None
    assert not near.is_incomplete(whole)
    updated = Event(False, KeyValue(KEYS.lock, b"1;x;y", 7, 9, 0))
    noted = near.after(second, [updated], KEYS, 8)
    assert noted is not None
    assert not near.is_incomplete(noted), "a change of the record comes alone"


def test_events_that_the_read_has_shown_change_nothing() -> None:
    before = first_in_line()
    assert near.after(before, [event(KEYS.lock, 8, deleted=True), event(KEYS.ticket(1, Place()), 5)], KEYS, 8) == before


@pytest.mark.parametrize(
    "strange",
    [
        event(KEYS.slot(1), 9),
        event(KEYS.freeze, 9),
        event(KEYS.freeze, 9, deleted=True),
        event(KEYS.lock_freeze, 9),
        event(KEYS.lock_freeze, 9, deleted=True),
        event(KEYS.mutex + b"1", 9),
        event(KEYS.ticket(2, Place()), 9, deleted=True),
        event(KEYS.last, 9, deleted=True),
    ],
)
def test_any_other_event_needs_a_read(strange: Event) -> None:
    assert near.after(first_in_line(), [strange], KEYS, 8) is None


def test_a_watch_from_now_on_misses_nothing_that_comes_after_its_opening(scene: Scene) -> None:
    etcd = scene.realm()._etcd
    for number in range(20):
        ranges = [(scene.key(f"{number}/{which}"), None) for which in range(6)]
        watch = etcd.watch(ranges, 0, Patience.lasting(BOUND))
        revision = scene.put(f"{number}/5")
        assert [one.kv.mod_revision for one in watch.wait(Patience.lasting(PROMPT))] == [revision]
        watch.close()
