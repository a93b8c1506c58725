"""The next in the queue: what the events of its watch make of a snapshot, so that it claims without a read.

A watch is a hint: it can miss a DELETE, and the parts of one transaction can arrive one by one. A claim that is based
on it is refused by its conditions if anything is missing; here it is made sure that this is rare, as it costs a commit.
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
    """The snapshot after these events. None if they do not tell enough: a read has to.

    For a lock with one slot, and the first waiter. `read_at` is the revision of the read on which the snapshot is
    based: older events are part of it.
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
    """True if the lock looks free, but the event that tells how the last hold ended is missing, or the other way round.

    Both are of one transaction, and arrive one by one. It is missing for good if the lock was not released but deleted
    by other means: by etcdctl, or with its lease.
    """
    return not snapshot.holders and (snapshot.last is None or snapshot.last.mod_revision != snapshot.revision)
