# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module gate: runs a few tasks again and again, until all of them succeed."""

from __future__ import annotations

import time

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import ConfigError
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.settings.readers import (
    read_span,
    read_span_or_none,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._selection import is_deselected
from ansible_collections.distlock.distlock.plugins.plugin_utils._tasks import given_tasks, has_failed, why

OPTIONS = {
    "tasks": {"type": "list", "elements": "dict", "required": True},
    "timeout": {"type": "raw", "default": 600},
    "every": {"type": "raw", "default": 5},
    "steady": {"type": "raw", "default": 0},
}
TIMES = {"timeout": read_span_or_none, "every": read_span, "steady": read_span_or_none}


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp  # deprecated, without effect
        if is_deselected(self._task, task_vars):
            return {**result, "changed": False, "skipped": True, "skip_reason": "Not selected by the tags of this run"}
        arguments = self.validate_argument_spec(OPTIONS)[1]
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True, "skip_reason": "Nothing is waited for in check mode"}
        result.update(changed=False, asked=0)
        for word, read in TIMES.items():
            try:
                arguments[word] = read(arguments[word])
            except ConfigError as error:
                found = f"{word}: expected {error}, found {arguments[word]!r}"
                return {**result, "failed": True, "msg": found}
        try:
            return {**result, **self._wait(given_tasks(arguments["tasks"]), arguments, task_vars)}
        except AnsibleError as error:
            return {**result, "failed": True, "msg": str(error)}

    def _wait(self, tasks, arguments, task_vars):
        began, asked, green_since = time.monotonic(), 0, None
        while True:
            at, trouble = time.monotonic(), ""
            asked += 1
            for task in tasks:
                found = task.run(self, task_vars, check_mode=False)
                if has_failed(found):
                    trouble = f"{task.name}: {why(found)}"
                    break
            green_since = None if trouble else green_since or at
            pause = arguments["every"]
            if green_since is not None:
                left = green_since + arguments["steady"] - time.monotonic()
                if left <= 0:
                    return {"asked": asked, "msg": "The cluster is healthy"}
                pause = min(pause, left)
            if time.monotonic() + pause > began + arguments["timeout"]:
                red = trouble or f"it is healthy, but not yet for {arguments['steady']:g} s"
                return {"failed": True, "asked": asked, "msg": f"Not healthy within {arguments['timeout']:g} s: {red}"}
            time.sleep(pause)
