"""The client of etcd that the rest of distlock uses, whichever driver carries it: its calls, for type checkers alone.

Keys and values are bytes, revisions, leases and counts are integers, times are seconds. Reads are linearizable.
"""

from __future__ import annotations

# A protocol is not cheap to define: so at run time there is none.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.values import Compare, Event, Get, Op, Outcome

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
