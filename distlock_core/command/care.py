"""Care: what a supervisor looks at while a command runs, and all that takes, there before the lock is claimed."""

from __future__ import annotations

import os

from distlock_core.base.deadline import FOREVER, now
from distlock_core.base.value import Value
from distlock_core.command.teller import Teller
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.model.ttl import refresh_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.command.heartbeat import Heartbeat
    from distlock_core.command.prefork import Prefork
    from distlock_core.command.signalfd import SignalFd
    from distlock_core.lock.monitor import Session

LATE = 1.0  # seconds by which a renewal may come late before a loss is prepared for
ROOM = 20  # descriptors that connecting, waiting, looking after the lock and its release may need at once


class Care(Value):
    """What may end a command before its time. `tell` says why it is ended; it gets the cause, and a line for people."""

    session: Session
    kill_on_loss: bool
    kill_after: float  # seconds from SIGTERM to SIGKILL
    tell: Callable[[str, str], None]
    teller: Teller
    heartbeat: Heartbeat | None = None
    limit: float = FOREVER  # seconds that the command may run
    wait_for_tree: bool = False  # the last descendant has to end, not the command alone
    sees_tree: bool = False  # what the command has started is found, whatever becomes of its parents

    @property
    def leased(self) -> bool:
        return self.session.lease is not None

    @property
    def is_renewal_late(self) -> bool:
        """True while a leased hold is in doubt, also where the thread that looks after it does not get to say so."""
        lease = self.session.lease
        if lease is None:
            return False
        refresh = refresh_of(lease.ttl, lease.refresh)
        return self.session.doubt or now() > lease.deadline - lease.ttl + refresh + LATE

    @property
    def last_moment(self) -> float:
        """When it counts as lost if no renewal is confirmed before: early enough for SIGTERM, where that is sent."""
        return self.session.deadline - (self.kill_after if self.kill_on_loss else 0.0)

    @property
    def dead_by(self) -> float:
        """When another may be let in: no process of the command may live then."""
        return self.session.deadline if self.kill_on_loss else FOREVER


class Equipment:
    """What supervising takes. It is loaded, opened and started when this is made: so none of it can be missing later.

    `ends_trees`: the command may have to be ended with all that it has started. `warning` says what of that could
    not be seen here, "" where that is nothing.
    """

    def __init__(
        self, *, ends_trees: bool, prefork: Callable[[], Prefork | None], heartbeat: Callable[[], Heartbeat | None]
    ) -> None:
        """Raises `ConfigError` or `DistlockError`: something is missing here."""
        self.warning = ""
        self.pending: SignalFd | None = None
        _check_room()
        if ends_trees:
            self.warning = self._load()
        self.prefork = prefork()  # before any thread is started
        try:
            self.teller = Teller()
            self.heartbeat = heartbeat()
        except BaseException:
            if self.prefork is not None:
                self.prefork.close()
            raise

    def close(self) -> None:
        """It is not used any more, or after all. No effect on a command that was started."""
        if self.prefork is not None:
            self.prefork.close()
        if self.heartbeat is not None:
            self.heartbeat.close()

    def _load(self) -> str:
        what = "a command is only run here if it can be ended with all that it has started (--ttl, --heartbeat)"
        try:
            from distlock_core.command import kill  # noqa: F401 - loaded while nothing depends on it
            from distlock_core.command.signalfd import SignalFd
            from distlock_core.command.signals import CATCHABLE
            from distlock_core.process import table, tree  # noqa: F401

            table.load()
            self.pending = SignalFd(CATCHABLE)
        except ImportError as error:
            raise ConfigError(f"{what}, and this Python has no {error.name or error}") from error
        except OSError as error:
            raise ConfigError(f"{what}, and that cannot be had: {error.strerror or error}") from error
        try:
            hidden = table.check_visible()
        except ConfigError as error:
            raise ConfigError(f"{what}, and that cannot be seen: {error}. See: mount -t proc proc /proc") from None
        return (
            f"{hidden}: what the command starts as another user cannot be seen, and is not ended with it"
            if hidden
            else ""
        )


def _check_room() -> None:
    taken: list[int] = []
    try:
        while len(taken) < ROOM:
            taken.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        found = f"{len(taken)} more files can be opened ({error.strerror}), and {ROOM} are needed"
        raise DistlockError(f"only {found}: see ulimit -n") from None
    finally:
        for descriptor in taken:
            os.close(descriptor)
