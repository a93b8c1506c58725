# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations of the strategies on hosts and their workers, and their messages."""

from __future__ import annotations

import os

from ansible.executor.play_iterator import FailedStates, IteratingStates
from ansible.utils.display import Display
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters import acquire
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import PLAY
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import shown_name
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError

display = Display()


def stop(tqm, iterator, host):
    """Mark the host as failed: it starts no further task, not even in an always section."""
    iterator.mark_host_failed(host)
    iterator.set_run_state_for_host(host.name, IteratingStates.COMPLETE)
    # The same state as after a failure with no section of any block left.
    iterator.set_fail_state_for_host(host.name, FailedStates.TASKS | FailedStates.ALWAYS)
    tqm._failed_hosts[host.name] = True
    tqm._stats.increment("failures", host.name)


def at_work(workers, host=None):
    """True while a worker is alive, of this host or of any."""
    return any(
        worker is not None and worker.is_alive() and (host is None or worker._host.name == host) for worker in workers
    )


def preview(settings):
    """In check mode: report the obstacles of a real run. Writes nothing."""
    try:
        waits = acquire.take(settings, run=os.getpid(), bound=True, dry_run=True).waits
    except DistlockError as error:
        display.warning(f"distlock: check mode takes no lock; a real run would fail now: {PLAY.said(error)}")
    else:
        if waits:
            say(f"check mode takes no lock; a real run would wait now: {PLAY.said(waits)}")


def would_hold(settings):
    """The variable distlock_held in check mode: the hold of a real run, without fields that only a real hold has."""
    return {
        "lock": shown_name(settings),
        "owner": settings.id,
        "token": None,
        "since": None,
        "lock_names": settings.lock_names,
    }


def say(line):
    display.display(f"distlock: {line}")


def complain(trouble, host=None):
    """An error, of the play or of one of its hosts."""
    display.error(f"distlock: {_of(host)}{PLAY.said(trouble)}", wrap_text=False)


def warn_not_released(what, trouble, host=None):
    display.warning(f"distlock: {_of(host)}{what} may not be released: {PLAY.said(trouble)}")


def _of(host):
    return f"{host}: " if host else ""
