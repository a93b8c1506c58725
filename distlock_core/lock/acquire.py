"""Acquisition: one attempt to get a lock. Read it; claim it where it is free and this is the first waiter; else queue.

Whatever ends an attempt without the lock leaves nothing behind: no ticket, no lease, no claim that etcd could still
apply. Where that cannot be made sure, the attempt ends as `OutcomeUnknown`.
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
from distlock_core.lock.lease import GIVE_UP
from distlock_core.lock.queue import Queue
from distlock_core.lock.snapshot import Snapshot, gets
from distlock_core.lock.spec import Acquired, LockSpec, ticket_record
from distlock_core.model.state import LockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.hints import Hint
    from distlock_core.lock.reentry import Reentry

MUTEX_GRACE = 1.0  # seconds that a caller who does not wait gives a Go client to leave its mutex
CALL_IN_QUEUE = 0.3  # of the ticket's ttl; a call that hangs longer would cost the ticket its renewal


class Waiting(Value):
    """What a waiter may show. Its `position` in the queue counts from 1, `since` is on the `now()` clock.

    `away` is why etcd is silent. `own` says why a hold of the waiter's own owner is not entered again, if there is one;
    `hints` how it may be.
    """

    state: LockState
    position: int
    since: float
    away: str = ""
    own: str = ""
    hints: Sequence[Hint] = ()


class Acquisition:
    """One attempt, which waits for others as long as `wait` says."""

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
        self._keys = spec.keys
        self._progress = progress
        self._started = now()
        self._pid = os.getpid()
        self._nowait = wait.is_none
        self._contact = connect_timeout if wait.is_none else min(connect_timeout, wait.seconds)
        longest = connect_timeout + MUTEX_GRACE if wait.is_none else wait.seconds
        self._patience = Patience(self._started + longest, cancel)
        self.queue = Queue(etcd, spec.keys, spec.ticket_ttl, spec.slots)
        self._claims = Claims(etcd, spec, self.queue)
        self._was_queued = False
        self._mutex_since: float | None = None

    def run(self) -> Acquired:
        """Return the lock, held; `line.leave()` is the caller's then, when there is time for it.

        Raises `LockBusy`, `Frozen`, `LimitConflict`, `AcquireTimeout`, `EtcdUnavailable`, `AccessDenied`,
        `OutcomeUnknown`, `Cancelled`.
        """
        try:
            acquired = self._until_held()
            self.queue.stop_watching()
            return acquired
        except BaseException as ending:
            if self._pid != os.getpid():
                raise  # a child, forked by `progress`: claim and place are the parent's
            with Uninterrupted():
                late = self._last_word(ending)
            if late is None:
                raise
            return late

    def undo(self) -> None:
        """Take back what was taken, where the caller was called away before it had it in hand."""
        if self._pid == os.getpid() and self._claims.won is not None:
            self._claims.undo(self._claims.won, Patience.lasting(GIVE_UP))
            self._claims.drop_lease()

    def preview(self) -> Reentry | None:
        """Return the own hold that would be entered now, None where a free slot would be claimed; writes nothing.

        Raises as `run()` does for a caller who does not wait.
        """
        snapshot = self._read(self._patience.within(self._contact))
        reentry = self._reentry(snapshot)
        if reentry is None:
            state = snapshot.state(self._keys.name)
            if self._free_slot(snapshot, state) is None:
                raise refusals.busy(state, self._own(state))
            if snapshot.mutex_busy:
                raise refusals.mutex_busy(state)
        return reentry

    def _until_held(self) -> Acquired:
        snapshot = self._read(self._patience.within(self._contact))
        while True:
            try:
                found = self._step(snapshot)
            except (EtcdUnavailable, OutcomeUnknown, LeaseGone) as trouble:
                found = self._outlast(trouble, snapshot)
            if isinstance(found, Acquired):
                return found
            snapshot = found

    def _step(self, snapshot: Snapshot) -> Acquired | Snapshot:
        """Do what the view suggests; return the lock, or what is seen after it."""
        if self._claims.in_doubt:
            settled = self._claims.settle(self._call())
            if settled is not None:
                return settled
            self._claims.drop_lease()
            return self._read(self._call())
        if self.queue.ticket is not None and snapshot.ahead is None:
            # Deleted, run out, or made anew by somebody: whatever it was, the place is gone.
            self.queue.leave()
            return self._read(self._call())
        reentry = self._reentry(snapshot)
        if reentry is not None:
            return self._claims.enter(snapshot, reentry, self._call)
        state = snapshot.state(self._keys.name)
        slot = self._free_slot(snapshot, state)
        if slot is None:
            if self._nowait:
                raise refusals.busy(state, self._own(state))
            return self._wait(snapshot, state)
        if snapshot.mutex_busy:
            return self._wait_for_mutex(state) if self._nowait else self._wait(snapshot, state)
        return self._claims.take(snapshot, slot, self._call)

    def _reentry(self, snapshot: Snapshot) -> Reentry | None:
        """The hold of my owner's that I may enter. Raises the error for one that was named and cannot be entered."""
        if not self._spec.explicit or not (snapshot.holders or self._spec.named):
            return None
        from distlock_core.lock.reentry import find_reentry

        reentry = find_reentry(snapshot.holders, self._spec)
        if reentry is None and self._spec.named is not None:
            from distlock_core.lock.reentry_refusals import refuse_named

            raise refuse_named(snapshot.state(self._keys.name), self._spec)
        return reentry

    def _own(self, state: LockState) -> tuple[str, list[Hint]]:
        """Why the hold of my own owner is not entered, "" where it has none, and hints how it may be."""
        if not self._spec.explicit or not state.holders:
            return "", []
        from distlock_core.lock.reentry_refusals import why_not

        return why_not(state, self._spec)

    def _free_slot(self, snapshot: Snapshot, state: LockState) -> int | None:
        """The slot that may be claimed now, None when I have to wait. Raises `LimitConflict`."""
        conflict = refusals.other_limit(state, self._spec.slots)
        if conflict is not None:
            raise conflict
        return snapshot.free_slot(self._spec.slots) if snapshot.is_my_turn and snapshot.freeze is None else None

    # Waiting.

    def _wait(self, snapshot: Snapshot, state: LockState) -> Snapshot:
        seen: Snapshot | None = None
        if self.queue.ticket is None:
            circle = refusals.waits_for_itself(state, self._spec.inside)
            if circle is not None:
                raise circle
            self.queue.join(ticket_record(self._spec), self._call())
            self._was_queued = True
        else:
            self._report(snapshot)
            if not snapshot.ahead:
                self._claims.get_ready(self._call)
            seen = self.queue.wait(snapshot, self._claims.lease, self._patience, self._call())
        if self._patience.over():
            raise self._timeout(snapshot)
        return seen or self._read(self._call())

    def _wait_for_mutex(self, state: LockState) -> Snapshot:
        self._mutex_since = self._mutex_since or now()
        if now() - self._mutex_since > MUTEX_GRACE:
            raise refusals.mutex_busy(state)
        self._patience.pause(RETRY_PAUSE)
        return self._read(self._call())

    def _outlast(self, trouble: Exception, snapshot: Snapshot) -> Snapshot:
        """An outage, once this waiter is in the queue, costs patience and nothing else. Returns what is seen after it.

        Raises `AnotherCluster`, which is no outage.
        """
        while True:
            if not self._was_queued and isinstance(trouble, EtcdUnavailable):
                raise trouble
            if self._patience.over():
                raise self._timeout(snapshot, str(trouble)) from trouble
            if isinstance(trouble, AnotherCluster):
                raise trouble  # there is nothing to wait for
            self._report(snapshot, str(trouble))
            self._patience.pause(RETRY_PAUSE)
            self.queue.renew(self._call())
            try:
                return self._read(self._call())
            except EtcdUnavailable as still:
                trouble = still

    def _timeout(self, snapshot: Snapshot, away: str = "") -> AcquireTimeout:
        state = snapshot.state(self._keys.name)
        others = state._replace(waiting=state.waiting - (snapshot.ahead is not None))
        return refusals.timeout(others, now() - self._started, away, self._own(state))

    def _report(self, snapshot: Snapshot, away: str = "") -> None:
        if self._progress is not None:
            position = snapshot.waiting + 1 if snapshot.ahead is None else len(snapshot.ahead) + 1
            state = snapshot.state(self._keys.name)
            self._progress(Waiting(state, position, self._started, away, *self._own(state)))

    # The end.

    def _last_word(self, ending: BaseException) -> Acquired | None:
        """Leave nothing behind. Returns the lock all the same, if it came through at the last moment.

        All of it has `GIVE_UP` seconds together: who is called away, or has waited long enough, waits no longer.
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

    # Helpers.

    def _read(self, patience: Patience) -> Snapshot:
        ticket = self.queue.ticket
        return Snapshot.parse(self._keys, self._etcd.read(gets(self._keys, ticket), patience), ticket)

    def _call(self) -> Patience:
        """The patience for one call: in the queue, short enough for the ticket's renewal to follow in time."""
        ticket = self.queue.ticket
        return self._patience.within(self._contact if ticket is None else ticket.lease.ttl * CALL_IN_QUEUE)
