"""Acquisition: one attempt to acquire a lock: read it, claim it if it is free and no one is ahead, else queue.

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

MUTEX_GRACE = 1.0  # seconds to wait for a Go client to leave its mutex, even with a timeout of 0
CALL_IN_QUEUE = 0.3  # longest call, as a fraction of the ticket's ttl: a longer one would delay the ticket's renewal


class Waiting(Value):
    """The progress of a wait. `position` in the queue counts from 1, `since` is on the `now()` clock.

    `away` says why etcd does not answer. If the lock is held by the waiter's owner, `own` says why it cannot be
    re-entered, and `hints` how it can.
    """

    state: LockState
    position: int
    since: float
    away: str = ""
    own: str = ""
    hints: Sequence[Hint] = ()


class Acquisition:
    """One attempt to acquire a lock, which waits for other holders as long as `wait` allows."""

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
        """Return the acquired lock. The caller then calls `queue.leave()`, as soon as it has time.

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

    def preview(self) -> Reentry | None:
        """Return the hold that would be re-entered now, or None if a free slot would be claimed. Writes nothing.

        Raises as `run()` does without waiting.
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
        """Take the next step for this snapshot; return the lock, or the next snapshot."""
        if self._claims.in_doubt:
            settled = self._claims.settle(self._call())
            if settled is not None:
                return settled
            self._claims.drop_lease()
            return self._read(self._call())
        if self.queue.ticket is not None and snapshot.ahead is None:
            # The ticket was deleted, has expired, or was created anew by another client: the place is lost.
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
        """The hold of the same owner that can be re-entered. Raises if the hold named by its token cannot."""
        if not self._spec.explicit or not (snapshot.holders or self._spec.named):
            return None
        from distlock_core.lock.reentry import find_reentry

        reentry = find_reentry(snapshot.holders, self._spec)
        if reentry is None and self._spec.named is not None:
            from distlock_core.lock.reentry_refusals import refuse_named

            raise refuse_named(snapshot.state(self._keys.name), self._spec)
        return reentry

    def _own(self, state: LockState) -> tuple[str, list[Hint]]:
        """Why the hold of the same owner cannot be re-entered, with hints how it can; "" if there is no such hold."""
        if not self._spec.explicit or not state.holders:
            return "", []
        from distlock_core.lock.reentry_refusals import why_not

        return why_not(state, self._spec)

    def _free_slot(self, snapshot: Snapshot, state: LockState) -> int | None:
        """The slot that can be claimed now, None if this attempt has to wait. Raises `LimitConflict`."""
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
        """Wait out an outage of etcd, once this waiter has queued; return the next snapshot.

        Raises the error at once if it has not queued yet, and `AnotherCluster`, which is not an outage.
        """
        while True:
            if not self._was_queued and isinstance(trouble, EtcdUnavailable):
                raise trouble
            if self._patience.over():
                raise self._timeout(snapshot, str(trouble)) from trouble
            if isinstance(trouble, AnotherCluster):
                raise trouble  # waiting cannot help
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
        """Clean up after a failed attempt. Returns the lock if the claim succeeded at the last moment.

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

    # Helpers.

    def _read(self, patience: Patience) -> Snapshot:
        ticket = self.queue.ticket
        return Snapshot.parse(self._keys, self._etcd.read(gets(self._keys, ticket), patience), ticket)

    def _call(self) -> Patience:
        """The patience for one call; in the queue, short enough to renew the ticket in time."""
        ticket = self.queue.ticket
        return self._patience.within(self._contact if ticket is None else ticket.lease.ttl * CALL_IN_QUEUE)
