"""CurrentHold: the hold that one `Lock` object has now, if any: prepared before the claim, begun, ended."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.base.uninterrupted import Uninterrupted
from distlock_core.errors import DistlockError, NotHolder
from distlock_core.hints import see
from distlock_core.lock.hold import Hold
from distlock_core.model.wording import are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.base.standby_thread import StandbyThread
    from distlock_core.etcd.client import Etcd
    from distlock_core.lock.hold_notifier import HoldNotifier
    from distlock_core.lock.loss_reasons import Loss
    from distlock_core.lock.queue import Queue
    from distlock_core.lock.spec import Acquired, LockSpec


class CurrentHold:
    """The hold of one `Lock`, if it has one now. Ends it completely even if Ctrl-C is pressed meanwhile."""

    def __init__(
        self,
        etcd: Etcd,
        notifier: HoldNotifier,
        names: Sequence[str],
        *,
        contact: float,
        on_lost: Callable[[Loss], None] | None,
        background: bool,
    ) -> None:
        """`contact` limits a call to etcd, in seconds. `background`: monitor a leased hold from its start."""
        self._etcd = etcd
        self._notifier = notifier
        self._names = names
        self._contact = contact
        self._on_lost = on_lost
        self._background = background
        self._latest: Hold | None = None
        self._standby: StandbyThread | None = None  # for the next hold
        self.on_over: Callable[[], None] | None = None  # called when a hold has ended by `end()`

    @property
    def hold(self) -> Hold | None:
        """The hold, None once it is over, which includes a hand-over to another object or process."""
        hold = self._latest  # another thread may end it meanwhile
        return None if hold is None or hold.is_over else hold

    def require(self) -> Hold:
        """The hold, in this process. Raises `NotHolder`."""
        hold = self.hold
        if hold is None:
            hints = list(map(see, self._names))
            raise NotHolder(f"{are(self._names)} not held by this object", hints=hints)
        if hold.is_inherited:
            raise NotHolder(
                f"{are(self._names)} held by process {hold.pid}, from which this process was forked: a lock "
                "belongs to the process that took it. Take it in this process, or leave it to that one"
            )
        return hold

    @property
    def is_sound(self) -> bool:
        """True while the lock is held, as far as this process knows."""
        hold = self.hold
        return hold is not None and hold.is_sound

    @property
    def is_inherited(self) -> bool:
        """True in a child that was forked while the lock was held: the hold belongs to the parent."""
        hold = self.hold
        return hold is not None and hold.is_inherited

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, the hold of the parent and what was prepared for it."""
        self._latest = self._standby = None
        self._notifier.report_forked()

    # The start.

    def will_be_monitored(self, spec: LockSpec) -> bool:
        """True if a hold with this request is monitored from its start."""
        needs_it = spec.ttl is not None or spec.beat is not None
        return (self._background and needs_it) or self._notifier.has_readers

    def prepare(self) -> None:
        """Prepare the monitoring of the next hold (thread, descriptors, modules). Raises `DistlockError`."""
        if self._standby is None:
            from distlock_core.base.standby_thread import StandbyThread
            from distlock_core.lock import session  # noqa: F401 - loaded while no lock is held

            self._etcd.load_all()
            self._standby = StandbyThread("distlock-session")

    def begin(self, spec: LockSpec, acquired: tuple[Acquired, ...], queue: Queue | None = None) -> Hold:
        """Start a hold. `queue` is left later, when there is time."""
        self._latest = hold = Hold(
            self._etcd,
            spec,
            acquired,
            self._notifier,
            contact=self._contact,
            on_lost=self._on_lost,
            background=self._background,
            queue=queue,
            standby=self._standby,
        )
        return hold

    def drop_standby(self) -> None:
        """Close what was prepared, unless a hold has it now."""
        standby = self._standby
        if standby is not None:
            with Uninterrupted():
                self._standby = None
                if self.hold is None:
                    standby.close()

    def abandon(self, timeout: float, undo: Callable[[], None] | None = None) -> None:
        """Release the hold of a caller that was interrupted as it began; without a hold, `undo` the claim."""
        hold = self.hold
        with Uninterrupted():
            if hold is not None and not hold.is_inherited:
                try:
                    hold.release(Patience.lasting(timeout))
                except DistlockError:
                    pass  # the interrupt is raised instead; a lease expires by itself
                self._latest = None
            elif undo is not None:
                undo()

    # While it is held.

    def renew(self, hold: Hold, spec: LockSpec, cancel: Cancel | None) -> None:
        """Renew it, with a new lease if the ttl has changed, and verify it. Raises `LockLost`."""
        if not hold.renew(spec.ttl, spec.refresh, cancel):
            error = hold.loss_error()
            hold.give_up()
            self._notifier.report_lost()
            raise error

    # The end.

    def end(self, how: Callable[[Hold, Patience], None], timeout: float, cancel: Cancel | None) -> None:
        """End the hold. An exception from a signal handler (KeyboardInterrupt) is deferred until that is done."""
        try:
            hold = self.hold
            if hold is not None:
                hold.is_ending = False
            self._end(how, timeout, cancel)
        except DistlockError:
            raise
        except BaseException:
            hold = self.hold
            if hold is not None and not hold.is_ending and not hold.is_inherited:
                self._end(how, timeout, cancel)  # interrupted before the interrupt could be deferred
            raise

    def _end(self, how: Callable[[Hold, Patience], None], timeout: float, cancel: Cancel | None) -> None:
        with Uninterrupted(cancel) as finish:
            hold = self.require()
            hold.is_ending = True
            try:
                how(hold, Patience.lasting(timeout, finish))
            finally:
                if hold.is_over:
                    self._latest = None
                    if self.on_over is not None:
                        self.on_over()
