"""A lock is shared by any number of shared holders, and by none beside an exclusive one; neither kind starves."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import (
    AcquireTimeout,
    ConfigError,
    Frozen,
    Lock,
    LockBusy,
    LockLost,
    LockManager,
    NotHolder,
    Realm,
    aio,
)
from distlock_core.base.deadline import Patience
from distlock_core.errors import Cancelled
from distlock_core.etcd.values import Get, Put
from distlock_core.lock import refusals
from distlock_core.lock.lease import Lease
from distlock_core.lock.snapshot import Snapshot, claim_conditions, gets
from distlock_core.lock.ticket import Ticket, take_tickets
from distlock_core.model.keys import Keys, Place
from distlock_core.model.record import HoldEnd, Record
from distlock_core.testing import Cluster, Proxy
from tests.support.racing import race
from tests.support.scene import BOUND, GRANT, PROMPT, REVOKE, TXN, Scene, deletes, gateway, puts, puts_under, until

Meanwhile = Callable[[Scene], object]


@pytest.fixture(params=["reply", "request"])
def lose(request: pytest.FixtureRequest, proxy: Proxy) -> Callable[..., None]:
    """Lose the request, so that etcd never sees it; or its reply, when etcd has done it."""
    return proxy.lose_reply if request.param == "reply" else proxy.lose_request


@pytest.fixture
def quiet(start_etcd: Callable[..., Cluster], realm_prefix: str) -> Iterator[Scene]:
    """A scene in an etcd that does nothing else."""
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)
        yield scene
        scene.close()


def share(realm: Realm, owner: str | None = None, **options: Any) -> Lock:
    return realm.lock("web", owner, shared=True, **options)


def shared_keys(scene: Scene) -> list[str]:
    return [kv.key.decode()[len(scene.prefix) :] for kv in scene.under("web/shared/")]


# Who holds it together, and who does not.


def test_shared_holders_hold_it_together_and_each_has_its_key_and_token(scene_each: Scene) -> None:
    realm = scene_each.realm()
    locks = [share(realm, f"job-{number}").acquire(0) for number in range(3)]
    assert shared_keys(scene_each) == [f"web/shared/{lock.holder.record.run}" for lock in locks]
    assert scene_each.get("web") is None
    tokens = [lock.token for lock in locks]
    assert tokens == sorted(set(tokens)) == [kv.create_revision for kv in scene_each.under("web/shared/")]
    assert all(lock.verify() and realm.verify("web", lock.token) for lock in locks)
    assert all(lock.holder.is_shared for lock in locks)
    state = realm.show("web")
    assert [holder.owner for holder in state.holders] == ["job-0", "job-1", "job-2"]
    assert state.slots == 1
    for lock in locks:
        lock.release()
    scene_each.assert_clean()


def test_no_exclusive_holder_beside_a_shared_one_and_none_shared_beside_an_exclusive_one(scene_each: Scene) -> None:
    realm = scene_each.realm()
    with share(realm, "backup"):
        for slots in (None, 1, 3):
            with pytest.raises(LockBusy, match=r"web is held by backup \(shared\) since"):
                realm.lock("web", "upgrade", slots=slots).acquire(0)
    with realm.lock("web", "upgrade"), pytest.raises(LockBusy, match="web is held by upgrade since"):
        share(realm, "backup").acquire(0)
    with realm.lock("web", "upgrade", slots=3), pytest.raises(LockBusy):
        share(realm, "backup").acquire(0)
    scene_each.put("web/slot/2", '1;third;{"limit":3}')
    with pytest.raises(LockBusy):
        share(realm, "backup").acquire(0)
    scene_each.delete("web/slot/2")
    scene_each.put("web")  # as the Go original does
    with pytest.raises(LockBusy):
        share(realm, "backup").acquire(0)


def test_a_shared_hold_is_respected_in_a_key_by_itself_and_by_no_lock_of_another_name(scene_each: Scene) -> None:
    realm = scene_each.realm()
    with share(realm):
        for name in ("web-b", "we", "web.shared"):
            realm.lock(name).acquire(0).release()
        assert [state.name for state in realm.list()] == ["web"]


def test_an_exclusive_waiter_goes_on_when_the_last_shared_holder_has_released(scene_each: Scene) -> None:
    first, second = (share(scene_each.realm(), owner).acquire(0) for owner in "ab")
    waiter = scene_each.queue(scene_each.realm().lock("web"))
    first.release()
    time.sleep(0.2)
    assert not waiter.done()
    second.release()
    lock = waiter.result(PROMPT)
    assert lock.token == scene_each.get("web").create_revision  # type: ignore[union-attr]
    lock.release()
    scene_each.assert_clean()


@pytest.mark.parametrize("slots", [1, 3])
def test_all_shared_waiters_go_on_together_when_the_exclusive_holders_have_released(
    scene_each: Scene, slots: int
) -> None:
    holders = [scene_each.realm().lock("web", f"u{number}", slots=slots).acquire(0) for number in range(slots)]
    waiters = [scene_each.queue(share(scene_each.realm(), f"job-{number}")) for number in range(5)]
    for holder in holders:
        assert not any(waiter.done() for waiter in waiters)
        holder.release()
    assert all(waiter.result(PROMPT).held for waiter in waiters)
    assert len(shared_keys(scene_each)) == 5
    assert scene_each.line("web") == ()


# Nobody starves.


def test_a_shared_one_that_comes_after_a_waiting_exclusive_one_waits_behind_it(scene_each: Scene) -> None:
    backup = share(scene_each.realm(), "backup").acquire(0)
    upgrade = scene_each.queue(scene_each.realm().lock("web", "upgrade"))
    with pytest.raises(LockBusy, match="1 is waiting"):
        share(scene_each.realm(), "late").acquire(0)
    late = scene_each.queue(share(scene_each.realm(), "late"))
    backup.release()
    lock = upgrade.result(PROMPT)
    assert not late.done()
    lock.release()
    late.result(PROMPT).release()
    scene_each.assert_clean()


def test_an_exclusive_one_that_comes_after_a_waiting_shared_one_waits_behind_it(scene_each: Scene) -> None:
    first = scene_each.realm().lock("web", "first").acquire(0)
    backup = scene_each.queue(share(scene_each.realm(), "backup"))
    second = scene_each.queue(scene_each.realm().lock("web", "second"))
    first.release()
    held = backup.result(PROMPT)
    assert not second.done()
    held.release()
    second.result(PROMPT).release()


def test_a_shared_waiter_does_not_wait_for_another_shared_one(scene_each: Scene) -> None:
    """One ahead of it may wait for something else, such as its gate or another lock."""
    scene_each.put("web/queue/50/shared/0000000000000001", "1;somebody;{}")
    lock = share(scene_each.realm()).acquire(0)
    with pytest.raises(LockBusy, match="1 is waiting"):
        scene_each.realm().lock("web").acquire(0)
    lock.release()
    scene_each.put("web")
    waiter = scene_each.queue(share(scene_each.realm()))
    scene_each.delete("web")
    assert waiter.result(PROMPT).held


@pytest.mark.parametrize("shared", [False, True])
def test_a_lower_rank_goes_first_whatever_its_kind(scene_each: Scene, shared: bool) -> None:
    """Of one shared and one exclusive waiter, the one that came later has the lower rank."""
    holder = scene_each.realm().lock("web", "first").acquire(0)
    later = scene_each.queue(scene_each.realm().lock("web", "later", shared=not shared))
    lower = scene_each.queue(scene_each.realm().lock("web", "lower", shared=shared, rank=10))
    holder.release()
    held = lower.result(PROMPT)
    assert not later.done()
    held.release()
    later.result(PROMPT).release()


@pytest.mark.parametrize("shared", [False, True])
def test_a_newcomer_passes_waiters_of_higher_ranks_only(scene_each: Scene, shared: bool) -> None:
    for kind in ("exclusive", "shared"):
        ticket = f"web/queue/60/{kind}/0000000000000001"
        scene_each.put(ticket)
        scene_each.realm().lock("web", shared=shared).acquire(0).release()
        scene_each.delete(ticket)
    scene_each.put("web/queue/40/shared/0000000000000001")
    with pytest.raises(LockBusy):
        scene_each.realm().lock("web", shared=shared).acquire(0)


def test_positions_count_those_that_are_served_first(scene_each: Scene) -> None:
    scene_each.put("web")
    seen: dict[str, list[int]] = {}

    def queue(owner: str, shared: bool) -> None:
        lock = scene_each.realm().lock("web", owner, shared=shared)
        seen[owner] = []
        scene_each.queue(lock, progress=lambda waiting: seen[owner].append(waiting.position))
        until(lambda: seen[owner] != [])

    queue("s1", True)
    queue("x2", False)
    queue("s3", True)
    queue("x4", False)
    queue("s5", True)
    assert {owner: positions[0] for owner, positions in seen.items()} == {"s1": 1, "x2": 2, "s3": 2, "x4": 4, "s5": 3}
    state = scene_each.realm().show("web")
    assert [(waiter.owner, waiter.is_shared) for waiter in state.waiters] == [
        ("s1", True),
        ("x2", False),
        ("s3", True),
        ("x4", False),
        ("s5", True),
    ]


def test_twenty_shared_and_five_exclusive_processes_never_overlap_wrongly_and_all_get_in(
    scene: Scene, tmp_path: Any
) -> None:
    """Each notes in one file, under the lock, when it begins and ends."""
    kinds = ["shared"] * 20 + ["exclusive"] * 5
    random.shuffle(kinds)
    words = (scene.cluster.endpoints[0], scene.prefix, str(tmp_path / "log"))
    with race("sharing_racer", [(*words, kind, "4") for kind in kinds]) as racers:
        racers.end(100)
    inside = {"shared": 0, "exclusive": 0}
    turns = dict.fromkeys(inside, 0)
    most = 0
    for line in (tmp_path / "log").read_text().splitlines():
        what, kind = line.split()
        inside[kind] += 1 if what == "begin" else -1
        turns[kind] += what == "begin"
        assert inside["exclusive"] == 0 or (inside["exclusive"] == 1 and inside["shared"] == 0), line
        most = max(most, inside["shared"])
    assert turns == {"shared": 80, "exclusive": 20}
    assert most > 1  # they really share it
    scene.assert_clean()


# Between the read and the claim.

MEANWHILE: dict[str, tuple[Meanwhile, type[Exception]]] = {
    "the lock is taken": (lambda scene: scene.put("web"), LockBusy),
    "a slot is taken": (lambda scene: scene.put("web/slot/1", '1;other;{"limit":2}'), LockBusy),
    "an exclusive one queues": (lambda scene: scene.put("web/queue/50/exclusive/01", "1;other;{}"), LockBusy),
    "a lower rank queues": (lambda scene: scene.put("web/queue/07/shared/01", "1;other;{}"), LockBusy),
    "a Go client enters its mutex": (lambda scene: scene.put("__internal_lock/694d"), LockBusy),
    "the realm is frozen": (lambda scene: scene.put("__freeze"), Frozen),
    "the lock is frozen": (lambda scene: scene.put("web/freeze"), Frozen),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_a_shared_claim_is_refused_when(scene_each: Scene, proxy_each: Proxy, what: str) -> None:
    change, refusal = MEANWHILE[what]
    held = proxy_each.hold_request(TXN, puts_under(scene_each.key("web/shared/")))
    claim = scene_each.acquire(share(scene_each.realm(proxy_each.url)), 0)
    held.wait()
    change(scene_each)
    before = scene_each.under()
    held.release()
    with pytest.raises(refusal):
        claim.result(BOUND)
    assert scene_each.under() == before


@pytest.mark.parametrize("slots", [1, 2])
def test_an_exclusive_claim_is_refused_when_it_is_shared_meanwhile(
    scene_each: Scene, proxy_each: Proxy, slots: int
) -> None:
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    claim = scene_each.acquire(scene_each.realm(proxy_each.url).lock("web", "upgrade", slots=slots), 0)
    held.wait()
    backup = share(scene_each.realm(), "backup").acquire(0)
    held.release()
    with pytest.raises(LockBusy, match=r"backup \(shared\)"):
        claim.result(BOUND)
    assert scene_each.get("web") is None
    backup.release()
    scene_each.assert_clean()


def test_two_shared_claims_on_their_way_both_succeed(scene_each: Scene, proxy_each: Proxy) -> None:
    held = proxy_each.hold_request(TXN, puts_under(scene_each.key("web/shared/")))
    first = scene_each.acquire(share(scene_each.realm(proxy_each.url), "a"), 0)
    held.wait()
    share(scene_each.realm(), "b").acquire(0)
    held.release()
    assert first.result(BOUND).held
    assert len(shared_keys(scene_each)) == 2


@pytest.mark.parametrize("ahead", ["50/exclusive/ffff", "49/shared/ffff", "49/exclusive/ffff", None])
def test_a_shared_ticket_claims_only_when_no_exclusive_one_is_older_and_no_rank_lower(
    scene_each: Scene, ahead: str | None
) -> None:
    """A read shows older ones, of which none can come after it. The conditions are about lower ranks, which can."""
    keys, place = Keys(scene_each.prefix, "web"), Place(shared=True)
    etcd = gateway(*scene_each.cluster.endpoints)
    patience = Patience.lasting(BOUND)
    scene_each.put("web/queue/50/shared/0000")  # older and shared: of no concern
    if ahead is not None:
        scene_each.put(f"web/queue/{ahead}")
    lease = Lease(etcd, 10, patience)
    wanted = Ticket(keys.ticket(lease.id, place), 0, lease)
    (ticket,), _ = take_tickets(etcd, [wanted], Record(1, "me", {}).encode(), (), patience)
    scene_each.put("web/queue/50/exclusive/0000")  # younger: of no concern
    snapshot = Snapshot.parse(keys, place, etcd.read(gets(keys, place, ticket), patience), ticket)
    assert snapshot.is_my_turn is (ahead is None)
    conditions = claim_conditions(keys, place, snapshot, ticket, keys.shared_hold("1f"), 1)
    assert etcd.txn(conditions, [Get(keys.lock)], [], patience).succeeded is (ahead is None or ahead.startswith("50"))
    ticket.lease.give_up()


def test_a_shared_waiter_whose_ticket_was_deleted_queues_again(scene_each: Scene, proxy_each: Proxy) -> None:
    scene_each.put("web")
    waiter = scene_each.queue(share(scene_each.realm(proxy_each.url)))
    scene_each.clear("web/queue/")
    proxy_each.wait_for_requests(GRANT, 2)
    scene_each.until_in_line("web", 1)
    scene_each.delete("web")
    waiter.result(PROMPT).release()
    scene_each.assert_clean()


# Lost replies.


def test_a_lost_shared_claim_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lose(TXN, puts_under(scene.key("web/shared/")))
    lock = share(scene.realm(proxy.url)).acquire(0)
    assert len(shared_keys(scene)) == 1
    assert lock.verify()
    lock.release()
    scene.assert_clean()


def test_a_lost_shared_claim_is_resolved_among_more_holders_than_a_read_shows(
    scene: Scene, proxy: Proxy, lose: Callable[..., None]
) -> None:
    etcd = gateway(*scene.cluster.endpoints)
    keys = [scene.key(f"web/shared/{number:032x}") for number in range(1100)]
    for at in range(0, len(keys), 100):
        etcd.txn([], [Put(key, b"1;other;{}") for key in keys[at : at + 100]], [], Patience.lasting(BOUND))
    lose(TXN, puts_under(scene.key("web/shared/")))
    lock = share(scene.realm(proxy.url)).acquire(0)
    assert lock.verify()
    with pytest.raises(LockBusy):
        scene.realm().lock("web").acquire(0)
    lock.release()
    waiter = scene.queue(scene.realm().lock("web"))
    scene.clear("web/shared/")
    waiter.result(BOUND).release()
    scene.assert_clean()


def test_a_lost_shared_claim_of_a_waiter_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    scene.put("web")
    waiter = scene.queue(share(scene.realm(proxy.url)))
    lose(TXN, puts_under(scene.key("web/shared/")))
    scene.delete("web")
    lock = waiter.result(PROMPT)
    assert lock.verify()
    assert scene.line("web") == ()
    lock.release()
    scene.assert_clean()


@pytest.mark.parametrize("path", [GRANT, TXN, REVOKE])
def test_a_lost_entry_into_the_queue_leaves_one_ticket_and_one_lease(
    scene: Scene, proxy: Proxy, lose: Callable[..., None], path: str
) -> None:
    scene.put("web")
    lose(path, puts_under(scene.key("web/queue/")) if path == TXN else None)
    waiter = scene.queue(share(scene.realm(proxy.url)))
    (ticket,) = scene.line("web")
    until(lambda: scene.new_leases() == {ticket.lease})
    scene.delete("web")
    waiter.result(PROMPT).release()
    scene.assert_clean()


def test_a_claim_that_arrives_after_its_doubt_was_resolved_is_void(scene: Scene, proxy: Proxy) -> None:
    held = proxy.hold_request(TXN, puts_under(scene.key("web/shared/")))
    claim = scene.acquire(share(scene.realm(proxy.url, connect_timeout=1)), 4)
    held.wait()
    until(lambda: claim.done() or len(shared_keys(scene)) == 1)
    count = len(shared_keys(scene))
    assert not scene.replay(held.body)
    assert len(shared_keys(scene)) == count
    held.drop()


def test_a_claim_that_arrives_twice_is_applied_once(scene: Scene, proxy: Proxy) -> None:
    held = proxy.hold_request(TXN, puts_under(scene.key("web/shared/")))
    claim = scene.acquire(share(scene.realm(proxy.url)), 0)
    held.wait()
    assert scene.replay(held.body)
    assert not scene.replay(held.body)
    held.drop()
    claim.result(BOUND).release()
    scene.assert_clean()


def test_a_lost_shared_release_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lock = share(scene.realm(proxy.url)).acquire(0)
    lose(TXN, deletes(lock.key.encode()))
    lock.release()
    scene.assert_clean()
    assert scene.record("__last/web").text("how") == "released"


def test_an_interrupted_shared_claim_is_undone(scene: Scene, proxy: Proxy) -> None:
    cancel = threading.Event()
    reply = proxy.hold_reply(TXN, puts_under(scene.key("web/shared/")))
    claim = scene.acquire(share(scene.realm(proxy.url)), cancel=cancel)
    reply.wait()
    until(lambda: len(shared_keys(scene)) == 1)
    cancel.set()
    with pytest.raises(Cancelled):
        claim.result(BOUND)
    scene.assert_clean()


# A hold, and its end.


def test_a_shared_hold_whose_process_was_killed_ends_with_its_lease(scene: Scene) -> None:
    code = (
        "import sys, time\n"
        "from distlock_core import connect\n"
        "lock = connect([sys.argv[1]], sys.argv[2]).lock('web', shared=True, ttl=3).acquire(0)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", code, scene.cluster.endpoints[0], scene.prefix]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        waiter = scene.queue(scene.realm().lock("web"))
        other = share(scene.realm(), "other", ttl=30)
        process.kill()
        waiter.result(BOUND).release()  # and not before the lease has expired
        other.acquire(BOUND).release()
    scene.assert_clean()


def test_a_shared_hold_can_be_lost_updated_renewed_kept_and_cooled(scene_each: Scene) -> None:
    realm = scene_each.realm()
    lock = share(realm, "a", ttl=30, value="v1").acquire(0)
    lock.update("v2", reason="moved")
    assert (realm.get("web"), realm.show("web").holders[0].reason) == ("v2", "moved")
    lock.ttl = 20
    lock.acquire()
    realm.unlock("web", "admin", force=True)
    assert lock.lost.wait(PROMPT)
    with pytest.raises(LockLost, match="broken by admin"):
        lock.release()
    lock = share(realm, "a").acquire(0)
    lock.keep("look at it")
    with pytest.raises(LockBusy, match=r"\(shared\) \(kept\)"):
        realm.lock("web", "x").acquire(0)
    share(realm, "b").acquire(0).cool(60)
    states = {holder.owner: holder.record.state for holder in realm.show("web").holders}
    assert states == {"a": "kept", "b": "cooling"}
    share(realm, "c").acquire(0).release()
    for holder in realm.show("web").holders:
        realm.unlock("web", token=holder.token)
    scene_each.assert_clean()


def test_a_freeze_keeps_shared_ones_out_and_lets_holders_go_on(scene_each: Scene) -> None:
    realm = scene_each.realm()
    lock = share(realm, "a").acquire(0)
    realm.freeze("web", reason="audit")
    with pytest.raises(Frozen):
        share(realm, "b").acquire(0)
    waiter = scene_each.queue(share(scene_each.realm(), "b"))
    assert lock.verify()
    lock.release()
    realm.thaw("web")
    waiter.result(PROMPT).release()
    share(realm, "c").acquire(0).freeze("failed", exit_code=7)
    assert realm.frozen("web").exit_code == 7  # type: ignore[union-attr]
    assert shared_keys(scene_each) == []


def test_a_policys_slots_do_not_limit_shared_holders_and_its_other_rules_apply(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", slots=2, expect=77, cooldown=1)
    locks = [share(realm, owner).acquire(0) for owner in "abc"]
    assert [holder.expect for holder in realm.show("web").holders] == [77] * 3
    assert all("limit" not in lock.holder.record.details for lock in locks)
    with pytest.raises(LockBusy):
        realm.lock("web", "x").acquire(0)
    for lock in locks:
        lock.release()
    realm.lock("web", "x", slots=2).acquire(0)


def test_the_length_of_a_shared_hold_is_not_remembered(scene_each: Scene) -> None:
    realm = scene_each.realm()
    scene_each.put("__last/web", '1;a;{"how":"released","owner":"a","took":[30,40]}')
    share(realm, "backup").acquire(0).release()
    note = HoldEnd.parse(scene_each.get("__last/web").value)  # type: ignore[union-attr]
    assert (note.how, note.owner, note.took) == ("released", "backup", (30, 40))


def test_unlock_ends_the_one_hold_that_is_meant_and_asks_which_if_there_are_several(scene_each: Scene) -> None:
    realm = scene_each.realm()
    first, second, third = (share(realm, owner).acquire(0) for owner in "abc")
    with pytest.raises(NotHolder) as refused:
        realm.unlock("web")
    assert refused.value.hints[0].data["tokens"] == [first.token, second.token, third.token]
    assert realm.unlock("web", "b").token == second.token
    assert realm.unlock("web", token=first.token).owner == "a"
    assert realm.unlock("web").owner == "c"  # the only one that is left
    scene_each.assert_clean()


def test_several_locks_are_shared_together_or_not_at_all(scene_each: Scene) -> None:
    realm = scene_each.realm()
    with realm.lock(["rack", "web"], shared=True, ttl=30) as first, realm.lock(["web", "rack"], shared=True):
        assert first.tokens.keys() == {"rack", "web"}
        with pytest.raises(LockBusy):
            realm.lock("rack").acquire(0)
    holder = realm.lock("rack").acquire(0)
    waiter = scene_each.acquire(scene_each.realm().lock(["rack", "web"], shared=True))
    scene_each.until_in_line("web", 1)
    share(realm).acquire(0).release()  # no exclusive one waits for it
    holder.release()
    waiter.result(PROMPT).release()
    scene_each.assert_clean()


def test_events_tell_of_shared_holds(scene_each: Scene) -> None:
    realm = scene_each.realm()
    first = share(realm, "a").acquire(0)
    for watching in (realm.watch(), realm.watch("web")):
        event = next(watching)
        assert (event.kind, event.owner, event.holder and event.holder.is_shared) == ("acquired", "a", True)
        second = share(realm, "b").acquire(0)
        assert (next(watching).token, second.token) == (second.token, second.token)
        second.release()
        released = next(watching)
        assert (released.kind, released.owner) == ("released", "b")
        assert released.ended is not None
        watching.close()
    first.release()


# One owner.


def test_two_runs_of_one_owner_share_it_side_by_side(scene_each: Scene) -> None:
    realm = scene_each.realm()
    first, second = (share(realm, "me").acquire(0) for _ in range(2))
    assert first.token != second.token
    first.release()
    assert second.verify()


def test_a_shared_step_is_entered_again_and_stays(scene_each: Scene) -> None:
    realm = scene_each.realm()
    step = share(realm, "me", step=True).acquire(0)
    with share(scene_each.realm(), "me") as run:
        assert run.token == step.token
        assert len(shared_keys(scene_each)) == 1
    assert step.verify()


def test_a_shared_step_cannot_become_exclusive(scene_each: Scene) -> None:
    realm = scene_each.realm()
    share(realm, "me", step=True).acquire(0)
    with pytest.raises(LockBusy, match="that is a shared step of the same owner, which cannot become exclusive"):
        realm.lock("web", "me").acquire(0)
    with pytest.raises(LockBusy, match="held shared by an earlier step of the same run, and a shared hold cannot"):
        realm.lock("web", "me").acquire(BOUND)
    assert scene_each.line("web") == ()


def test_a_shared_acquisition_enters_the_exclusive_step_of_the_same_run(scene_each: Scene) -> None:
    realm = scene_each.realm()
    step = realm.lock("web", "me", step=True).acquire(0)
    with share(realm, "me") as run:
        assert run.token == step.token
        assert shared_keys(scene_each) == []
    assert step.verify()


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_dead_run_has_left_is_taken_over_by_the_same_kind_only(scene_each: Scene, shared: bool) -> None:
    code = (
        "import sys, os\n"
        "from distlock_core import connect\n"
        "lock = connect([sys.argv[1]], sys.argv[2]).lock('web', 'me', shared=sys.argv[3] == 'True').acquire(0)\n"
        "print(lock.token, flush=True)\n"
        "os._exit(9)\n"
    )
    argv = [sys.executable, "-c", code, scene_each.cluster.endpoints[0], scene_each.prefix, str(shared)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=BOUND, check=False)
    token = int(done.stdout)
    realm = scene_each.realm()
    assert [holder.token for holder in realm.show("web").holders] == [token]
    with pytest.raises(LockBusy):
        realm.lock("web", "me", shared=not shared).acquire(0)
    with realm.lock("web", "me", shared=shared) as lock:
        assert lock.token > token
        assert lock.holder.is_shared is shared
    scene_each.assert_clean()


@pytest.mark.parametrize("owner", [None, "me"])
def test_inside_a_shared_hold_nobody_waits_for_itself(scene_each: Scene, owner: str | None) -> None:
    realm = scene_each.realm()
    outer = share(realm, owner).acquire(0)
    inside = {outer.key.encode(): outer.token}
    with pytest.raises(LockBusy, match="web is held shared by the command around this one, and a shared hold cannot"):
        realm.lock("web", owner, inside=inside).acquire(BOUND)
    with share(realm, owner, inside=inside) as inner:
        assert (inner.token == outer.token) is (owner is not None)
    scene_each.queue(scene_each.realm().lock("web", "x"))
    if owner is None:
        with pytest.raises(LockBusy, match="is held by the command around this one, so waiting would never end"):
            share(realm, owner, inside=inside).acquire(BOUND)
    else:
        share(realm, owner, inside=inside).acquire(0).release()
    assert outer.verify()


def test_a_run_inside_an_exclusive_hold_of_its_owner_shares_that(scene_each: Scene) -> None:
    realm = scene_each.realm()
    outer = realm.lock("web", "me").acquire(0)
    with share(realm, "me", inside={outer.key.encode(): outer.token}) as inner:
        assert inner.token == outer.token
    assert outer.verify()


# Costs, and the library's other doors.


def test_a_shared_hold_costs_what_an_exclusive_one_does(quiet: Scene) -> None:
    def commits() -> float:
        return quiet.cluster.members[0].metric("etcd_server_proposals_committed_total")

    for ttl in (None, 30):
        costs = []
        for shared in (False, True):
            lock = quiet.realm().lock("web", shared=shared, ttl=ttl)
            before = commits()
            lock.acquire(0)
            lock.release()
            costs.append(commits() - before)
        assert costs[0] == costs[1]
    holder = quiet.realm().lock("web").acquire(0)
    waiter = quiet.queue(share(quiet.realm()))
    before = commits()
    time.sleep(1)
    assert commits() == before  # waiting costs none
    holder.release()
    waiter.result(PROMPT)
    assert commits() - before <= 3  # the release, the claim, the end of the ticket's lease


def test_managers_and_asyncio_share(scene_each: Scene) -> None:
    realm = scene_each.realm()
    with LockManager(realm, "web", shared=True) as one, LockManager(realm, "web", shared=True) as two:
        until(lambda: one.have_lock() and two.have_lock())
        with pytest.raises(AcquireTimeout):
            realm.lock("web").acquire(0.3)

    async def both() -> None:
        there = aio.connect(scene_each.cluster.endpoints, scene_each.prefix)
        async with there, there.lock("web", shared=True), there.lock("web", shared=True):
            assert len(shared_keys(scene_each)) == 2

    asyncio.run(both())
    scene_each.assert_clean()


def test_slots_and_shared_contradict_each_other(scene_each: Scene) -> None:
    with pytest.raises(ConfigError, match="slots and shared contradict each other"):
        scene_each.realm().lock("web", slots=3, shared=True)
    assert refusals.other_limit(scene_each.realm().show("web"), 3) is None
