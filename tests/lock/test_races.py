"""Changes between a read and the claim based on it, provoked by holding the claim on its way."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Frozen, LimitConflict, LockBusy
from distlock_core.base.deadline import Patience
from distlock_core.etcd.values import Get
from distlock_core.lock.lease import Lease
from distlock_core.lock.snapshot import Snapshot, claim_conditions, gets
from distlock_core.lock.ticket import Ticket, take_tickets
from distlock_core.model.keys import Keys, Place
from distlock_core.model.record import Record
from distlock_core.testing import Proxy
from tests.support.racing import race
from tests.support.scene import BOUND, GRANT, PROMPT, TXN, Scene, gateway, puts

Meanwhile = Callable[[Scene], object]

MEANWHILE: dict[str, tuple[Meanwhile, type[Exception]]] = {
    "the lock is taken": (lambda scene: scene.put("web"), LockBusy),
    "another slot is taken": (lambda scene: scene.put("web/slot/1"), LockBusy),
    "it is shared": (lambda scene: scene.put("web/shared/1f"), LockBusy),
    "somebody queues to share it": (lambda scene: scene.put("web/queue/50/shared/0000000000000001"), LockBusy),
    "somebody queues": (lambda scene: scene.put("web/queue/50/exclusive/0000000000000001"), LockBusy),
    "a Go client enters its mutex": (lambda scene: scene.put("__internal_lock/694d"), LockBusy),
    "the realm is frozen": (lambda scene: scene.put("__freeze"), Frozen),
    "the lock is frozen": (lambda scene: scene.put("web/freeze"), Frozen),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_a_claim_is_refused_when(scene_each: Scene, proxy_each: Proxy, what: str) -> None:
    change, refusal = MEANWHILE[what]
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    claim = scene_each.acquire(scene_each.realm(proxy_each.url).lock("web"), 0)
    held.wait()
    change(scene_each)
    before = scene_each.under()
    held.release()
    with pytest.raises(refusal):
        claim.result(BOUND)
    assert scene_each.under() == before


@pytest.mark.parametrize(
    "what", ["the lock is taken", "a Go client enters its mutex", "the realm is frozen", "the lock is frozen"]
)
def test_the_claim_of_the_first_waiter_is_refused_and_keeps_its_place_when(
    scene_each: Scene, proxy_each: Proxy, what: str
) -> None:
    change, _ = MEANWHILE[what]
    scene_each.put("web")
    waiter = scene_each.queue(scene_each.realm(proxy_each.url).lock("web"))
    place = scene_each.line("web")
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    scene_each.delete("web")
    held.wait()
    change(scene_each)
    with proxy_each.changed:
        asked = len(proxy_each.requests)
    held.release()
    # It looks at what has refused it: then the claim is decided.
    proxy_each.wait_for_requests("*", asked + 1)
    assert scene_each.line("web") == place
    for key in ("web", "__internal_lock/694d", "__freeze", "web/freeze"):
        scene_each.delete(key)
    assert waiter.result(PROMPT).held


def test_a_slot_is_not_claimed_beside_a_concurrent_holder(scene_each: Scene, proxy_each: Proxy) -> None:
    """Slot 1 stays free, but slot 0 goes to a holder with a limit of one slot."""
    realm = scene_each.realm(proxy_each.url)
    realm.lock("web", "first", slots=2).acquire(0)
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web/slot/1")))
    claim = scene_each.acquire(realm.lock("web", "second", slots=2), 0)
    held.wait()
    scene_each.replace("web", "2;alone;{}")
    held.release()
    with pytest.raises(LimitConflict):
        claim.result(BOUND)
    assert scene_each.get("web/slot/1") is None


def test_a_slot_is_not_taken_when_a_higher_one_changed_hands_meanwhile(scene_each: Scene, proxy_each: Proxy) -> None:
    realm = scene_each.realm(proxy_each.url)
    scene_each.put("web/slot/1", '1;first;{"limit":2}')
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    claim = scene_each.acquire(realm.lock("web", "second", slots=2), 0)
    held.wait()
    scene_each.replace("web/slot/1", '2;third;{"limit":3}')
    held.release()
    with pytest.raises(LimitConflict):
        claim.result(BOUND)
    assert scene_each.get("web") is None


def test_a_claim_whose_ticket_was_deleted_is_refused_and_queues_again(scene_each: Scene, proxy_each: Proxy) -> None:
    scene_each.put("web")
    waiter = scene_each.queue(scene_each.realm(proxy_each.url).lock("web"))
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    scene_each.delete("web")
    held.wait()
    scene_each.clear("web/queue/")
    scene_each.put("web/queue/50/exclusive/0000")  # who came meanwhile is before it now
    held.release()
    proxy_each.wait_for_requests(GRANT, 2)
    assert scene_each.get("web") is None
    scene_each.delete("web/queue/50/exclusive/0000")
    assert waiter.result(PROMPT).held


def test_a_claim_whose_ticket_was_recreated_by_another_is_refused(scene_each: Scene, proxy_each: Proxy) -> None:
    scene_each.put("web")
    waiter = scene_each.queue(scene_each.realm(proxy_each.url).lock("web"))
    (ticket,) = scene_each.line("web")
    name = ticket.key.decode()[len(scene_each.prefix) :]
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    scene_each.delete("web")
    held.wait()
    scene_each.replace(name, ticket.value.decode())
    held.release()
    proxy_each.wait_for_requests(GRANT, 2)  # it queues again, behind what stands there now
    assert scene_each.get("web") is None
    scene_each.delete(name)
    assert waiter.result(PROMPT).held


@pytest.mark.parametrize("older", [False, True])
def test_a_ticket_claims_only_when_none_is_older(scene_each: Scene, older: bool) -> None:
    """The conditions themselves: a read that shows no older ticket cannot be provoked while there is one."""
    keys = Keys(scene_each.prefix, "web")
    etcd = gateway(*scene_each.cluster.endpoints)
    patience = Patience.lasting(BOUND)
    if older:
        scene_each.put("web/queue/50/exclusive/ffff")
    record = Record(1, "me", {}).encode()
    lease = Lease(etcd, 10, patience)
    wanted = Ticket(keys.ticket(lease.id, Place()), 0, lease)
    (ticket,), _ = take_tickets(etcd, [wanted], record, (), patience)
    scene_each.put("web/queue/50/exclusive/0000")  # younger: of no concern
    snapshot = Snapshot.parse(keys, Place(), etcd.read(gets(keys, Place(), ticket), patience), ticket)
    assert snapshot.is_my_turn is not older
    for slots in (1, 2):
        conditions = claim_conditions(keys, Place(), snapshot, ticket, keys.lock, slots)
        assert etcd.txn(conditions, [Get(keys.lock)], [], patience).succeeded is not older
    ticket.lease.give_up()


def test_two_processes_racing_never_hold_together(scene_each: Scene, tmp_path: Path) -> None:
    turns = 100  # of each: 200 in all
    with race("racer", [(scene_each.cluster.endpoints[0], scene_each.prefix, str(tmp_path), str(turns))] * 2) as racers:
        racers.end(90)
    assert (tmp_path / "counter").read_text() == str(2 * turns)
    tokens = [int(line) for line in (tmp_path / "tokens").read_text().split()]
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 2 * turns
    scene_each.assert_clean()


def test_never_more_than_n_hold_n_slots(scene_each: Scene) -> None:
    inside: list[int] = []
    most = []
    two = threading.Event()

    def contend(number: int) -> None:
        realm = scene_each.realm()
        for _ in range(8):
            with realm.lock("web", f"node-{number}", slots=2, timeout=BOUND * 2):
                inside.append(number)
                most.append(len(inside))
                if most[-1] == 2:
                    two.set()
                two.wait(BOUND)  # the first one stays until the second slot is taken too
                time.sleep(0.005)  # work: the others are to find it held
                inside.remove(number)

    contenders = [scene_each.start(partial(contend, number)) for number in range(4)]
    for contender in contenders:
        contender.result(BOUND * 2)
    assert max(most) == 2
    scene_each.assert_clean()
