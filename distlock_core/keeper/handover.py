"""Handover of a hold from the process that acquired it to a keeper, in a form that JSON can carry."""

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
    """Return all that another process needs to continue the hold of this lock. Raises `NotHolder`."""
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
    """Continue a leased hold that another process has handed over.

    Raises `LockLost` if its lease is already gone, and the errors of `Etcd`.
    """
    lock = realm.lock(handed["name"], handed["owner"], step=True, background=False)
    created, modified, slot, lease = handed["numbers"]
    value = handed["value"].encode("utf-8", "surrogateescape")
    resume(lock, KeyValue(handed["key"].encode(), value, created, modified, lease), handed["run"], slot, refresh)
    return lock


def part_with(lock: Lock) -> None:
    """Stop monitoring this hold without releasing it: another process continues it, or it ends by itself."""
    hold_of(lock).forget()
