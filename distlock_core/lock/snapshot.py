"""Snapshot: the state of a lock from one read, and the conditions for a claim that is based on it.

A claim is a transaction whose conditions repeat the state that was read, so it fails if anything has changed since.
`Snapshots` is about all locks of one acquisition, from one read; a single lock is a tuple of one. What is read and
required of each of them adds up by itself.
"""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.values import Compare, Get, KeyValue, Outcome
from distlock_core.model.keys import Keys, Place, ends
from distlock_core.model.state import Holder, LockState, in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeVar

    from distlock_core.lock.spec import Rules
    from distlock_core.lock.ticket import Ticket
    from distlock_core.model.freeze import Freeze

    Operation = TypeVar("Operation", Get, Compare)


MOST_SLOTS = 1000  # largest number of slots of a lock, and so of keys of holds to read: slots before shared ones
NEAREST = 2  # tickets ahead of a waiter's own that an ordinary read shows, however long the queue is


class Snapshot(Value):
    """A lock at one revision, as a waiter sees it.

    `ahead`: known tickets ahead of the waiter's own, in the order in which they are served, if there are any: up to
    `NEAREST` of lower ranks, then those of its rank just before its own (`NEAREST` of them, or all if the read was for
    them). A shared waiter does not wait for other shared ones of its rank. None if its own ticket is not in the queue.
    `outranked`: the number of all waiters with a lower rank; without a ticket also those of its rank that it would wait
    for, which are all that are ahead then. `position` among the waiters of its rank that it waits for counts from 1,
    and is 0 if this read does not tell it.

    `crowded`: there are more holders than a lock can have slots, so some were not read.
    """

    revision: int
    holders: tuple[Holder, ...]
    waiting: int
    ahead: tuple[KeyValue, ...] | None
    freezes: tuple[Freeze, ...]  # of the realm and of the lock
    mutex_busy: bool
    last: KeyValue | None
    crowded: bool = False
    position: int = 0
    policy: KeyValue | None = None
    outranked: int = 0

    @classmethod
    def parse(
        cls, keys: Keys, place: Place, outcome: Outcome, ticket: Ticket | None, *, counted: bool = False
    ) -> Snapshot:
        """Parse the results of `gets()`, which are the last ones of the outcome. `counted`: of its `count`."""
        found = outcome.ranges()[-len(gets(keys, place, ticket)) :]
        lock, others, queue, freeze, mutex, last, own_freeze, policy, lower = found[:9]
        ahead: tuple[KeyValue, ...] | None = None
        position = 0
        if ticket is not None:
            older, *own = found[9:]
            has_joined = not ticket.create_revision  # in the same transaction, so that all others are ahead
            tickets, mine = older.kvs, own[0].kvs if own else older.kvs[:1]
            if not place.shared:
                tickets = tickets[1:]
            if has_joined or (mine and mine[0].create_revision == ticket.create_revision):
                ahead = (*sorted(lower.kvs, key=keys.order), *tickets[::-1])
                if has_joined:
                    position = older.total + place.shared
                elif counted or len(tickets) < NEAREST:
                    position = len(tickets) + 1
        return cls(
            outcome.revision,
            in_order(Holder.parse(keys, kv) for kv in (*lock.kvs, *others.kvs)),
            queue.total,
            ahead,
            _freezes(keys, (*freeze.kvs, *own_freeze.kvs)),
            bool(mutex.kvs),
            last.kvs[0] if last.kvs else None,
            others.total > len(others.kvs),
            position,
            policy.kvs[0] if policy.kvs else None,
            lower.total,
        )

    @property
    def is_my_turn(self) -> bool:
        """True for the first in the queue; without a ticket, if it would be."""
        return not self.outranked if self.ahead is None else not self.ahead

    def free_slot(self, rules: Rules) -> int | None:
        """The lowest free slot. A lock with one slot is free only if no slot is held.

        After the number of slots was reduced by the lock's policy, holders above it count too. Shared holders leave no
        slot free. For one more shared holder the result is 0 if there is no other holder, however many there are.
        """
        if rules.shared:
            return 0 if all(holder.is_shared for holder in self.holders) else None
        if self.crowded or len(self.holders) >= rules.slots or any(holder.is_shared for holder in self.holders):
            return None
        taken = {holder.slot for holder in self.holders}
        return next((slot for slot in range(rules.slots) if slot not in taken), None)

    def could_be_claimed(self, rules: Rules) -> bool:
        """True if a slot is free, nothing is frozen, and it is this waiter's turn."""
        return self.is_my_turn and not self.freezes and self.free_slot(rules) is not None

    def state(self, name: str) -> LockState:
        """The state for messages and listings."""
        note = self.last.value if self.last else None
        position = self.outranked + 1 if self.ahead is None else 0
        state = LockState(
            name, self.holders, self.waiting, (), note, self.freezes, mutex_busy=self.mutex_busy, position=position
        )
        if self.policy is None:
            return state
        from distlock_core.model.policy import Policy

        return state.under(Policy.parse(name, self.policy))


