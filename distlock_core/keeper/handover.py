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
    lease = hold.lease.id if hold.lease is not None else 0
    return {
        "names": lock.names,
        "owner": lock.owner if hold.is_explicit else None,
        "run": hold.acquired[0].run,
        "lease": lease,
        "keys": [
            {
                "key": one.kv.key.decode(),
                "value": one.kv.value.decode("utf-8", "surrogateescape"),
                "numbers": (one.kv.create_revision, one.kv.mod_revision, one.slot),
            }
            for one in hold.acquired
        ],
    }


def take_over(realm: Realm, handed: Mapping[str, Any], refresh: float | None = None) -> Lock:
    """Continue a leased hold that another process has handed over.

    Raises `LockLost` if its lease is already gone, and the errors of `Etcd`.
    """
    lock = realm.lock(handed["names"], handed["owner"], step=True, background=False)
    found, slots = [], []
    for one in handed["keys"]:
        created, modified, slot = one["numbers"]
        value = one["value"].encode("utf-8", "surrogateescape")
        found.append(KeyValue(one["key"].encode(), value, created, modified, handed["lease"]))
        slots.append(slot)
    resume(lock, found, handed["run"], slots, refresh)
    return lock


def part_with(lock: Lock) -> None:
    """Stop monitoring this hold without releasing it: another process continues it, or it ends by itself."""
    hold_of(lock).forget()
