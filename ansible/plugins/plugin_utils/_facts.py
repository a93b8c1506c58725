# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts come from the nodes, so they must not choose the etcd that a controller talks to.

Ansible ranks facts above the variables of an inventory. A node that has been taken over could otherwise name an etcd of
its own, receive the password meant for the real one, and grant locks as it likes.
"""

from __future__ import annotations

import contextlib

from ansible.errors import AnsibleError
from ansible.parsing.mod_args import ModuleArgsParser
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import CONNECTION
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import ConfigError

ACTION_GROUP = "group/distlock.distlock.distlock"
# A password may be good for one use only (a lookup in a vault), so it is not rendered twice. It chooses no etcd.
CHECKED = tuple(word for word in CONNECTION if word != "password")

ADVICE = "set it in the inventory, the play or with --extra-vars, without facts"


@contextlib.contextmanager
def without_facts(manager):
    """Context manager: the variable manager, and with it hostvars, has no facts of any host."""
    before, manager._fact_cache = manager._fact_cache, _NoFacts()
    try:
        yield
    finally:
        manager._fact_cache = before


class _NoFacts:
    """An empty fact cache; its interface differs between versions of Ansible."""

    def get(self, name, *default):
        if default:
            return default[0]
        raise KeyError(name)

    def __getitem__(self, name):
        raise KeyError(name)

    def __contains__(self, name):
        return False


def refuse_injected(names, variables, clean):
    """Raise `ConfigError` if the value of a variable comes from a fact. `clean` are the variables without facts."""
    for name in names:
        if variables.get(name) != clean.get(name):
            raise ConfigError(f"{name} comes from a fact of this host, and a host must not set it: {ADVICE}")


def rendered_without_facts(names, variables, templar):
    """Render the variables that are set, for a plugin that knows neither play nor task. Raises `ConfigError`."""
    hostvars = variables.get("hostvars")
    if hostvars is None:  # no host, no facts
        return {name: templar.template(variables[name]) for name in names if variables.get(name) is not None}
    manager = hostvars._variable_manager
    try:
        facts = manager._fact_cache.get(variables.get("inventory_hostname")) or {}
    except KeyError:
        facts = {}
    injected = {name for name, value in facts.items() if name in variables and variables[name] == value}
    injected |= {"ansible_facts", "ansible_local"}
    clean = {name: variables[name] for name in variables if name not in injected}
    refuse_injected(names, variables, clean)
    with without_facts(manager):
        render = templar.copy_with_new_env(available_variables=clean)
        return {name: _rendered(render, name, clean[name]) for name in names if clean.get(name) is not None}


def refuse_facts_in_arguments(task, task_vars, templar, action, also=()):
    """Raise `ConfigError` if an argument of the connection, or one of `also`, depends on the facts of a host.

    The arguments of a task are rendered before its action plugin sees them, so they are rendered again without facts.
    """
    hostvars = task_vars["hostvars"]
    with without_facts(hostvars._variable_manager):
        host = hostvars._inventory.get_host(task_vars["inventory_hostname"])
        known = hostvars._variable_manager.get_vars(play=task.get_play(), host=host, task=task)
        # Variables of this task alone, such as loop variables.
        own = {name: value for name, value in task_vars.items() if name not in known and not _is_fact(name, task_vars)}
        clean = templar.copy_with_new_env(available_variables={**own, **known})
        for word, value in _as_written(task, action, clean).items():
            if word not in (*CHECKED, *also) or not _is_template(value):
                continue
            # In a dictionary, since newer versions of Ansible leave an omitted value out of it, and raise it elsewhere.
            plain = _rendered(clean, word, {word: value}).get(word)
            omitted = plain is not None and plain == task_vars.get("omit")
            if not _same(None if omitted else plain, task.args.get(word)):
                raise ConfigError(_refusal(word))


def _rendered(clean, word, value):
    try:
        return clean.template(value)
    except AnsibleError as error:
        raise ConfigError(_refusal(word)) from error


def _refusal(word):
    if word not in CONNECTION:
        return f"{word} depends on facts, and a host must not choose what the controller runs: {ADVICE}"
    return f"{word} depends on facts, and a host must not choose the etcd that is asked for a lock: {ADVICE}"


def _as_written(task, action, clean):
    """The arguments of a task before rendering, with those of module_defaults as defaults."""
    entries = {}
    # Some versions of Ansible have already rendered the task's own copy, but never that of the enclosing block.
    for source in (task, getattr(task, "_parent", None)):
        for entry in getattr(source, "module_defaults", None) or ():
            entries.update(entry)
    written = written_in(task)
    found = {}
    for whole in (entries.get(ACTION_GROUP), entries.get(action), written.pop("_variable_params", None), written):
        found.update(_rendered(clean, "module_defaults", whole) if _is_template(whole) else whole or {})
    return found


def written_in(task):
    """The arguments of a task as written in the playbook."""
    return ModuleArgsParser(task_ds=task.get_ds().copy(), collection_list=task.collections).parse()[1]


def _is_template(value):
    if isinstance(value, (list, tuple)):
        return any(_is_template(item) for item in value)
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _is_fact(name, task_vars):
    facts = task_vars.get("ansible_facts") or {}
    return name in ("ansible_facts", "ansible_local") or name in facts or name.removeprefix("ansible_") in facts


def _same(one, other):
    """Ignores the order of a list, which may be shuffled to spread the load. A comma-separated text is a list, too."""
    return _items(one) == _items(other)


def _items(value):
    if value is None or value == "":
        return []
    items = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return sorted(str(item).strip() for item in items)
