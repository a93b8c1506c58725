"""Several locks are held together or not at all: acquired, waited for, lost and released."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, ConfigError, LockBusy, LockLost, LockNotFound, NotHolder, aio, connect
from distlock_core.base.deadline import Patience
from distlock_core.errors import Cancelled
from distlock_core.lock.lease import Lease
from distlock_core.lock.lock import hold_of
from distlock_core.lock.snapshot import Snapshots, claim_conditions, gets_of_all, once
from distlock_core.lock.ticket import Ticket, take_tickets
from distlock_core.model.checks import MOST_LOCKS
from distlock_core.model.keys import Keys, Place
from distlock_core.model.record import Record
from distlock_core.testing import Cluster, Proxy
from tests.support.racing import race
from tests.support.scene import BOUND, GRANT, PROMPT, TXN, Scene, deletes, gateway, puts, puts_under, until

BOTH = ["rack", "web"]
MOST_OPERATIONS = 128  # etcd's default limit for the conditions, and for the operations, of one transaction


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


def queue(scene: Scene, names: list[str], realm: Any = None, **options: Any) -> Any:
    """Acquire them in the background, and return once there is a ticket in the queue of each."""
    before = {name: len(scene.line(name)) for name in names}
    shared = options.pop("shared", False)
    waiter = scene.acquire((realm or scene.realm()).lock(names, shared=shared), **options)
    until(lambda: waiter.done() or all(len(scene.line(name)) > before[name] for name in names))
    assert not waiter.done(), waiter
    return waiter


# Together.


def test_they_are_acquired_and_released_in_one_transaction_each(quiet: Scene) -> None:
    def commits() -> float:
        return quiet.cluster.members[0].metric("etcd_server_proposals_committed_total")

    lock = quiet.realm().lock(["a", "b", "c"])
    before = commits()
    lock.acquire(0)
    assert commits() - before == 1
    assert len({quiet.get(name).create_revision for name in "abc"}) == 1  # type: ignore[union-attr]
    lock.release()
    assert commits() - before == 2
    quiet.assert_clean()
    assert {quiet.record(f"__last/{name}").text("how") for name in "abc"} == {"released"}


def test_a_leased_hold_has_one_lease_for_all(scene: Scene) -> None:
    with scene.realm().lock(BOTH, ttl=30) as lock:
        leases = {scene.get(name).lease for name in BOTH}  # type: ignore[union-attr]
        assert leases == {lock.lease} == scene.new_leases()
    scene.assert_clean()


def test_each_lock_has_its_token_and_its_hold(scene: Scene) -> None:
    lock = scene.realm().lock(BOTH, "me", value="10.1.1.1").acquire(0)
    assert lock.names == ("rack", "web")
    assert lock.tokens == {name: scene.get(name).create_revision for name in BOTH}  # type: ignore[union-attr]
    assert [holder.lock for holder in lock.holders] == BOTH
    assert lock.name == "rack and web"
    assert lock.value == "10.1.1.1"
    for ask in ("token", "holder", "key"):
        with pytest.raises(ConfigError, match="rack and web are several locks"):
            getattr(lock, ask)
    lock.update("10.1.1.2", reason="moved")
    assert [scene.record(name).details["value"] for name in BOTH] == ["10.1.1.2"] * 2
    assert lock.verify()
    lock.ttl = 20
    lock.acquire()  # renewed, under a lease from now on
    assert {scene.get(name).lease for name in BOTH} == {lock.lease}  # type: ignore[union-attr]
    lock.release()
    scene.assert_clean()


def test_opposite_orders_never_deadlock_and_never_hold_together(scene: Scene, tmp_path: Path) -> None:
    turns = 100  # of each: 200 in all, and half as many that hold one of them alone
    words = (scene.cluster.endpoints[0], scene.prefix, str(tmp_path), str(turns))
    with race("crossing_racer", [(*words, *names) for names in (("a", "b"), ("b", "a"), ("a",))]) as racers:
        racers.end(100)
    scene.assert_clean()


def test_a_circle_of_three_passes(scene: Scene) -> None:
    """Each waits for two of three locks, which overlap in a circle."""
    inside: dict[str, int] = {}

    def take(names: list[str]) -> None:
        for _ in range(20):
            with scene.realm().lock(names, timeout=BOUND):
                for name in names:
                    assert inside.setdefault(name, 0) == 0
                    inside[name] = 1
                for name in names:
                    inside[name] = 0

    turns = [scene.start(partial(take, names)) for names in (["a", "b"], ["b", "c"], ["c", "a"])]
    for turn in turns:
        turn.result(90)
    scene.assert_clean()


# Waiting.


def test_who_waits_for_both_holds_neither(scene: Scene) -> None:
    scene.put("web")
    waiter = queue(scene, BOTH)
    found = {kv.key.decode()[len(scene.prefix) :]: kv for kv in scene.under()}  # at one revision
    tickets = [kv for name, kv in found.items() if "/queue/" in name]
    assert {name.partition("/")[0] for name in found if "/queue/" in name} == {"rack", "web"}
    assert "rack" not in found
    assert len({kv.create_revision for kv in tickets}) == len({kv.lease for kv in tickets}) == 1
    scene.delete("web")
    lock = waiter.result(PROMPT)
    assert scene.line("rack") == scene.line("web") == ()
    lock.release()
    scene.assert_clean()


def test_nobody_overtakes_who_is_first_and_waits_for_another_lock(scene: Scene) -> None:
    """The price of no starvation: a free lock waits for the waiter that also needs a busy one."""
    scene.put("web")
    both = queue(scene, BOTH)
    with pytest.raises(LockBusy, match="rack is free, but 1 is waiting"):
        scene.realm().lock("rack").acquire(0)
    single = scene.queue(scene.realm().lock("rack"))
    scene.delete("web")
    lock = both.result(PROMPT)
    assert not single.done()
    lock.release()
    single.result(PROMPT).release()
    scene.assert_clean()


def test_a_release_wakes_only_who_may_go(scene: Scene, proxy: Proxy) -> None:
    scene.put("rack")
    scene.put("web")
    first = queue(scene, BOTH)
    second = queue(scene, BOTH, scene.realm(proxy.url))
    time.sleep(0.5)  # until its watch is open
    before = len(proxy.wait_for_requests(TXN))
    for _ in range(3):
        scene.delete("rack")
        scene.put("rack")
    time.sleep(0.5)
    assert len(proxy.wait_for_requests(TXN)) == before
    scene.delete("rack")
    scene.delete("web")
    first.result(PROMPT).release()
    second.result(PROMPT).release()


def test_a_wait_says_which_lock_is_busy_and_the_place_in_each_queue(scene: Scene) -> None:
    scene.put("web")
    scene.queue(scene.realm().lock("web"))
    seen: list[Any] = []
    waiter = queue(scene, BOTH, timeout=1.5, progress=seen.append)
    with pytest.raises(AcquireTimeout) as caught:
        waiter.result(BOUND)
    assert caught.value.state.name == "web"
    assert [state.name for state in caught.value.states] == BOTH
    assert "web is held by someone" in caught.value.message
    assert "rack" not in caught.value.message
    assert [(state.name, position) for state, position in seen[-1].places] == [("rack", 1), ("web", 2)]
    assert (seen[-1].state.name, seen[-1].position) == ("web", 2)
    scene.until_in_line("rack", 0)


@pytest.mark.parametrize("name", BOTH)
def test_a_ticket_that_is_deleted_costs_the_place_in_all_queues(scene: Scene, name: str) -> None:
    scene.put("web")
    waiter = queue(scene, BOTH)
    (ticket,) = scene.line(name)
    scene.delete(ticket.key.decode()[len(scene.prefix) :])

    def revisions() -> list[int]:
        return [kv.create_revision for one in BOTH for kv in scene.line(one)]

    until(lambda: len(revisions()) == 2 and min(revisions()) > ticket.create_revision)
    assert len(set(revisions())) == 1
    scene.delete("web")
    waiter.result(PROMPT).release()
    scene.assert_clean()


# The claim: every condition of every lock.

CHANGES: dict[str, Callable[[Scene, str], Any]] = {
    "held": lambda scene, name: scene.put(name),
    "another slot": lambda scene, name: scene.put(f"{name}/slot/1"),
    "shared": lambda scene, name: scene.put(f"{name}/shared/1f"),
    "a shared waiter": lambda scene, name: scene.put(f"{name}/queue/50/shared/1"),
    "a waiter": lambda scene, name: scene.put(f"{name}/queue/50/exclusive/1"),
    "frozen": lambda scene, name: scene.put(f"{name}/freeze"),
    "its policy": lambda scene, name: scene.put(f"__policy/{name}", '1;admin;{"slots":5}'),
    "its note": lambda scene, name: scene.put(f"__last/{name}"),
    "the realm's freeze": lambda scene, _: scene.put("__freeze"),
    "the mutex": lambda scene, _: scene.put("__internal_lock/1"),
    "a prune": lambda scene, _: scene.put("__pruned/at"),
}


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("change", CHANGES)
def test_a_claim_requires_that_no_lock_has_changed(
    scene: Scene, proxy: Proxy, change: str, name: str, slots: int
) -> None:
    held = proxy.hold_request(TXN, puts(scene.key("rack")))
    scene.acquire(scene.realm(proxy.url).lock(BOTH, slots=slots), 0)
    held.wait()
    CHANGES[change](scene, name)
    assert not scene.replay(held.body)
    left = {kv.key.decode()[len(scene.prefix) :] for kv in scene.under()}
    assert not any(scene.record(key).run for key in left if key in BOTH)
    held.drop()


@pytest.mark.parametrize("name", BOTH)
def test_a_waiters_claim_requires_all_its_tickets(scene: Scene, proxy: Proxy, name: str) -> None:
    scene.put("web")
    queue(scene, BOTH, scene.realm(proxy.url))
    (ticket,) = scene.line(name)
    held = proxy.hold_request(TXN, puts(scene.key("rack")))
    scene.delete("web")
    held.wait()
    scene.delete(ticket.key.decode()[len(scene.prefix) :])
    assert not scene.replay(held.body)
    held.drop()


@pytest.mark.parametrize("shared", [False, True])
def test_as_many_locks_as_are_allowed_fit_into_one_transaction_of_etcd(scene: Scene, shared: bool) -> None:
    """Counted from the real conditions and reads, with the slots and tickets that add to them."""
    names = [f"{number:x}" * 20 for number in range(MOST_LOCKS)]
    locks = [Keys(scene.prefix, name) for name in names]
    etcd = gateway(*scene.cluster.endpoints)
    patience = Patience.lasting(BOUND)
    lease = Lease(etcd, 10, patience)
    place = Place(70, shared)
    wanted = [Ticket(keys.ticket(lease.id, place), 0, lease) for keys in locks]
    record, before = Record(1, "me", {}).encode(), gets_of_all(locks, place, wanted)
    tickets, _ = take_tickets(etcd, wanted, record, before, patience)
    assert len(locks) + len(before) <= MOST_OPERATIONS
    reads = gets_of_all(locks, place, tickets)
    snapshots = Snapshots.parse(locks, place, etcd.read(reads, patience), tickets)
    assert len(reads) <= MOST_OPERATIONS
    for slots in (1, 3):
        for held in (tickets, [None] * len(locks)):
            conditions = once(
                one
                for keys, shot, ticket in zip(locks, snapshots.each, held)
                for one in claim_conditions(
                    keys, place, shot, ticket, keys.shared_hold("1f") if shared else keys.lock, slots
                )
            )
            assert len(conditions) <= MOST_OPERATIONS
    tickets[0].lease.give_up()
    together: dict[str, Any] = {"shared": True} if shared else {"slots": 3}
    holder = scene.realm().lock(names, ttl=30, **together).acquire(0)
    waiter = scene.acquire(scene.realm().lock(names, **together))
    assert waiter.result(BOUND).tokens.keys() == set(names)
    alone = scene.acquire(scene.realm().lock(names[3], slots=2), 0)
    assert alone.exception(BOUND) is not None  # another number of slots, or exclusive
    waiter.result().release()
    holder.release()
    single = scene.realm().lock(names[-1]).acquire(0)
    queued = queue(scene, names, shared=shared)
    single.release()
    queued.result(PROMPT).release()
    scene.assert_clean()


def test_too_many_and_a_name_twice_are_refused(scene: Scene) -> None:
    with pytest.raises(ConfigError, match=f"{MOST_LOCKS + 1} locks are named: at most {MOST_LOCKS}"):
        scene.realm().lock([f"n{number}" for number in range(MOST_LOCKS + 1)])
    with pytest.raises(ConfigError, match="the lock 'a' is named twice"):
        scene.realm().lock(["a", "b", "a"])
    with pytest.raises(ConfigError, match="no lock is named"):
        scene.realm().lock([])
    with pytest.raises(ConfigError, match="illegal lock name"):
        scene.realm().lock(["a", "b/c"])


# A lost reply.


def test_a_lost_claim_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lose(TXN, puts(scene.key("web")))
    lock = scene.realm(proxy.url).lock(BOTH, ttl=30).acquire(0)
    assert lock.tokens == {name: scene.get(name).create_revision for name in BOTH}  # type: ignore[union-attr]
    assert lock.verify()
    lock.release()
    scene.assert_clean()


def test_a_lost_claim_of_a_waiter_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    scene.put("web")
    waiter = queue(scene, BOTH, scene.realm(proxy.url))
    lose(TXN, puts(scene.key("rack")))
    scene.delete("web")
    lock = waiter.result(PROMPT)
    assert lock.verify()
    assert scene.line("web") == scene.line("rack") == ()
    lock.release()
    scene.assert_clean()


@pytest.mark.parametrize("path", [GRANT, TXN])
def test_a_lost_queue_entry_leaves_one_ticket_in_each_queue(
    scene: Scene, proxy: Proxy, lose: Callable[..., None], path: str
) -> None:
    scene.put("web")
    lose(path, puts_under(scene.key("web/queue/")) if path == TXN else None)
    waiter = queue(scene, BOTH, scene.realm(proxy.url))
    (ticket,), (other,) = scene.line("web"), scene.line("rack")
    assert ticket.create_revision == other.create_revision
    until(lambda: scene.new_leases() == {ticket.lease})
    scene.delete("web")
    waiter.result(PROMPT).release()
    scene.assert_clean()


@pytest.mark.parametrize("name", BOTH)
def test_a_claim_that_arrives_after_it_was_resolved_is_void(scene: Scene, proxy: Proxy, name: str) -> None:
    """Whichever note has changed since: the claim requires all of them."""
    held = proxy.hold_request(TXN, puts(scene.key("rack")))
    claim = scene.acquire(scene.realm(proxy.url).lock(BOTH), 0)
    held.wait()
    held.drop()
    claim.result(PROMPT).release()
    scene.delete(f"__last/{name}")
    before = scene.under()
    assert not scene.replay(held.body)
    assert scene.under() == before


def test_a_claim_that_arrives_after_its_timeout_is_void(scene: Scene, proxy: Proxy) -> None:
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock(BOTH), 2.0)
    held.wait()
    with pytest.raises(AcquireTimeout):
        claim.result(BOUND)
    assert not scene.replay(held.body)
    scene.assert_clean()


@pytest.mark.parametrize("name", BOTH)
def test_a_claim_of_which_a_key_is_deleted_before_it_is_resolved_is_undone_and_repeated(
    scene: Scene, proxy: Proxy, name: str
) -> None:
    reply = proxy.hold_reply(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock(BOTH))
    reply.wait()
    first = scene.get("rack").create_revision  # type: ignore[union-attr]
    scene.delete(name)
    reply.drop()
    lock = claim.result(PROMPT)
    assert min(lock.tokens.values()) > first
    assert len(set(lock.tokens.values())) == 1
    lock.release()
    scene.assert_clean()


def test_an_interrupted_claim_is_undone_for_all(scene: Scene, proxy: Proxy) -> None:
    cancel = threading.Event()
    reply = proxy.hold_reply(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock(BOTH), cancel=cancel)
    reply.wait()
    assert scene.get("rack") is not None
    cancel.set()
    with pytest.raises(Cancelled):
        claim.result(BOUND)
    scene.assert_clean()


def test_a_lost_release_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lock = scene.realm(proxy.url).lock(BOTH).acquire(0)
    lose(TXN, deletes(scene.key("web")))
    lock.release()
    scene.assert_clean()
    assert [scene.record(f"__last/{name}").text("how") for name in BOTH] == ["released"] * 2


@pytest.mark.parametrize("end", ["keep", "cool"])
def test_a_lost_keep_or_cooldown_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None], end: str) -> None:
    lock = scene.realm(proxy.url).lock(BOTH, ttl=30).acquire(0)
    lose(TXN, puts(scene.key("web")))
    if end == "keep":
        lock.keep("a look is needed")
    else:
        lock.cool(60)
    states = {"keep": "kept", "cool": "cooling"}
    assert [scene.record(name).state for name in BOTH] == [states[end]] * 2
    assert len(scene.new_leases()) == (end == "cool")


# The end, and the loss.


@pytest.mark.parametrize("how", ["cool", "step", "unlock with a cooldown"])
@pytest.mark.parametrize("broken", [False, True], ids=["unlocked", "broken"])
def test_to_end_one_of_those_on_one_lease_leaves_the_others(scene: Scene, how: str, broken: bool) -> None:
    realm = scene.realm()
    if how == "step":
        realm.lock(BOTH, "me", step=True, ttl=60).acquire(0)
    else:
        lock = realm.lock(BOTH, "me", ttl=60).acquire(0)
        if how == "cool":
            lock.cool(600)
        else:
            realm.unlock_all(BOTH, "me", cooldown=600)
    first, second = BOTH
    if broken:
        realm.break_hold(realm.show(first).holders[0], "it is not needed")
    else:
        realm.unlock(first)
    assert realm.show(first).holders == ()
    assert [holder.owner for holder in realm.show(second).holders] == ["me"]
    realm.unlock(second)
    assert realm.show(second).holders == ()


@pytest.mark.parametrize("how", ["cool", "step"])
def test_to_end_all_of_those_on_one_lease_ends_the_lease(scene: Scene, how: str) -> None:
    lock = scene.realm().lock(BOTH, "me", step=how == "step", ttl=60).acquire(0)
    if how == "cool":
        lock.cool(600)
    scene.realm().unlock_all(BOTH)
    scene.assert_clean()


@pytest.mark.parametrize("name", BOTH)
def test_the_loss_of_one_is_the_loss_of_all(scene: Scene, name: str) -> None:
    told: list[Any] = []
    lock = scene.realm().lock(BOTH, "me", ttl=30, on_lost=told.append).acquire(0)
    scene.realm().unlock(name, "admin", force=True)
    assert lock.lost.wait(PROMPT)
    assert not lock.held
    assert told[0].why.startswith(f"{name} was broken by admin")
    assert not lock.verify()
    with pytest.raises(LockLost, match=f"rack and web were lost: {name} was broken by admin"):
        lock.release()
    scene.assert_clean()  # what remained is released


@pytest.mark.parametrize("name", BOTH)
def test_a_late_release_keeps_the_newer_holder_and_releases_the_rest(scene: Scene, name: str) -> None:
    lock = scene.realm().lock(BOTH).acquire(0)
    scene.replace(name)
    with pytest.raises(LockLost, match=f"{name} was lost"):
        lock.release()
    scene.assert_clean(name)
    assert scene.record(name).owner == "another"


@pytest.mark.parametrize("end", ["keep", "cool"])
def test_what_is_left_of_a_hold_is_kept_all_the_same(scene: Scene, end: str) -> None:
    lock = scene.realm().lock(BOTH).acquire(0)
    scene.delete("rack")
    with pytest.raises(LockLost, match="rack was lost"):
        lock.keep("a look is needed") if end == "keep" else lock.cool(60)
    assert scene.record("web").state == ("kept" if end == "keep" else "cooling")


def test_a_renewal_that_finds_one_lost_releases_the_rest(scene: Scene) -> None:
    lock = scene.realm().lock(BOTH).acquire(0)
    scene.replace("web")
    with pytest.raises(LockLost):
        lock.acquire()
    scene.assert_clean("web")
    assert scene.record("web").owner == "another"


def test_unlock_all_is_all_or_none(scene: Scene) -> None:
    realm = scene.realm()
    realm.lock(BOTH, "me", step=True).acquire(0)
    with pytest.raises(LockNotFound, match="other is not locked; none of the locks was unlocked"):
        realm.unlock_all([*BOTH, "other"], "me")
    with pytest.raises(NotHolder, match="none of the locks was unlocked"):
        realm.unlock_all(BOTH, "you")
    assert [bool(state.holders) for state in realm.show_all(BOTH)] == [True, True]
    assert [holder.lock for holder in realm.unlock_all(BOTH, "me")] == BOTH
    scene.assert_clean()


# Re-entry.


def test_a_step_of_all_is_entered_again(scene: Scene) -> None:
    realm = scene.realm()
    step = realm.lock(BOTH, "me", step=True).acquire(0)
    run = realm.lock(["web", "rack"], "me").acquire(0)
    assert run.tokens == step.tokens
    assert hold_of(run).stays
    run.release()
    assert [scene.record(name).text("kind") for name in BOTH] == ["lock", "lock"]
    assert {one.lock for one in realm.unlock_all(BOTH, "me")} == set(BOTH)
    scene.assert_clean()


def test_a_step_of_one_is_entered_together_with_a_claim_of_the_rest(quiet: Scene) -> None:
    realm = quiet.realm()
    token = realm.lock("rack", "me", step=True).acquire(0).token
    before = quiet.cluster.members[0].metric("etcd_server_proposals_committed_total")
    run = realm.lock(BOTH, "me").acquire(0)
    assert quiet.cluster.members[0].metric("etcd_server_proposals_committed_total") - before == 1
    assert run.tokens["rack"] == token < run.tokens["web"]
    run.release()
    quiet.assert_clean("rack")
    assert quiet.record("rack").text("kind") == "lock"


def test_who_holds_one_does_not_wait_for_the_rest(scene: Scene) -> None:
    realm = scene.realm()
    realm.lock("rack", "me", step=True).acquire(0)
    scene.put("web")
    with pytest.raises(LockBusy, match=r"web is held by someone .*; this owner holds rack, and waiting while holding"):
        realm.lock(BOTH, "me").acquire(BOUND)
    assert scene.line("rack") == scene.line("web") == ()


def test_a_hold_of_two_steps_outlives_the_lease_of_one(scene: Scene) -> None:
    """A step bound to a lease that has expired is released instead of restored; the other is restored."""
    realm = scene.realm()
    realm.lock("rack", "me", step=True).acquire(0)
    realm.lock("web", "me", step=True, ttl=60, background=False).acquire(0)
    lease = scene.get("web").lease  # type: ignore[union-attr]
    run = realm.lock(BOTH, "me").acquire(0)
    scene.revoke(lease)
    run.release()
    assert scene.get("web") is None
    assert scene.record("rack").text("kind") == "lock"


# A killed process leaves what one lock would leave.

PROGRAM = """
import sys, time
from distlock_core import connect
lock = connect([sys.argv[1]], sys.argv[2]).lock(["rack", "web"], ticket_ttl=2, ttl={ttl})
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def killed(scene: Scene, ttl: int | None, when: Callable[[], Any]) -> None:
    argv = [sys.executable, "-c", PROGRAM.format(ttl=ttl), scene.cluster.endpoints[0], scene.prefix]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        until(when)
    finally:
        process.kill()
        process.communicate()


