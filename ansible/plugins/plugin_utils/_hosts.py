# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the strategies do to hosts and their workers, and how they say so."""

from __future__ import annotations

import os

from ansible.executor.play_iterator import FailedStates, IteratingStates
from ansible.utils.display import Display
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters import steps
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import PLAY
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError

display = Display()


def stop(tqm, iterator, host):
    """The host has failed, and starts no further task, not even one of an always section."""
    iterator.mark_host_failed(host)
    iterator.set_run_state_for_host(host.name, IteratingStates.COMPLETE)
    # As after a failure that no section of any block is left for.
    iterator.set_fail_state_for_host(host.name, FailedStates.TASKS | FailedStates.ALWAYS)
    tqm._failed_hosts[host.name] = True
    tqm._stats.increment("failures", host.name)


def at_work(workers, host=None):
    """True while a worker lives, of this host or of any."""
    return any(
        worker is not None and worker.is_alive() and (host is None or worker._host.name == host) for worker in workers
    )


def preview(settings):
    """In check mode: say what is in the way of a real run. Nothing is written."""
    try:
        waits = steps.take(settings, run=os.getpid(), bound=True, dry_run=True).waits
    except DistlockError as error:
        display.warning(f"distlock: check mode takes no lock; a real run would fail now: {PLAY.said(error)}")
    else:
        if waits:
            say(f"check mode takes no lock; a real run would wait now: {PLAY.said(waits)}")


def would_hold(settings):
    """The variable distlock_held in check mode: what a real run would hold, but for what only that would know."""
    return {"lock": settings.lockname, "owner": settings.id, "token": None, "since": None}


def say(line):
    display.display(f"distlock: {line}")


def complain(trouble, host=None):
    """An error, of the play or of one of its hosts."""
    display.error(f"distlock: {_of(host)}{PLAY.said(trouble)}", wrap_text=False)


def warn_not_released(what, trouble, host=None):
    display.warning(f"distlock: {_of(host)}{what} may not be released: {PLAY.said(trouble)}")


def _of(host):
    return f"{host}: " if host else ""
