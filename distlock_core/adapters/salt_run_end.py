"""The end of a Salt run in a container, where the keeper cannot outlive the run."""

from __future__ import annotations

import logging
import os
import signal

from distlock_core.adapters import acquire_release
from distlock_core.errors import DistlockError
from distlock_core.process.table import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

log = logging.getLogger(__name__)


def release(settings: Settings, run: int, holder: Holder) -> None:
    """Release the lock of a run that is the first process of its container: the kernel ends the keeper with the run.

    Elsewhere, processes that the run has left behind keep the lock, and the keeper releases it after them.
    """
    left = {pid for pid, _ in children(run)} - {holder.keeper}
    if os.getpid() != run or (left and run != 1):
        return
    try:
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # the kernel would, a moment after the lock is free
        acquire_release.release(settings, token=holder.token)
    except (DistlockError, OSError) as error:
        log.warning("distlock: %s ends by its ttl: %s", holder.lock, error)
