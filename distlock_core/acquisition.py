"""Acquisition: one attempt to get a lock. Read; claim when it is my turn; stand in line when it is not.

Whatever ends an attempt without the lock leaves nothing behind: no ticket, no lease, no claim that etcd could still
apply. Where that cannot be made sure, the attempt ends as `OutcomeUnknown`.
"""

from __future__ import annotations

from collections.abc import Callable

from distlock_core import refusal
from distlock_core.errors import (
    AcquireTimeout,
    AnotherCluster,
    Cancelled,
    DistlockError,
    EtcdUnavailable,
    OutcomeUnknown,
)
from distlock_core.etcd.api import Compare, Delete, KeyValue, LeaseGone, Put
from distlock_core.hold import NESTED, Entry, Held, Wish, claim_record, find_entry, reentry_record, ticket_record
from distlock_core.lease import GIVE_UP, Lease
from distlock_core.line import Line
from distlock_core.model import LockState, Record
from distlock_core.patience import FOREVER, RETRY_PAUSE, Patience, now
from distlock_core.release import Ending
from distlock_core.values import Value
from distlock_core.view import View, claim_conditions, gets, reentry_conditions, unsettled
from distlock_core.whoami import new_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.api import Etcd, Op
    from distlock_core.patience import Cancel

MUTEX_GRACE = 1.0  # seconds that a caller who does not wait gives a Go client to leave its mutex
CALL_IN_LINE = 0.3  # of the ticket's ttl; a call that hangs longer would cost the ticket its renewal


class Waiting(Value):
    """What a waiter may show. `place` counts from 1, `since` is on the `now()` clock, `away` is why etcd is silent."""

    state: LockState
    place: int
    since: float
    away: str = ""


