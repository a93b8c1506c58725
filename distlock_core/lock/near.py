"""Snapshot updates for the first two in the queue, from the events of a watch, so that they can claim without a read.

A watch is a hint: it can miss a DELETE, and the events of one transaction can arrive separately. If anything is
missing, the conditions of the claim fail. That is safe but costs a commit, so this module makes it rare.
"""

from __future__ import annotations

from distlock_core.model.state import Holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from distlock_core.etcd.values import Event
    from distlock_core.lock.snapshot import Snapshot
    from distlock_core.model.keys import Keys


def after(snapshot: Snapshot, events: Iterable[Event], keys: Keys, read_at: int) -> Snapshot | None:
    """The snapshot after these events, or None if they are not sufficient and a read is needed.

    For the first two waiters of a lock with one slot. `read_at` is the revision of the read on which the snapshot is
    based; older events are already included.
    """
    if snapshot.crowded:
        return None  # not all holders are known
    for deleted, kv in events:
        if kv.mod_revision <= read_at:
            continue
        if kv.key == keys.lock or keys.is_shared(kv.key):
            others = tuple(holder for holder in snapshot.holders if holder.key != kv.key)
            snapshot = snapshot._replace(holders=others if deleted else (Holder.parse(keys, kv), *others))
        elif kv.key == keys.last and not deleted:
            snapshot = snapshot._replace(last=kv)
        elif deleted and any(kv.key == ticket.key for ticket in snapshot.ahead or ()):
            snapshot = _without(snapshot, kv.key)
        else:
            # Its own ticket, a waiter with a lower rank, another slot, a freeze, the mutex, the policy, a pruned note.
            return None
        snapshot = snapshot._replace(revision=max(snapshot.revision, kv.mod_revision))
    return snapshot


def _without(snapshot: Snapshot, ticket: bytes) -> Snapshot:
    """The snapshot without a ticket ahead. Those of lower ranks are known one by one here, and come first."""
    keys = [kv.key for kv in snapshot.ahead or ()]
    at = keys.index(ticket)
    ahead = (*(snapshot.ahead or ())[:at], *(snapshot.ahead or ())[at + 1 :])
    outranked = snapshot.outranked - (at < snapshot.outranked)
    return snapshot._replace(ahead=ahead, waiting=snapshot.waiting - 1, outranked=outranked)


def is_incomplete(snapshot: Snapshot) -> bool:
    """True if the lock looks free for this waiter, but the event of its `__last` note is missing.

    Or if a waiter ahead seems to have claimed it, but the event of its ticket is missing. Each pair belongs to one
    transaction, but can arrive separately. The second event never arrives if the key was deleted or put by other means:
    by etcdctl, or with its lease.
    """
    if snapshot.holders:
        return bool(snapshot.ahead) and snapshot.holders[0].kv.create_revision == snapshot.revision
    if snapshot.ahead:
        return False
    return snapshot.last is None or snapshot.last.mod_revision != snapshot.revision


def is_spoken_for(snapshot: Snapshot) -> bool:
    """True if the lock is free, and the waiter ahead is about to claim it."""
    return bool(snapshot.ahead) and not snapshot.holders
