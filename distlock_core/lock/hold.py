"""Hold: one acquisition of a lock, from its acquisition to its end: looked after, verified, changed, released."""

from __future__ import annotations

import os

from distlock_core.base.deadline import Backoff, Patience, now
from distlock_core.base.text import printable
from distlock_core.errors import (
    AccessDenied,
    AnotherCluster,
    Cancelled,
    ConfigError,
    DistlockError,
    EtcdUnavailable,
    LockLost,
    NoSpace,
    NotHolder,
    OutcomeUnknown,
)
from distlock_core.etcd.values import Get, KeyValue, LeaseGone, Put
from distlock_core.hints import see
from distlock_core.lock.lease import GIVE_UP, Lease
from distlock_core.lock.release import UNEXPECTED, release_key
from distlock_core.lock.rewrite import amend, cool_down, leave_taken, rehang, rewrite
from distlock_core.lock.spec import NESTED, STEP, Acquired, LockSpec
from distlock_core.model.record import HELD, KEPT, EndNote, Record, token_of
from distlock_core.model.state import Holder
from distlock_core.model.ttl import longest_call
from distlock_core.model.wording import held_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.base.standby_thread import StandbyThread
    from distlock_core.etcd.client import Etcd
    from distlock_core.events.hold_notifier import HoldNotifier
    from distlock_core.lock.monitor import Loss, Session
    from distlock_core.lock.queue import Queue


SHORTEST_STEP = 0.5  # seconds that one try to leave a leased lock taken may take, before its lease is looked after


