# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detects hosts of one batch that would wait for each other forever, under a strategy that goes task by task."""

from __future__ import annotations

from ansible.errors import AnsibleError
from ansible.parsing.mod_args import ModuleArgsParser
from ansible_collections.distlock.distlock.plugins.module_utils._states import LOCK_NAMES

NOT_IN_LOCKSTEP = ("free", "host_pinned")  # the last part of their names, in any collection


def is_in_lockstep(play):
    return not play.strategy.rpartition(".")[2].endswith(NOT_IN_LOCKSTEP)


def shares_workers(play):
    """True for a strategy whose waiting hosts can occupy all workers; not for one that pins hosts to workers."""
    return play.strategy.rpartition(".")[2].endswith("free")


def rivals(task, task_vars, templar, default_owner):
    """Return the other hosts of the batch that acquire the lock of this task, or one of several, as other owners.

    What they are told is rendered with their variables. A host for which that cannot be done is left out: once it
    waits, it is seen who holds the lock. `default_owner` gives a host's.
    """
    if task.run_once:
        return []
    me, batch = task_vars["inventory_hostname"], task_vars.get("ansible_play_batch") or []
    wanted = _Wanted(task, task_vars, templar, default_owner)
    mine = wanted.by(me)
    found = []
    for host in batch:
        other = mine if host == me else wanted.by(host)
        if other is not None and mine is not None and other.names & mine.names and other.is_rival_of(mine):
            found.append(host)
    return found


class _Wish:
    def __init__(self, names, realm, owner):
        self.names, self.realm, self.owner = frozenset(names), realm, owner

    def is_rival_of(self, other):
        return self.realm == other.realm and self.owner != other.owner


class _Wanted:
    """Renders a task for each host, from its unrendered text."""

    def __init__(self, task, task_vars, templar, default_owner):
        self._task = task
        self._task_vars = task_vars
        self._templar = templar
        self._default_owner = default_owner
        written = ModuleArgsParser(task_ds=task.get_ds().copy(), collection_list=task.collections).parse()[1]
        self._arguments = {**task.args, **written}

    def by(self, host):
        """The lock that a host acquires; None if it acquires none, or if that is unknown."""
        hostvars = self._task_vars["hostvars"]
        manager = hostvars._variable_manager
        try:
            known = manager.get_vars(
                play=self._task.get_play(), host=hostvars._inventory.get_host(host), task=self._task
            )
            # The variables of a loop belong to this task alone.
            variables = {**self._task_vars, **known}
            templar = self._templar.copy_with_new_env(available_variables=variables)
            if not self._applies(variables, templar):
                return None
            words = ("name", LOCK_NAMES, "prefix", "owner", "endpoints")
            # In a dictionary, since newer versions of Ansible leave an omitted value out of it, and raise it elsewhere.
            rendered = templar.template({word: self._arguments[word] for word in words if word in self._arguments})
        except (AnsibleError, AttributeError, KeyError):
            return None
        omitted = self._task_vars.get("omit")
        said = {word: value for word, value in rendered.items() if omitted is None or value != omitted}
        names = said.get(LOCK_NAMES)
        if names is None:
            names = [said.get("name")]
        elif isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        realm = (said.get("prefix"), str(said.get("endpoints")))
        return _Wish(names, realm, said.get("owner") or self._default_owner(host))

    def _applies(self, variables, templar):
        if hasattr(self._task, "_resolve_conditional"):
            return self._task._resolve_conditional(self._task.when, variables)
        return self._task.evaluate_conditional(templar, variables)  # before ansible-core 2.19
