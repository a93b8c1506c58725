"""Ranks: waiters with a lower rank are served first, within a rank in the order of arrival."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, ConfigError, Lock, LockBusy, LockManager, aio
from distlock_core.lock import queue
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, GRANT, PROMPT, TXN, Scene, deletes, puts, puts_under, until

SOMEBODY = "1;somebody;{}"


def ticket(rank: int, name: str = "web") -> str:
    """The ticket of a waiter that never claims."""
    return f"{name}/queue/{rank:02}/exclusive/0000000000000001"


def served_in_order(scene: Scene, ranks: list[int], slots: int = 1) -> None:
    """Let waiters of these ranks arrive while the lock is held, and check the order in which they hold it."""
    served: list[tuple[int, int]] = []
    holders = [scene.realm().lock("web", slots=slots).acquire(0) for _ in range(slots)]

    def take_turn(lock: Lock, rank: int, number: int) -> None:
        lock.acquire(cancel=scene.curtain)
        served.append((rank, number))
        lock.release()

    waiters = []
    for number, rank in enumerate(ranks):
        lock = scene.realm().lock("web", f"node-{number}", rank=rank, slots=slots)
        waiters.append(scene.start(partial(take_turn, lock, rank, number)))
        scene.until_in_line("web", number + 1)
    state = scene.realm().show("web")
    expected = sorted((rank, number) for number, rank in enumerate(ranks))
    assert [(waiter.rank, waiter.owner) for waiter in state.waiters] == [
        (rank, f"node-{number}") for rank, number in expected
    ]
    holders[0].release()
    for waiter in waiters:
        waiter.result(BOUND * 3)
    for holder in holders[1:]:
        holder.release()
    assert served == expected
    scene.assert_clean()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thirty_waiters_of_random_ranks_are_served_by_rank_and_arrival(scene_each: Scene, seed: int) -> None:
    chance = random.Random(seed)
    ranks = [chance.choice([0, 10, 49, 50, 50, 51, 90, 99]) for _ in range(30)]
    served_in_order(scene_each, ranks)


def test_ranks_hold_for_several_slots(scene: Scene) -> None:
    served_in_order(scene, [90, 50, 10, 50, 90, 0], slots=3)


def test_one_who_arrives_during_a_wait_is_served_before_higher_ranks(scene: Scene) -> None:
    """Also before one that is first already, and follows the lock by its events."""
    scene.put("web")
    primary = scene.queue(scene.realm().lock("web", "primary", rank=90))
    replica = scene.queue(scene.realm().lock("web", "replica", rank=10))
    scene.delete("web")
    held = replica.result(PROMPT)
    assert not primary.done()
    second = scene.queue(scene.realm().lock("web", "second"))
    held.release()
    held = second.result(PROMPT)
    assert not primary.done()
    held.release()
    primary.result(PROMPT).release()
    scene.assert_clean()


@pytest.mark.parametrize("slots", [1, 2])
def test_a_lower_rank_that_arrives_between_read_and_claim_is_not_overtaken(
    scene_each: Scene, proxy_each: Proxy, slots: int
) -> None:
    keys = ["web", "web/slot/1"][:slots]
    for key in keys:
        scene_each.put(key, f'1;somebody;{{"limit":{slots}}}')
    waiter = scene_each.queue(scene_each.realm(proxy_each.url).lock("web", rank=90, slots=slots))
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    for key in keys:
        scene_each.delete(key)
    held.wait()
    scene_each.put(ticket(89), SOMEBODY)
    assert not scene_each.replay(held.body)
    with proxy_each.changed:
        asked = len(proxy_each.requests)
    held.release()
    proxy_each.wait_for_requests("*", asked + 1)  # it looks at what has refused it
    assert scene_each.get("web") is None
    scene_each.delete(ticket(89))
    assert waiter.result(PROMPT).held


def test_a_higher_rank_that_arrives_between_read_and_claim_is_of_no_concern(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web", rank=10))
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    scene.delete("web")
    held.wait()
    scene.put(ticket(11), SOMEBODY)
    held.release()
    assert waiter.result(PROMPT).held


def test_a_claim_without_a_ticket_requires_that_no_lower_rank_waits(scene_each: Scene, proxy_each: Proxy) -> None:
    for rank in (10, 50):
        held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
        claim = scene_each.acquire(scene_each.realm(proxy_each.url).lock("web"), 0)
        held.wait()
        scene_each.put(ticket(rank), SOMEBODY)
        held.release()
        with pytest.raises(LockBusy, match="web is free, but 1 is waiting"):
            claim.result(BOUND)
        scene_each.delete(ticket(rank))


def test_who_outranks_all_waiters_of_a_free_lock_enters_at_once(scene_each: Scene) -> None:
    """They wait for something else: another lock, a gate, a window."""
    realm = scene_each.realm()
    scene_each.put(ticket(50), SOMEBODY)
    for rank in (50, 51, 99):
        with pytest.raises(LockBusy, match="web is free, but 1 is waiting"):
            realm.lock("web", rank=rank).acquire(0)
    with realm.lock("web", rank=49).acquire(0):
        assert len(scene_each.line("web")) == 1


def test_a_waiter_for_several_locks_does_not_hold_up_lower_ranks(scene: Scene) -> None:
    realm = scene.realm()
    scene.put("web")
    both = scene.acquire(realm.lock(["rack", "web"]))
    until(lambda: scene.line("rack") and scene.line("web"))
    assert realm.lock("rack").try_acquire() is None
    urgent = realm.lock("rack", rank=1).acquire(0)
    scene.delete("web")
    with pytest.raises(LockBusy):
        realm.lock("web").acquire(0)  # the first of both is next, as soon as it has all
    urgent.release()
    both.result(PROMPT).release()
    scene.assert_clean()


def test_several_locks_are_waited_for_with_one_rank(scene: Scene) -> None:
    realm, served = scene.realm(), []
    holder = realm.lock(["rack", "web"]).acquire(0)

    def take_turn(lock: Lock, name: str) -> None:
        lock.acquire(cancel=scene.curtain)
        served.append(name)
        lock.release()

    waiters = []
    orders = {"late": (["web", "rack"], 90), "usual": ("web", 50), "early": (["rack", "web"], 10)}
    for number, (name, (locks, rank)) in enumerate(orders.items(), 1):
        waiters.append(scene.start(partial(take_turn, realm.lock(locks, rank=rank), name)))
        scene.until_in_line("web", number)
    tickets = [kv.key.decode().split("/queue/")[1][:2] for kv in scene.line("rack")]
    assert tickets == ["90", "10"]
    holder.release()
    for waiter in waiters:
        waiter.result(BOUND)
    assert served == ["early", "usual", "late"]
    scene.assert_clean()


# What a waiter reads and watches.


def test_it_knows_its_position_among_all_ranks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "REREAD", 0.2)
    seen: list[Any] = []
    scene.put("web")
    for rank, count in ((10, 5), (50, 4), (90, 3)):
        for number in range(count):
            scene.put(f"web/queue/{rank}/exclusive/{number:016x}", SOMEBODY)
    scene.queue(scene.realm().lock("web"), progress=seen.append)
    until(lambda: seen)
    assert (seen[0].position, seen[0].state.waiting) == (10, 13)
    scene.put(ticket(20), SOMEBODY)
    until(lambda: (seen[-1].position, seen[-1].state.waiting) == (11, 14))
    scene.clear("web/queue/10/exclusive/")
    until(lambda: seen[-1].position == 6)
    scene.clear("web/queue/50/exclusive/000000000000000")  # 16 hexadecimal digits: not its own
    until(lambda: seen[-1].position == 2)
    scene.put(ticket(21), SOMEBODY)
    until(lambda: seen[-1].position == 3)


def test_a_waiter_behind_lower_ranks_reads_only_when_its_turn_may_come(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    for number in range(20):
        scene.put(f"web/queue/10/exclusive/{number:016x}", SOMEBODY)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    until(lambda: proxy.streams == 1)
    asked = len(proxy.wait_for_requests(TXN))
    for number in range(18):
        scene.delete(f"web/queue/10/exclusive/{number:016x}")
    scene.put("other")
    assert len(proxy.wait_for_requests(TXN)) == asked
    scene.clear("web/queue/10/exclusive/")
    scene.delete("web")
    assert waiter.result(PROMPT).held


def test_who_joins_ahead_of_the_first_and_leaves_again_changes_nothing(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    until(lambda: proxy.streams == 1)
    for _ in range(3):
        scene.put(ticket(10), SOMEBODY)
        scene.delete(ticket(10))
    scene.delete("web")
    assert waiter.result(PROMPT).held


def test_two_of_lower_ranks_may_pass_the_first_while_it_watches(scene: Scene) -> None:
    scene.put("web")
    first = scene.queue(scene.realm().lock("web", "first", rank=90))
    others = [scene.queue(scene.realm().lock("web", f"other-{rank}", rank=rank)) for rank in (60, 40, 20)]
    scene.delete("web")
    for other in reversed(others):
        assert not first.done()
        other.result(PROMPT).release()
    first.result(PROMPT).release()
    scene.assert_clean()


def test_a_lower_rank_that_gives_up_lets_the_next_in_at_once(scene: Scene) -> None:
    scene.put("web")
    second = scene.queue(scene.realm().lock("web", "second", rank=60))
    first = scene.queue(scene.realm().lock("web", "first", rank=40), 1.5)
    with pytest.raises(AcquireTimeout):
        first.result(BOUND)
    scene.delete("web")
    assert second.result(PROMPT).held


# A lost reply.


@pytest.fixture(params=["reply", "request"])
def lose(request: pytest.FixtureRequest, proxy: Proxy) -> Callable[..., None]:
    """Lose the request, so that etcd never sees it; or its reply, when etcd has done it."""
    return proxy.lose_reply if request.param == "reply" else proxy.lose_request


def test_a_lost_claim_with_a_rank_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    scene.put("web")
    scene.put(ticket(80), SOMEBODY)
    waiter = scene.queue(scene.realm(proxy.url).lock("web", rank=70))
    lose(TXN, puts(scene.key("web")))
    scene.delete("web")
    lock = waiter.result(PROMPT)
    assert lock.verify()
    assert len(scene.line("web")) == 1
    lock.release()


@pytest.mark.parametrize("path", [GRANT, TXN])
def test_a_lost_queue_entry_with_a_rank_leaves_one_ticket(
    scene: Scene, proxy: Proxy, lose: Callable[..., None], path: str
) -> None:
    scene.put("web")
    scene.put(ticket(60), SOMEBODY)
    lose(path, puts_under(scene.key("web/queue/07/exclusive/")) if path == TXN else None)
    waiter = scene.queue(scene.realm(proxy.url).lock("web", rank=7))
    assert [kv.key.decode().split("/queue/")[1][:2] for kv in scene.line("web")] == ["60", "07"]
    scene.delete("web")
    waiter.result(PROMPT).release()
    assert len(scene.line("web")) == 1


def test_a_lost_release_lets_the_lowest_rank_in(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lock = scene.realm(proxy.url).lock("web", rank=3).acquire(0)
    late = scene.queue(scene.realm().lock("web", "late", rank=90))
    early = scene.queue(scene.realm().lock("web", "early", rank=10))
    lose(TXN, deletes(scene.key("web")))
    lock.release()
    early.result(PROMPT).release()
    late.result(PROMPT).release()
    scene.assert_clean()


@pytest.mark.parametrize("rank", [-1, 100, 5.0, "5", True])
def test_a_bad_rank_is_refused(scene: Scene, rank: Any) -> None:
    with pytest.raises(ConfigError, match="rank: expected a whole number from 0 to 99, found"):
        scene.realm().lock("web", rank=rank)


def test_of_managers_that_wait_the_lowest_rank_takes_over(scene: Scene) -> None:
    holder = scene.realm().lock("web").acquire(0)
    realm = scene.realm()
    with LockManager(realm, "web", rank=90) as late:
        scene.until_in_line("web", 1)
        with LockManager(realm, "web", rank=10) as early:
            scene.until_in_line("web", 2)
            holder.release()
            until(early.have_lock, PROMPT)
            assert not late.have_lock()
        until(late.have_lock, PROMPT)
    with pytest.raises(ConfigError, match="rank: expected a whole number from 0 to 99"):
        LockManager(realm, "web", rank=100)


def test_a_rank_in_asyncio(scene: Scene) -> None:
    scene.put(ticket(50), SOMEBODY)

    async def take() -> None:
        async with aio.connect(scene.endpoints, scene.prefix) as realm:
            assert await realm.lock("web").try_acquire() is None
            async with realm.lock("web", rank=10, timeout=0) as lock:
                assert lock.held

    asyncio.run(take())
