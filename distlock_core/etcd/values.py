"""What the rest of distlock may ask of etcd v3, whichever driver carries it.

Keys and values are bytes, revisions, leases and counts are integers, times are seconds. Reads are linearizable.
"""

from __future__ import annotations

from collections.abc import Sequence

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, Union

    from distlock_core.base.deadline import Patience


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


# A protocol is for type checkers alone, and not cheap to define: so at run time there is none.
if TYPE_CHECKING:
    Op = Union[Get, Put, Delete]

    class Watch(Protocol):
        """An open watch on several ranges. A hint: what it says is worth a read, and it may miss a DELETE."""

        @property
        def endpoint(self) -> str:
            """Where it is open."""

        def wait(self, patience: Patience) -> list[Event]:
            """Return the events there are, or none at the deadline. Raises `WatchEnded` and `Cancelled`."""

        def wait_for_hint(self, patience: Patience) -> bool:
            """Wait until it is worth a read, which is sooner than events where the watch begins in the past.

            etcd looks for those that it has missed every 100 ms only. False: nothing came by the deadline. What it
            hints at may come from `wait()` later. Raises as `wait()`.
            """

        def close(self) -> None: ...

    class Etcd(Protocol):
        """One etcd cluster. Every call tries the endpoints in turn until its patience ends.

        All raise `EtcdUnavailable` when none answered, `AccessDenied` when one refused, and `Cancelled`.
        """

        @property
        def endpoint(self) -> str:
            """The endpoint that answered last."""

        def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
            """Read several ranges at one revision."""

        def txn(
            self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
        ) -> Outcome:
            """Write, if all the compares hold.

            Raises `LeaseGone`, and `OutcomeUnknown` when it may have arrived and no answer came.
            """

        def grant(self, lease: int, ttl: int, patience: Patience) -> int:
            """Grant a lease with this id and return its TTL. To grant it twice is harmless: its TTL is returned."""

        def keep_alive(self, lease: int, patience: Patience, *, fresh: bool = False) -> int:
            """Renew a lease and return its TTL, 0 when it is gone. `fresh`: over a new connection in any case."""

        def time_to_live(self, lease: int, patience: Patience) -> int:
            """The seconds that a lease has left, 0 when it is gone."""

        def revoke(self, lease: int, patience: Patience) -> None:
            """End a lease and delete its keys. One that is gone already is no error."""

        def watch(self, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience) -> Watch:
            """Watch keys (or ranges, with an end) from a revision on."""

        def load_all(self) -> None:
            """Load now what later calls would load at their first time: for who cannot afford that to fail then."""

        def close(self) -> None: ...
