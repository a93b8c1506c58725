"""Previews of an acquisition, of one lock or of several, for dry runs. They write nothing."""

from __future__ import annotations

from distlock_core.base.deadline import NO_WAIT, Wait
from distlock_core.lock.lock import acquisition_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.errors import Frozen, LockBusy
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.reentry import Reentry
    from distlock_core.model.state import LockState


def preview_of_all(lock: Lock) -> tuple[tuple[Reentry | None, LockState], ...]:
    """Return the preview and the state of each lock, in the order of their names. Raises as `Lock.preview()`."""
    return acquisition_of(lock, NO_WAIT).preview()


def foresee_all(lock: Lock, timeout: float) -> tuple[Reentry | None, ...] | LockBusy | Frozen:
    """As `preview_of_all()` for a call that may wait: then the error is returned that says what it would wait for."""
    found = acquisition_of(lock, Wait.of(timeout)).foresee()
    return tuple(reentry for reentry, _ in found) if isinstance(found, tuple) else found
