# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of the module distlock_freeze: its environment, and the default owner."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import CONNECTION
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError
from ansible_collections.distlock.distlock.plugins.plugin_utils._controller import fill_in
from ansible_collections.distlock.distlock.plugins.plugin_utils._facts import refuse_facts_in_arguments


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        self._supports_async = True  # on the object: the constructor of ansible-core 2.15 resets it
        result = super().run(tmp, task_vars)
        del tmp  # deprecated, without effect
        arguments = dict(self._task.args)
        try:
            refuse_facts_in_arguments(self._task, task_vars, self._templar, self._task.resolved_action)
            fill_in(arguments, set(CONNECTION), {})
        except DistlockError as error:
            return {**result, "failed": True, "changed": False, "msg": ANSIBLE.said(error), "kind": error.kind}
        if not arguments.get("owner"):
            arguments["owner"] = f"ansible:{(task_vars or {}).get('inventory_hostname', 'localhost')}"
        done = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val)
        return {**result, **done}
