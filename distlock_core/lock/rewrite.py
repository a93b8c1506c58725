"""Rewriting the record of a hold without releasing it: one compare-and-put loop, and the changes made with it.

The holds of several locks that were acquired together are rewritten in one transaction. A key stays, and with it the
token. Changes are applied to the current record, so that concurrent changes by others are kept.
"""

from __future__ import annotations

import time

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.errors import EtcdUnavailable, OutcomeUnknown
from distlock_core.etcd.values import Compare, Get, KeyValue, LeaseGone, Put
from distlock_core.lock.lease import Lease
from distlock_core.lock.release import UNEXPECTED, HeldKey, without_sign
from distlock_core.model.record import COOLING, EndNote, Record, in_state, record_of, without_beat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op


def rewrite(
    etcd: Etcd,
    held: Sequence[HeldKey],
    put_on: Callable[[HeldKey], Put],
    patience: Patience,
    also: Callable[[HeldKey], Sequence[Op]] = lambda _: (),
    *,
    once: bool = False,
) -> list[KeyValue | None]:
    """Rewrite keys that still belong to the caller, in one transaction, and return them.

    None for a key that is gone, or belongs to another hold: the others are rewritten all the same. `put_on` returns the
    put for the current key, `also` further operations with it. A lost reply is resolved by a read. If that is not
    answered either, this raises `EtcdUnavailable`, and a second call determines the outcome; for a caller that calls
    only `once`, it raises `OutcomeUnknown` instead. Raises `AccessDenied`, `NoSpace`, `LeaseGone`, `Cancelled`.
    """
    written: dict[bytes, KeyValue | None] = {}
    left = list(held)
    while left:
        puts = [put_on(one) for one in left]
        then: list[Op] = [*puts, *(op for one in left for op in also(one))]
        reads = [Get(one.kv.key) for one in left]
        try:
            compares = [Compare("MOD", "EQUAL", one.kv.key, one.kv.mod_revision) for one in left]
            outcome = etcd.txn(compares, then, reads, patience)
            if outcome.succeeded:
                written.update(
                    (put.key, KeyValue(put.key, put.value, one.kv.create_revision, outcome.revision, put.lease))
                    for one, put in zip(left, puts)
                )
                break
        except (OutcomeUnknown, *UNEXPECTED) as lost:
            patience.pause(RETRY_PAUSE)
            try:
                outcome = etcd.read(reads, patience)
            except EtcdUnavailable as away:
                if once:
                    raise OutcomeUnknown(f"unknown whether it was changed: {lost}; {away}") from away
                raise
        rest = []
        for one, put, found in zip(left, puts, outcome.ranges()):
            there = found.kvs[0] if found.kvs else None
            if there is None or there.create_revision != one.kv.create_revision:
                written[put.key] = None
            elif _is_done(put, there):
                written[put.key] = there  # applied, though its reply was lost
            elif not one.is_own(there):
                written[put.key] = None
            else:
                one = one._replace(kv=there)
                if _is_done(put_on(one), there):
                    written[put.key] = there  # applied, and changed by another client since
                else:
                    rest.append(one)
        left = rest
    return [written[one.kv.key] for one in held]


def _is_done(put: Put, found: KeyValue) -> bool:
    return put.value == found.value and put.lease == found.lease


def amend(
    etcd: Etcd,
    held: Sequence[HeldKey],
    change: Callable[[Record], Record],
    patience: Patience,
    lease: int | None = None,
) -> list[KeyValue | None]:
    """Change the record of each hold. With a `lease`, also attach the keys to that lease (0: to none).

    Returns and raises as `rewrite` with `once`.
    """

    def changed(one: HeldKey) -> Put:
        there = one.kv
        return Put(there.key, change(record_of(there)).encode(), there.lease if lease is None else lease)

    return rewrite(etcd, held, changed, patience, once=True)


def rehang(
    etcd: Etcd,
    held: Sequence[HeldKey],
    old: Lease | None,
    ttl: int | None,
    refresh: float | None,
    patience: Patience,
) -> tuple[list[KeyValue], Lease | None] | None:
    """Attach the keys to a new lease with this ttl (None: to none), and revoke the `old` one.

    Returns the keys and the new lease, or None if a key belongs to another hold. Raises `EtcdUnavailable`,
    `AccessDenied`, `Cancelled`, `OutcomeUnknown`: then the holds are unchanged, or lost.
    """
    lease = None if ttl is None else Lease(etcd, ttl, patience, refresh)
    if old is not None and lease is not None:
        # Until the answer arrives, the keys may be attached to either lease.
        old.deadline = min(old.deadline, lease.deadline)
    try:
        found = amend(etcd, held, lambda record: record, patience, 0 if lease is None else lease.id)
    except BaseException as error:
        if lease is not None:
            lease.give_up()
        if isinstance(error, LeaseGone):
            raise EtcdUnavailable("the new lease expired before it was used") from error
        raise
    moved = [kv for kv in found if kv is not None]
    is_lost = len(moved) < len(found)
    unused = lease if is_lost else old
    if unused is not None:
        unused.give_up()
    return None if is_lost else (moved, lease)


def leave_taken(
    etcd: Etcd,
    held: Sequence[HeldKey],
    changes: Mapping[str, Any],
    patience: Patience,
    lease: int = 0,
    also: Callable[[HeldKey], Sequence[Op]] = lambda _: (),
) -> list[KeyValue | None]:
    """Rewrite the records with `changes` of state, detached from their holder's lease. Returns as `rewrite`.

    Their signs of life are deleted with it, since no process looks after them from now on.
    """

    def changed(one: HeldKey) -> Put:
        return Put(one.kv.key, in_state(without_beat(record_of(one.kv)), changes).encode(), lease)

    def beside(one: HeldKey) -> list[Op]:
        return [*without_sign(one.keys, one.kv), *also(one)]

    return rewrite(etcd, held, changed, patience, beside)


def cool_down(etcd: Etcd, held: Sequence[HeldKey], lease: Lease, by: str, patience: Patience) -> list[KeyValue | None]:
    """Leave the keys taken until this lease expires, without a process. Returns as `rewrite`."""

    def ended(one: HeldKey) -> list[Op]:
        return [Put(one.keys.last, EndNote("cooled", by, not one.keys.is_shared(one.kv.key)).record(one.kv))]

    until = int(time.time()) + lease.ttl
    changes: dict[str, Any] = {"state": COOLING, "until": until}
    if len(held) > 1:
        changes["together"] = len(held)
    found = leave_taken(etcd, held, changes, patience, lease.id, ended)
    if not any(found):
        lease.revoke(patience)
    return found


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