def test_a_waiter_that_is_killed_leaves_all_queues(scene: Scene) -> None:
    scene.put("web")
    killed(scene, None, lambda: scene.line("rack"))
    until(lambda: not scene.line("rack") and not scene.line("web"))
    scene.assert_clean("web")


def test_a_leased_hold_of_a_killed_process_expires_whole(scene: Scene) -> None:
    killed(scene, 3, lambda: scene.get("rack"))
    with scene.realm().lock(BOTH, timeout=BOUND):
        pass
    scene.assert_clean()


def test_a_persistent_hold_of_a_killed_process_stays_whole(scene: Scene) -> None:
    killed(scene, None, lambda: scene.get("rack"))
    scene.assert_clean(*BOTH)


def test_a_connection_over_grpc_waits_for_several_too(scene: Scene) -> None:
    pytest.importorskip("grpc")
    scene.put("web")
    realm = connect(scene.cluster.endpoints, scene.prefix, transport="grpc")
    waiter = queue(scene, BOTH, realm)
    scene.delete("web")
    waiter.result(PROMPT).release()
    realm.close()
    scene.assert_clean()


def test_asyncio_has_the_same(scene: Scene) -> None:
    async def use() -> None:
        async with aio.connect(scene.cluster.endpoints, scene.prefix) as realm:
            async with realm.lock(BOTH) as lock:
                assert list(lock.tokens) == list(lock.names) == BOTH == [holder.lock for holder in lock.holders]
                assert [bool(state.holders) for state in await realm.show_all(BOTH)] == [True, True]
            await realm.lock(BOTH, "me", step=True).acquire(0)
            assert [holder.lock for holder in await realm.unlock_all(BOTH)] == BOTH

    asyncio.run(use())
    scene.assert_clean()
