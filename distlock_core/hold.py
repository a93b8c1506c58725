"""What is wished for, what is held, and who may enter a hold again: the values that an acquisition works with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

from distlock_core.etcd.api import KeyValue
from distlock_core.lease import TICKET_TTL, Lease
from distlock_core.model import HELD, Holder, Keys, Record
from distlock_core.values import Value
from distlock_core.view import View
from distlock_core.whoami import hostname, is_provably_dead, traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How a lock became mine.
NEW, NESTED, STEP, TAKEN_OVER = "new", "nested", "step", "taken over"


class Wish(Value):
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
    details: Mapping[str, Any] = MappingProxyType({})  # what else the record says
    value: str | None = None  # what the lock carries for others to look up
    ticket_ttl: int = TICKET_TTL  # seconds that a place in the line outlives its waiter
    taker: Mapping[str, Any] | None = None  # the trace of the process that a step is taken for; default: this one
    named: int | None = None  # the token of the one hold that is meant


class Held(Value):
    """A lock that is mine: the key as I know it, how it became mine, and the record `before`, where there was one."""

    kv: KeyValue
    run: str
    slot: int
    entry: str = NEW
    before: bytes = b""
    before_lease: int = 0
    lease: Lease | None = None

    @property
    def token(self) -> int:
        """The fencing token: the key's create_revision. It only grows."""
        return self.kv.create_revision


class Entry(Value):
    """A hold of my owner's that I may enter: how, and the step's record to put back at the end, if it is one."""

    holder: Holder
    how: str
    before: bytes = b""
    before_lease: int = 0


def find_entry(view: View, wish: Wish) -> Entry | None:
    """Return the hold that may be entered again, None where there is none. Two live runs never enter together.

    It takes the same owner, named explicitly by both, and one of: I run inside of it; it is a step; its run is
    provably dead.
    """
    if not wish.explicit:
        return None
    for holder in view.holders:
        record = holder.record
        if record.explicit and record.owner == wish.owner and record.state == HELD:
            if wish.inside.get(holder.key) == holder.token:
                return Entry(holder, NESTED)
            if record.text("kind") == "lock":
                return Entry(holder, STEP, holder.stored, holder.lease)
            if is_provably_dead(record):
                # It may have died inside of a step: then the step is what is left to enter, and to leave behind.
                step, lease = record.text("step").encode(), record.number("step_lease") or 0
                return (
                    Entry(holder, STEP, step, lease) if step else Entry(holder, TAKEN_OVER, holder.stored, holder.lease)
                )
    return None


def ticket_record(wish: Wish) -> bytes:
    """What a waiter shows of itself."""
    return _record(wish, int(time.time()), {"host": hostname()})


def claim_record(wish: Wish, run: str) -> bytes:
    """What a holder shows of itself."""
    return _record(wish, int(time.time()), _run_details(wish, run))


def reentry_record(wish: Wish, run: str, entry: Entry) -> bytes:
    """What is shown of a hold that was entered again: it began when it began; reason and value stay, or are new."""
    details = _run_details(wish, run)
    if entry.holder.reason:
        details["reason"] = entry.holder.reason
    if entry.holder.value is not None:
        details.setdefault("value", entry.holder.value)
    if entry.how == STEP and wish.kind == "run":
        details["step"] = entry.before.decode("utf-8", "backslashreplace")
        details["step_lease"] = entry.before_lease
    return _record(wish, entry.holder.since or int(time.time()), details)


def _run_details(wish: Wish, run: str) -> dict[str, Any]:
    me = traces()
    details = {"run": run, "kind": wish.kind, **me}
    if wish.kind == "lock":
        details["taker"] = dict(wish.taker or me)
    if wish.value is not None:
        details["value"] = wish.value
    if wish.slots != 1:
        details["limit"] = wish.slots
    details.update(wish.details)
    return details


def _record(wish: Wish, since: int, details: dict[str, Any]) -> bytes:
    reason = wish.reason or details.get("reason")
    if reason:
        details.pop("reason", None)
        details = {"reason": reason, **details}  # first, since the Go original's -list prints all of it
    if wish.explicit:
        details["explicit"] = True
    return Record(since, wish.owner, details).encode()
