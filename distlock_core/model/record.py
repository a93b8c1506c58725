"""What a lock is made of: names and keys in etcd, the record's text form, holders and waiters. Pure values."""

from __future__ import annotations

import json

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue, prefix_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PREFIX = "/distlock/"
DEFAULT_MUTEX = "__internal_lock"
RESERVED = "__"
HELD, HOLD, COOLING = "held", "hold", "cooling"  # a record's state


class Keys:
    """Where one lock lives in etcd. The range of a name is NAME itself and `[NAME/, NAME0)`."""

    def __init__(self, prefix: str, name: str, mutex: str = DEFAULT_MUTEX) -> None:
        self._lay_out(name, prefix + name)
        self.last = (prefix + RESERVED + "last/" + name).encode()
        self.freeze = freeze_key(prefix)
        self.mutex = (prefix + mutex + "/").encode()

    @classmethod
    def raw(cls, key: str) -> Keys:
        """Return the keys of a lock that is named by its key in etcd, and belongs to no realm: all lie below it."""
        keys = cls.__new__(cls)
        keys._lay_out(key, key)
        keys.last, keys.freeze, keys.mutex = (
            f"{key}/{RESERVED}{word}".encode() for word in ("last", "freeze", "mutex/")
        )
        return keys

    def _lay_out(self, name: str, key: str) -> None:
        self.name = name
        self.lock = key.encode()
        self.slots = self.lock + b"/slot/"
        self.queue = self.lock + b"/queue/"

    def slot(self, number: int) -> bytes:
        """The key of a slot: slot 0 is the lock's own."""
        return self.slots + b"%d" % number if number else self.lock

    def ticket(self, lease: int) -> bytes:
        return self.queue + b"%016x" % lease

    def is_held_by(self, key: bytes) -> bool:
        """True for the key of a slot, False for a place in the line and for what belongs to another lock."""
        return key == self.lock or key.startswith(self.slots)

    def slot_of(self, key: bytes) -> int:
        """The number of a slot from its key. A key that nobody of us wrote counts as slot 0."""
        number = key[len(self.slots) :]
        return int(number) if key.startswith(self.slots) and number.isdigit() and len(number) < 10 else 0


def freeze_key(prefix: str) -> bytes:
    return (prefix + RESERVED + "freeze").encode()


def ends(start: bytes) -> tuple[bytes, bytes]:
    """The range of all keys that begin with `start`."""
    return start, prefix_end(start)


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


class Waiter(Value):
    """Somebody in the line."""

    owner: str | None
    host: str
    since: int | None
    reason: str
    lease: int
    create_revision: int

    @classmethod
    def parse(cls, kv: KeyValue) -> Waiter:
        record = Record.parse(kv.value)
        return cls(record.owner, record.text("host"), record.since, record.text("reason"), kv.lease, kv.create_revision)


class Holder(Value):
    """Somebody who holds a lock, or one of its slots. `owner` is None when what is `stored` in etcd is no record."""

    lock: str
    slot: int
    record: Record
    token: int
    mod_revision: int
    lease: int
    key: bytes
    stored: bytes
    kv: KeyValue  # the key as it was read
    ttl_left: int | None = None

    @classmethod
    def parse(cls, keys: Keys, kv: KeyValue) -> Holder:
        record = Record.parse(kv.value)
        slot = keys.slot_of(kv.key)
        return cls(keys.name, slot, record, token_of(kv), kv.mod_revision, kv.lease, kv.key, kv.value, kv)

    @property
    def owner(self) -> str | None:
        return self.record.owner

    @property
    def since(self) -> int | None:
        return self.record.since

    @property
    def reason(self) -> str:
        return self.record.text("reason")

    @property
    def value(self) -> str | None:
        """What the lock carries for others to look up, None where it carries nothing."""
        value = self.record.details.get("value")
        return value if isinstance(value, str) else None

    @property
    def lifetime(self) -> str:
        """How long it stays.

        persistent: until it is unlocked, whatever becomes of its holder. leased: until at most its ttl after its
        holder is gone. bound: leased, and kept by a keeper for as long as another process lives.
        """
        if not self.lease:
            return "persistent"
        return "bound" if self.keeper is not None else "leased"

    @property
    def keeper(self) -> int | None:
        """The pid of the keeper that renews a bound lock."""
        return self.record.number("keeper")

    @property
    def is_unattended(self) -> bool:
        """True when no process looks after it: it cools down, or is a step of its own without a keeper."""
        return self.record.state == COOLING or (self.record.text("kind") == "lock" and self.keeper is None)


class Ended(Value):
    """How the last hold of a lock ended: `how` is released, broken or cooled, "" where no hold has ended yet.

    `by` whom, `at` Unix seconds, and the `owner` and `token` of the hold.
    """

    how: str
    by: str | None
    at: int | None
    owner: str
    token: int | None

    @classmethod
    def parse(cls, value: bytes) -> Ended:
        record = Record.parse(value)
        return cls(record.text("how"), record.owner, record.since, record.text("owner"), record.number("token"))


class LockState(Value):
    """A lock as it was at one revision. `waiters` are in the order of the line."""

    name: str
    holders: tuple[Holder, ...]
    waiting: int
    waiters: tuple[Waiter, ...] = ()
    last: Ended | None = None
    frozen: Record | None = None
    mutex_busy: bool = False  # a client of the Go original is inside its mutex, so nobody acquires
