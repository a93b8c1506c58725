"""Lock: acquire, verify, release."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from distlock_core.acquisition import Acquisition, Waiting
from distlock_core.errors import Frozen, LockBusy, LockLost, NotHolder
from distlock_core.etcd.api import Get, KeyValue, LeaseGone, Put
from distlock_core.hold import NESTED, STEP, Held, Wish
from distlock_core.lease import Lease
from distlock_core.model import HELD, HOLD, Holder, Record, check_text
from distlock_core.patience import Patience, now
from distlock_core.release import Ending, cool_down, leave_taken, let_go, rewrite
from distlock_core.settings import check_ttl
from distlock_core.tidings import Tidings
from distlock_core.wording import held_by, look_at, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from types import TracebackType
    from typing import Any

    from distlock_core.etcd.api import Etcd
    from distlock_core.hold import Entry
    from distlock_core.line import Line
    from distlock_core.ownership import Ownership
    from distlock_core.patience import Cancel
    from distlock_core.realm import Realm
    from distlock_core.session import Loss, Session

CONNECT_TIMEOUT = 5.0  # seconds for the first contact with etcd
RELEASE_TIMEOUT = 30.0  # seconds that a release is tried while etcd is away


class Lock:
    """One lock, as one program wants or holds it. Made by `Realm.lock()`; for one thread at a time.

    Without a `ttl` a lock is persistent: it stays until it is released, whatever becomes of its holder. With one it is
    leased: while it is held a thread renews it, and it ends at most `ttl` seconds after its holder is gone. As a
    context manager it waits as long as `timeout` says, yields itself held, or raises: its block never runs without
    the lock.
    """

    def __init__(
        self,
        etcd: Etcd,
        wish: Wish,
        *,
        timeout: float | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        release_timeout: float = RELEASE_TIMEOUT,
        on_lost: Callable[[Loss], None] | None = None,
        background: bool = True,
    ) -> None:
        self._etcd = etcd
        self._wish = wish
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self.release_timeout = release_timeout
        self._on_lost = on_lost
        self._background = background
        self._held: Held | None = None
        self._line: Line | None = None
        self._session: Session | None = None
        self._in_doubt: list[bytes] = []  # releases that were sent, and not answered
        self._hung = wish.ttl, wish.refresh  # what the hold has
        self._tidings = Tidings()

    def acquire(
        self,
        timeout: float | None = None,
        cancel: Cancel | None = None,
        progress: Callable[[Waiting], None] | None = None,
    ) -> Lock:
        """Return this lock, held.

        `timeout` in seconds covers connecting and waiting: 0 does not wait for others, a negative one waits for ever.
        Default: the one given to `Realm.lock()`, else for ever. `cancel` (an `Interrupt` or a `threading.Event`)
        ends the call when it is set. `progress` is called at each change while waiting.

        Raises `LockBusy` or `Frozen` (with timeout 0), `AcquireTimeout`, `LimitConflict`, `EtcdUnavailable`,
        `AccessDenied`, `Cancelled`, and `OutcomeUnknown` when nobody can tell whether etcd will apply the claim.
        Whoever waits is served in order of arrival. A lock that this object holds already is renewed now, with the
        `ttl` and `refresh` that it has now, and verified: that raises `LockLost` when it is not mine any more, and the
        next call waits for it anew.
        """
        if timeout is None:
            timeout = -1.0 if self._timeout is None else self._timeout
        wait = None if hasattr(cancel, "fileno") else getattr(cancel, "wait", None)
        if cancel is not None and wait is not None and timeout != 0:
            from distlock_core.waking import Waking

            with Waking(cancel, wait) as interrupt:
                return self.acquire(timeout, interrupt, progress)
        if self._held is not None:
            self._renew(Patience.lasting(self._connect_timeout, cancel))
            return self
        acquisition = Acquisition(self._etcd, self._wish, timeout, self._connect_timeout, cancel, progress)
        self._hold_on(acquisition.run())
        self._look_after()
        if self._wish.kind == "lock":
            acquisition.line.leave()
        else:
            # The ticket is gone with the claim; its lease can wait until the command is done.
            self._line = acquisition.line
        return self

    def try_acquire(self) -> Lock | None:
        """Return this lock, held, or None when it is not free now. Raises as `acquire` does, but for `LockBusy`."""
        try:
            return self.acquire(timeout=0)
        except (LockBusy, Frozen):
            return None

    def preview(self) -> Entry | None:
        """Say what `acquire(timeout=0)` would do now, and write nothing: for a dry run.

        Returns the hold of mine that would be entered again, and how; None where a free lock would be taken. Raises
        `LockBusy`, `Frozen`, `LimitConflict`, `EtcdUnavailable`, `AccessDenied`.
        """
        return Acquisition(self._etcd, self._wish, 0, self._connect_timeout).preview()

    def verify(self, cancel: Cancel | None = None) -> bool:
        """True if the lock is still mine, by a linearizable read. Raises `EtcdUnavailable`, `AccessDenied`."""
        if self._held is None:
            return False
        patience = Patience.lasting(self._connect_timeout, cancel)
        found = self._etcd.read([Get(self._held.kv.key)], patience).ranges()[0].kvs
        return bool(found) and self._is_mine(found[0])

    def release(self, cancel: Cancel | None = None) -> None:
        """Let go. A lock that was entered again is left held, as it was found.

        Raises `NotHolder` when this object does not hold it, `LockLost` when it was mine and is not any more (a newer
        holder's lock is never touched), `EtcdUnavailable` after `release_timeout` seconds: then it may remain.
        """
        self._part(self._let_go, cancel)

    def hold(self, reason: str, cancel: Cancel | None = None) -> None:
        """Leave the lock taken, persistent, until a person unlocks it. Raises as `release`."""
        changes = {"state": HOLD, "reason": reason}
        self._part(lambda held, patience: leave_taken(self._etcd, held.kv, self._is_mine, changes, patience), cancel)

    def cool(self, seconds: int, cancel: Cancel | None = None) -> None:
        """Let go in `seconds` seconds, with no process behind it. Raises as `release`."""
        keys, owner = self._wish.keys, self._wish.owner
        self._part(
            lambda held, patience: cool_down(self._etcd, keys, held.kv, self._is_mine, seconds, owner, patience), cancel
        )

    def update(self, value: str | None = None, *, reason: str | None = None, cancel: Cancel | None = None) -> None:
        """Change the value of the hold, or its reason, without letting go: its token stays, and its lease.

        None leaves it as it is, "" empties it. What is acquired next with this object has them too. Raises
        `NotHolder` when this object does not hold it, `LockLost` when it was mine and is not any more, `ConfigError`,
        `EtcdUnavailable`, `AccessDenied`, and `OutcomeUnknown` when nobody can tell whether it was changed.
        """
        from distlock_core.amend import describing

        self._hold()
        for text, what in ((value, "value"), (reason, "reason")):
            if text is not None:
                check_text(text, what)
        self._amend(describing(value, reason), cancel)
        if value is not None:
            self._wish = self._wish._replace(value=value)
        if reason is not None:
            self._wish = self._wish._replace(reason=reason)

    @property
    def session(self) -> Session:
        """What looks after the hold: `start()` it to be told of a loss. Raises `NotHolder`."""
        if self._session is None:
            from distlock_core.session import Session

            held = self._hold()
            is_mine = self._is_mine_or_my_guests if self._wish.kind == "lock" else self._is_mine
            self._session = Session(self._etcd, self._wish.keys, held.kv, is_mine, held.lease, self._on_lost)
            self._session.on_change = self._announce
        return self._session

    @property
    def lost(self) -> threading.Event:
        """Set when a hold that is looked after is lost, until the next one.

        Every leased hold is looked after; a persistent one once `session.start()` or `ownership()` was called.
        """
        return self._tidings.lost_event

    def ownership(self) -> Ownership:
        """Return an iterator over True (it is mine) and False (it is not), as that changes.

        It starts with the present state, and ends when the lock is let go, or when it is closed. May be read in
        another thread. A reader that does not read holds up nothing: see `Ownership`.
        """
        reader = self._tidings.ownership(lambda: self._is_sound)
        if self._held is not None:
            self.session.start()
        return reader

    @property
    def ttl(self) -> int | None:
        """Seconds that the lock outlives its holder, None for a persistent one.

        A new one counts from the next `acquire` on, also for a lock that is held. Setting it raises `ConfigError`.
        """
        return self._wish.ttl

    @ttl.setter
    def ttl(self, ttl: int | None) -> None:
        if ttl is not None:
            check_ttl(ttl, self._wish.refresh)
        self._wish = self._wish._replace(ttl=ttl)

    @property
    def refresh(self) -> float | None:
        """Seconds between two renewals, None for a third of the ttl. A new one counts as a new `ttl` does."""
        return self._wish.refresh

    @refresh.setter
    def refresh(self, refresh: float | None) -> None:
        if self._wish.ttl is not None:
            check_ttl(self._wish.ttl, refresh)
        self._wish = self._wish._replace(refresh=refresh)

    def keep_place(self, seconds: int) -> None:
        """While in line I may be silent for so long without losing my place: and hold up those behind me."""
        self._wish = self._wish._replace(ticket_ttl=seconds)

    def hand_over(self) -> dict[str, Any]:
        """Return all that another process needs to go on with this hold, as JSON can carry it. Raises `NotHolder`."""
        held, wish = self._hold(), self._wish
        lease = held.lease.id if held.lease is not None else 0
        value = held.kv.value.decode("utf-8", "surrogateescape")
        numbers = (held.kv.create_revision, held.kv.mod_revision, held.slot, lease)
        return {
            "name": wish.keys.name,
            "owner": wish.owner if wish.explicit else None,
            "key": held.kv.key.decode(),
            "value": value,
            "run": held.run,
            "numbers": numbers,
        }

    @classmethod
    def taken_over(cls, realm: Realm, hold: Mapping[str, Any], refresh: float | None = None) -> Lock:
        """Go on with a leased hold that another process has handed over.

        Raises `LockLost` when its lease is gone already, and as `Etcd` does.
        """
        lock = realm.lock(hold["name"], hold["owner"], step=True, background=False)
        created, modified, slot, lease_id = hold["numbers"]
        lease = Lease.adopt(lock._etcd, lease_id, Patience.lasting(lock._connect_timeout), refresh)
        value = hold["value"].encode("utf-8", "surrogateescape")
        kv = KeyValue(hold["key"].encode(), value, created, modified, lease_id)
        lock._hold_on(Held(kv, hold["run"], slot, lease=lease))
        if lease.lost:
            raise lock._lost()
        return lock

    def forget(self) -> None:
        """The hold is another process's now: nothing is released."""
        self._held = self._session = None

    def note(self, details: Mapping[str, Any], cancel: Cancel | None = None) -> None:
        """Add to the record of the hold. Raises as `update`."""
        self._amend(lambda record: record._replace(details={**record.details, **details}), cancel)

    def _amend(self, change: Callable[[Record], Record], cancel: Cancel | None) -> None:
        from distlock_core.amend import amend

        held = self._hold()
        patience = Patience.lasting(self._connect_timeout, cancel)
        seen: list[KeyValue] = []

        def is_mine(kv: KeyValue) -> bool:
            seen.append(kv)
            return self._is_mine(kv)

        try:
            kv = amend(self._etcd, held.kv, is_mine, change, patience)
        except LeaseGone:
            kv = None
        if kv is None:
            if seen and seen[-1].create_revision == held.token:
                # Still this hold, but entered by a run of its own owner, or left taken by a person.
                holder = Holder.parse(self._wish.keys, seen[-1])
                raise NotHolder(f"{printable(self.name)} is held by {held_by(holder)} now. {look_at(self.name)}")
            raise self._lost()
        self._held = held._replace(kv=kv)

    def give_up(self) -> None:
        """Forget a hold that is lost, and end its lease. Its key is left to whoever has it now."""
        held, session = self._held, self._session
        self._held = self._session = None
        if session is not None:
            session.stop()
        if self._line is not None:
            self._line.leave()
            self._line = None
        if held is not None and held.lease is not None:
            held.lease.give_up()

    def _hold_on(self, held: Held) -> None:
        self._held = held
        self._session = None
        self._in_doubt = []
        self._hung = self._wish.ttl, self._wish.refresh

    def _look_after(self) -> None:
        """Renew the hold in the background, if that is wanted, and tell of it."""
        self._tidings.acquired()
        if (self._background and self._wish.ttl is not None) or self._tidings.has_readers:
            self.session.start()

    def _renew(self, patience: Patience) -> None:
        """It is mine already: renew it now, on a new lease if the ttl has changed, and make sure. Raises `LockLost`."""
        held = self._hold()
        if held.entry != NESTED and self._hung != (self._wish.ttl, self._wish.refresh):
            sound = self._is_sound and self._hang(held, patience)
        else:
            if held.lease is not None and not held.lease.lost:
                held.lease.renew(patience)
            gone = held.lease is not None and held.lease.lost
            sound = self._is_sound and not gone and self.verify()
        if not sound:
            error = self._lost()
            self.give_up()
            self._tidings.lost()
            raise error

    def _hang(self, held: Held, patience: Patience) -> bool:
        """Put the hold's key on a lease of the ttl that is wanted now; its token stays. False: it is not mine."""
        from distlock_core.rehang import rehang

        session = self.session
        was_running = session.is_running
        session.stop()
        try:
            moved = rehang(self._etcd, held, self._is_mine, self._wish.ttl, self._wish.refresh, patience)
            if moved is not None:
                self._held = moved
                self._hung = self._wish.ttl, self._wish.refresh
                session.move(moved.kv, moved.lease)
                self._look_after()
        finally:
            if was_running:
                session.start()
        return moved is not None

    @property
    def _is_sound(self) -> bool:
        """True while it is held, as far as anybody here knows."""
        session = self._session
        return self._held is not None and (session is None or session.loss is None)

    def _announce(self) -> None:
        if self._session is not None and self._session.loss is not None:
            self._tidings.lost()

    def _part(self, how: Callable[[Held, Patience], bool], cancel: Cancel | None) -> None:
        """End the hold in one way or another, and leave nothing behind."""
        held = self._hold()
        patience = Patience.lasting(self.release_timeout, cancel)
        if self._session is not None:
            self._session.stop()
        try:
            if held.entry != NESTED and not how(held, patience):
                raise self._lost()
            self._held = None
        except LockLost:
            self._held = None
            raise
        finally:
            self._session = None
            if self._line is not None:
                self._line.leave()
                self._line = None
            if held.lease is not None:
                held.lease.give_up()
            if self._held is None:
                self._tidings.let_go()

    def _let_go(self, held: Held, patience: Patience) -> bool:
        if held.entry == STEP:
            put = Put(held.kv.key, held.before, held.before_lease)
            try:
                kv = rewrite(self._etcd, held.kv, self._is_mine, lambda _: put, patience)
            except LeaseGone:
                pass  # the step was bound to a process that has ended meanwhile: so it ends with me
            else:
                return kv is not None
        ending = Ending("released", self._wish.owner)
        return let_go(self._etcd, self._wish.keys, held.kv, self._is_mine, ending, patience, self._in_doubt)

    @property
    def name(self) -> str:
        return self._wish.keys.name

    @property
    def owner(self) -> str:
        return self._wish.owner

    @property
    def held(self) -> bool:
        """True from acquire to release, as far as this object knows; `verify()` asks etcd."""
        return self._held is not None

    @property
    def token(self) -> int:
        """The fencing token: grows with every acquisition, so a resource can refuse an older holder's.

        Raises `NotHolder`.
        """
        return self._hold().token

    @property
    def holder(self) -> Holder:
        """The hold as others see it. Raises `NotHolder`."""
        held = self._hold()
        ttl_left = None if held.lease is None else max(0, int(held.lease.deadline - now()))
        return Holder.parse(self._wish.keys, held.kv)._replace(ttl_left=ttl_left)

    @property
    def value(self) -> str | None:
        """What the lock carries for others to look up, None where it carries nothing. Raises `NotHolder`."""
        return self.holder.value

    @property
    def key(self) -> str:
        """The key in etcd that is held. Raises `NotHolder`."""
        return self._hold().kv.key.decode()

    @property
    def stays(self) -> bool:
        """True when a release leaves it held: it was entered again, and ends with what it was entered in."""
        return self._hold().entry in (NESTED, STEP)

    @property
    def lease(self) -> int | None:
        """The id of the lease that the hold hangs on, None for a persistent one. Raises `NotHolder`."""
        lease = self._hold().lease
        return None if lease is None else lease.id

    @property
    def since(self) -> int:
        """Unix time from which it is held. Raises `NotHolder`."""
        return Record.parse(self._hold().kv.value).since or 0

    def __enter__(self) -> Lock:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _hold(self) -> Held:
        if self._held is None:
            raise NotHolder(f"{printable(self.name)} is not held by this object. {look_at(self.name)}")
        return self._held

    def _is_mine(self, kv: KeyValue) -> bool:
        held = self._held
        if held is None or kv.create_revision != held.token:
            return False
        record = Record.parse(kv.value)
        return record.run == held.run and record.state == HELD

    def _is_mine_or_my_guests(self, kv: KeyValue) -> bool:
        """A run of my own owner may enter my step for a while, and puts it back."""
        if self._held is None or kv.create_revision != self._held.token:
            return False
        record = Record.parse(kv.value)
        guest = record.explicit and record.owner == self._wish.owner and record.text("kind") == "run"
        return record.state == HELD and (record.run == self._held.run or guest)

    def _lost(self) -> LockLost:
        loss = self._session.loss if self._session is not None else None
        why = loss.why if loss is not None else "it is not mine any more"
        return LockLost(f"{printable(self.name)} was lost: {why}. {look_at(self.name)}")
