"""Hold: one acquisition of a lock, or of several, while it lasts: monitoring, verification, changes.

Its end is in `ending`.
"""

from __future__ import annotations

import os

from distlock_core.base.deadline import FOREVER, Patience, now
from distlock_core.base.text import printable
from distlock_core.errors import DistlockError, NotHolder
from distlock_core.etcd.values import Get, KeyValue, LeaseGone
from distlock_core.hints import see
from distlock_core.lock.ending import Ending, held_keys
from distlock_core.lock.lease import GIVE_UP, drop_lease
from distlock_core.lock.loss_reasons import lost_error
from distlock_core.lock.release import UNEXPECTED, HeldKey
from distlock_core.lock.rewrite import amend, rehang
from distlock_core.lock.spec import NESTED, STEP, Acquired, LockSpec
from distlock_core.model.record import Record, token_of
from distlock_core.model.state import Holder
from distlock_core.model.wording import held_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.base.standby_thread import StandbyThread
    from distlock_core.errors import LockLost
    from distlock_core.etcd.client import Etcd
    from distlock_core.lock.beat import Beat
    from distlock_core.lock.hold_notifier import HoldNotifier
    from distlock_core.lock.lease import Lease
    from distlock_core.lock.loss_reasons import Loss
    from distlock_core.lock.queue import Queue
    from distlock_core.lock.session import Session


