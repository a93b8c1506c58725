"""Policy: rules for everybody who acquires a lock. It is data: nothing in it is ever executed. Pure.

Its record is that of a lock (`model/record.py`): who has set it, when, and a JSON object with the fields of `FIELDS`.
"""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import ConfigError
from distlock_core.etcd.values import KeyValue
from distlock_core.model.record import Record
from distlock_core.model.ttl import LONGEST_TTL
from distlock_core.model.window_syntax import parse_windows
from distlock_core.model.windows import LOCAL, Windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MOST_SLOTS = 1000
WHOLE = {"slots": MOST_SLOTS, "cooldown": LONGEST_TTL, "expect": LONGEST_TTL}  # whole numbers from 1 to these
FIELDS = ("slots", "cooldown", "window", "expect")
OTHERS = ("reason",)  # not about acquiring


class Policy(Value):
    """The policy of one lock. A field is None if the policy leaves it to those who acquire the lock.

    `trouble` says why this version cannot follow it (then it acquires the lock for nobody), "" if it can.
    """

    lock: str
    slots: int | None
    cooldown: int | None  # seconds
    window: str | None
    expect: int | None  # seconds
    by: str | None
    since: int | None
    reason: str
    mod_revision: int
    trouble: str = ""

    @classmethod
    def parse(cls, lock: str, kv: KeyValue) -> Policy:
        """Read the record of a policy. Whatever is in it, this raises nothing."""
        record = Record.parse(kv.value)
        found: dict[str, Any] = {}
        trouble = (
            "" if record.since is not None and not _is_damaged(kv.value, record) else "it is not a record of distlock"
        )
        for field, value in record.details.items():
            if field in OTHERS or trouble:
                continue
            if field not in FIELDS:
                trouble = f"this version does not know its field {printable(field[:60])}"
                continue
            try:
                found[field] = checked(field, value)
            except ConfigError as error:
                trouble = f"its {field}: expected {error.message}"
        return cls(
            lock,
            found.get("slots"),
            found.get("cooldown"),
            found.get("window"),
            found.get("expect"),
            record.owner,
            record.since,
            record.text("reason"),
            kv.mod_revision,
            trouble,
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that are set."""
        return {field: getattr(self, field) for field in FIELDS if getattr(self, field) is not None}

    @property
    def windows(self) -> Windows | None:
        return None if self.window is None else parse_windows(self.window)


def _is_damaged(value: bytes, record: Record) -> bool:
    """True if what should be a JSON object is none: it is read as a reason then, and its rules would be lost."""
    rest = value.split(b";", 2)[-1].decode("utf-8", "backslashreplace").strip()
    return rest[:1] in ("{", "[") and record.text("reason").strip() == rest


def checked(field: str, value: object) -> Any:
    """The value of a field. Raises `ConfigError` with what was expected."""
    if field == "window":
        if not isinstance(value, str):
            raise ConfigError("a text")
        windows = parse_windows(value)
        if windows.zone == LOCAL:
            raise ConfigError("a time zone with a name: local is another one on each machine")
        return windows.text
    most = WHOLE[field]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ConfigError(f"a whole number from 1 to {most}")
    return value


def fields_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to be set, checked. Raises `ConfigError`."""
    found = {}
    for field, value in given.items():
        try:
            found[field] = checked(field, value)
        except ConfigError as error:
            raise ConfigError(f"{field}: expected {error.message}, found {ascii(value)[:60]}") from None
    return found


def differences(policy: Policy, given: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting of a caller that the policy overrides with another value."""
    return [
        f"{printable(policy.lock)} has a policy with {field}={shown(field, ours)}: {shown(field, theirs)} is not used"
        for field, ours in policy.fields.items()
        if (theirs := given.get(field)) is not None and theirs != ours
    ]


def shown(field: str, value: Any) -> str:
    """A field's value for people."""
    if field == "window":
        return f"'{printable(str(value))}'"
    return str(value) if field == "slots" else f"{value}s"
