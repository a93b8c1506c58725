"""Whatever is done to a lock, in whatever order: it is as a model says, and a watch has told it so.

Hypothesis makes up the orders: contenders acquire, update, release and leave it taken, leases end, keys are deleted,
people unlock, and freeze the realm. The model is a few lines; the etcd is real.
"""

from __future__ import annotations

import secrets
from typing import Any, Callable, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from distlock_core import Lock, LockBusy, LockLost, LockNotFound, NotHolder
from distlock_core.errors import Frozen, NotFrozen
from distlock_core.testing import Cluster
from tests.support.scene import PROMPT, Scene
from tests.support.watch_reader import Reader

NAME = "db"
EXAMPLES, STEPS = 8, 25
CONTENDERS = st.integers(0, 2)
ANYBODY = st.integers(0, 8)  # mostly one who has it, where there is one
SLOTS = st.integers(0, 1)
TEXTS = st.sampled_from(["", "10.1.1.1", "10.1.1.2", "\u00fc;{}"])
ALL = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failure is reported as found: shrinking it would take minutes
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


class Hold(NamedTuple):
    """A hold, as the model has it."""

    token: int
    value: str | None
    reason: str
    leased: bool
    state: str = "held"


class Machine(RuleBasedStateMachine):
    """One lock, three contenders, and a watch on it."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(self.cluster, f"/machine-{secrets.token_hex(6)}/")
        self.realm = self.scene.realm()
        self.holds: dict[int, Hold] = {}
        self.locks: dict[int, tuple[Lock, Hold, int]] = {}  # what each contender took, and believes to have
        self.newest = 0
        self.frozen: set[str | None] = set()  # the lock, and None for the realm
        self.abandoned: set[int] = set()
        self.told: list[tuple[Any, ...]] = []

    @initialize(slots=st.integers(1, 2), whole=st.booleans())
    def begin(self, slots: int, whole: bool) -> None:
        self.slots = slots
        self.reader = Reader(self.realm.watch(None if whole else NAME))

    # Contenders.

    @rule(who=CONTENDERS, value=st.none() | TEXTS, reason=TEXTS, ttl=st.sampled_from([None, 60]))
    def acquire(self, who: int, value: str | None, reason: str, ttl: int | None) -> None:
        if who in self.locks:
            return
        lock = self.realm.lock(
            NAME, f"c{who}", reason, value=value, slots=self.slots, ttl=ttl, background=False, timeout=0
        )
        free = [slot for slot in range(self.slots) if slot not in self.holds]
        if self.frozen or not free:
            with pytest.raises(Frozen if self.frozen else LockBusy):
                lock.acquire()
            return
        lock.acquire()
        assert lock.token > self.newest
        self.take(free[0], Hold(lock.token, value, reason, ttl is not None))
        self.locks[who] = (lock, self.holds[free[0]], free[0])

    @rule(who=ANYBODY, value=st.none() | TEXTS, reason=st.none() | TEXTS)
    def update(self, who: int, value: str | None, reason: str | None) -> None:
        who = self.mostly_a_holder(who)
        if self.is_refused(who, lambda lock: lock.update(value, reason=reason)):
            return
        lock, _, slot = self.locks[who]
        self.change(slot, value, reason)
        assert (lock.value, lock.holder.reason) == (self.holds[slot].value, self.holds[slot].reason)

    @rule(who=ANYBODY)
    def release(self, who: int) -> None:
        who = self.mostly_a_holder(who)
        if not self.is_refused(who, Lock.release):
            self.drop(self.locks.pop(who)[2])

    @rule(who=ANYBODY, reason=TEXTS)
    def leave_it_taken(self, who: int, reason: str) -> None:
        who = self.mostly_a_holder(who)
        if not self.is_refused(who, lambda lock: lock.keep(reason)):
            slot = self.locks.pop(who)[2]
            self.put(slot, self.holds[slot]._replace(state="kept", reason=reason, leased=False))

    @rule(who=ANYBODY)
    def cool(self, who: int) -> None:
        who = self.mostly_a_holder(who)
        if not self.is_refused(who, lambda lock: lock.cool(60)):
            slot = self.locks.pop(who)[2]
            self.put(slot, self.holds[slot]._replace(state="cooling", leased=True))

    # Others.

    @rule(slot=SLOTS)
    def expire(self, slot: int) -> None:
        kv = self.scene.get(self.key(slot))
        if kv is not None and kv.lease:
            self.scene.revoke(kv.lease)
            self.drop(slot)

    @rule(slot=SLOTS)
    def delete(self, slot: int) -> None:
        self.abandon(slot)
        self.scene.delete(self.key(slot))
        self.drop(slot)

    @rule(slot=SLOTS)
    def replace(self, slot: int) -> None:
        """Somebody deletes the key and puts another."""
        if slot in self.holds:
            self.abandon(slot)
            self.drop(slot)
            token = self.scene.replace(self.key(slot), f'2;other;{{"limit":{self.slots}}}')
            self.take(slot, Hold(token, None, "", False))

    @rule(slot=SLOTS)
    def unlock(self, slot: int) -> None:
        if slot in self.holds:
            assert self.realm.unlock(NAME, token=self.holds[slot].token).slot == slot
            self.drop(slot)
        else:
            with pytest.raises((LockNotFound, NotHolder)):
                self.realm.unlock(NAME, token=1)

    @rule(slot=SLOTS, value=st.none() | TEXTS, reason=st.none() | TEXTS)
    def update_from_outside(self, slot: int, value: str | None, reason: str | None) -> None:
        if slot in self.holds:
            holder = self.realm.update(NAME, value, reason=reason, token=self.holds[slot].token)
            self.change(slot, value, reason)
            assert (holder.value, holder.reason) == (self.holds[slot].value, self.holds[slot].reason)

    @rule(name=st.sampled_from([NAME, None]), force=st.booleans(), seconds=st.sampled_from([None, 600]))
    def freeze(self, name: str | None, force: bool, seconds: int | None) -> None:
        if name in self.frozen and not force:
            with pytest.raises(Frozen):
                self.realm.freeze(name, seconds=seconds)
        else:
            self.realm.freeze(name, seconds=seconds, force=force)
        self.frozen.add(name)

    @rule(name=st.sampled_from([NAME, None]))
    def thaw(self, name: str | None) -> None:
        if name in self.frozen:
            self.realm.thaw(name)
        else:
            with pytest.raises(NotFrozen):
                self.realm.thaw(name)
        self.frozen.discard(name)

    @rule(who=ANYBODY, reason=TEXTS)
    def release_and_freeze(self, who: int, reason: str) -> None:
        who = self.mostly_a_holder(who)
        lost = who in self.locks and not self.is_there(*self.locks[who][1:])
        if not self.is_refused(who, lambda lock: lock.freeze(reason)):
            self.drop(self.locks.pop(who)[2])
            self.frozen.add(NAME)
        elif lost:
            self.frozen.add(NAME)

    # What must hold after each.

    @precondition(lambda self: hasattr(self, "reader"))
    @invariant()
    def it_is_as_the_model_says(self) -> None:
        found = {
            holder.slot: Hold(holder.token, holder.value, holder.reason, holder.lease != 0, holder.record.state)
            for holder in self.realm.show(NAME).holders
        }
        assert found == self.holds
        for lock, hold, slot in self.locks.values():
            assert lock.verify() == self.is_there(hold, slot)
        if self.holds:
            assert self.realm.get(NAME) == self.holds[min(self.holds)].value
        else:
            with pytest.raises(LockNotFound):
                self.realm.get(NAME)

    @precondition(lambda self: hasattr(self, "reader"))
    @invariant()
    def the_watch_has_told_it(self) -> None:
        events = self.reader.wait(*((kind, token) for kind, token, *_ in self.told), within=PROMPT)
        assert [(event.kind, event.token, event.value, event.holder.slot) for event in events] == self.told
        self.told = []

    def teardown(self) -> None:
        if hasattr(self, "reader"):
            self.reader.end()
            for lock, hold, slot in self.locks.values():
                if self.is_there(hold, slot):
                    lock.release()
                elif lock.held:
                    with pytest.raises(LockLost):
                        lock.release()
            for name in self.frozen:
                self.realm.thaw(name)
            for slot in (0, 1):
                kv = self.scene.get(self.key(slot))
                if kv is not None and kv.lease:
                    self.scene.revoke(kv.lease)
            assert self.scene.new_leases() == self.abandoned
            for lease in self.abandoned:
                self.scene.revoke(lease)
        self.scene.close()

    # The model.

    def take(self, slot: int, hold: Hold) -> None:
        assert hold.token > self.newest
        self.newest = hold.token
        self.holds[slot] = hold
        self.told.append(("acquired", hold.token, hold.value, slot))

    def change(self, slot: int, value: str | None, reason: str | None) -> None:
        hold = self.holds[slot]
        changed = hold._replace(
            value=hold.value if value is None else value, reason=hold.reason if reason is None else reason
        )
        if changed != hold:
            self.put(slot, changed)

    def put(self, slot: int, hold: Hold) -> None:
        self.holds[slot] = hold
        self.told.append(("changed", hold.token, hold.value, slot))

    def drop(self, slot: int) -> None:
        hold = self.holds.pop(slot, None)
        if hold is not None:
            self.told.append(("released", hold.token, hold.value, slot))

    def mostly_a_holder(self, who: int) -> int:
        holders = sorted(self.locks)
        return holders[who % len(holders)] if who > 2 and holders else who % 3

    def abandon(self, slot: int) -> None:
        """A lock that cools down and is deleted by hand leaves its lease, which runs out."""
        kv = self.scene.get(self.key(slot))
        if kv is not None and self.holds[slot].state == "cooling":
            self.abandoned.add(kv.lease)

    def is_there(self, hold: Hold, slot: int) -> bool:
        now = self.holds.get(slot)
        return now is not None and (now.token, now.state) == (hold.token, "held")

    def is_refused(self, who: int, verb: Callable[[Lock], None]) -> bool:
        """Do it. True if the contender does not hold the lock, and must be refused."""
        if who not in self.locks:
            with pytest.raises(NotHolder):
                verb(self.realm.lock(NAME))
            return True
        lock, hold, slot = self.locks[who]
        if not self.is_there(hold, slot):
            with pytest.raises(LockLost):
                verb(lock)
            if lock.held:  # after a failed update the caller has to release the lost lock
                with pytest.raises(LockLost):
                    lock.release()
            del self.locks[who]
            return True
        verb(lock)
        return False

    def key(self, slot: int) -> str:
        return f"{NAME}/slot/{slot}" if slot else NAME


def test_after_any_operations_lock_and_watch_agree_with_the_model(etcd: Cluster) -> None:
    Machine.cluster = etcd
    run_machine(Machine, settings=ALL)
