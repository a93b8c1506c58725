"""Polling in place of a watch, where a proxy on the way to etcd prevents watches from opening.

A proxy that buffers answers (nginx does by default) never passes on the beginning of a watch.
"""

from __future__ import annotations

from distlock_core.base.deadline import Patience, jittered, now
from distlock_core.base.warn_once import warn_once
from distlock_core.errors import AccessDenied, AnotherCluster, Cancelled, DistlockError, EtcdUnavailable
from distlock_core.etcd.endpoints import WrongCluster
from distlock_core.etcd.failover import ask_in_turn
from distlock_core.etcd.http.http1 import ConnectionLost
from distlock_core.etcd.http.messages import NoGateway
from distlock_core.etcd.refused import Refused, WatchRefused
from distlock_core.etcd.values import Compacted, Get, WatchEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.etcd.endpoints import Attempt, Endpoints
    from distlock_core.etcd.values import Event

    State = list[tuple[int, int]]  # of each range: the number of keys, and their highest mod_revision

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two reads; they grow while nothing changes
OPENING = 0.6  # the share of the time for opening a watch; the rest is for polling instead
LONGEST_OPENING = 2.5  # seconds per endpoint
FAIR_OPENING = 1.0  # seconds; a watch that did not open in less proves nothing: a busy etcd may take as long
FIRST_SPELL, LONGEST_SPELL = 60.0, 600.0  # seconds of polling after which a watch is tried again
COMPACTED, FUTURE = "has been compacted", "future revision"  # etcd's errors for a revision that cannot be read


class Opener:
    """Opens the watches of one client; polls for a while if none opens although calls are answered."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._until = 0.0  # on the `now()` clock: no watch is tried before
        self._spell = FIRST_SPELL

    def open(
        self,
        etcd: Etcd,
        ranges: Sequence[tuple[bytes, bytes | None]],
        revision: int,
        patience: Patience,
        as_user: Callable[[Attempt, Callable[[Attempt, str], Watch]], Watch],
        open_watch: Callable[[Attempt, str], Watch],
    ) -> Watch:
        """Return a watch from this revision on. `open_watch` opens one at an endpoint. Raises as `Etcd.watch()`."""
        if now() < self._until:
            return self._poll(etcd, ranges, revision, patience)
        unopened: list[str] = []

        def attempt_it(attempt: Attempt) -> Watch:
            try:
                return as_user(attempt, open_watch)
            except ConnectionLost as failure:
                if not isinstance(failure, (WrongCluster, NoGateway)):
                    unopened.append(f"no watch opens at {attempt.address.url} ({failure})")
                raise

        # Reserve some of the time for a read, to find out whether only watches get no answer.
        opening = min(patience.left() * OPENING, LONGEST_OPENING * self._endpoints.count)
        few = patience.within(opening)
        try:
            watch = ask_in_turn(self._endpoints, attempt_it, few)
        except AnotherCluster:
            raise
        except EtcdUnavailable as unavailable:
            if not unopened:
                raise
            is_proof = opening >= FAIR_OPENING
            self._until = now() + (self._spell if is_proof else LONGEST_PAUSE)
            try:
                polled = self._poll(etcd, ranges, revision, patience)
            except EtcdUnavailable:
                self._until = 0.0  # calls are not answered either: the fault is not about watches
                raise unavailable from None
            if not is_proof:
                return polled
            self._spell = min(self._spell * 2, LONGEST_SPELL)
            warn_once(
                f"{unopened[0]}, though it answers calls: is there a proxy that buffers? Until watches open, distlock "
                "asks again every few seconds, and notices changes later. For nginx: proxy_buffering off"
            )
            return polled
        assert watch is not None
        self._spell = FIRST_SPELL
        return watch

    def _poll(
        self, etcd: Etcd, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience
    ) -> PolledWatch:
        polled = PolledWatch(etcd, ranges, revision, self._until)
        polled.begin(patience)
        return polled


class PolledWatch:
    """A watch that polls. Implements `Watch`. It has no events, and so ends with the first change."""

    def __init__(self, etcd: Etcd, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, until: float) -> None:
        """It begins at `revision` (0: now), and ends at `until`, on the `now()` clock: then a real watch is tried."""
        self._etcd = etcd
        self._gets = [Get(key, end, keys_only=True, limit=1, newest_first=True) for key, end in ranges]
        self._revision = revision
        self._until = until
        self._known: State = []
        self._pause = FIRST_PAUSE
        self._next = 0.0

    @property
    def endpoint(self) -> str:
        return self._etcd.endpoint

    def begin(self, patience: Patience) -> None:
        """Read the state just before `revision`. Raises the errors of a read."""
        self._known = self._before(patience)

    def wait(self, patience: Patience) -> list[Event]:
        """Return [] at the deadline. Raises `Compacted` at the first change."""
        while True:
            if now() >= self._until:
                raise WatchEnded("it is time to try a watch again")
            patience.until(min(self._next, self._until)).wait()
            if now() < self._next:
                if patience.over():
                    return []
                continue
            try:
                state = self._look(patience)
            except Cancelled:
                raise
            except AnotherCluster as error:
                raise WatchEnded(error.message) from error
            except EtcdUnavailable:
                return []  # the deadline has come: as silent as a watch would be
            except AccessDenied as error:
                raise WatchRefused(error.message) from error
            except DistlockError as error:
                raise WatchEnded(error.message) from error
            if state != self._known:
                self._known, self._pause = state, FIRST_PAUSE
                raise Compacted("it has changed; what happened to it in between was not seen")
            self._next = now() + jittered(self._pause, 0.75, 1.25)
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)

    def close(self) -> None:
        self._until = 0.0

    def _before(self, patience: Patience) -> State:
        if not self._revision:
            return self._look(patience)
        if self._revision == 1:
            return [(0, 0) for _ in self._gets]
        try:
            return self._look(patience, self._revision - 1)
        except DistlockError as error:
            said = error.__cause__.message if isinstance(error.__cause__, Refused) else ""
            if COMPACTED in said:
                return []  # unknown: the first read then finds a change
            if FUTURE in said:
                return self._look(patience)
            raise

    def _look(self, patience: Patience, revision: int = 0) -> State:
        gets = [get._replace(revision=revision) for get in self._gets]
        found = self._etcd.read(gets, patience).ranges()
        return [(one.total, one.kvs[0].mod_revision if one.kvs else 0) for one in found]
