# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host_pinned strategy, with a lock for each host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_pinned
short_description: Runs the play for each host under a lock, otherwise as ansible.builtin.host_pinned
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Acquires a lock in etcd for each host before its first task starts, including the gathering of facts, and releases
    it when the host has finished the play, including its handlers. So hosts are changed one after the other, even if
    several controllers are at work, or Salt, Puppet and shells with the same lock. C(serial) is not needed.
  - The hosts of one run that name the same lock take it in the order of O(distlock_rank), and within a rank in that of
    the inventory. Only one of them at a time (with O(distlock_slots) up to that many) waits in the queue with those of
    other runs. While a host waits, others go on.
  - A lock is held by a process on the controller that ends when the run and all of its workers are gone, however they
    ended.
  - When a host's lock is lost in mid-play, no further task starts on it, and the host has failed. A task that is
    already running is not ended.
  - Check mode acquires nothing, and says what would be in the way.
  - While it is held, the host's variable C(distlock_held) has the keys C(lock), C(owner), C(token), C(since) and
    C(lock_names).
extends_documentation_fragment:
  - distlock.distlock.strategy
notes:
  - The hosts of a play may name different locks, one for each cluster.
  - Ansible prints that third-party strategies are deprecated. The module P(distlock.distlock.distlock#module) needs
    none.
"""

EXAMPLES = r"""
- name: Upgrade the database servers, one at a time in each cluster
  hosts: db
  strategy: distlock.distlock.host_pinned
  vars:
    distlock_name: "{{ cluster }}"
    distlock_timeout: -1
    distlock_on_failure: keep
  tasks:
    - name: Upgrade
      ansible.builtin.package:
        name: percona-server-server
        state: latest
"""

from functools import partial

from ansible.plugins.strategy.host_pinned import StrategyModule as HostPinnedStrategy
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError
from ansible_collections.distlock.distlock.plugins.plugin_utils._host_locks import HostLocks
from ansible_collections.distlock.distlock.plugins.plugin_utils._hosts import (
    at_work,
    complain,
    preview,
    stop,
    would_hold,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._options import Options

PLUGIN = "distlock.distlock.host_pinned"


class StrategyModule(HostPinnedStrategy):
    _locks = None  # in check mode too
    _foreseen = None

    def run(self, iterator, play_context):
        play = iterator._play
        self._set_hosts_cache(play)
        wanted = self._wanted(iterator)
        if play.check_mode:
            for settings in {settings.lockname: settings for settings in wanted.values()}.values():
                preview(settings)
            self._foreseen = {name: would_hold(settings) for name, settings in wanted.items()}
            return super().run(iterator, play_context)
        self._locks = HostLocks(wanted, play.get_name())
        self._blocked_hosts = _Blocked(self._locks)
        result = super().run(iterator, play_context)
        self._locks.finish(lambda: self._advance(iterator))
        return result or (self._tqm.RUN_FAILED_HOSTS if iterator.get_failed_hosts() else self._tqm.RUN_OK)

    def get_hosts_left(self, iterator):
        """Called repeatedly by the base class."""
        if self._locks is not None:
            self._advance(iterator)
            if self._pending_results == 0:
                self._locks.rest()
        return super().get_hosts_left(iterator)

    def add_tqm_variables(self, vars, play):  # noqa: A002 - Ansible's name for it
        super().add_tqm_variables(vars, play)
        if self._locks is not None:
            vars["distlock_held"] = self._locks.shown(vars.get("inventory_hostname"))
        elif self._foreseen is not None:
            vars["distlock_held"] = self._foreseen.get(vars.get("inventory_hostname"))

    def _advance(self, iterator):
        def state(name):
            """Return whether the host has finished the play, and whether it has failed."""
            host = self._inventory.get_host(name)
            unreachable = name in self._tqm._unreachable_hosts
            at_rest = not dict.get(self._blocked_hosts, name) and not at_work(self._workers, name)
            through = at_rest and (unreachable or iterator.get_next_task_for_host(host, peek=True)[1] is None)
            return through, unreachable or iterator.is_failed(host)

        for name in self._locks.advance(state):
            stop(self._tqm, iterator, self._inventory.get_host(name))

    def _wanted(self, iterator):
        """The settings of each host's lock. A host without a lock name has failed."""
        options, wanted, play = Options(PLUGIN, __file__), {}, iterator._play
        for name in self._hosts_cache:
            host = self._inventory.get_host(name)
            hosts = {"_hosts": self._hosts_cache, "_hosts_all": self._hosts_cache_all}
            get_vars = partial(self._variable_manager.get_vars, play=play, host=host, **hosts)
            try:
                wanted[name] = options.read(self._variable_manager, get_vars, self._loader, host=name)[0]
            except DistlockError as error:
                complain(error, name)
                stop(self._tqm, iterator, host)
        return wanted


class _Blocked(dict):
    """The hosts that are busy with a task, or have no lock. Queried right before the next task of a host starts."""

    def __init__(self, locks):
        super().__init__()
        self._locks = locks

    def get(self, name, default=None):
        return super().get(name, default) or self._locks.keep_back(name)
