"""Handover: a hold goes from the process that acquired it to its keeper, as JSON can carry it."""

from __future__ import annotations

from distlock_core.etcd.values import KeyValue
from distlock_core.lock.lock import hold_of, resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm


def hand_over(lock: Lock) -> dict[str, Any]:
    """Return all that another process needs to go on with the hold of this lock. Raises `NotHolder`."""
    hold = hold_of(lock)
    acquired = hold.acquired
    lease = acquired.lease.id if acquired.lease is not None else 0
    return {
        "name": lock.name,
        "owner": lock.owner if hold.is_explicit else None,
        "key": acquired.kv.key.decode(),
        "value": acquired.kv.value.decode("utf-8", "surrogateescape"),
        "run": acquired.run,
        "numbers": (acquired.kv.create_revision, acquired.kv.mod_revision, acquired.slot, lease),
    }


def take_over(realm: Realm, handed: Mapping[str, Any], refresh: float | None = None) -> Lock:
    """Go on with a leased hold that another process has handed over.

    Raises `LockLost` when its lease is gone already, and as `Etcd` does.
    """
    lock = realm.lock(handed["name"], handed["owner"], step=True, background=False)
    created, modified, slot, lease = handed["numbers"]
    value = handed["value"].encode("utf-8", "surrogateescape")
    resume(lock, KeyValue(handed["key"].encode(), value, created, modified, lease), handed["run"], slot, refresh)
    return lock


def part_with(lock: Lock) -> None:
    """The hold of this lock is another process's from now on, or ends by itself: nothing is released."""
    hold_of(lock).forget()
