# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The waits of this run, collected in its main process for the callback that shows them."""

from __future__ import annotations

import time

from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import PLAY
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.model.wording import duration


class Wait:
    def __init__(self, host, lock, story):
        """`host` is the host that waited, or the name of a play."""
        self.host, self.lock, self.story = host, lock, story


WAITS = []


class Waiting:
    """A wait of a strategy, from its first message to its end."""

    def __init__(self, host, lock):
        self._host, self._lock = host, lock
        self._started = None
        self._first = ""

    def says(self, text):
        if self._started is None:
            self._started, self._first = time.monotonic(), text

    def ends(self, trouble=None):
        """End the wait: the lock is held, or was refused."""
        if trouble is not None:
            WAITS.append(Wait(self._host, self._lock, f"refused: {PLAY.said(trouble)}"))
        elif self._started is not None:
            seconds = duration(time.monotonic() - self._started)
            WAITS.append(Wait(self._host, self._lock, f"locked after {seconds}: at first {self._first}"))
