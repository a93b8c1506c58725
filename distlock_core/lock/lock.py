"""Lock: acquire, verify, release, for one lock or for several that are held together or not at all."""

from __future__ import annotations

from distlock_core.base.deadline import NO_WAIT, Patience, Wait, now
from distlock_core.base.uninterrupted import Uninterrupted, in_main_thread
from distlock_core.errors import ConfigError, DistlockError, Frozen, LockBusy
from distlock_core.lock.acquire import Acquisition, Waiting
from distlock_core.lock.current_hold import CurrentHold
from distlock_core.lock.hold_notifier import HoldNotifier
from distlock_core.lock.lease import Lease
from distlock_core.lock.rewrite import describing
from distlock_core.lock.spec import CONNECT_TIMEOUT, RELEASE_TIMEOUT, Acquired, LockSpec
from distlock_core.model.checks import check_text
from distlock_core.model.record import Record
from distlock_core.model.state import Holder
from distlock_core.model.ttl import check_ttl
from distlock_core.model.wording import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import TypeVar

    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue
    from distlock_core.events.ownership import Ownership
    from distlock_core.lock.hold import Hold
    from distlock_core.lock.loss_reasons import Loss
    from distlock_core.lock.reentry import Reentry
    from distlock_core.lock.session import Session

    One = TypeVar("One")


