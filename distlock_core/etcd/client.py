"""The interface of etcd's drivers, which the rest of distlock uses: protocols for type checkers.

Keys and values are bytes, revisions, leases and counts are integers, times are seconds. Reads are linearizable.
"""

from __future__ import annotations

# Defining a protocol takes time at start-up, so there is none at run time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.facts import Site
    from distlock_core.etcd.values import Compare, Event, Get, Op, Outcome

    class Watch(Protocol):
        """An open watch on several ranges. It is a hint, after which to read: it can miss a DELETE."""

        @property
        def endpoint(self) -> str:
            """The endpoint that serves it."""

        def wait(self, patience: Patience) -> list[Event]:
            """Return the events that have arrived, [] at the deadline. Raises `WatchEnded` and `Cancelled`."""

        def close(self) -> None: ...

    class Etcd(Protocol):
        """One etcd cluster. Every call tries the endpoints in turn until its patience ends.

        All calls raise `EtcdUnavailable` if none answers, `AccessDenied` if one refuses, and `Cancelled`.
        """

        @property
        def endpoint(self) -> str:
            """The endpoint that answered last."""

        @property
        def term(self) -> int:
            """The raft term in the latest answer about a lease, 0 if unknown. It grows with each change of leader."""

        def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
            """Read several ranges at one revision."""

        def txn(
            self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
        ) -> Outcome:
            """Run `then` if all compares hold, else `otherwise`.

            Raises `LeaseGone`, and `OutcomeUnknown` if a write may have arrived but no answer came.
            """

        def grant(self, lease: int, ttl: int, patience: Patience) -> int:
            """Grant a lease with this id and return its TTL. Granting it again is harmless, and returns its TTL."""

        def keep_alive(self, lease: int, patience: Patience, *, fresh: bool = False) -> int:
            """Renew a lease and return its TTL, 0 if it is gone. `fresh` requires a new connection."""

        def time_to_live(self, lease: int, patience: Patience) -> int:
            """Return the seconds that a lease has left, 0 if it is gone."""

        def revoke(self, lease: int, patience: Patience) -> None:
            """End a lease and delete its keys. A lease that is already gone is no error."""

        def watch(
            self, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience, *, polls: bool = True
        ) -> Watch:
            """Watch keys, or ranges with an end, from a revision on.

            Revision 0 means from now on: every change after the return is reported, and at once. Where a proxy keeps
            watches from opening, the result is one that `polls` and has no events; if it may not, this raises
            `EtcdUnavailable`.
            """

        @property
        def site(self) -> Site:
            """What leads to the cluster, for an examination of its members."""

        def load_all(self) -> None:
            """Load now all modules that calls would load on first use, so that this cannot fail later."""

        def close(self) -> None: ...
