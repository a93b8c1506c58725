"""Acquisition: one attempt to acquire a lock: read it, claim it if it is free and no one is ahead, else queue.

Several locks are acquired together or not at all: from one read, in one transaction. While it waits for several, an
attempt holds none of them.

An attempt that fails leaves nothing behind: no ticket, no lease, no claim that etcd could still apply. If that cannot
be ensured, it raises `OutcomeUnknown`.
"""

from __future__ import annotations

import os

from distlock_core.base.deadline import RETRY_PAUSE, Patience, Wait, now
from distlock_core.base.uninterrupted import Uninterrupted
from distlock_core.base.value import Value
from distlock_core.errors import AcquireTimeout, AnotherCluster, EtcdUnavailable, OutcomeUnknown
from distlock_core.etcd.values import LeaseGone
from distlock_core.lock import refusals
from distlock_core.lock.claim import Claims
from distlock_core.lock.entries import Entries, claims_any
from distlock_core.lock.lease import GIVE_UP
from distlock_core.lock.queue import Queue
from distlock_core.lock.snapshot import Snapshots
from distlock_core.lock.spec import LockSpec, ticket_record
from distlock_core.model.state import LockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.errors import Frozen, LockBusy
    from distlock_core.etcd.client import Etcd
    from distlock_core.hints import Hint
    from distlock_core.lock.reentry import Reentry
    from distlock_core.lock.ruling import Closed
    from distlock_core.lock.spec import Acquired, Gate

MUTEX_GRACE = 1.0  # seconds to wait for a Go client to leave its mutex, even with a timeout of 0
OUTSIDE = 60.0  # seconds between two reads outside the caller's own window
PROMPT = 0.5  # seconds that a gate may take to answer before its asker queues
CALL_IN_QUEUE = 0.3  # longest call, as a fraction of the ticket's ttl: a longer one would delay the ticket's renewal


class Waiting(Value):
    """The progress of a wait. `position` in the queue counts from 1, `since` is on the `now()` clock.

    Of several locks, `state` and `position` are those of the one with the most waiters ahead. The position is 0 outside
    the caller's own window, where it is not in the queue; `closed` is that window, or the policy's.

    `away` says why etcd does not answer. If the lock is held by the waiter's owner, `own` says why it cannot be
    re-entered, and `hints` how it can.
    """

    state: LockState
    position: int
    since: float
    away: str = ""
    own: str = ""
    hints: Sequence[Hint] = ()
    closed: Closed | None = None
    gate: str = ""  # why the gate is not passed, for the first in the queue of a free lock
    places: tuple[tuple[LockState, int], ...] = ()  # of several locks: the state of each, and the position in its queue


