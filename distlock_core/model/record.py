"""The record of a lock, and how its last hold ended: their text form in etcd. Pure values."""

from __future__ import annotations

import json
import time

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HELD, KEPT, COOLING = "held", "kept", "cooling"  # a record's state


class Record(Value):
    """The value of a key: `SECONDS;OWNER;REST`. `details` is REST when that is a JSON object.

    The Go original writes plain text for REST: that is the reason. What fits neither form has no `since` and no
    `owner`: it is still a lock, held by somebody unknown.
    """

    since: int | None
    owner: str | None
    details: dict[str, Any]

    def encode(self) -> bytes:
        details = json.dumps(self.details, ensure_ascii=False, separators=(",", ":"))
        # Half a surrogate pair can come out of somebody else's JSON, and back only as an escape.
        return f"{self.since};{self.owner};{details}".encode("utf-8", "backslashreplace")

    @classmethod
    def parse(cls, value: bytes) -> Record:
        text = value.decode("utf-8", "backslashreplace")
        seconds, _, rest = text.partition(";")
        owner, separator, rest = rest.partition(";")
        digits = seconds.removeprefix("-")
        if not separator or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            return cls(None, None, {"reason": text})
        try:
            details = json.loads(rest) if rest.startswith("{") else None
        except (ValueError, RecursionError):
            details = None
        if not isinstance(details, dict):
            details = {"reason": rest}
        return cls(int(seconds), owner, details)

    def text(self, field: str) -> str:
        """A text field, "" when it is missing or is no text."""
        value = self.details.get(field)
        return value if isinstance(value, str) else ""

    def number(self, field: str) -> int | None:
        value = self.details.get(field)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def run(self) -> str:
        """The random id of the acquisition, "" in a record that is not ours."""
        return self.text("run")

    @property
    def explicit(self) -> bool:
        """True when the owner was named, and not just taken from the host."""
        return self.details.get("explicit") is True

    @property
    def is_taken_over(self) -> bool:
        """True when the hold was taken over from a dead run, and so has another token than its key."""
        return self.details.get("taken_over") is True

    @property
    def limit(self) -> int:
        """How many slots the holder believes in."""
        return self.number("limit") or 1

    @property
    def state(self) -> str:
        return self.text("state") or HELD


def token_of(kv: KeyValue) -> int:
    """The fencing token of a hold: the create_revision of its key.

    A hold that was taken over from a dead run has the revision of the put that took it over: the key's mod_revision,
    and once the record was written again, the number that it carries.
    """
    if b'"taken_over"' not in kv.value:
        return kv.create_revision
    record = Record.parse(kv.value)
    return (record.number("token") or kv.mod_revision) if record.is_taken_over else kv.create_revision


def record_of(kv: KeyValue) -> Record:
    """The record of a hold, to be written again: with its token in it, where that is not the create_revision."""
    record = Record.parse(kv.value)
    return record._replace(details={**record.details, "token": token_of(kv)}) if record.is_taken_over else record


class HoldEnd(Value):
    """How the last hold of a lock ended: `how` is released, broken or cooled, "" where no hold has ended yet.

    `by` whom, `at` Unix seconds, and the `owner` and `token` of the hold.
    """

    how: str
    by: str | None
    at: int | None
    owner: str
    token: int | None

    @classmethod
    def parse(cls, value: bytes) -> HoldEnd:
        record = Record.parse(value)
        return cls(record.text("how"), record.owner, record.since, record.text("owner"), record.number("token"))


class EndNote(Value):
    """What is written about the end of a hold: `how` is released, broken or cooled, `by` whom. Read as a `HoldEnd`."""

    how: str
    by: str

    def record(self, kv: KeyValue) -> bytes:
        ended = Record.parse(kv.value)
        details = {"how": self.how, "owner": ended.owner, "token": token_of(kv), "since": ended.since}
        if ended.text("reason"):
            details["reason"] = ended.text("reason")
        if ended.run:
            details["run"] = ended.run
        return Record(int(time.time()), self.by, details).encode()
