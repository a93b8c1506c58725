"""Values of an acquisition: the request, the result, and their records in etcd."""

from __future__ import annotations

import time

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue
from distlock_core.lock.lease import TICKET_TTL, Lease
from distlock_core.model.keys import DEFAULT_RANK, Keys, Place
from distlock_core.model.record import ATTENDED, Record, times_of, token_of
from distlock_core.process.identity import hostname, trace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from distlock_core.base.deadline import Cancel, Patience
    from distlock_core.lock.beat import Beat

    class Gate(Protocol):
        """What an acquisition and a release need of `rollout.gate.Gate`."""

        before: bool
        after: bool
        timeout: float

        @property
        def story(self) -> str: ...
        def is_green(self, patience: Patience) -> bool: ...
        def stop(self) -> None: ...
        def settle(self, lock: Any, cancel: Cancel | None = None) -> None: ...

    from distlock_core.model.windows import Windows

CONNECT_TIMEOUT = 5.0  # seconds for the first contact with etcd
RELEASE_TIMEOUT = 30.0  # seconds to retry a release while etcd is unreachable

# Ways in which a lock was acquired.
NEW, NESTED, STEP, TAKEN_OVER = "new", "nested", "step", "taken over"


class LockSpec(Value):
    """The request: locks, owner and options. `inside` has the keys and tokens held by the commands around this one."""

    locks: tuple[Keys, ...]  # all or none of them
    owner: str
    explicit: bool
    reason: str
    kind: str  # lock: a separate step. run: it ends with a command or a block
    slots: int  # of each lock
    inside: Mapping[bytes, int]
    ttl: int | None = None  # seconds; without one the lock is persistent
    refresh: float | None = None  # seconds between two renewals
    details: Mapping[str, Any] | None = None  # additional fields of the record
    value: str | None = None  # published while the lock is held
    ticket_ttl: int = TICKET_TTL  # seconds that a place in the queue outlives its waiter
    taker: Mapping[str, Any] | None = None  # trace of the process that a step is taken for; default: this process
    named: int | None = None  # token of the hold to re-enter, no other
    state_dir: str | None = (
        None  # directory of this machine's notes of its acquisitions; default: `run_notes.directory()`
    )
    windows: Windows | None = None  # outside of which it is not acquired
    expect: int | None = None  # seconds that the hold is expected to take
    cooldown: int | None = None  # seconds for which it stays taken after a success
    given: Mapping[str, Any] | None = None  # settings named by the caller that a policy can override, by field
    gate: Gate | None = None  # asked by the first in the queue before it claims, and before a release
    rank: int = DEFAULT_RANK  # of a waiter: those with a lower one are served first
    shared: bool = False  # beside any number of other shared holders, but beside no exclusive one
    beat: int | None = None  # seconds between two signs of life of a persistent hold

    @property
    def place(self) -> Place:
        """What decides about its place in the queues, beside its arrival."""
        return Place(self.rank, self.shared)


class Rules(Value):
    """What applies to a claim of one lock: its policy, and the caller's own settings where the policy is silent."""

    slots: int
    windows: Windows | None
    expect: int | None  # seconds
    cooldown: int | None  # seconds
    sets_slots: bool = False  # the policy does, so that holders with another number of slots are no conflict
    sets_windows: bool = False  # the policy does, so that they are the same for everybody
    shared: bool = False  # the claim is for a shared hold, which no number of slots limits

    @classmethod
    def of(cls, spec: LockSpec) -> Rules:
        """The rules without a policy."""
        return cls(spec.slots, spec.windows, spec.expect, spec.cooldown, shared=spec.shared)


class Acquired(Value):
    """The result for one lock: its key as last seen, how it was acquired, and its previous record in `before`, if any.

    All locks of an acquisition have the same run, lease and beat.
    """

    keys: Keys
    kv: KeyValue
    run: str
    slot: int
    how: str = NEW
    before: bytes = b""
    before_lease: int = 0
    lease: Lease | None = None
    cooldown: int | None = None  # seconds for which it is to stay taken after a success
    beat: Beat | None = None  # the same for all locks of an acquisition
    stale_lease: int = 0  # of the sign of life of the dead run whose hold was entered, to be revoked

    @property
    def token(self) -> int:
        """The fencing token, which grows with every acquisition."""
        return token_of(self.kv)

    def owns(self, kv: KeyValue) -> bool:
        """True if the key in this state belongs to this hold: not to a newer one, and not kept by an operator."""
        if token_of(kv) != self.token:
            return False
        record = Record.parse(kv.value)
        return record.run == self.run and record.state in ATTENDED

    def owns_or_hosts(self, kv: KeyValue, owner: str) -> bool:
        """True also if a run of the same owner has entered this step, which that run restores at its end."""
        if token_of(kv) != self.token:
            return False
        record = Record.parse(kv.value)
        entered = record.explicit and record.owner == owner and record.text("kind") == "run"
        return record.state in ATTENDED and (record.run == self.run or entered)


def ticket_record(spec: LockSpec) -> bytes:
    """The record of a waiter."""
    return encoded(spec, int(time.time()), {"host": hostname()})


def claim_record(spec: LockSpec, details: Mapping[str, Any], rules: Rules, last: KeyValue | None) -> bytes:
    """The record of a holder. `details`: its `run_details()`. `last`: the note about the hold before it."""
    own = dict(details)
    if rules.slots != 1 and not rules.shared:
        own["limit"] = rules.slots
    if rules.expect is not None:
        own["expect"] = rules.expect
    if last is not None and b'"took"' in last.value:
        own["took"] = list(times_of(Record.parse(last.value)))  # for the note about this hold
    return encoded(spec, int(time.time()), own)


def run_details(spec: LockSpec, run: str) -> dict[str, Any]:
    me = trace_of()
    details = {"run": run, "kind": spec.kind, **me}
    if spec.kind == "lock":
        details["taker"] = dict(spec.taker or me)
        if spec.ttl is not None and len(spec.locks) > 1:
            details["together"] = len(spec.locks)  # on one lease
    if spec.value is not None:
        details["value"] = spec.value
    details.update(spec.details or {})
    return details


def encoded(spec: LockSpec, since: int, details: dict[str, Any]) -> bytes:
    reason = spec.reason or details.get("reason")
    if reason:
        details.pop("reason", None)
        details = {"reason": reason, **details}  # first, because the Go original's -list prints the whole record
    if spec.explicit:
        details["explicit"] = True
    return Record(since, spec.owner, details).encode()