class Snapshots(Value):
    """The locks of one acquisition at one revision, in the order in which they were named."""

    revision: int
    each: tuple[Snapshot, ...]

    @classmethod
    def parse(
        cls, locks: Sequence[Keys], place: Place, outcome: Outcome, tickets: Sequence[Ticket], *, counted: bool = False
    ) -> Snapshots:
        """Parse the results of `gets_of_all()`, which are the last ones of the outcome. `counted`: of its `count`."""
        if len(locks) == 1:
            only = Snapshot.parse(locks[0], place, outcome, tickets[0] if tickets else None, counted=counted)
            return cls(outcome.revision, (only,))
        wanted = [gets(keys, place, ticket, count=counted) for keys, ticket in zip(locks, _or_none(locks, tickets))]
        union = once(get for one in wanted for get in one)
        found = dict(zip(union, outcome.ranges()[-len(union) :]))
        each = [
            Snapshot.parse(
                keys, place, outcome._replace(results=tuple(found[get] for get in one)), ticket, counted=counted
            )
            for keys, ticket, one in zip(locks, _or_none(locks, tickets), wanted)
        ]
        return cls(outcome.revision, tuple(each))

    @property
    def has_lost_place(self) -> bool:
        """True if a ticket is missing, so that the place in that queue is lost. Only for a waiter with tickets."""
        return any(one.ahead is None for one in self.each)

    def states(self, locks: Sequence[Keys]) -> tuple[LockState, ...]:
        """The states for messages and listings, one for each lock."""
        return tuple(one.state(keys.name) for keys, one in zip(locks, self.each))


def gets(keys: Keys, place: Place, ticket: Ticket | None, *, count: bool = False) -> list[Get]:
    """The reads for a `Snapshot`. What they return does not grow with the queue, except for a `count`.

    With a ticket they include the ticket, its `NEAREST` ahead of the same rank (with `count` all of them), and the
    youngest of lower ranks; without one, only how many would be ahead. A ticket that is put in the same transaction has
    the create_revision 0 here.
    """
    mutex = Get(*ends(keys.mutex), keys_only=True, limit=1)
    others = Get(*keys.beside, limit=MOST_SLOTS, last_first=True)
    queue = Get(*ends(keys.queue), keys_only=True, limit=1)
    of_lock = [Get(keys.lock), others, queue, Get(keys.freeze), mutex, Get(keys.last)]
    of_lock += [Get(keys.lock_freeze), Get(keys.policy)]
    if ticket is None:
        return [*of_lock, Get(*keys.up_to(place), keys_only=True, limit=1)]
    newest, limit = ticket.create_revision, 0 if count else NEAREST + (not place.shared)
    lower = Get(*keys.below_rank(place.rank), keys_only=True, limit=NEAREST, youngest_first=True)
    older = Get(*keys.rivals(place), keys_only=True, limit=limit, max_create_revision=newest, youngest_first=True)
    own = [Get(ticket.key, keys_only=True)] if place.shared and ticket.create_revision else []  # else among the older
    return [*of_lock, lower, older, *own]


def _freezes(keys: Keys, found: tuple[KeyValue, ...]) -> tuple[Freeze, ...]:
    if not found:
        return ()
    from distlock_core.model.freeze import freezes_of  # rarely needed

    return freezes_of(keys, found)


def gets_of_all(locks: Sequence[Keys], place: Place, tickets: Sequence[Ticket], *, count: bool = False) -> list[Get]:
    """The reads for `Snapshots`. What the locks of a realm share is read once."""
    if len(locks) == 1:
        return gets(locks[0], place, tickets[0] if tickets else None, count=count)
    wanted = [gets(keys, place, ticket, count=count) for keys, ticket in zip(locks, _or_none(locks, tickets))]
    return once(get for one in wanted for get in one)