class Hold:
    """One hold of one lock. `Lock` makes one at each acquisition, and asks nothing of it after its end.

    It ends by `release()`, `leave_taken()` or `cool()`, each of which raises `LockLost` when it was lost before, and
    leaves it as it is when etcd is away; or by `give_up()` or `forget()`.

    It belongs to the process that it was made in. A forked child has a copy (`is_inherited`), which is good for
    nothing: neither the thread that looks after it nor the connections to etcd are the child's.
    """

    def __init__(
        self,
        etcd: Etcd,
        spec: LockSpec,
        acquired: Acquired,
        notifier: HoldNotifier,
        *,
        contact: float,
        on_lost: Callable[[Loss], None] | None,
        background: bool,
        queue: Queue | None = None,
        standby: StandbyThread | None = None,
    ) -> None:
        """`contact` (seconds) bounds what is asked of etcd; `queue` is the place in it that I have still to leave.

        `standby`: the thread that looks after it; it is closed with the hold.
        """
        self._etcd = etcd
        self._keys = spec.keys
        self._owner = spec.owner
        self._is_step = spec.kind == "lock"
        self.is_explicit, self._state_dir = spec.explicit, spec.state_dir
        self.acquired = acquired
        self.is_over = False
        self.is_ending = False  # its end has begun, whatever comes of it
        self._hung = spec.ttl, spec.refresh
        self._notifier = notifier
        self._contact = contact
        self._on_lost = on_lost
        self._background = background
        self._queue = queue
        self._standby = standby
        self.pid = os.getpid()
        self._session: Session | None = None
        self._in_doubt: list[bytes] = []  # releases that were sent, and not answered

    @property
    def session(self) -> Session:
        """What looks after it, whether that was started or not."""
        if self._session is None:
            from distlock_core.lock.monitor import Session

            is_mine = self._is_mine_or_my_guests if self._is_step else self._is_mine
            self._session = Session(
                self._etcd, self._keys, self.acquired.kv, is_mine, self.acquired.lease, self._on_lost, self._standby
            )
            self._session.on_change = self._announce
        return self._session

    @property
    def is_sound(self) -> bool:
        """True while it is held, as far as this process knows. Past its lease's deadline nobody does."""
        if self.is_inherited or not self._is_open:
            return False
        # The clock too: whoever looks after it may be stopped, or not get to run.
        return self.acquired.lease is None or now() < self.acquired.lease.deadline

    @property
    def is_inherited(self) -> bool:
        """True in a forked child of the process that took it."""
        return self.pid != os.getpid()

    def look_after(self) -> None:
        """Report it as acquired, and renew it in the background, if that is wanted."""
        self._notifier.report_acquired()
        if (self._background and self._hung[0] is not None) or self._notifier.has_readers:
            self.session.start()

    def verify(self, cancel: Cancel | None = None) -> bool:
        """True if it is still held, by a linearizable read."""
        patience = Patience.lasting(self._contact, cancel)
        found = self._etcd.read([Get(self.acquired.kv.key)], patience).ranges()[0].kvs
        return bool(found) and self._is_mine(found[0])

    # Changes.

    def renew(self, ttl: int | None, refresh: float | None, cancel: Cancel | None = None) -> bool:
        """Renew it now, on a new lease if the ttl or the refresh is another than it has. False: it is lost."""
        patience = Patience.lasting(self._contact, cancel)
        acquired = self.acquired
        if acquired.how != NESTED and self._hung != (ttl, refresh):
            return self._is_open and self._hang(ttl, refresh, patience)
        if acquired.lease is not None and not acquired.lease.gone:
            acquired.lease.renew(patience)
        gone = acquired.lease is not None and acquired.lease.gone
        return self._is_open and not gone and self.verify()

    def _hang(self, ttl: int | None, refresh: float | None, patience: Patience) -> bool:
        """Put its key on a lease of this ttl; its token stays. False: it is another's."""
        from distlock_core.lock.monitor import move

        session = self.session
        was_running = session.is_running
        session.stop(for_now=True)
        try:
            moved = rehang(self._etcd, self.acquired, self._is_mine, ttl, refresh, patience)
            if moved is not None:
                self.acquired = moved
                self._hung = ttl, refresh
                move(session, moved.kv, moved.lease)
                self.look_after()
        finally:
            if was_running:
                session.start()
        return moved is not None

    def amend(self, change: Callable[[Record], Record], cancel: Cancel | None = None) -> None:
        """Change its record. Raises `NotHolder`, `LockLost`, `OutcomeUnknown`, and as `Etcd` does."""
        patience = Patience.lasting(self._contact, cancel)
        seen: list[KeyValue] = []

        def is_mine(kv: KeyValue) -> bool:
            seen.append(kv)
            return self._is_mine(kv)

        try:
            kv = amend(self._etcd, self.acquired.kv, is_mine, change, patience)
        except LeaseGone:
            kv = None
        if kv is None:
            if seen and token_of(seen[-1]) == self.acquired.token:
                # Still this hold, but entered by a run of its own owner, or left taken by a person.
                holder, name = Holder.parse(self._keys, seen[-1]), self._keys.name
                raise NotHolder(f"{printable(name)} is held by {held_by(holder)} now", hints=[see(name)])
            raise self.loss_error()
        self.acquired = self.acquired._replace(kv=kv)

    def note(self, details: Mapping[str, Any]) -> None:
        """Add to its record. Raises as `amend`."""
        self.amend(lambda record: record._replace(details={**record.details, **details}))

    # The end.

    @property
    def stays(self) -> bool:
        """True when its end leaves the lock held: it was entered again, and what it was entered in goes on."""
        return self.acquired.how in (NESTED, STEP)

    def release(self, patience: Patience) -> None:
        """Delete its key; one that was entered again is left held, as it was found."""
        self._end(self._delete, patience, stays=self.acquired.how == STEP)

    def leave_taken(self, reason: str, patience: Patience) -> None:
        """Leave it taken, persistent, until a person unlocks it."""
        changes = {"state": KEPT, "reason": reason}
        self._end(
            lambda kv, patience: leave_taken(self._etcd, kv, self._is_mine, changes, patience), patience, stays=True
        )

    def cool(self, seconds: int, patience: Patience) -> None:
        """Leave it taken for so many seconds."""
        leases: list[Lease] = []

        def cool(kv: KeyValue, patience: Patience) -> bool:
            if not leases or leases[0].deadline < now():
                leases[:] = [Lease(self._etcd, seconds, patience)]
            return cool_down(self._etcd, self._keys, kv, self._is_mine, leases[0], self._owner, patience)

        self._end(cool, patience, stays=True)

    def give_up(self) -> None:
        """It is lost: end its lease, and leave its key to whoever has it now."""
        self.forget()
        if not self.is_inherited:
            self._leave_the_rest()
            self._drop_note()

    def forget(self) -> None:
        """It is another process's now, or lost: look after it no more, and leave it as it is in etcd."""
        self.is_over = True
        self._stop_looking()

    def loss_error(self) -> LockLost:
        """The error that says how it was lost."""
        loss = self._session.loss if self._session is not None else None
        why = loss.why if loss is not None else "its key was deleted, or belongs to another hold"
        return LockLost(f"{printable(self._keys.name)} was lost: {why}", hints=[see(self._keys.name)])

    def _end(self, how: Callable[[KeyValue, Patience], bool], patience: Patience, *, stays: bool) -> None:
        """End it in one way or another, and leave nothing behind.

        Where the lock `stays` taken, and that cannot be written, its lease is left to run: revoked, it would free it.
        """
        if self._session is not None:
            self._session.stop()
        try:
            nested = self.acquired.how == NESTED
            done = self._is_still_around_me(patience) if nested else self._do(how, patience, stays)
            self.is_over = True
            if not done:
                raise self.loss_error()
        finally:
            self._session = None
            self._stop_looking()  # its thread ends after the release: others wait for that
            self._leave_the_rest(with_lease=self.is_over or not stays)
            if self.is_over:
                self._drop_note()
                self._notifier.report_released()

    def _do(self, how: Callable[[KeyValue, Patience], bool], patience: Patience, stays: bool) -> bool:
        """Do it, as soon as that can be done. Raises what stands in the way at the end of the patience."""
        lease = self.acquired.lease if stays else None
        pauses = Backoff()
        trouble: Exception | None = None
        while True:
            # A lock that stays is renewed meanwhile.
            step = patience if lease is None else patience.within(max(longest_call(lease.ttl), SHORTEST_STEP))
            try:
                return how(self.acquired.kv, step)
            except (AccessDenied, AnotherCluster, Cancelled, ConfigError, OutcomeUnknown):
                raise
            except NoSpace as full:
                if not stays and self._revoke(step):
                    return True
                trouble = full
            except (EtcdUnavailable, LeaseGone, *UNEXPECTED) as away:
                # The last try may have had no time left: what etcd answered before that tells more.
                if not (isinstance(trouble, NoSpace) and patience.over()):
                    trouble = away
            if lease is not None and not lease.gone and not patience.over():
                lease.renew_if_due(step)
            patience.pause(pauses.next())
            if patience.over():
                if isinstance(trouble, DistlockError):
                    raise trouble
                raise EtcdUnavailable(f"cannot send requests to etcd: {trouble or type(trouble).__name__}") from trouble

    def _revoke(self, patience: Patience) -> bool:
        """End a leased hold that cannot be deleted in any other way. False: it has no lease."""
        if self.acquired.lease is None:
            return False
        self.acquired.lease.revoke(patience)
        return True

    def _is_still_around_me(self, patience: Patience) -> bool:
        """Ask whether the hold that this one is nested in is there. Where nobody can tell, its own end will."""
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

    def _delete(self, kv: KeyValue, patience: Patience) -> bool:
        if self.acquired.how == STEP:

            def step(there: KeyValue) -> Put:
                # As the run's record has it by now: what was changed inside stays.
                inner = Record.parse(there.value).text("step").encode("utf-8", "backslashreplace")
                return Put(there.key, inner or self.acquired.before, self.acquired.before_lease)

            try:
                return rewrite(self._etcd, kv, self._is_mine, step, patience) is not None
            except LeaseGone:
                pass  # the step was bound to a process that has ended meanwhile: so it ends with me
        ending = EndNote("released", self._owner)
        return release_key(self._etcd, self._keys, kv, self._is_mine, ending, patience, self._in_doubt)

    def _drop_note(self) -> None:
        """It needs no proof any more that this machine has acquired it."""
        if self.is_explicit and self.acquired.how != NESTED:
            from distlock_core.process.run_notes import forget

            forget(self._state_dir, self.acquired.run)

    def _leave_the_rest(self, *, with_lease: bool = True) -> None:
        patience = Patience.lasting(GIVE_UP)  # for both
        if self._queue is not None:
            self._queue.leave(patience)
            self._queue = None
        if with_lease and self.acquired.lease is not None:
            self.acquired.lease.give_up(patience)

    # Whose it is.

    @property
    def _is_open(self) -> bool:
        return not self.is_over and (self._session is None or self._session.loss is None)

    def _is_mine(self, kv: KeyValue) -> bool:
        if token_of(kv) != self.acquired.token:
            return False
        record = Record.parse(kv.value)
        return record.run == self.acquired.run and record.state == HELD

    def _is_mine_or_my_guests(self, kv: KeyValue) -> bool:
        """A run of my own owner may enter my step for a while, and puts it back."""
        if token_of(kv) != self.acquired.token:
            return False
        record = Record.parse(kv.value)
        guest = record.explicit and record.owner == self._owner and record.text("kind") == "run"
        return record.state == HELD and (record.run == self.acquired.run or guest)

    def _announce(self) -> None:
        if self._session is not None and self._session.loss is not None:
            self._notifier.report_lost()