class Hold:
    """One hold of the locks of a `Lock`, which creates one for each acquisition, and does not use it after its end.

    The locks are changed and released in one transaction, and the loss of one of them is the loss of the hold. It ends
    by `release()`, `freeze()`, `leave_taken()` or `cool()`, each of which raises `LockLost` if it was lost before, and
    leaves it unchanged while etcd is unreachable; or by `give_up()` or `forget()`.

    It belongs to the process that created it. The copy in a forked child (`is_inherited`) is useless, because the
    child has neither the monitoring thread nor the connections to etcd.
    """

    def __init__(
        self,
        etcd: Etcd,
        spec: LockSpec,
        acquired: tuple[Acquired, ...],
        notifier: HoldNotifier,
        *,
        contact: float,
        on_lost: Callable[[Loss], None] | None,
        background: bool,
        queue: Queue | None = None,
        standby: StandbyThread | None = None,
    ) -> None:
        """`contact` limits a call to etcd, in seconds. `queue` still has to be left.

        `standby` is the monitoring thread, which is closed with the hold.
        """
        self._etcd = etcd
        self._owner = spec.owner
        self._is_step = spec.kind == "lock"
        self.is_explicit, self._state_dir = spec.explicit, spec.state_dir
        self.acquired = acquired
        self.is_over = False
        self.is_ending = False  # an attempt to end it has begun
        self._hung = spec.ttl, spec.refresh
        self._notifier = notifier
        self._contact = contact
        self._on_lost = on_lost
        self._background = background
        self._queue = queue
        self._standby = standby
        self.pid = os.getpid()
        self._session: Session | None = None
        self._in_doubt: list[bytes] = []  # releases that were sent, but not answered
        self._ended: set[bytes] = set()  # keys that an earlier attempt to end the hold has ended

    @property
    def session(self) -> Session:
        """The session that monitors the hold, started or not."""
        if self._session is None:
            from distlock_core.lock.session import Session

            held = held_keys(self.acquired, self._owner if self._is_step else None)
            self._session = Session(self._etcd, held, self.lease, self._on_lost, self._standby, self._go_on)
            self._session.on_change = self._announce
        return self._session

    @property
    def lease(self) -> Lease | None:
        """The lease of all its keys, None if it is persistent."""
        return self.acquired[0].lease

    @property
    def _beat(self) -> Beat | None:
        return self.acquired[0].beat

    def _go_on(self, patience: Patience) -> float:
        """Give the sign of life if it is due. Returns the time of the next one, on the `now()` clock."""
        beat = self._beat
        if beat is None or beat.is_over:
            return FOREVER
        beat.go_on([(one.keys, one.kv) for one in self.acquired], patience)
        return beat.due_at

    @property
    def cooldown(self) -> int | None:
        """Seconds for which it is to stay taken after a success, None for a release; of several locks the longest."""
        return max((one.cooldown for one in self.acquired if one.cooldown is not None), default=None)

    @property
    def is_sound(self) -> bool:
        """True while it is held, as far as this process knows; False past its lease's deadline."""
        if self.is_inherited or not self._is_open:
            return False
        # Check the clock too: the monitoring thread may be stopped or starved.
        return self.lease is None or now() < self.lease.deadline

    @property
    def is_inherited(self) -> bool:
        """True in a forked child of the process that acquired it."""
        return self.pid != os.getpid()

    def look_after(self) -> None:
        """Report the acquisition, and start monitoring in the background if requested."""
        self._notifier.report_acquired()
        needs_it = self._hung[0] is not None or self._beat is not None
        if (self._background and needs_it) or self._notifier.has_readers:
            self.session.start()

    def verify(self, cancel: Cancel | None = None) -> bool:
        """True if it is still held, by a linearizable read."""
        patience = Patience.lasting(self._contact, cancel)
        ranges = self._etcd.read([Get(one.kv.key) for one in self.acquired], patience).ranges()
        return all(found.kvs and one.owns(found.kvs[0]) for one, found in zip(self.acquired, ranges))

    # Changes.

    def renew(self, ttl: int | None, refresh: float | None, cancel: Cancel | None = None) -> bool:
        """Renew it now, with a new lease if ttl or refresh have changed. False: it is lost."""
        patience = Patience.lasting(self._contact, cancel)
        lease = self.lease
        if not self._is_nested and self._hung != (ttl, refresh):
            return self._is_open and self._hang(ttl, refresh, patience)
        if lease is not None and not lease.gone:
            lease.renew(patience)
        gone = lease is not None and lease.gone
        return self._is_open and not gone and self.verify()

    def _hang(self, ttl: int | None, refresh: float | None, patience: Patience) -> bool:
        """Move its keys to a new lease with this ttl; the tokens stay. False: a key belongs to another hold."""
        from distlock_core.lock.session import move

        session = self.session
        was_running = session.is_running
        session.stop(for_now=True)
        try:
            moved = rehang(self._etcd, held_keys(self.acquired), self.lease, ttl, refresh, patience)
            if moved is not None:
                found, lease = moved
                self.acquired = tuple(one._replace(kv=kv, lease=lease) for one, kv in zip(self.acquired, found))
                self._hung = ttl, refresh
                move(session, found[0].mod_revision, lease)
                self.look_after()
        finally:
            if was_running:
                session.start()
        return moved is not None

    def amend(self, change: Callable[[Record], Record], cancel: Cancel | None = None) -> None:
        """Change its record. Raises `NotHolder`, `LockLost`, `OutcomeUnknown`, and as `Etcd` does."""
        patience = Patience.lasting(self._contact, cancel)
        seen: dict[bytes, KeyValue] = {}

        def noting(held: HeldKey) -> HeldKey:
            def is_own(kv: KeyValue) -> bool:
                seen[kv.key] = kv
                return held.is_own(kv)

            return held._replace(is_own=is_own)

        found: list[KeyValue | None]
        try:
            found = amend(self._etcd, list(map(noting, held_keys(self.acquired))), change, patience)
        except LeaseGone:
            found = [None] * len(self.acquired)
        lost = [one for one, kv in zip(self.acquired, found) if kv is None]
        self.acquired = tuple(one if kv is None else one._replace(kv=kv) for one, kv in zip(self.acquired, found))
        for one in lost:
            last_seen = seen.get(one.kv.key)
            if last_seen is not None and token_of(last_seen) == one.token:
                # Still this hold, but entered by a run of the same owner, or left taken by an operator.
                holder, name = Holder.parse(one.keys, last_seen), one.keys.name
                raise NotHolder(f"{printable(name)} is held by {held_by(holder)} now", hints=[see(name)])
        if lost:
            raise self.loss_error(lost)

    def note(self, details: Mapping[str, Any]) -> None:
        """Add details to its record. Raises as `amend`."""
        self.amend(lambda record: record._replace(details={**record.details, **details}))

    # The end.

    @property
    def stays(self) -> bool:
        """True if its end leaves the lock held, because it re-entered a hold that continues."""
        return all(one.how in (NESTED, STEP) for one in self.acquired)

    def release(self, patience: Patience) -> None:
        """Delete its key; a re-entered hold is left held, in its previous state."""
        self._end(
            lambda ending: ending.release(patience), patience, stays=any(one.how == STEP for one in self.acquired)
        )

    def leave_taken(self, reason: str, patience: Patience) -> None:
        """Leave the lock taken, persistent, until an operator unlocks it."""
        self._end(lambda ending: ending.keep(reason, patience), patience, stays=True)

    def freeze(self, record: bytes, patience: Patience) -> None:
        """Release the locks, and freeze each of them with this `freeze_record()`."""
        if self._is_nested:
            self._ending().freeze(record, patience)
        self._end(lambda ending: ending.freeze(record, patience), patience, stays=True)

    def cool(self, seconds: int, patience: Patience) -> None:
        """Leave the lock taken for this number of seconds."""
        self._end(lambda ending: ending.cool(seconds, patience), patience, stays=True)

    def give_up(self) -> None:
        """Give up a lost hold: revoke its lease, and leave its key to the new holder. Of several, release the rest."""
        self.forget()
        if not self.is_inherited:
            if len(self.acquired) > 1 and not self._is_nested:
                try:
                    self._ending().release(Patience.lasting(GIVE_UP))
                except (DistlockError, *UNEXPECTED):
                    pass  # those under a lease expire with it
            self._leave_the_rest()
            self._drop_note()

    def forget(self) -> None:
        """Stop monitoring a hold that was handed over or lost, and leave it unchanged in etcd."""
        self.is_over = True
        self._stop_looking()

    def loss_error(self, lost: Sequence[Acquired] = ()) -> LockLost:
        """The `LockLost` error, with the reason of the loss. `lost`: the locks concerned, if that is known."""
        loss = self._session.loss if self._session is not None else None
        some = lost if lost and loss is None else self.acquired
        return lost_error([one.keys.name for one in some], loss)

    def _end(self, how: Callable[[Ending], Sequence[Acquired]], patience: Patience, *, stays: bool) -> None:
        """End the hold with `how`, which returns the locks that were lost before, and clean up.

        If a lock `stays` taken, but that could not be written, its lease is not revoked: that would free the lock.
        """
        if self._session is not None:
            self._session.stop()
        try:
            lost: Sequence[Acquired] = ()
            if not self._is_nested:
                lost = how(self._ending())
            elif not self._outer_hold_exists(patience):
                lost = self.acquired
            self.is_over = True
            if lost:
                raise self.loss_error(lost)
        finally:
            self._session = None
            self._stop_looking()  # after the release, for which others are waiting
            self._leave_the_rest(with_lease=self.is_over or not stays)
            if self.is_over:
                self._drop_note()
                self._notifier.report_released()

    def _ending(self) -> Ending:
        return Ending(self._etcd, self.acquired, self._owner, self._in_doubt, self._ended)

    def _outer_hold_exists(self, patience: Patience) -> bool:
        """True if the outer hold still exists, and if that is unknown: then the outer hold's end reports its loss."""
        try:
            return self.verify(patience.cancel)
        except (DistlockError, *UNEXPECTED):
            return True

    def _stop_looking(self) -> None:
        if self._session is not None:
            self._session.stop()
        standby, self._standby = self._standby, None
        if standby is not None:
            standby.close()

    def _drop_note(self) -> None:
        """Remove this machine's note of the acquisition, which is no longer needed."""
        if self.is_explicit and not self._is_nested:
            from distlock_core.process.run_notes import forget

            forget(self._state_dir, self.acquired[0].run)

    def _leave_the_rest(self, *, with_lease: bool = True) -> None:
        patience = Patience.lasting(GIVE_UP)  # for all of it
        if self._queue is not None:
            self._queue.leave(patience)
            self._queue = None
        if with_lease and self.lease is not None:
            self.lease.give_up(patience)
        if self.is_over and self._beat is not None:
            self._beat.end(patience)
        for lease in {one.stale_lease for one in self.acquired if one.stale_lease}:
            entered = [one for one in self.acquired if one.stale_lease == lease]
            # The dead run may have left other locks whose signs have the same lease: they must go on to say so.
            if len(entered) >= max(Record.parse(one.before).number("together") or 1 for one in entered):
                drop_lease(self._etcd, lease, patience)

    @property
    def _is_nested(self) -> bool:
        """True if it only uses the hold of a command around this process: then it is not changed or released."""
        return all(one.how == NESTED for one in self.acquired)

    @property
    def _is_open(self) -> bool:
        return not self.is_over and (self._session is None or self._session.loss is None)

    def _announce(self) -> None:
        if self._session is not None and self._session.loss is not None:
            self._notifier.report_lost()
