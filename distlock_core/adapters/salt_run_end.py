"""The end of a Salt run in a container, where the keeper cannot outlive the run."""

from __future__ import annotations

import logging
import os
import signal

from distlock_core.adapters.settings import shown_name
from distlock_core.connection import realm_of
from distlock_core.errors import DistlockError
from distlock_core.process.table import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

log = logging.getLogger(__name__)


def release(settings: Settings, run: int, holders: Sequence[Holder]) -> None:
    """Release the locks of a run that is the first process of its container: the kernel ends the keeper with the run.

    Elsewhere, processes that the run has left behind keep the locks, and the keeper releases them after those.
    """
    left = {pid for pid, _ in children(run)} - {holders[0].keeper}
    if os.getpid() != run or (left and run != 1):
        return
    try:
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # the kernel would, a moment after the lock is free
        realm, tokens = realm_of(settings), {(holder.lock, holder.token) for holder in holders}
        found = [holder for state in realm.show_all(settings.lock_names) for holder in state.holders]
        mine = [holder for holder in found if (holder.lock, holder.token) in tokens]
        if mine:
            realm.end_all(mine, settings.id, cooldown=settings.cooldown)
    except (DistlockError, OSError) as error:
        log.warning("distlock: %s ends by its ttl: %s", shown_name(settings), error)
