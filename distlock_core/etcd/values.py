"""Values of etcd requests and answers, independent of the driver.

Keys and values are bytes, revisions, leases and counts are integers, times are seconds. Reads are linearizable.
"""

from __future__ import annotations

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

REREAD = 10.0  # seconds between reads during a watch, which can be silent or miss an event


class KeyValue(Value):
    """A key in etcd. `lease` is 0 without one; `value` is empty in a keys-only read."""

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
    """A read of a key, or with `range_end` of `[key, range_end)`, at the present or at a given `revision`.

    The order is by key, with `last_first` by descending key, with `youngest_first` by descending create_revision, with
    `newest_first` by descending mod_revision.
    """

    key: bytes
    range_end: bytes | None = None
    youngest_first: bool = False
    keys_only: bool = False
    limit: int = 0
    max_create_revision: int = 0
    newest_first: bool = False
    revision: int = 0
    last_first: bool = False


class Put(Value):
    key: bytes
    value: bytes
    lease: int = 0


class Delete(Value):
    key: bytes
    range_end: bytes | None = None


class Range(Value):
    """The result of a `Get`. `total` counts the whole range, regardless of limits and filters."""

    kvs: tuple[KeyValue, ...]
    total: int


class Outcome(Value):
    """The outcome of a transaction. `results` has a `Range` for each `Get`, the number of keys for a `Delete`."""

    succeeded: bool
    revision: int
    results: tuple[Range | int | None, ...]

    def ranges(self) -> tuple[Range, ...]:
        return tuple(result for result in self.results if isinstance(result, Range))


class Event(Value):
    """A change of a key: `deleted`, or put. A deleted key has only its key and mod_revision."""

    deleted: bool
    kv: KeyValue


class LeaseGone(Exception):
    """A write named a lease that does not exist (any more)."""


class WatchEnded(Exception):
    """A watch is over: the member went away, the history was compacted, or the stream broke. Read, and watch again."""


class Compacted(WatchEnded):
    """The history at the beginning of a watch has been compacted.

    `revision` is the oldest one that can still be read, 0 if that is unknown.
    """

    def __init__(self, message: str, revision: int = 0) -> None:
        super().__init__(message)
        self.revision = revision


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all those that begin with `prefix`."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


if TYPE_CHECKING:
    Op = Union[Get, Put, Delete]
