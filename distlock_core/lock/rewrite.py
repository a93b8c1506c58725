"""Rewriting the record of a hold without releasing it: one compare-and-put loop, and the changes made with it.

The key stays, and with it the token. Changes are applied to the current record, so that concurrent changes by others
are kept.
"""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.errors import EtcdUnavailable, OutcomeUnknown
from distlock_core.etcd.values import Compare, Get, KeyValue, LeaseGone, Put
from distlock_core.lock.lease import Lease
from distlock_core.lock.release import UNEXPECTED
from distlock_core.model.record import COOLING, EndNote, Record, record_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op
    from distlock_core.lock.spec import Acquired
    from distlock_core.model.keys import Keys

    IsOwn = Callable[[KeyValue], bool]


def rewrite(
    etcd: Etcd,
    kv: KeyValue,
    is_own: IsOwn,
    put_on: Callable[[KeyValue], Put],
    patience: Patience,
    also: Sequence[Op] = (),
    *,
    once: bool = False,
) -> KeyValue | None:
    """Rewrite a key that still belongs to the caller, and return it. None: it is gone, or belongs to another hold.

    `put_on` returns the put for the current key. A lost reply is resolved by a read. If that is not answered either,
    this raises `EtcdUnavailable`, and a second call determines the outcome; for a caller that calls only `once`, it
    raises `OutcomeUnknown` instead. Raises `AccessDenied`, `NoSpace`, `LeaseGone`, `Cancelled`.
    """
    while True:
        put = put_on(kv)
        try:
            compares = [Compare("MOD", "EQUAL", kv.key, kv.mod_revision)]
            outcome = etcd.txn(compares, [put, *also], [Get(kv.key)], patience)
            if outcome.succeeded:
                return KeyValue(kv.key, put.value, kv.create_revision, outcome.revision, put.lease)
            found = outcome.ranges()[0].kvs
        except (OutcomeUnknown, *UNEXPECTED) as lost:
            patience.pause(RETRY_PAUSE)
            try:
                found = etcd.read([Get(kv.key)], patience).ranges()[0].kvs
            except EtcdUnavailable as away:
                if once:
                    raise OutcomeUnknown(f"unknown whether it was changed: {lost}; {away}") from away
                raise
        if not found or found[0].create_revision != kv.create_revision:
            return None
        if _is_done(put, found[0]):
            return found[0]  # applied, though its reply was lost
        if not is_own(found[0]):
            return None
        kv = found[0]
        if _is_done(put_on(kv), kv):
            return kv  # applied, and changed by another client since


def _is_done(put: Put, found: KeyValue) -> bool:
    return put.value == found.value and put.lease == found.lease


def amend(
    etcd: Etcd,
    kv: KeyValue,
    is_own: IsOwn,
    change: Callable[[Record], Record],
    patience: Patience,
    lease: int | None = None,
) -> KeyValue | None:
    """Change the record of a hold. With a `lease`, also attach the key to that lease (0: to none).

    Returns and raises as `rewrite` with `once`.
    """

    def changed(there: KeyValue) -> Put:
        return Put(there.key, change(record_of(there)).encode(), there.lease if lease is None else lease)

    return rewrite(etcd, kv, is_own, changed, patience, once=True)


def rehang(
    etcd: Etcd,
    acquired: Acquired,
    is_own: IsOwn,
    ttl: int | None,
    refresh: float | None,
    patience: Patience,
) -> Acquired | None:
    """Attach the hold's key to a new lease with this ttl (None: to none), and revoke the old one.

    Returns None if the key belongs to another hold. Raises `EtcdUnavailable`, `AccessDenied`, `Cancelled`,
    `OutcomeUnknown`: then the hold is unchanged, or lost.
    """
    old = acquired.lease
    lease = None if ttl is None else Lease(etcd, ttl, patience, refresh)
    if old is not None and lease is not None:
        # Until the answer arrives, the key may be attached to either lease.
        old.deadline = min(old.deadline, lease.deadline)
    try:
        kv = amend(etcd, acquired.kv, is_own, lambda record: record, patience, 0 if lease is None else lease.id)
    except BaseException as error:
        if lease is not None:
            lease.give_up()
        if isinstance(error, LeaseGone):
            raise EtcdUnavailable("the new lease expired before it was used") from error
        raise
    unused = lease if kv is None else old
    if unused is not None:
        unused.give_up()
    return None if kv is None else acquired._replace(kv=kv, lease=lease)


def leave_taken(
    etcd: Etcd,
    kv: KeyValue,
    is_own: IsOwn,
    changes: Mapping[str, Any],
    patience: Patience,
    lease: int = 0,
    also: Sequence[Op] = (),
) -> bool:
    """Rewrite the record with `changes`, detached from its holder's lease. Returns False for None of `rewrite`."""

    def changed(there: KeyValue) -> Put:
        record = record_of(there)
        return Put(there.key, record._replace(details={**record.details, **changes}).encode(), lease)

    return rewrite(etcd, kv, is_own, changed, patience, also) is not None


def cool_down(etcd: Etcd, keys: Keys, kv: KeyValue, is_own: IsOwn, lease: Lease, by: str, patience: Patience) -> bool:
    """Leave the key taken until this lease expires, without a process. Returns False for None of `rewrite`."""
    ended = Put(keys.last, EndNote("cooled", by).record(kv))
    if leave_taken(etcd, kv, is_own, {"state": COOLING}, patience, lease.id, [ended]):
        return True
    lease.revoke(patience)
    return False


def describing(value: str | None, reason: str | None) -> Callable[[Record], Record]:
    """The change that sets the value or reason of a record. None leaves it unchanged, an empty reason removes it.

    If the run has entered a step, the step's record is changed too, because it remains after the run.
    """

    def change(record: Record) -> Record:
        details = dict(record.details)
        if value is not None:
            details["value"] = value
        if reason is not None:
            details.pop("reason", None)
            details = {"reason": reason, **details} if reason else details  # first, as in every record
        step = record.text("step")
        if step:
            details["step"] = change(Record.parse(step.encode("utf-8", "backslashreplace"))).encode().decode()
        return record._replace(details=details)

    return change
