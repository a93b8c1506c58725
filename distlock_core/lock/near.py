"""Snapshot updates for the next in the queue, from the events of its watch, so that it can claim without a read.

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

    For the first waiter of a lock with one slot. `read_at` is the revision of the read on which the snapshot is based;
    older events are already included.
    """
    for deleted, kv in events:
        if kv.mod_revision <= read_at:
            continue
        if kv.key == keys.lock:
            others = tuple(holder for holder in snapshot.holders if holder.key != kv.key)
            snapshot = snapshot._replace(holders=others if deleted else (Holder.parse(keys, kv), *others))
        elif kv.key == keys.last and not deleted:
            snapshot = snapshot._replace(last=kv)
        else:
            return None  # its own ticket, another slot, a freeze, the mutex, or a note that was pruned
        snapshot = snapshot._replace(revision=max(snapshot.revision, kv.mod_revision))
    return snapshot


def is_incomplete(snapshot: Snapshot) -> bool:
    """True if the lock looks free, but the event of its `__last` note is missing.

    Both belong to one transaction, but can arrive separately. The event never arrives if the key was deleted by other
    means than a release: by etcdctl, or with its lease.
    """
    return not snapshot.holders and (snapshot.last is None or snapshot.last.mod_revision != snapshot.revision)
