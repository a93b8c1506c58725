# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of the module distlock_wait: its environment, and a line about what it waits for."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import CONNECTION, with_seconds
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError
from ansible_collections.distlock.distlock.plugins.plugin_utils._controller import fill_in
from ansible_collections.distlock.distlock.plugins.plugin_utils._facts import refuse_facts_in_arguments

DEFAULT_TIMEOUT = 300.0  # seconds, as the module has it
WAITS = ("busy", "frozen", "window")  # kinds of failure that a wait can end


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        self._supports_async = True  # on the object: the constructor of ansible-core 2.15 resets it
        result = super().run(tmp, task_vars)
        del tmp  # deprecated, without effect
        arguments = dict(self._task.args)
        try:
            refuse_facts_in_arguments(self._task, task_vars, self._templar, self._task.resolved_action)
            arguments = with_seconds(arguments)
            fill_in(arguments, set(CONNECTION), {})
        except DistlockError as error:
            return {**result, "failed": True, "changed": False, "msg": ANSIBLE.said(error), "kind": error.kind}
        return {**result, **self._wait(arguments, task_vars)}

    def _wait(self, arguments, task_vars):
        timeout, started = arguments.get("timeout", DEFAULT_TIMEOUT), time.monotonic()
        if self._task.async_val or self._task.check_mode or timeout == 0:
            return self._execute(arguments, task_vars)
        seen = self._execute({**arguments, "timeout": 0}, task_vars)
        if not seen.get("failed") or seen.get("kind") not in WAITS or not seen.get("locks"):
            return seen
        host = (task_vars or {}).get("inventory_hostname", "localhost")
        Display().display(f"distlock: {host}: waiting: {seen.get('msg')}")
        # The whole timeout again: the first look was not a wait, and may have taken long on a busy host.
        done = self._execute(arguments, task_vars)
        if "waited" in done:
            done["waited"] = round(time.monotonic() - started, 2)
        if done.get("reached"):
            done["waited_for"] = done.get("waited_for") or seen.get("msg")
        return done

    def _execute(self, arguments, task_vars):
        return self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val)