class Lock:
    """One lock, as requested or held by one program. Made by `Realm.lock()`; for one thread at a time.

    `Realm.lock()` with a list of names makes one of several locks that are acquired together or not at all: while it
    waits it holds none of them, and the loss of one of them is the loss of all.

    Without a `ttl` a lock is persistent: it stays until it is released, even if its holder dies. With a `ttl` it is
    leased: a thread renews it while it is held, and it expires at most `ttl` seconds after its holder is gone. As a
    context manager it waits up to `timeout`, and either acquires the lock or raises: the block never runs without
    the lock.

    A hold belongs to the process that acquired it. In a forked child `held` is False, `lost` is set, the end of a
    `with` block releases nothing, and methods that need the hold raise `NotHolder`; `acquire()` acquires the lock anew.
    """

    def __init__(
        self,
        etcd: Etcd,
        spec: LockSpec,
        *,
        timeout: float | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        release_timeout: float = RELEASE_TIMEOUT,
        on_lost: Callable[[Loss], None] | None = None,
        background: bool = True,
    ) -> None:
        """Raises `ConfigError` if ttl and refresh are incompatible."""
        self._etcd = etcd
        self._spec = _checked(spec)
        self._wait = Wait.of(timeout)
        self._connect_timeout = connect_timeout
        self.release_timeout = release_timeout
        self._notifier = HoldNotifier()
        self._current = CurrentHold(
            etcd, self._notifier, self.names, contact=connect_timeout, on_lost=on_lost, background=background
        )

    def acquire(
        self,
        timeout: float | None = None,
        cancel: Cancel | None = None,
        progress: Callable[[Waiting], None] | None = None,
    ) -> Lock:
        """Acquire the lock, and return this object.

        `timeout` (seconds) covers connecting and waiting: 0 does not wait for other holders, a negative one waits
        forever. The default is the timeout given to `Realm.lock()`, or else forever. `cancel` (an `Interrupt` or a
        `threading.Event`) ends the call when it is set. `progress` is called at each change while waiting.

        Raises `LockBusy` or `Frozen` (with timeout 0), `AcquireTimeout`, `LimitConflict`, `EtcdUnavailable`,
        `AccessDenied`, `Cancelled`, and `OutcomeUnknown` if it is unknown whether etcd will apply the claim. Waiters
        are served in order of arrival. If this object already holds the lock, it is renewed with the current `ttl` and
        `refresh`, and verified: that raises `LockLost` if it is no longer held, and the next call waits for it anew.
        """
        wait = self._wait if timeout is None else Wait.of(timeout)
        if self._current.is_inherited:
            self._current.leave_to_parent()
        hold = self._current.hold
        if hold is not None:
            self._current.renew(hold, self._spec, cancel)
            return self
        event_wait = None if hasattr(cancel, "fileno") else getattr(cancel, "wait", None)
        if cancel is not None and event_wait is not None and not wait.is_none:
            from distlock_core.base.event_cancel import EventCancel

            with EventCancel(cancel, event_wait) as interrupt:
                return self.acquire(timeout, interrupt, progress)
        acquisition = Acquisition(self._etcd, self._spec, wait, self._connect_timeout, cancel, progress)
        try:
            if self._current.will_be_monitored(self._spec):
                with Uninterrupted():
                    self.prepare()
            acquired, queue = acquisition.run(), acquisition.queue
            with Uninterrupted():
                # The claim has deleted the ticket; revoking its lease can wait until a run's command has ended.
                self._current.begin(self._spec, acquired, None if self._spec.kind == "lock" else queue).look_after()
            if self._spec.kind == "lock":
                queue.leave()
        except BaseException:
            self._current.abandon(self.release_timeout, acquisition.undo)
            raise
        finally:
            self._current.drop_standby()
        return self

    def prepare(self) -> None:
        """Prepare the monitoring of the next hold (thread, descriptors, modules), so that it cannot fail afterwards.

        `acquire()` does this itself if it starts the monitoring. Call it before `acquire()` if `session.start()` is
        called later. Raises `DistlockError` if no thread or no descriptor is left.
        """
        self._current.prepare()

    def try_acquire(self) -> Lock | None:
        """Acquire the lock if it is free now: return this object, or None. Raises as `acquire`, except `LockBusy`."""
        try:
            return self.acquire(timeout=0)
        except (LockBusy, Frozen):
            return None

    def preview(self) -> Reentry | None:
        """Return what `acquire(timeout=0)` would do now, for a dry run. Writes nothing.

        Returns the hold that would be re-entered, and how, or None if a free lock would be taken. Raises
        `LockBusy`, `Frozen`, `LimitConflict`, `EtcdUnavailable`, `AccessDenied`, and `ConfigError` for several locks.
        """
        return self._only(acquisition_of(self, NO_WAIT).preview())[0]

    def verify(self, cancel: Cancel | None = None) -> bool:
        """True if the lock is still held, by a linearizable read. Raises `EtcdUnavailable`, `AccessDenied`."""
        return self._current.hold is not None and self._current.require().verify(cancel)

    def release(self, cancel: Cancel | None = None) -> None:
        """Release the lock. A re-entered hold is left held, in its previous state.

        Raises `NotHolder` if this object does not hold it, `LockLost` if it was lost (a newer holder's lock is never
        touched), and `EtcdUnavailable` after `release_timeout` seconds: then the lock may remain. With a gate, it is
        released once that is green; if it is not in time, the lock is kept, and this raises `NotSettled`.
        """
        if self._spec.gate is not None:
            self._settle(cancel)
        self._current.end(lambda hold, patience: hold.release(patience), self.release_timeout, cancel)

    def keep(self, reason: str, cancel: Cancel | None = None) -> None:
        """Leave the lock taken, persistent, until an operator unlocks it. Raises as `release`."""
        self._current.end(lambda hold, patience: hold.leave_taken(reason, patience), self.release_timeout, cancel)

    def freeze(self, reason: str, cancel: Cancel | None = None, *, exit_code: int | None = None) -> None:
        """Release the lock, and freeze it in the same transaction: nobody acquires it until `Realm.thaw()`.

        A re-entered hold is left held, and a present freeze is left as it is. Raises as `release`: `LockLost` after the
        freeze was put; after any other error the lock may be neither released nor frozen.
        """
        from distlock_core.model.freeze import freeze_record
        from distlock_core.process.identity import hostname, new_run

        details = {} if exit_code is None else {"exit_code": exit_code}
        record = freeze_record(self.owner, check_text(reason, "reason"), new_run(), host=hostname(), **details)
        self._current.end(lambda hold, patience: hold.freeze(record, patience), self.release_timeout, cancel)

    def cool(self, seconds: int, cancel: Cancel | None = None) -> None:
        """Leave the lock taken for `seconds` seconds, after which etcd releases it. Raises as `release`."""
        if self._spec.gate is not None:
            self._settle(cancel)
        self._current.end(lambda hold, patience: hold.cool(seconds, patience), self.release_timeout, cancel)

    def update(self, value: str | None = None, *, reason: str | None = None, cancel: Cancel | None = None) -> None:
        """Change the value of the hold, or its reason, without releasing it: token and lease stay.

        None leaves it unchanged, "" empties it. Later acquisitions by this object have the new values too. Raises
        `NotHolder` if this object does not hold the lock, `LockLost` if it was lost, `ConfigError`, `EtcdUnavailable`,
        `AccessDenied`, and `OutcomeUnknown` if it is unknown whether it was changed.
        """
        hold = self._current.require()
        for text, what in ((value, "value"), (reason, "reason")):
            if text is not None:
                check_text(text, what)
        hold.amend(describing(value, reason), cancel)
        if value is not None:
            self._spec = self._spec._replace(value=value)
        if reason is not None:
            self._spec = self._spec._replace(reason=reason)

    @property
    def session(self) -> Session:
        """The session that monitors the hold: `start()` it to be notified of a loss. Raises `NotHolder`."""
        return self._current.require().session

    @property
    def lost(self) -> threading.Event:
        """An event that is set from the loss of a monitored hold until the next hold, and in a forked child.

        Every leased hold is monitored; a persistent one after a call of `session.start()` or `ownership()`.
        """
        if self._current.is_inherited:
            self._notifier.report_forked()
        return self._notifier.lost_event

    def ownership(self) -> Ownership:
        """Return an iterator over the changes between True (held) and False (not held).

        It starts with the current state, and ends when the lock is released or the iterator is closed. It may be read
        in another thread. A slow reader blocks nothing: see `Ownership`.
        """
        session = None if self._current.hold is None else self.session
        reader = self._notifier.ownership(lambda: self._current.is_sound)
        if session is not None:
            session.start()
        return reader

    @property
    def ttl(self) -> int | None:
        """Seconds that the lock outlives its holder, None for a persistent lock.

        A new value takes effect at the next `acquire`, even if the lock is held. Setting it can raise `ConfigError`.
        """
        return self._spec.ttl

    @ttl.setter
    def ttl(self, ttl: int | None) -> None:
        self._spec = _checked(self._spec._replace(ttl=ttl))

    @property
    def refresh(self) -> float | None:
        """Seconds between two renewals, None for a third of the ttl. A new value takes effect as with `ttl`."""
        return self._spec.refresh

    @refresh.setter
    def refresh(self, refresh: float | None) -> None:
        self._spec = _checked(self._spec._replace(refresh=refresh))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all locks of this object, in the order in which they were given."""
        return tuple(keys.name for keys in self._spec.locks)

    @property
    def name(self) -> str:
        """The lock's name; for people, the names of several in one phrase."""
        return listed(self.names) if len(self.names) > 1 else self.names[0]

    @property
    def owner(self) -> str:
        return self._spec.owner

    @property
    def held(self) -> bool:
        """True from `acquire` to `release`, as far as this process knows; `verify()` asks etcd.

        False after a loss, past its lease's deadline, and in a forked child.
        """
        return self._current.is_sound

    @property
    def token(self) -> int:
        """The fencing token, which grows with every acquisition, so that a resource can refuse an older holder.

        Raises `NotHolder`, and `ConfigError` for several locks: see `tokens`.
        """
        return self._only(self._current.require().acquired).token

    @property
    def tokens(self) -> dict[str, int]:
        """The fencing token of each lock, by name. Raises `NotHolder`."""
        return {one.keys.name: one.token for one in self._current.require().acquired}

    @property
    def holder(self) -> Holder:
        """The hold as other processes see it. Raises `NotHolder`; for several locks `ConfigError`: see `holders`."""
        return self._only(self.holders)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The hold of each lock as other processes see it, in the order of `names`. Raises `NotHolder`."""
        hold = self._current.require()
        ttl_left = None if hold.lease is None else max(0, int(hold.lease.deadline - now()))
        return tuple(Holder.parse(one.keys, one.kv)._replace(ttl_left=ttl_left) for one in hold.acquired)

    @property
    def value(self) -> str | None:
        """The value that the lock publishes, None if it has none; several publish the same. Raises `NotHolder`."""
        return self.holders[0].value

    @property
    def key(self) -> str:
        """The key of the hold in etcd. Raises `NotHolder`, and `ConfigError` for several locks: see `holders`."""
        return self._only(self._current.require().acquired).kv.key.decode()

    @property
    def lease(self) -> int | None:
        """The id of the hold's lease, None for a persistent hold. Raises `NotHolder`."""
        lease = self._current.require().lease
        return None if lease is None else lease.id

    @property
    def since(self) -> int:
        """Unix time of the start of the hold. Raises `NotHolder`."""
        return Record.parse(self._current.require().acquired[0].kv.value).since or 0

    def _only(self, each: Sequence[One]) -> One:
        """The one of a single lock. Raises `ConfigError` for several."""
        if len(each) > 1:
            raise ConfigError(f"{self.name} are several locks: ask for each of them (names, tokens, holders)")
        return each[0]

    def __enter__(self) -> Lock:
        from distlock_core.lock import open_blocks

        was_held = self._current.hold is not None
        try:
            self.acquire()
            if in_main_thread():
                self._current.on_over = lambda: open_blocks.leave(self)
                open_blocks.enter(self)
            return self
        except BaseException:
            if not was_held:
                self._current.abandon(self.release_timeout)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave_block(failed=kind is not None)
        except DistlockError:
            raise
        except BaseException:
            self._leave_block(failed=kind is not None, again=True)  # interrupted before the interrupt could be deferred
            raise

    def _settle(self, cancel: Cancel | None) -> None:
        """Wait for the gate after the work. Raises `NotSettled` if it is not green in time: the lock is then kept."""
        gate = self._spec.gate
        if gate is not None and gate.after:
            gate.settle(self, cancel)

    def _leave_block(self, *, failed: bool, again: bool = False) -> None:
        hold = self._current.hold
        if hold is not None and hold.is_inherited:
            return
        if again and (hold is None or hold.is_ending):
            return
        cooldown = None if failed else cooldown_of(self)
        if cooldown is not None:
            self.cool(cooldown)
        else:
            self.release()


