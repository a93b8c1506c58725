"""EndConditions: the conditions that end a command early, and the moment by which its processes must be dead."""

from __future__ import annotations

from distlock_core.base.deadline import FOREVER, now
from distlock_core.base.value import Value
from distlock_core.model.ttl import refresh_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.command.equipment import Reporter
    from distlock_core.command.heartbeat import Heartbeat
    from distlock_core.lock.session import Session

LATE = 1.0  # seconds by which a renewal may come late before a loss is prepared for


class EndConditions(Value):
    """The conditions that end a command early. `tell` reports why: it gets the cause, and a line for people."""

    session: Session
    kill_on_loss: bool
    kill_after: float  # seconds from SIGTERM to SIGKILL
    tell: Callable[[str, str], None]
    reporter: Reporter
    heartbeat: Heartbeat | None = None
    limit: float = FOREVER  # time limit of the command, in seconds
    wait_for_tree: bool = False  # wait for the last descendant, not only for the command
    sees_tree: bool = False  # all descendants are found, even orphans
    on_lost: Callable[[str], None] | None = None  # called with the reason once the kill has begun; it must not block

    @property
    def leased(self) -> bool:
        return self.session.lease is not None

    @property
    def is_renewal_late(self) -> bool:
        """True while a leased hold is in doubt, even if its monitoring thread gets no time to report it."""
        lease = self.session.lease
        if lease is None:
            return False
        refresh = refresh_of(lease.ttl, lease.refresh)
        return self.session.doubt or now() > lease.deadline - lease.ttl + refresh + LATE

    @property
    def last_moment(self) -> float:
        """When the lock counts as lost without a confirmed renewal: early enough to send SIGTERM first."""
        return self.session.deadline - (self.kill_after if self.kill_on_loss else 0.0)

    @property
    def dead_by(self) -> float:
        """The moment at which another may be let in: no process of the command may live then."""
        return self.session.deadline if self.kill_on_loss else FOREVER
