# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the strategies: from play variables, environment and ansible.cfg, as documented."""

from __future__ import annotations

import difflib
import os

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.loader import fragment_loader
from ansible.template import Templar
from ansible.utils.display import Display
from ansible.utils.plugin_docs import get_docstring
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import CONNECTION, with_seconds
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import (
    LOCK_NAMES,
    read_settings,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import ConfigError
from ansible_collections.distlock.distlock.plugins.plugin_utils._controller import suffix_of_run
from ansible_collections.distlock.distlock.plugins.plugin_utils._facts import ADVICE, refuse_injected, without_facts

display = Display()

WORD = "distlock_"
CLOSE = 0.85  # similarity (0 to 1) at which an unknown name counts as a misspelling
SETTING = {"name": "lockname", "owner": "id"}  # all other options have the name of the setting
# These choose the etcd cluster, or files that the controller reads and writes, or a line that its shell reads.
OF_THE_CONTROLLER = {WORD + word for word in (*CONNECTION, "log_file", "gate")}
SCOPE = "scope"  # an option of the strategy, not a setting


class Options:
    """Reads the options of one strategy, which Ansible itself does for other kinds of plugins only."""

    def __init__(self, plugin, path):
        self._plugin = plugin
        if not constants.config.has_configuration_definition("strategy", plugin):
            documentation = get_docstring(path, fragment_loader, plugin_type="strategy")[0]
            constants.config.initialize_plugin_configuration_definitions("strategy", plugin, documentation["options"])

    def read(self, manager, get_vars, loader, host=None):
        """Return the settings of the lock, and the options that are not settings. Raises `ConfigError`.

        `get_vars` asks the variable manager for the variables. `host` is whose lock it is; without one it is the
        play's. Settings that say which etcd is asked, and files of the controller, are rendered without facts.
        """
        known = set(constants.config.get_plugin_vars("strategy", self._plugin))
        variables = get_vars()
        try:
            _warn_of_misspelt(variables, known)
            with without_facts(manager):
                clean = get_vars()
                refuse_injected(known, variables, clean)
                said = _rendered(known & OF_THE_CONTROLLER, clean, loader)
            said.update(_rendered(known - OF_THE_CONTROLLER, variables, loader))
            found = constants.config.get_plugin_options("strategy", self._plugin, variables=said)
        except AnsibleError as error:
            raise ConfigError(" ".join(str(error).split())) from error
        options = {name[len(WORD) :]: value for name, value in found.items() if name.startswith(WORD)}
        # Those of a variable replace those of environment and ansible.cfg.
        for word, other in (("name", LOCK_NAMES), (LOCK_NAMES, "name")):
            if said.get(WORD + word) is not None and said.get(WORD + other) is None:
                options[other] = None
        options = with_seconds(options, WORD)
        own = {SCOPE: options.pop(SCOPE, None)}
        if options["gate"] is None:
            # Those that the environment has for other plays are no mistake of this one.
            options = {word: value for word, value in options.items() if word[:5] != "gate_" or WORD + word in said}
        suffix = suffix_of_run(os.getpid())
        owner = f"ansible:{host}@{suffix}" if host else f"ansible:{suffix}"
        arguments = {SETTING.get(name, name): _plain(value) for name, value in options.items()}
        settings = read_settings(arguments, owner)
        if not settings.lockname:
            raise ConfigError("no lock is named: set the variable distlock_name or distlock_lock_names")
        return settings, own


def _warn_of_misspelt(variables, known):
    for name in sorted(set(variables) - known - {"distlock_held"}):
        nearest = difflib.get_close_matches(name, known, 1, CLOSE) if name.startswith(WORD) else []
        if nearest:
            display.warning(f"distlock: unknown variable {name}; did you mean {nearest[0]}?")


def _rendered(names, variables, loader):
    templar = Templar(loader=loader, variables=variables)
    said = {}
    for name in names:
        if variables.get(name) is not None:
            try:
                said[name] = templar.template(variables[name])
            except AnsibleError as error:
                facts = f" (facts are not there for it: {ADVICE})" if name in OF_THE_CONTROLLER else ""
                raise ConfigError(f"{name}: {' '.join(str(error).split())}{facts}") from error
    return said


def _plain(value):
    """Strip the tags that Ansible attaches to its values, for another process."""
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
