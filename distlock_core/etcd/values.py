"""What the rest of distlock may ask of etcd v3, whichever driver carries it.

Keys and values are bytes, revisions, leases and counts are integers, times are seconds. Reads are linearizable.
"""

from __future__ import annotations

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

REREAD = 10.0  # seconds; a watch can be silent or miss an event, so the truth is read this often


class KeyValue(Value):
    """A key as etcd holds it. `lease` is 0 without one; `value` is empty in a keys-only read."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class Compare(Value):
    """A condition of a transaction. With `range_end`, every key of the range must meet it.

    An empty range counts as one key of revision 0: `created(first, last) == 0` means "no key in this range"
    (tried on 3.4.23 and 3.5.1).
    """

    target: str  # CREATE, MOD or VALUE
    result: str  # EQUAL, GREATER or LESS
    key: bytes
    operand: int | bytes
    range_end: bytes | None = None


class Get(Value):
    """A read. With `range_end`, of `[key, range_end)`, in order of key, or of `create_revision` where `by_age`.

    `newest_first`: in order of `mod_revision`, the last change first. With a `revision`, as it was then.
    """

    key: bytes
    range_end: bytes | None = None
    by_age: bool = False
    keys_only: bool = False
    limit: int = 0
    max_create_revision: int = 0
    newest_first: bool = False
    revision: int = 0


class Put(Value):
    key: bytes
    value: bytes
    lease: int = 0


class Delete(Value):
    key: bytes
    range_end: bytes | None = None


class Range(Value):
    """What a `Get` found. `total` counts the whole range, whatever was limited or filtered."""

    kvs: tuple[KeyValue, ...]
    total: int


class Outcome(Value):
    """What a transaction did: `results` has a `Range` for every `Get`, the number of keys for a `Delete`."""

    succeeded: bool
    revision: int
    results: tuple[Range | int | None, ...]

    def ranges(self) -> tuple[Range, ...]:
        return tuple(result for result in self.results if isinstance(result, Range))


class Event(Value):
    """A change: `deleted`, or put. A deleted key has its key and mod_revision alone."""

    deleted: bool
    kv: KeyValue


class LeaseGone(Exception):
    """A write named a lease that does not exist, or no longer."""


class WatchEnded(Exception):
    """A watch is over: the member went away, the history was compacted, the stream broke. Read, and watch again."""


class Compacted(WatchEnded):
    """The history that a watch was to begin with is not there any more."""


def prefix_end(prefix: bytes) -> bytes:
    """Return the key just behind all those that begin with `prefix`."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


if TYPE_CHECKING:
    Op = Union[Get, Put, Delete]
