"""Handover: a hold goes from the process that acquired it to its keeper, as JSON can carry it."""

from __future__ import annotations

from distlock_core.etcd.values import KeyValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm


def hand_over(lock: Lock) -> dict[str, Any]:
    """Return all that another process needs to go on with the hold of this lock. Raises `NotHolder`."""
    acquired = lock.current().acquired
    lease = acquired.lease.id if acquired.lease is not None else 0
    return {
        "name": lock.name,
        "owner": lock.owner if lock.is_explicit else None,
        "key": acquired.kv.key.decode(),
        "value": acquired.kv.value.decode("utf-8", "surrogateescape"),
        "run": acquired.run,
        "numbers": (acquired.kv.create_revision, acquired.kv.mod_revision, acquired.slot, lease),
    }


def take_over(realm: Realm, hold: Mapping[str, Any], refresh: float | None = None) -> Lock:
    """Go on with a leased hold that another process has handed over.

    Raises `LockLost` when its lease is gone already, and as `Etcd` does.
    """
    lock = realm.lock(hold["name"], hold["owner"], step=True, background=False)
    created, modified, slot, lease = hold["numbers"]
    value = hold["value"].encode("utf-8", "surrogateescape")
    lock.go_on(KeyValue(hold["key"].encode(), value, created, modified, lease), hold["run"], slot, refresh)
    return lock
