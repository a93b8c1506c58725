"""Acquisition: one attempt to get a lock. Read; claim when it is my turn; stand in line when it is not.

Whatever ends an attempt without the lock leaves nothing behind: no ticket, no lease, no claim that etcd could still
apply. Where that cannot be made sure, the attempt ends as `OutcomeUnknown`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from distlock_core.base.deadline import FOREVER, RETRY_PAUSE, Patience, now
from distlock_core.base.finish import Finish
from distlock_core.base.value import Value
from distlock_core.errors import AcquireTimeout, AnotherCluster, EtcdUnavailable, OutcomeUnknown
from distlock_core.etcd.values import LeaseGone
from distlock_core.lock import refusals
from distlock_core.lock.claim import Claims
from distlock_core.lock.lease import GIVE_UP
from distlock_core.lock.queue import Line
from distlock_core.lock.snapshot import View, gets
from distlock_core.lock.spec import Held, Wish, ticket_record
from distlock_core.model.state import LockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.lock.reentry import Entry

MUTEX_GRACE = 1.0  # seconds that a caller who does not wait gives a Go client to leave its mutex
CALL_IN_LINE = 0.3  # of the ticket's ttl; a call that hangs longer would cost the ticket its renewal


class Waiting(Value):
    """What a waiter may show. `place` counts from 1, `since` is on the `now()` clock, `away` is why etcd is silent.

    `own` says why a hold of the waiter's own owner is not entered again, where there is one.
    """

    state: LockState
    place: int
    since: float
    away: str = ""
    own: str = ""


class Acquisition:
    """One attempt. `timeout` is in seconds: 0 does not wait for others, a negative one waits for ever."""

    def __init__(
        self,
        etcd: Etcd,
        wish: Wish,
        timeout: float,
        connect_timeout: float,
        cancel: Cancel | None = None,
        progress: Callable[[Waiting], None] | None = None,
    ) -> None:
        self._etcd = etcd
        self._wish = wish
        self._keys = wish.keys
        self._progress = progress
        self._started = now()
        self._pid = os.getpid()
        self._nowait = timeout == 0
        self._contact = connect_timeout if timeout <= 0 else min(connect_timeout, timeout)
        longest = connect_timeout + MUTEX_GRACE if self._nowait else timeout if timeout > 0 else FOREVER
        self._patience = Patience(self._started + longest, cancel)
        self.line = Line(etcd, wish.keys, wish.ticket_ttl)
        self._claims = Claims(etcd, wish, self.line)
        self._was_in_line = False
        self._mutex_since: float | None = None

    def run(self) -> Held:
        """Return the lock, held; `line.leave()` is the caller's then, when there is time for it.

        Raises `LockBusy`, `Frozen`, `LimitConflict`, `AcquireTimeout`, `EtcdUnavailable`, `AccessDenied`,
        `OutcomeUnknown`, `Cancelled`.
        """
        try:
            held = self._until_held()
            self.line.stop_watching()
            return held
        except BaseException as ending:
            if self._pid != os.getpid():
                raise  # a child, forked by `progress`: claim and place are the parent's
            with Finish():
                late = self._last_word(ending)
            if late is None:
                raise
            return late

    def undo(self) -> None:
        """Take back what was taken, where the caller was called away before it had it in hand."""
        if self._pid == os.getpid() and self._claims.won is not None:
            self._claims.undo(self._claims.won, Patience.lasting(GIVE_UP))
            self._claims.drop_lease()

    def preview(self) -> Entry | None:
        """Return the hold of mine that would be entered now, None where a free slot would be claimed; writes nothing.

        Raises as `run()` does for a caller who does not wait.
        """
        view = self._read(self._patience.within(self._contact))
        entry = self._entry(view)
        if entry is None:
            state = view.state(self._keys.name)
            if self._free_slot(view, state) is None:
                raise refusals.busy(state, self._own(state))
            if view.mutex_busy:
                raise refusals.mutex_busy(state)
        return entry

    def _until_held(self) -> Held:
        view = self._read(self._patience.within(self._contact))
        while True:
            try:
                found = self._step(view)
            except (EtcdUnavailable, OutcomeUnknown, LeaseGone) as trouble:
                found = self._outlast(trouble, view)
            if isinstance(found, Held):
                return found
            view = found

    def _step(self, view: View) -> Held | View:
        """Do what the view suggests; return the lock, or what is seen after it."""
        if self._claims.in_doubt:
            settled = self._claims.settle(self._call())
            if settled is not None:
                return settled
            self._claims.drop_lease()
            return self._read(self._call())
        if self.line.ticket is not None and view.ahead is None:
            # Deleted, run out, or made anew by somebody: whatever it was, the place is gone.
            self.line.leave()
            return self._read(self._call())
        entry = self._entry(view)
        if entry is not None:
            return self._claims.enter(view, entry, self._call)
        state = view.state(self._keys.name)
        slot = self._free_slot(view, state)
        if slot is None:
            if self._nowait:
                raise refusals.busy(state, self._own(state))
            return self._wait(view, state)
        if view.mutex_busy:
            return self._wait_for_mutex(state) if self._nowait else self._wait(view, state)
        return self._claims.take(view, slot, self._call)

    def _entry(self, view: View) -> Entry | None:
        """The hold of my owner's that I may enter. Raises the error for one that was named and cannot be entered."""
        if not self._wish.explicit or not (view.holders or self._wish.named):
            return None
        from distlock_core.lock.reentry import find_entry, refuse_named

        entry = find_entry(view.holders, self._wish)
        if entry is None and self._wish.named is not None:
            raise refuse_named(view.state(self._keys.name), self._wish)
        return entry

    def _own(self, state: LockState) -> str:
        """Why the hold of my own owner is not entered, "" where it has none."""
        if not self._wish.explicit or not state.holders:
            return ""
        from distlock_core.lock.reentry import why_not

        return why_not(state, self._wish)

    def _free_slot(self, view: View, state: LockState) -> int | None:
        """The slot that may be claimed now, None when I have to wait. Raises `LimitConflict`."""
        conflict = refusals.other_limit(state, self._wish.slots)
        if conflict is not None:
            raise conflict
        return view.free_slot(self._wish.slots) if view.is_my_turn and view.freeze is None else None

    # Waiting.

    def _wait(self, view: View, state: LockState) -> View:
        if self.line.ticket is None:
            circle = refusals.waits_for_itself(state, self._wish.inside)
            if circle is not None:
                raise circle
            self.line.join(ticket_record(self._wish), self._call())
            self._was_in_line = True
        else:
            self._report(view)
            self.line.wait(view, self._patience, self._call())
        if self._patience.over():
            raise self._timeout(view)
        return self._read(self._call())

    def _wait_for_mutex(self, state: LockState) -> View:
        self._mutex_since = self._mutex_since or now()
        if now() - self._mutex_since > MUTEX_GRACE:
            raise refusals.mutex_busy(state)
        self._patience.pause(RETRY_PAUSE)
        return self._read(self._call())

    def _outlast(self, trouble: Exception, view: View) -> View:
        """An outage, once I am in line, costs patience and nothing else. Returns what is seen after it.

        Raises `AnotherCluster`, which is no outage.
        """
        while True:
            if not self._was_in_line and isinstance(trouble, EtcdUnavailable):
                raise trouble
            if self._patience.over():
                raise self._timeout(view, str(trouble)) from trouble
            if isinstance(trouble, AnotherCluster):
                raise trouble  # there is nothing to wait for
            self._report(view, str(trouble))
            self._patience.pause(RETRY_PAUSE)
            self.line.renew(self._call())
            try:
                return self._read(self._call())
            except EtcdUnavailable as still:
                trouble = still

    def _timeout(self, view: View, away: str = "") -> AcquireTimeout:
        state = view.state(self._keys.name)
        others = state._replace(waiting=state.waiting - (view.ahead is not None))
        return refusals.timeout(others, now() - self._started, away, self._own(state))

    def _report(self, view: View, away: str = "") -> None:
        if self._progress is not None:
            place = view.waiting + 1 if view.ahead is None else len(view.ahead) + 1
            state = view.state(self._keys.name)
            self._progress(Waiting(state, place, self._started, away, self._own(state)))

    # The end.

    def _last_word(self, ending: BaseException) -> Held | None:
        """Leave nothing behind. Returns the lock all the same, if it came through at the last moment.

        All of it has `GIVE_UP` seconds together: who is called away, or has waited long enough, waits no longer.
        """
        late = None
        patience = Patience.lasting(GIVE_UP)
        try:
            held = self._claims.resolve(ending, patience) or self._claims.won
            if held is not None and isinstance(ending, (AcquireTimeout, EtcdUnavailable)):
                late = held
            elif held is not None:
                self._claims.undo(held, patience)
            return late
        finally:
            if late is None:
                self._claims.drop_lease(patience)
                if not self._claims.in_doubt:
                    self._claims.forget()
            self.line.leave(patience)

    # Helpers.

    def _read(self, patience: Patience) -> View:
        ticket = self.line.ticket
        return View.parse(self._keys, self._etcd.read(gets(self._keys, ticket), patience), ticket)

    def _call(self) -> Patience:
        """The patience for one call: in line, short enough for the ticket's renewal to follow in time."""
        ticket = self.line.ticket
        return self._patience.within(self._contact if ticket is None else ticket.lease.ttl * CALL_IN_LINE)