class Acquisition:
    """One attempt to acquire a lock, or several together, which waits for other holders as long as `wait` allows."""

    def __init__(
        self,
        etcd: Etcd,
        spec: LockSpec,
        wait: Wait,
        connect_timeout: float,
        cancel: Cancel | None = None,
        progress: Callable[[Waiting], None] | None = None,
    ) -> None:
        self._etcd = etcd
        self._spec = spec
        self._locks = spec.locks
        self._progress = progress
        self._started = now()
        self._pid = os.getpid()
        self._nowait = wait.is_none
        self._contact = connect_timeout if wait.is_none else min(connect_timeout, wait.seconds)
        longest = connect_timeout + MUTEX_GRACE if wait.is_none else wait.seconds
        self._patience = Patience(self._started + longest, cancel)
        self.queue = Queue(etcd, spec.locks, spec.place, spec.ticket_ttl)
        self._entries = Entries(spec, self.queue)
        self._claims = Claims(etcd, spec, self.queue)
        self._was_queued = False
        self._mutex_since: float | None = None
        self._gate = spec.gate if spec.gate is not None and spec.gate.before else None
        self._is_green = False

    def run(self) -> tuple[Acquired, ...]:
        """Return the acquired locks, in the order of the request.

        The caller then calls `queue.leave()`, as soon as it has time.

        Raises `LockBusy`, `Frozen`, `LimitConflict`, `AcquireTimeout`, `EtcdUnavailable`, `AccessDenied`,
        `OutcomeUnknown`, `Cancelled`.
        """
        try:
            acquired = self._until_held()
            self.queue.stop_watching()
            return acquired
        except BaseException as ending:
            if self._pid != os.getpid():
                raise  # a child, forked by `progress`: claim and ticket belong to the parent
            with Uninterrupted():
                late = self._last_word(ending)
            if late is None:
                raise
            return late

    def undo(self) -> None:
        """Undo a successful claim if the caller was interrupted before it received the lock."""
        if self._pid == os.getpid() and self._claims.won is not None:
            self._claims.undo(self._claims.won, Patience.lasting(GIVE_UP))
            self._claims.drop_lease()

    def preview(self) -> tuple[tuple[Reentry | None, LockState], ...]:
        """Return for each lock the hold that would be re-entered, None if a free slot would be claimed, and its state.

        Writes nothing. Raises as `run()` does without waiting.
        """
        found = self.foresee()
        if not isinstance(found, tuple):
            raise found
        return found

    def foresee(self) -> tuple[tuple[Reentry | None, LockState], ...] | LockBusy | Frozen:
        """As `preview()`, but an attempt that may wait gets the error with what it would wait for.

        Raises what `run()` would raise without waiting at all.
        """
        snapshots = self._read(self._patience.within(self._contact))
        entries, states = self._entries.find(snapshots), snapshots.states(self._locks)
        if isinstance(entries, tuple):
            if not (claims_any(entries) and snapshots.each[0].mutex_busy):
                return tuple(zip((None if isinstance(entry, int) else entry for entry in entries), states))
            busy: LockBusy | Frozen = refusals.mutex_busy(states)
        else:
            busy = refusals.busy(entries, states, self._entries.last_to_open())
            self._refuse_a_circle(states)
        if self._nowait:
            raise busy
        return busy

    def _refuse_a_circle(self, states: Sequence[LockState]) -> None:
        """Refuse to wait for a command around this one, which would never end."""
        for state in () if self._nowait else states:
            circle = refusals.waits_for_itself(state, self._spec)
            if circle is not None:
                raise circle

    def _until_held(self) -> tuple[Acquired, ...]:
        snapshots = self._read(self._patience.within(self._contact))
        while True:
            try:
                found = self._step(snapshots)
            except (EtcdUnavailable, OutcomeUnknown, LeaseGone) as trouble:
                found = self._outlast(trouble, snapshots)
            if not isinstance(found, Snapshots):
                return found
            snapshots = found

    def _step(self, snapshots: Snapshots) -> tuple[Acquired, ...] | Snapshots:
        """Take the next step for these snapshots; return the locks, or the next snapshots."""
        if self._claims.in_doubt:
            resolved = self._claims.resolve_once(self._call())
            if resolved is not None:
                return resolved
            self._claims.drop_lease()
            return self._read(self._call())
        if self.queue.tickets and snapshots.has_lost_place:
            # A ticket was deleted, has expired, or was created anew by another client: the place is lost.
            self.queue.leave()
            return self._read(self._call())
        entries = self._entries.find(snapshots)
        if not isinstance(entries, tuple):
            if self._nowait:
                raise refusals.busy(entries, snapshots.states(self._locks), self._entries.last_to_open())
            return self._wait_outside(snapshots) if self._entries.leaves_the_queue(snapshots) else self._wait(snapshots)
        if claims_any(entries) and snapshots.each[0].mutex_busy:
            return self._wait_for_mutex(snapshots) if self._nowait else self._wait(snapshots)
        if self._gate is not None and claims_any(entries) and not self._is_green:
            return self._ask(self._gate, snapshots)
        self._is_green = False  # an answer is good for one claim
        return self._claims.take(snapshots, entries, self._entries.rules_of(snapshots), self._call)

    # Waiting.

    def _wait_outside(self, snapshots: Snapshots) -> Snapshots:
        """Wait outside the queue until the window opens. The policy may change meanwhile."""
        self._forget_gate()
        if self.queue.tickets:
            self.queue.leave()
        self._was_queued = True
        closed = self._entries.last_to_open()
        self._report(snapshots)
        self._patience.pause(OUTSIDE if closed is None else min(OUTSIDE, closed.seconds_left))
        if self._patience.over():
            raise self._timeout(snapshots)
        return self._read(self._call())

    def _ask(self, gate: Gate, snapshots: Snapshots) -> Snapshots:
        """Ask the gate, and read again: the lock may have changed meanwhile. Whoever has to wait for it queues."""
        if self._nowait:
            self._is_green = gate.is_green(Patience(now() + gate.timeout, self._patience.cancel))
            self._patience = Patience.lasting(self._contact + MUTEX_GRACE, self._patience.cancel)
            if not self._is_green:
                raise refusals.gate_closed(snapshots.states(self._locks), gate.story)
        elif self.queue.lease is None:
            self._is_green = gate.is_green(self._patience.within(PROMPT))
            if not self._is_green:
                self.queue.join(ticket_record(self._spec), self._call())
                self._was_queued = True
        else:
            self._report(snapshots, gate=gate.story)
            self._is_green = gate.is_green(self._patience.until(self.queue.lease.renew_at))
            self.queue.renew(self._call())
        if self._patience.over():
            raise self._timeout(snapshots, gate=gate.story)
        return self._read(self._call())

    def _forget_gate(self) -> None:
        """The lock cannot be claimed any more: the gate will be asked anew."""
        self._is_green = False
        if self._gate is not None:
            self._gate.stop()

    def _wait(self, snapshots: Snapshots) -> Snapshots:
        seen: Snapshots | None = None
        self._forget_gate()
        if not self.queue.tickets:
            self._refuse_a_circle(snapshots.states(self._locks))
            seen = self.queue.join(ticket_record(self._spec), self._call())
            self._was_queued = True
        else:
            self._report(snapshots)
            patience, closed = self._patience, self._entries.last_to_open()
            if closed is not None:
                patience = patience.within(closed.seconds_left)
            elif self.queue.is_near(snapshots):
                self._claims.get_ready(self._call)
            seen = self.queue.wait(snapshots, self._claims.lease, patience, self._call())
        if self._patience.over():
            raise self._timeout(snapshots)
        return seen or self._read(self._call())

    def _wait_for_mutex(self, snapshots: Snapshots) -> Snapshots:
        self._mutex_since = self._mutex_since or now()
        if now() - self._mutex_since > MUTEX_GRACE:
            raise refusals.mutex_busy(snapshots.states(self._locks))
        self._patience.pause(RETRY_PAUSE)
        return self._read(self._call())

    def _outlast(self, trouble: Exception, snapshots: Snapshots) -> Snapshots:
        """Wait out an outage of etcd, once this waiter has queued; return the next snapshots.

        Raises the error at once if it has not queued yet, and `AnotherCluster`, which is not an outage.
        """
        while True:
            if not self._was_queued and isinstance(trouble, EtcdUnavailable):
                raise trouble
            if self._patience.over():
                raise self._timeout(snapshots, str(trouble)) from trouble
            if isinstance(trouble, AnotherCluster):
                raise trouble  # waiting cannot help
            self._report(snapshots, str(trouble))
            self._patience.pause(RETRY_PAUSE)
            self.queue.renew(self._call())
            try:
                return self._read(self._call())
            except EtcdUnavailable as still:
                trouble = still

    def _others(self, snapshots: Snapshots) -> list[LockState]:
        """The state of each lock without this attempt's own ticket."""
        states = snapshots.states(self._locks)
        return [
            state._replace(waiting=state.waiting - (one.ahead is not None))
            for state, one in zip(states, snapshots.each)
        ]

    def _timeout(self, snapshots: Snapshots, away: str = "", gate: str = "") -> AcquireTimeout:
        states = self._others(snapshots)
        return refusals.timeout(self._entries.blocked(snapshots, states), states, now() - self._started, away, gate)

    def _report(self, snapshots: Snapshots, away: str = "", gate: str = "") -> None:
        if self._progress is None:
            return
        positions, closed = self.queue.positions(snapshots), self._entries.last_to_open()
        if self._entries.closed and not self.queue.tickets:
            positions = [0 for _ in positions]
        places = list(zip(snapshots.states(self._locks), positions))
        if len(places) == 1:
            ((state, position),) = places
            own = self._entries.why_not_reentered(state)
            self._progress(Waiting(state, position, self._started, away, *own, closed, gate))
            return
        blocked = {state.name for state, _ in self._entries.blocked(snapshots, [state for state, _ in places])}
        state, position = max(places, key=lambda place: (place[0].name in blocked, place[1]))
        own = self._entries.why_not_reentered(state)
        self._progress(Waiting(state, position, self._started, away, *own, closed, gate, tuple(places)))

    # The end.

    def _last_word(self, ending: BaseException) -> tuple[Acquired, ...] | None:
        """Clean up after a failed attempt. Returns the locks if the claim succeeded at the last moment.

        All of this takes at most `GIVE_UP` seconds, as the caller was interrupted or its time is up.
        """
        late = None
        patience = Patience.lasting(GIVE_UP)
        try:
            acquired = self._claims.resolve(ending, patience) or self._claims.won
            if acquired is not None and isinstance(ending, (AcquireTimeout, EtcdUnavailable)):
                late = acquired
            elif acquired is not None:
                self._claims.undo(acquired, patience)
            return late
        finally:
            if late is None:
                self._claims.drop_lease(patience)
                if not self._claims.in_doubt:
                    self._claims.forget()
            self.queue.leave(patience)
            if self._gate is not None:
                self._gate.stop()  # last, as it may take longer than all the rest

    # Helpers.

    def _read(self, patience: Patience) -> Snapshots:
        return self.queue.read(patience)

    def _call(self) -> Patience:
        """The patience for one call; in the queue, short enough to renew the tickets in time."""
        lease = self.queue.lease
        return self._patience.within(self._contact if lease is None else lease.ttl * CALL_IN_QUEUE)