def _checked(spec: LockSpec) -> LockSpec:
    """Return `spec` if its ttl and refresh are compatible. Raises `ConfigError`."""
    if spec.ttl is not None:
        check_ttl(spec.ttl, spec.refresh)
    return spec


# For code that hands over or gives up a hold. Not part of the library's public interface.


def has_hold(lock: Lock) -> bool:
    """True from `acquire()` to the end of the hold, even if it is lost, as there is something to release."""
    return lock._current.hold is not None


def hold_of(lock: Lock) -> Hold:
    """The hold of this object, in this process. Raises `NotHolder`."""
    return lock._current.require()


def spec_of(lock: Lock) -> LockSpec:
    """The request that this object stands for."""
    return lock._spec


def cooldown_of(lock: Lock) -> int | None:
    """Seconds for which the lock is to stay taken after a success, None if it is not held or not to cool down."""
    hold = lock._current.hold
    return None if hold is None or hold.stays else hold.cooldown


def acquisition_of(lock: Lock, wait: Wait) -> Acquisition:
    """A new attempt to acquire the lock, which has not begun."""
    return Acquisition(lock._etcd, lock._spec, wait, lock._connect_timeout)


def resume(lock: Lock, found: Sequence[KeyValue], run: str, slots: Sequence[int], refresh: float | None) -> None:
    """Continue a leased hold that another process has acquired and handed over: one key and slot for each lock.

    Raises `LockLost` if its lease is already gone, and as `Etcd` does.
    """
    lease = Lease.adopt(lock._etcd, found[0].lease, Patience.lasting(lock._connect_timeout), refresh)
    locks = lock._spec.locks
    acquired = tuple(Acquired(keys, kv, run, slot, lease=lease) for keys, kv, slot in zip(locks, found, slots))
    hold = lock._current.begin(lock._spec, acquired)
    if lease.gone:
        raise hold.loss_error()
