"""What one read tells about a lock, and the conditions under which a claim on it holds.

A claim is a transaction whose conditions repeat what the read has shown; so between the two nothing can have changed.
"""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.values import Compare, Get, KeyValue, Outcome
from distlock_core.model.keys import Keys, ends
from distlock_core.model.record import HoldEnd, Record
from distlock_core.model.state import Holder, LockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.lock.ticket import Ticket


MOST_SLOTS = 1000  # that a lock may have, and so keys that are read of them


class Snapshot(Value):
    """A lock at one revision, as a waiter sees it. `ahead` is None when the waiter's own ticket is not in the queue.

    `crowded`: there are more keys below the slots' than a lock has slots, and so some that were not read.
    """

    revision: int
    holders: tuple[Holder, ...]
    waiting: int
    ahead: tuple[KeyValue, ...] | None
    freeze: KeyValue | None
    mutex_busy: bool
    last: KeyValue | None
    crowded: bool = False

    @classmethod
    def parse(cls, keys: Keys, outcome: Outcome, ticket: Ticket | None) -> Snapshot:
        """Read the answer to `gets()`; other reads may come before them."""
        lock, slots, queue, freeze, mutex, last = outcome.ranges()[-6:]
        ahead: tuple[KeyValue, ...] | None = None
        if ticket is not None and queue.kvs and queue.kvs[-1].create_revision == ticket.create_revision:
            ahead = queue.kvs[:-1]
        return cls(
            outcome.revision,
            tuple(Holder.parse(keys, kv) for kv in (*lock.kvs, *slots.kvs)),
            queue.total,
            ahead,
            freeze.kvs[0] if freeze.kvs else None,
            bool(mutex.kvs),
            last.kvs[0] if last.kvs else None,
            slots.total > len(slots.kvs),
        )

    @property
    def is_my_turn(self) -> bool:
        """True for the first in the queue; without a ticket, when nobody waits."""
        return self.waiting == 0 if self.ahead is None else not self.ahead

    def free_slot(self, slots: int) -> int | None:
        """The lowest slot that nobody holds. A lock with one slot is free only when all of it is."""
        if self.crowded:
            return None
        if slots == 1:
            return None if self.holders else 0
        taken = {holder.slot for holder in self.holders}
        return next((slot for slot in range(slots) if slot not in taken), None)

    def held_under(self, run: str) -> Holder | None:
        """The holder that this acquisition is, if it is one."""
        return next((holder for holder in self.holders if holder.record.run == run), None)

    def state(self, name: str) -> LockState:
        """What to tell people about it."""
        frozen = Record.parse(self.freeze.value) if self.freeze else None
        last = HoldEnd.parse(self.last.value) if self.last else None
        return LockState(name, self.holders, self.waiting, last=last, frozen=frozen, mutex_busy=self.mutex_busy)


def gets(keys: Keys, ticket: Ticket | None) -> list[Get]:
    """The reads behind a `Snapshot`: with a ticket, of the queue up to it; without, of its first."""
    if ticket is None:
        queue = Get(*ends(keys.queue), by_age=True, keys_only=True, limit=1)
    else:
        queue = Get(*ends(keys.queue), by_age=True, keys_only=True, max_create_revision=ticket.create_revision)
    mutex = Get(*ends(keys.mutex), keys_only=True, limit=1)
    return [Get(keys.lock), Get(*ends(keys.slots), limit=MOST_SLOTS), queue, Get(keys.freeze), mutex, Get(keys.last)]


def claim_conditions(keys: Keys, snapshot: Snapshot, ticket: Ticket | None, slot: int, slots: int) -> list[Compare]:
    """When a free slot may be taken, all of it: nothing has changed that the view shows as free."""
    conditions = [_absent(keys.slot(slot))]
    if slots == 1:
        conditions.append(_absent(*ends(keys.slots)))
    else:
        # Somebody may have taken or left another slot since, and may count them differently.
        conditions.append(Compare("MOD", "LESS", keys.lock, snapshot.revision + 1))
        conditions.append(Compare("MOD", "LESS", keys.slots, snapshot.revision + 1, ends(keys.slots)[1]))
    if ticket is None:
        conditions.append(_absent(*ends(keys.queue)))
    else:
        born = ticket.create_revision
        conditions.append(Compare("CREATE", "EQUAL", ticket.key, born))
        conditions.append(Compare("CREATE", "GREATER", keys.queue, born - 1, ends(keys.queue)[1]))
    return [*conditions, mutex_free(keys), _absent(keys.freeze), *_not_void(keys, snapshot)]


def reentry_conditions(keys: Keys, snapshot: Snapshot, holder: Holder) -> list[Compare]:
    """When the record of a holder may be replaced: it is still what was read."""
    return [Compare("MOD", "EQUAL", holder.key, holder.mod_revision), *_not_void(keys, snapshot)]


def _not_void(keys: Keys, snapshot: Snapshot) -> list[Compare]:
    """The lock's last end is as it was read, and no prune has deleted such notes since.

    Without the second, a claim that has read "no last end" would hold again after a prune.
    """
    return [unsettled(keys, snapshot), Compare("MOD", "LESS", keys.prune_mark, snapshot.revision + 1)]


def mutex_free(keys: Keys) -> Compare:
    """Nobody is inside the Go original's own mutex."""
    return _absent(*ends(keys.mutex))


def unsettled(keys: Keys, snapshot: Snapshot) -> Compare:
    """The lock's last end is as it was read: to write it again makes every claim void that is still on its way."""
    return Compare("MOD", "EQUAL", keys.last, snapshot.last.mod_revision if snapshot.last else 0)


def _absent(key: bytes, range_end: bytes | None = None) -> Compare:
    # An empty range counts as one key of revision 0.
    return Compare("CREATE", "EQUAL", key, 0, range_end)