class Claim(Value):
    """A claim on its way: what it was based on, and what it brings when it is applied."""

    view: View
    held: Held


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
        self._nowait = timeout == 0
        self._contact = connect_timeout if timeout <= 0 else min(connect_timeout, timeout)
        longest = connect_timeout + MUTEX_GRACE if self._nowait else timeout if timeout > 0 else FOREVER
        self._patience = Patience(self._started + longest, cancel)
        self._run = new_run()
        self.line = Line(etcd, wish.keys, wish.ticket_ttl)
        self._lease: Lease | None = None
        self._was_in_line = False
        self._doubt: Claim | None = None
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
            late = self._last_word(ending)
            if late is None:
                raise
            return late

    def preview(self) -> Entry | None:
        """Return the hold of mine that would be entered now, None where a free slot would be claimed; writes nothing.

        Raises as `run()` does for a caller who does not wait.
        """
        view = self._read(self._patience.within(self._contact))
        entry = find_entry(view, self._wish)
        if entry is None:
            state = view.state(self._keys.name)
            if self._free_slot(view, state) is None:
                raise refusal.busy(state)
            if view.mutex_busy:
                raise refusal.mutex_busy(state)
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
        if self._doubt is not None:
            settled = self._settle(self._call())
            if settled is not None:
                return settled
            self._drop_lease()
            return self._read(self._call())
        if self.line.ticket is not None and view.ahead is None:
            # Deleted, run out, or made anew by somebody: whatever it was, the place is gone.
            self.line.leave()
            return self._read(self._call())
        entry = find_entry(view, self._wish)
        if entry is not None:
            return self._enter(view, entry)
        state = view.state(self._keys.name)
        slot = self._free_slot(view, state)
        if slot is None:
            if self._nowait:
                raise refusal.busy(state)
            return self._wait(view, state)
        if view.mutex_busy:
            return self._wait_for_mutex(state) if self._nowait else self._wait(view, state)
        return self._claim(view, slot)

    def _free_slot(self, view: View, state: LockState) -> int | None:
        """The slot that may be claimed now, None when I have to wait. Raises `LimitConflict`."""
        conflict = refusal.other_limit(state, self._wish.slots)
        if conflict is not None:
            raise conflict
        return view.free_slot(self._wish.slots) if view.is_my_turn and view.freeze is None else None

    # Claims.

    def _claim(self, view: View, slot: int) -> Held | View:
        key, record, lease = self._keys.slot(slot), claim_record(self._wish, self._run), self._grant()
        then: list[Op] = [Put(key, record, lease)]
        if self.line.ticket is not None:
            then.append(Delete(self.line.ticket.key))
        conditions = claim_conditions(self._keys, view, self.line.ticket, slot, self._wish.slots)
        return self._commit(
            Claim(view, Held(KeyValue(key, record, 0, 0, lease), self._run, slot, lease=self._lease)), conditions, then
        )

    def _enter(self, view: View, entry: Entry) -> Held | View:
        holder, before = entry.holder, entry.before
        if entry.how == NESTED:
            # The run around me keeps its record, and with it its right to release: nothing is written.
            return Held(holder.kv, holder.record.run, holder.slot, NESTED)
        record, lease = reentry_record(self._wish, self._run, entry), self._grant()
        kv = KeyValue(holder.key, record, holder.token, 0, lease)
        held = Held(kv, self._run, holder.slot, entry.how, before, entry.before_lease, self._lease)
        conditions = reentry_conditions(self._keys, view, holder)
        return self._commit(Claim(view, held), conditions, [Put(holder.key, record, lease)])

    def _commit(self, claim: Claim, conditions: list[Compare], then: list[Op]) -> Held | View:
        self._doubt = claim
        reads = gets(self._keys, self.line.ticket)
        try:
            outcome = self._etcd.txn(conditions, then, reads, self._call())
        except (OutcomeUnknown, Cancelled):
            raise
        except (DistlockError, LeaseGone):
            self._doubt = None  # refused as it stands, or never sent: there is nothing to settle, and so to write
            raise
        self._doubt = None
        if not outcome.succeeded:
            self._drop_lease()
            return View.parse(self._keys, outcome, self.line.ticket)
        kv = claim.held.kv
        born = kv.create_revision or outcome.revision
        return claim.held._replace(kv=kv._replace(create_revision=born, mod_revision=outcome.revision))

    def _grant(self) -> int:
        """The lease that the hold will hang on, 0 for a persistent one. Its deadline counts from here."""
        if self._wish.ttl is None:
            return 0
        self._drop_lease()
        self._lease = Lease(self._etcd, self._wish.ttl, self._call(), self._wish.refresh)
        return self._lease.id

    def _drop_lease(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.give_up()

    def _settle(self, patience: Patience) -> Held | None:
        """Find out what became of a claim without a reply; one that was not applied is made void.

        Every claim demands that the lock's last end is as it was read. Here it is written again, unchanged: a claim
        that is still on its way (in a proxy, in a stopped member) can never be applied after that.
        """
        assert self._doubt is not None
        view, held = self._doubt
        again = Put(self._keys.last, view.last.value if view.last else Record(0, "", {"how": ""}).encode())
        reads = gets(self._keys, None)
        outcome = self._etcd.txn([unsettled(self._keys, view)], [again, *reads], reads, patience)
        self._doubt = None
        for holder in View.parse(self._keys, outcome, None).holders:
            if holder.record.run == self._run:
                return held._replace(kv=holder.kv)
        return None

    # Waiting.

    def _wait(self, view: View, state: LockState) -> View:
        circle = refusal.waits_for_itself(state, self._wish.inside)
        if circle is not None:
            raise circle
        if self.line.ticket is None:
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
            raise refusal.mutex_busy(state)
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
        return refusal.timeout(others, now() - self._started, away)

    def _report(self, view: View, away: str = "") -> None:
        if self._progress is not None:
            place = view.waiting + 1 if view.ahead is None else len(view.ahead) + 1
            self._progress(Waiting(view.state(self._keys.name), place, self._started, away))

    # The end.

    def _last_word(self, ending: BaseException) -> Held | None:
        """Leave nothing behind. Returns the lock all the same, if it came through at the last moment."""
        late = None
        try:
            held = self._resolve(ending)
            if held is not None and isinstance(ending, (AcquireTimeout, EtcdUnavailable)):
                late = held
            elif held is not None:
                self._undo(held)
            return late
        finally:
            if late is None:
                self._drop_lease()
            self.line.leave()

    def _resolve(self, ending: BaseException) -> Held | None:
        """Settle a claim in doubt: the lock if it was applied, None if it never will be. Raises `OutcomeUnknown`."""
        patience = Patience.lasting(GIVE_UP)
        while self._doubt is not None:
            try:
                return self._settle(patience)
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
            except DistlockError as error:
                raise refusal.unknown(self._keys.name, self._run, f"{ending}; {error}") from ending
        return None

    def _undo(self, held: Held) -> None:
        """The caller was called away while its claim went through: as it was before."""
        ended = Put(self._keys.last, Ending("released", self._wish.owner).record(held.kv))
        undo: list[Op] = [Delete(held.kv.key), ended]
        if held.before:
            undo = [Put(held.kv.key, held.before, held.before_lease)]
        patience = Patience.lasting(GIVE_UP)
        while True:
            try:
                self._etcd.txn([Compare("MOD", "EQUAL", held.kv.key, held.kv.mod_revision)], undo, [], patience)
                return
            except LeaseGone:
                undo = [Delete(held.kv.key), ended]  # what was there has run out meanwhile
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
            except DistlockError as error:
                raise refusal.unknown(self._keys.name, self._run, str(error)) from error

    # Helpers.

    def _read(self, patience: Patience) -> View:
        ticket = self.line.ticket
        return View.parse(self._keys, self._etcd.read(gets(self._keys, ticket), patience), ticket)

    def _call(self) -> Patience:
        """The patience for one call: in line, short enough for the ticket's renewal to follow in time."""
        ticket = self.line.ticket
        return self._patience.within(self._contact if ticket is None else ticket.lease.ttl * CALL_IN_LINE)
