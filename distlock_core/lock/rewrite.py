"""Changing what a hold says of itself, its value or its reason, without letting go: the token stays, and the lease."""

from __future__ import annotations

from collections.abc import Callable

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.errors import EtcdUnavailable, OutcomeUnknown
from distlock_core.etcd.values import Compare, Get, KeyValue, Put
from distlock_core.model.record import Record, record_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd


def amend(
    etcd: Etcd,
    kv: KeyValue,
    mine: Callable[[KeyValue], bool],
    change: Callable[[Record], Record],
    patience: Patience,
    lease: int | None = None,
) -> KeyValue | None:
    """Put the record of a hold again, with a change. None: it is gone, or no longer `mine`.

    With a `lease` the hold hangs on that from now on (0: on none), else it stays where it hangs. What somebody else has
    changed in the record meanwhile is kept: the change is made to the one that is there. Raises `EtcdUnavailable`,
    `AccessDenied`, `LeaseGone`, `Cancelled`; a lost reply is resolved by a read, and where that gets no answer either
    it is `OutcomeUnknown`.
    """
    while True:
        put = Put(kv.key, change(record_of(kv)).encode(), kv.lease if lease is None else lease)
        try:
            compares = [Compare("MOD", "EQUAL", kv.key, kv.mod_revision)]
            outcome = etcd.txn(compares, [put], [Get(kv.key)], patience)
            if outcome.succeeded:
                return KeyValue(kv.key, put.value, kv.create_revision, outcome.revision, put.lease)
            found = outcome.ranges()[0].kvs
        except OutcomeUnknown as lost:
            patience.pause(RETRY_PAUSE)
            try:
                found = etcd.read([Get(kv.key)], patience).ranges()[0].kvs
            except EtcdUnavailable as away:
                raise OutcomeUnknown(f"nobody can tell whether it was changed: {lost}; {away}") from away
        if not found or found[0].create_revision != kv.create_revision or not mine(found[0]):
            return None
        kv = found[0]
        if change(record_of(kv)).encode() == kv.value and kv.lease == put.lease:
            return kv  # applied, though its reply was lost


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
