# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The linear strategy under a lock."""

from __future__ import annotations

DOCUMENTATION = r"""
name: linear
short_description: Runs a play under a lock, otherwise as ansible.builtin.linear
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Acquires a lock in etcd before the first task of any host starts, including the gathering of facts, and releases it
    after the last one, including handlers. Others that want the lock fail or wait, be it another controller, a Salt or
    Puppet node, or a shell.
  - The lock is held by a process on the controller that ends when the run and all of its workers are gone, however they
    ended.
  - When the lock is lost in mid-play, no further task starts and the play fails. Running tasks are not ended.
  - Check mode acquires nothing, and says what would be in the way.
  - While it is held, the variable C(distlock_held) has the keys C(lock), C(owner), C(token), C(since) and
    C(lock_names).
options:
  distlock_scope:
    description:
      - V(play) holds the lock over all batches that C(serial) makes of the play.
      - V(batch) releases it after each batch, and acquires it again before the next one.
    type: str
    choices: [play, batch]
    default: play
    vars: [{name: distlock_scope}]
    ini: [{section: distlock, key: scope}]
extends_documentation_fragment:
  - distlock.distlock.strategy
notes:
  - All hosts of the play must name the same lock. For one lock per host see
    P(distlock.distlock.host_pinned#strategy).
  - Ansible prints that third-party strategies are deprecated. The module P(distlock.distlock.distlock#module) with
    C(until=run_end) needs none.
"""

EXAMPLES = r"""
- name: Upgrade all database servers, with nobody else at work on them
  hosts: db
  strategy: distlock.distlock.linear
  serial: 1
  vars:
    distlock_name: percona_prod
    distlock_timeout: 600
    distlock_on_failure: keep
  tasks:
    - name: Upgrade
      ansible.builtin.package:
        name: percona-server-server
        state: latest
"""

import time
from functools import partial

from ansible import constants
from ansible.plugins.strategy.linear import StrategyModule as LinearStrategy
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import shown_name
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import (
    ConfigError,
    DistlockError,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._hosts import complain, preview, stop, would_hold
from ansible_collections.distlock.distlock.plugins.plugin_utils._options import SCOPE, Options
from ansible_collections.distlock.distlock.plugins.plugin_utils._play_lock import PlayLock

PLUGIN = "distlock.distlock.linear"
PLAYS = {}  # by play: Ansible makes a new strategy for each batch


class StrategyModule(LinearStrategy):
    _lock = None  # in check mode too
    _foreseen = None

    def run(self, iterator, play_context):
        play = iterator._play
        self._set_hosts_cache(play)
        try:
            self._lock = PLAYS.get(play._uuid) or self._new_lock(play)
        except DistlockError as error:
            complain(error)
            self._lock = PLAYS[play._uuid] = PlayLock.refused()
        if self._lock is None:  # check mode
            return super().run(iterator, play_context)
        if not self._lock.enter(self._hosts_cache):
            self._stop_all(iterator)
            return self._tqm.RUN_FAILED_BREAK_PLAY
        before = self._failed(iterator)  # in earlier plays
        result = super().run(iterator, play_context)
        self._lock.leave(self._workers, self._failed(iterator) - before, last=iterator.end_play)
        if self._lock.trouble is not None:
            self._stop_all(iterator)
            return self._tqm.RUN_FAILED_BREAK_PLAY
        return result

    def get_hosts_left(self, iterator):
        """Called before each round of tasks. Returns no hosts if the lock is lost."""
        if self._lock is not None and not self._lock.held():
            self._stop_all(iterator)
            return []
        return super().get_hosts_left(iterator)

    def add_tqm_variables(self, vars, play):  # noqa: A002 - Ansible's name for it
        super().add_tqm_variables(vars, play)
        if self._lock is not None:
            vars["distlock_held"] = self._lock.shown
        elif self._foreseen is not None:
            vars["distlock_held"] = self._foreseen

    def _queue_task(self, host, task, task_vars, play_context):
        if self._lock is None:
            return super()._queue_task(host, task, task_vars, play_context)
        # Not in get_hosts_left(): the lock may be lost while all workers are busy.
        while self._lock.held() and not self._a_worker_is_free(task):
            time.sleep(constants.DEFAULT_INTERNAL_POLL_INTERVAL)
        if self._lock.held():
            super()._queue_task(host, task, task_vars, play_context)
        return None

    def _process_pending_results(self, iterator, *args, **kwargs):
        if self._lock is not None:
            self._lock.held()  # reports a loss at once, not only after a long task
        return super()._process_pending_results(iterator, *args, **kwargs)

    def _a_worker_is_free(self, task):
        throttle = task.throttle if isinstance(task.throttle, int) and not task.run_once else 0
        workers = self._workers[:throttle] if throttle > 0 else self._workers
        return any(worker is None or not worker.is_alive() for worker in workers)

    def _failed(self, iterator):
        return {*iterator.get_failed_hosts(), *self._tqm._unreachable_hosts} & set(self._hosts_cache)

    def _stop_all(self, iterator):
        for host in super().get_hosts_left(iterator):
            if not iterator.is_failed(host):
                stop(self._tqm, iterator, host)

    def _new_lock(self, play):
        """The lock named by all hosts of the play; None in check mode. Raises `DistlockError`."""
        options = Options(PLUGIN, __file__)
        names = [host.name for host in self._inventory.get_hosts(play.hosts, ignore_restrictions=True)]
        settings, own = self._read(options, play, names[0])
        for name in names[1:]:
            other = self._read(options, play, name)[0]
            if set(other.lock_names) != set(settings.lock_names):
                raise ConfigError(
                    f"{names[0]} names the lock {shown_name(settings)}, {name} names {shown_name(other)}: "
                    "under linear all hosts of a play have one; for one of each host's own use "
                    "the strategy distlock.distlock.host_pinned"
                )
        if play.check_mode:
            preview(settings)
            self._foreseen = would_hold(settings)
            return None
        lock = PLAYS[play._uuid] = PlayLock(settings, names, play.get_name(), by_batch=own[SCOPE] == "batch")
        return lock

    def _read(self, options, play, name):
        host = self._inventory.get_host(name)
        hosts = {"_hosts": self._hosts_cache, "_hosts_all": self._hosts_cache_all}
        get_vars = partial(self._variable_manager.get_vars, play=play, host=host, **hosts)
        return options.read(self._variable_manager, get_vars, self._loader)
