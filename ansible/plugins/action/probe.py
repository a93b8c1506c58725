# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module probe: runs the modules of a few tasks in check mode, and reports whether one would change something."""

from __future__ import annotations

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.distlock.distlock.plugins.plugin_utils._selection import is_deselected
from ansible_collections.distlock.distlock.plugins.plugin_utils._tasks import given_tasks, has_failed, why


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp  # deprecated, without effect
        if is_deselected(self._task, task_vars):
            return {**result, "changed": False, "skipped": True, "skip_reason": "Not selected by the tags of this run"}
        arguments = self.validate_argument_spec({"tasks": {"type": "list", "elements": "dict", "required": True}})[1]
        result.update(changed=False, needed=False, changes=[])
        try:
            for task in given_tasks(arguments["tasks"]):
                found = task.run(self, task_vars, check_mode=True)
                if has_failed(found):
                    told = {word: found[word] for word in ("unreachable", "exception") if word in found}
                    failed = not found.get("unreachable")
                    return {**result, **told, "failed": failed, "msg": f"{task.name} has failed: {why(found)}"}
                if found.get("skipped"):
                    raise AnsibleError(f"{task.name} gives no answer: {task.action} does not run in check mode")
                if found.get("changed"):
                    result["changes"].append(task.name)
        except AnsibleError as error:
            return {**result, "failed": True, "msg": str(error)}
        result["needed"] = bool(result["changes"])
        result["msg"] = ", ".join(result["changes"]) or "There is nothing to do"
        return result
