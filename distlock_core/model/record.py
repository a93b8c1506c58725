"""The record of a lock and the note about its last hold, in their text form in etcd. Pure values."""

from __future__ import annotations

import time

from distlock_core.base import plain_json
from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MOST_DIGITS = 18  # of the seconds of a record
BEYOND = 2**63  # a number in a record that is as large, or larger, counts as none
HELD, SETTLING, KEPT, COOLING = "held", "settling", "kept", "cooling"  # states of a record
ATTENDED = (HELD, SETTLING)  # states of a hold that its own process looks after
MOST_TIMES = 8  # holds whose length is remembered
MAYBE_BEATS = b'"beat_lease"'  # is in the value of each hold with a sign of life
MAYBE_TAKEN_OVER = b'"taken_over"'  # is in the value of each hold that was taken over


class Record(Value):
    """The value of a key: `SECONDS;OWNER;REST`. `details` is REST if that is a JSON object.

    The Go original writes the reason as plain text for REST. A value in neither form has no `since` and no `owner`: it
    is still a lock, held by an unknown owner.
    """

    since: int | None
    owner: str | None
    details: dict[str, Any]

    def encode(self) -> bytes:
        details = plain_json.dumps_compact(self.details)
        # Foreign JSON may contain half a surrogate pair, which can only be written back as an escape.
        return f"{self.since};{self.owner};{details}".encode("utf-8", "backslashreplace")

    @classmethod
    def parse(cls, value: bytes) -> Record:
        text = value.decode("utf-8", "backslashreplace")
        seconds, _, rest = text.partition(";")
        owner, separator, rest = rest.partition(";")
        digits = seconds.removeprefix("-")
        if not separator or not (digits.isascii() and digits.isdigit()) or len(digits) > MOST_DIGITS:
            return cls(None, None, {"reason": text})
        try:
            details = plain_json.loads(rest) if rest.startswith("{") else None
        except (ValueError, RecursionError):
            details = None
        if not isinstance(details, dict):
            details = {"reason": rest}
        return cls(int(seconds), owner, details)

    def text(self, field: str) -> str:
        """A text field, "" if it is missing or not a text."""
        value = self.details.get(field)
        return value if isinstance(value, str) else ""

    def number(self, field: str) -> int | None:
        """A whole number, None if it is missing, no such number, or too large for any."""
        value = self.details.get(field)
        return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < BEYOND else None

    @property
    def run(self) -> str:
        """The random id of the acquisition, "" in a record that distlock did not write."""
        return self.text("run")

    @property
    def explicit(self) -> bool:
        """True if the owner was set explicitly, not derived from the host's name."""
        return self.details.get("explicit") is True

    @property
    def is_taken_over(self) -> bool:
        """True if the hold was taken over from a dead run, so that its token is not the key's create_revision."""
        return self.details.get("taken_over") is True

    @property
    def limit(self) -> int:
        """The holder's number of slots."""
        return max(1, self.number("limit") or 1)

    @property
    def state(self) -> str:
        return self.text("state") or HELD


def token_of(kv: KeyValue) -> int:
    """The fencing token of a hold: the create_revision of its key.

    For a hold that was taken over from a dead run it is the revision of the put that took it over: the key's
    mod_revision, or the number in the record once it has been rewritten.
    """
    if MAYBE_TAKEN_OVER not in kv.value:
        return kv.create_revision
    record = Record.parse(kv.value)
    return (record.number("token") or kv.mod_revision) if record.is_taken_over else kv.create_revision


def record_of(kv: KeyValue) -> Record:
    """The record of a hold, for a rewrite: with its token in it if that is not the create_revision."""
    record = Record.parse(kv.value)
    return record._replace(details={**record.details, "token": token_of(kv)}) if record.is_taken_over else record


def beat_lease_of(record: Record) -> int:
    """The lease of a hold's sign of life, 0 if it has none."""
    lease = record.number("beat_lease") or 0
    return lease if 0 < lease < 2**63 else 0


def without_beat(record: Record) -> Record:
    """The record of a hold that gives no sign of life any more, as no process looks after it."""
    if "beat" not in record.details:
        return record
    left = {field: value for field, value in record.details.items() if field not in ("beat", "beat_lease")}
    return record._replace(details=left)


def in_state(record: Record, changes: Mapping[str, Any]) -> Record:
    """The record with changes, one of them its state, and the time of that."""
    if record.state == changes.get("state") and record.number("state_since") is not None:
        return record._replace(details={**record.details, **changes})  # again, after a lost reply
    return record._replace(details={**record.details, **changes, "state_since": int(time.time())})


class HoldEnd(Value):
    """How the last hold of a lock ended: `how` is released, broken or cooled, "" if no hold has ended yet.

    `by` is the owner that ended it, `at` the Unix time in seconds; `owner` and `token` are those of the hold. `why` is
    the reason that was given for breaking it.
    """

    how: str
    by: str | None
    at: int | None
    owner: str
    token: int | None
    took: tuple[int, ...] = ()  # seconds that up to eight holds took, the last one at the end
    why: str = ""

    @classmethod
    def parse(cls, value: bytes) -> HoldEnd:
        record = Record.parse(value)
        how, token, took = record.text("how"), record.number("token"), times_of(record)
        return cls(how, record.owner, record.since, record.text("owner"), token, took, record.text("why"))


def times_of(record: Record) -> tuple[int, ...]:
    """How long the last holds took, in seconds: from the note about the last hold, or from a hold's own record."""
    found = record.details.get("took")
    if not isinstance(found, list):
        return ()
    times = (one for one in found if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < BEYOND)
    return tuple(times)[-MOST_TIMES:]


class EndNote(Value):
    """The note to be written about the end of a hold; `how`, `by` and `why` as in `HoldEnd`, as which it is read."""

    how: str
    by: str
    counts: bool = True  # False for a claim that is undone, as it was no hold, and for a shared hold
    why: str = ""

    def record(self, kv: KeyValue) -> bytes:
        ended, now = Record.parse(kv.value), int(time.time())
        details: dict[str, Any] = {
            "how": self.how,
            "owner": ended.owner,
            "token": token_of(kv),
            "since": ended.since,
        }
        if self.why:
            details["why"] = self.why
        if ended.text("reason"):
            details["reason"] = ended.text("reason")
        if ended.run:
            details["run"] = ended.run
        took = times_of(ended)
        if (
            self.counts
            and self.how != "broken"
            and ended.state == HELD
            and ended.since is not None
            and now >= ended.since
        ):
            took = (*took, now - ended.since)[-MOST_TIMES:]
        if took:
            details["took"] = list(took)
        return Record(now, self.by, details).encode()
