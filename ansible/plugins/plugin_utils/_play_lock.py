# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a whole play, over all of its batches."""

from __future__ import annotations

import time

from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.ansible_run_lock import (
    start_run_keeper,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import (
    DistlockError,
    LockLost,
    NotSettled,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.keeper.run_keeper_process import (
    AFTER_FAILURE,
    COOL,
    FREEZE,
    RELEASE,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._hosts import (
    at_work,
    complain,
    display,
    say,
    warn_not_released,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._story import Waiting

LOOK = 1.0  # seconds between two checks of a silent keeper
WORKERS_END = 10.0  # seconds that the workers may take to end after their last result
BEYOND = 10.0  # seconds that a release may take beyond its timeout


class PlayLock:
    """Entered and left by each batch. `trouble` is set permanently if the lock was refused or lost."""

    @classmethod
    def refused(cls):
        """A lock that is refused from the start."""
        lock = cls({}, (), "", by_batch=False)
        lock.trouble = DistlockError("refused")
        return lock

    def __init__(self, settings, hosts, play, by_batch):
        self.trouble = None
        self._settings = settings
        self._play = play
        self._by_batch = by_batch
        self._to_come = set(hosts)
        self._failed = set()
        self._keeper = None

    @property
    def shown(self):
        """The variable that shows the hold to tasks."""
        hold = self._keeper.hold if self._keeper is not None else None
        return None if hold is None else hold._asdict()

    def enter(self, hosts):
        """Acquire the lock, within the timeout of the settings. True if it is held."""
        self._to_come -= set(hosts)
        if self.trouble is None and self._keeper is None:
            self._get()
        return self.held()

    def held(self):
        """True until a loss is known. Needs no request to etcd. Reports a loss once."""
        if self.trouble is not None or self._keeper is None:
            return False
        self._keeper.update()
        if self._keeper.over:
            self._fail(self._keeper.trouble)
        return self.trouble is None

    def leave(self, workers, failed, last):
        """End a batch. After the last one release the lock, or keep it after a failure if the settings say so."""
        self._failed.update(failed)
        if not self.held() or not (last or self._by_batch or not self._to_come):
            return
        deadline = time.monotonic() + WORKERS_END
        while at_work(workers):
            if time.monotonic() > deadline:
                display.warning(f"distlock: {self._keeper.name}: a worker does not end; it stays locked until then")
                return
            time.sleep(0.005)
        keeper, self._keeper = self._keeper, None
        stops = self._failed and self._settings.on_failure in AFTER_FAILURE
        end_hold(keeper, self._settings, self._play, self._failed)
        self._failed.clear()
        deadline = time.monotonic() + longest_end(self._settings)
        settling = Settling()
        while not keeper.over and time.monotonic() < deadline:
            keeper.wait(LOOK)
            settling.show(keeper)
        if isinstance(keeper.trouble, LockLost) or is_unsettled(keeper.trouble):
            self._fail(keeper.trouble)
        elif stops and self._to_come:
            how = stopped_by(self._settings)
            self._fail(DistlockError(f"{keeper.name} is {how} after a failure, so no further batch goes on"))
        elif keeper.trouble is not None or not keeper.over:
            warn_not_released(keeper.name, keeper.trouble or "the process that keeps it gives no answer")

    def _get(self):
        try:
            self._keeper = start_run_keeper(self._settings, self._play)
        except DistlockError as error:
            self._fail(error)
            return
        shown, wait = "", Waiting(self._play, self._keeper.name)
        while self._keeper.hold is None and not self._keeper.over:
            self._keeper.wait(LOOK)
            if self._keeper.waiting != shown:
                shown = self._keeper.waiting
                if shown:
                    say(f"waiting: {shown}")
                    wait.says(shown)
        wait.ends(self._keeper.trouble)

    def _fail(self, trouble):
        self.trouble = trouble
        complain(trouble)


class Settling:
    """Shows why the gate of a lock does not let it go yet, once for each reason."""

    def __init__(self):
        self._shown = ""

    def show(self, keeper, host=None):
        if keeper.settling != self._shown:
            self._shown = keeper.settling
            say(f"{f'{host}: ' if host else ''}{keeper.name} is settling: {self._shown}")


def longest_end(settings):
    """Seconds that the end of a hold may take: its gate, and then its release."""
    settles = settings.gate is not None and "after" in settings.gate_at
    return settings.release_timeout + BEYOND + (settings.gate_timeout if settles else 0)


def is_unsettled(trouble):
    """True if the lock was not released, because its gate was not green in time."""
    return trouble is not None and trouble.kind == NotSettled.kind


def stopped_by(settings):
    """What keeps everybody else from going on, after a failure or as the gate was not green in time."""
    return "frozen" if settings.on_failure == FREEZE else "left taken"


def end_hold(keeper, settings, what, failed):
    """Release, keep, freeze or cool the lock, depending on the outcome and the settings."""
    if failed and settings.on_failure in AFTER_FAILURE:
        keeper.end_hold(settings.on_failure, f"{what}: failed on {', '.join(sorted(failed))}")
    elif failed:
        keeper.end_hold(RELEASE)
    else:
        keeper.end_hold(COOL, settings.cooldown)  # or for as long as the lock's policy says
