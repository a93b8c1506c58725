# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends a module with the run: Ansible's workers and their modules would survive its SIGKILL or SIGHUP."""

from __future__ import annotations

import os
import select
import signal

from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.base.threads import start_thread
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.fate import is_gone
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import start_time
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.table import descendants
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.tree import Tree

LOOK = 0.5  # seconds between two checks of the run, if the kernel cannot report its end


class Tied:
    """Context manager: the end of the run, or an exception in the block, ends what this worker has started.

    For a module over ssh that is the local client: its host then sees that nobody listens any more.
    """

    def __init__(self, pid):
        self.run_is_gone = False
        self._pid, self._started = pid, start_time(pid)
        self._stop_reading, self._stop = os.pipe()
        self._thread = None

    def __enter__(self):
        # It blocks all signals: those from Ansible must wake the thread that waits for the module.
        self._thread = start_thread(self._watch, "distlock-tied")
        return self

    def __exit__(self, kind, error, trace):
        os.close(self._stop)
        self._thread.join()
        os.close(self._stop_reading)
        if kind is not None:
            _end_what_i_started()

    def _watch(self):
        process = _pidfd(self._pid)
        poll = select.poll()
        poll.register(self._stop_reading, 0)
        if process is not None:
            poll.register(process, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _event in poll.poll(None if process is not None else LOOK * 1000)}
                if self._stop_reading in ready:
                    return
                if self._started is None or is_gone(self._pid, self._started):
                    self.run_is_gone = True
                    _end_what_i_started()
                    return
        finally:
            if process is not None:
                os.close(process)


def _pidfd(pid):
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _end_what_i_started():
    me = os.getpid()
    Tree(me, subreaper=False).send(signal.SIGTERM, descendants(me))
