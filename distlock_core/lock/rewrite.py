"""Rewriting the record of a hold without releasing it: one compare-and-put loop, and the changes made with it.

The key stays, and with it the token. A change is made to the record that is there: what somebody else has changed in it
meanwhile is kept.
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
    """Put a key again, if it is still the caller's, and return it. None: it is gone, or another's.

    `put_on` returns the put, given the key as it is now. A lost reply is resolved by a read. Where that is not answered
    either, it raises `EtcdUnavailable`: the caller calls again, and finds out; or `OutcomeUnknown`, for a caller who
    calls only `once`. Raises `AccessDenied`, `NoSpace`, `LeaseGone`, `Cancelled`.
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
            return kv  # applied, and the record was changed by somebody else since


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
    """Change the record of a hold. With a `lease` the key is attached to it from now on (0: to none).

    Returns as `rewrite`, and raises as that does for a caller who calls once.
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
    """Attach the hold's key to a new lease of this ttl (None: to none), and end the old one. None: it is another's.

    Raises `EtcdUnavailable`, `AccessDenied`, `Cancelled`, `OutcomeUnknown`: the hold is what it was then, or lost.
    """
    old = acquired.lease
    lease = None if ttl is None else Lease(etcd, ttl, patience, refresh)
    if old is not None and lease is not None:
        # Until the answer is here, the key may hang on either.
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
    """Put the record again with some changes, and without its holder's lease. False and errors: as `rewrite`."""

    def changed(there: KeyValue) -> Put:
        record = record_of(there)
        return Put(there.key, record._replace(details={**record.details, **changes}).encode(), lease)

    return rewrite(etcd, kv, is_own, changed, patience, also) is not None


def cool_down(etcd: Etcd, keys: Keys, kv: KeyValue, is_own: IsOwn, lease: Lease, by: str, patience: Patience) -> bool:
    """Leave the key taken until this lease runs out, with no process behind it. False and errors: as `rewrite`."""
    ended = Put(keys.last, EndNote("cooled", by).record(kv))
    if leave_taken(etcd, kv, is_own, {"state": COOLING}, patience, lease.id, [ended]):
        return True
    lease.revoke(patience)
    return False


def describing(value: str | None, reason: str | None) -> Callable[[Record], Record]:
    """The change that gives a record another value or reason; None leaves it as it is, an empty reason takes it out.

    A run inside of a step changes the step with it: that is what is left when the run is over.
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
