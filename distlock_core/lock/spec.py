"""Values of an acquisition: what is asked for, what is held, and the records that say so in etcd."""

from __future__ import annotations

import time

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue
from distlock_core.lock.lease import TICKET_TTL, Lease
from distlock_core.model.keys import Keys
from distlock_core.model.record import Record, token_of
from distlock_core.process.identity import hostname, trace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CONNECT_TIMEOUT = 5.0  # seconds for the first contact with etcd
RELEASE_TIMEOUT = 30.0  # seconds that a release is tried while etcd is away

# How a lock was acquired.
NEW, NESTED, STEP, TAKEN_OVER = "new", "nested", "step", "taken over"


class LockSpec(Value):
    """What is to be acquired, and as whom. `inside` has the keys and tokens that the commands around me hold."""

    keys: Keys
    owner: str
    explicit: bool
    reason: str
    kind: str  # lock: a step of its own. run: it ends with a command or a block
    slots: int
    inside: Mapping[bytes, int]
    ttl: int | None = None  # seconds; without one the lock is persistent
    refresh: float | None = None  # seconds between two renewals
    details: Mapping[str, Any] | None = None  # what else the record says
    value: str | None = None  # what the lock carries for others to look up
    ticket_ttl: int = TICKET_TTL  # seconds that a place in the queue outlives its waiter
    taker: Mapping[str, Any] | None = None  # the trace of the process that a step is taken for; default: this one
    named: int | None = None  # the token of the one hold that is meant
    state_dir: str | None = (
        None  # where this machine remembers its acquisitions; default: as `run_notes.directory()` says
    )


class Acquired(Value):
    """A lock that is held: the key as last seen, how it was acquired, and the record `before`, where there was one."""

    kv: KeyValue
    run: str
    slot: int
    how: str = NEW
    before: bytes = b""
    before_lease: int = 0
    lease: Lease | None = None

    @property
    def token(self) -> int:
        """The fencing token. It only grows."""
        return token_of(self.kv)


def ticket_record(spec: LockSpec) -> bytes:
    """What a waiter shows of itself."""
    return encoded(spec, int(time.time()), {"host": hostname()})


def claim_record(spec: LockSpec, details: Mapping[str, Any]) -> bytes:
    """What a holder shows of itself. `details`: its `run_details()`."""
    return encoded(spec, int(time.time()), dict(details))


def run_details(spec: LockSpec, run: str) -> dict[str, Any]:
    me = trace_of()
    details = {"run": run, "kind": spec.kind, **me}
    if spec.kind == "lock":
        details["taker"] = dict(spec.taker or me)
    if spec.value is not None:
        details["value"] = spec.value
    if spec.slots != 1:
        details["limit"] = spec.slots
    details.update(spec.details or {})
    return details


def encoded(spec: LockSpec, since: int, details: dict[str, Any]) -> bytes:
    reason = spec.reason or details.get("reason")
    if reason:
        details.pop("reason", None)
        details = {"reason": reason, **details}  # first, since the Go original's -list prints all of it
    if spec.explicit:
        details["explicit"] = True
    return Record(since, spec.owner, details).encode()