def once(operations: Iterable[Operation]) -> list[Operation]:
    """Each of the operations once, in the order given: etcd limits their number."""
    return list(dict.fromkeys(operations))


def _or_none(locks: Sequence[Keys], tickets: Sequence[Ticket]) -> Sequence[Ticket | None]:
    return tickets or (None,) * len(locks)


def claim_conditions(
    keys: Keys, place: Place, snapshot: Snapshot, ticket: Ticket | None, key: bytes, slots: int
) -> list[Compare]:
    """The conditions for claiming this key of a hold: everything that the snapshot shows as free is still free."""
    conditions = no_exclusive_holder(keys) if place.shared else slot_free(keys, snapshot, slots)
    if place.shared and ticket is None:
        conditions.append(_absent(key))  # as a ticket is good for one claim
    conditions += my_turn(keys, place, ticket)
    rest = [mutex_free(keys), *not_frozen(keys), policy_unchanged(keys, snapshot)]
    return [*conditions, *rest, *_not_void(keys, snapshot)]


def slot_free(keys: Keys, snapshot: Snapshot, slots: int) -> list[Compare]:
    """The conditions that a slot which the snapshot shows as free is still free, and that there is no shared holder."""
    if slots == 1:
        return [_absent(keys.lock), _absent(*keys.beside)]
    # No slot has been taken since, not even another one: by a holder with a different number of slots. Few conditions,
    # as etcd limits the number of those for several locks.
    first, end = keys.beside
    since = snapshot.revision + 1
    return [Compare("MOD", "LESS", keys.lock, since), Compare("MOD", "LESS", first, since, end)]


def no_exclusive_holder(keys: Keys) -> list[Compare]:
    """The conditions that no slot is held, whatever number of them the lock has."""
    return [_absent(keys.lock), _absent(*ends(keys.slots))]


def my_turn(keys: Keys, place: Place, ticket: Ticket | None) -> list[Compare]:
    """The conditions that no waiter is ahead: none has a lower rank, and none of the same rank is older.

    For a shared waiter, only exclusive ones of the same rank count. That none of them is older, it always knows from a
    read, and none can come after it. (A condition for that would fail in an empty range.) An exclusive waiter may know
    that from events only, which can be wrong.
    """
    if ticket is None:
        return [_absent(*keys.up_to(place))]
    born = ticket.create_revision
    conditions = [Compare("CREATE", "EQUAL", ticket.key, born), _absent(*keys.below_rank(place.rank))]
    if not place.shared:
        start, end = keys.rivals(place)
        conditions.append(Compare("CREATE", "GREATER", start, born - 1, end))
    return conditions


def not_frozen(keys: Keys) -> list[Compare]:
    """The conditions that neither the realm nor the lock is frozen."""
    return [_absent(keys.freeze), _absent(keys.lock_freeze)]


def policy_unchanged(keys: Keys, snapshot: Snapshot) -> Compare:
    """The condition that the lock's policy is as it was read, so that a change applies to every later claim."""
    return Compare("MOD", "EQUAL", keys.policy, snapshot.policy.mod_revision if snapshot.policy else 0)


def reentry_conditions(keys: Keys, snapshot: Snapshot, holder: Holder) -> list[Compare]:
    """The conditions for replacing the record of a holder: it is unchanged since the read."""
    return [Compare("MOD", "EQUAL", holder.key, holder.mod_revision), *_not_void(keys, snapshot)]


def _not_void(keys: Keys, snapshot: Snapshot) -> list[Compare]:
    """The lock's `__last` note is unchanged, and no prune has deleted such notes since the read.

    Without the second condition, a claim that has read "no note" could succeed again after a prune.
    """
    return [note_unchanged(keys, snapshot), Compare("MOD", "LESS", keys.prune_mark, snapshot.revision + 1)]


def mutex_free(keys: Keys) -> Compare:
    """The condition that no client is inside the Go original's mutex."""
    return _absent(*ends(keys.mutex))


def note_unchanged(keys: Keys, snapshot: Snapshot) -> Compare:
    """The condition that the lock's `__last` note is unchanged. Rewriting the note invalidates all claims in flight."""
    return Compare("MOD", "EQUAL", keys.last, snapshot.last.mod_revision if snapshot.last else 0)


def _absent(key: bytes, range_end: bytes | None = None) -> Compare:
    # An empty range counts as one key of revision 0.
    return Compare("CREATE", "EQUAL", key, 0, range_end)
