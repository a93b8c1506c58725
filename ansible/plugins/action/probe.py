# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module probe: runs the modules of a few tasks in check mode, and reports whether one would change something."""

from __future__ import annotations

from ansible.errors import AnsibleActionSkip, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.distlock.distlock.plugins.plugin_utils._selection import is_deselected

FREE_FORM = "_raw_params"
# Keywords of a task that the tasks of a probe may have beside their module.
KEYWORDS = ("name", "args")


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        del tmp  # deprecated, without effect
        if is_deselected(self._task, task_vars):
            return {**result, "changed": False, "skipped": True, "skip_reason": "Not selected by the tags of this run"}
        arguments = self.validate_argument_spec({"tasks": {"type": "list", "elements": "dict", "required": True}})[1]
        result.update(changed=False, needed=False, changes=[])
        try:
            for number, task in enumerate(arguments["tasks"], 1):
                name, action, words = _parsed(task, number)
                found = self._probe(action, words, task_vars)
                if found.get("failed") or found.get("unreachable"):
                    return {**result, **_failure(name, found)}
                if found.get("skipped"):
                    raise AnsibleError(f"{name} gives no answer: {action} does not run in check mode")
                if found.get("changed"):
                    result["changes"].append(name)
        except AnsibleError as error:
            return {**result, "failed": True, "msg": str(error)}
        result["needed"] = bool(result["changes"])
        result["msg"] = ", ".join(result["changes"]) or "There is nothing to do"
        return result

    def _probe(self, action, words, task_vars):
        """The result of one module in check mode."""
        task = self._task.copy()
        task.action, task.args, task.check_mode, task.async_val = action, words, True, 0
        loader = self._shared_loader_obj.action_loader
        has_action = loader.has_plugin(action)
        handler = loader.get(
            action if has_action else "ansible.builtin.normal",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        if not has_action and not self._shared_loader_obj.module_loader.has_plugin(action):
            raise AnsibleError(f"there is no module {action}")
        try:
            return handler.run(task_vars=task_vars)
        except AnsibleActionSkip as skip:
            return {"skipped": True, "msg": str(skip)}
        except AnsibleError as error:
            return {"failed": True, "msg": str(error)}


def _parsed(task, number):
    """Name, module and arguments of a task. Raises `AnsibleError`."""
    actions = [word for word in task if word not in KEYWORDS]
    if len(actions) != 1:
        found = " and ".join(sorted(map(str, actions))) or "none"
        raise AnsibleError(f"task {number}: expected one module with its arguments, and a name at most; found {found}")
    words = task[actions[0]]
    if isinstance(words, str):
        words = {FREE_FORM: words}
    if not isinstance(words, dict):
        raise AnsibleError(f"task {number}: the arguments of {actions[0]} are neither a dictionary nor a text")
    return str(task.get("name") or actions[0]), str(actions[0]), {**words, **(task.get("args") or {})}


def _failure(name, found):
    why = found.get("msg") or found.get("stderr") or "no reason was given"
    told = {word: found[word] for word in ("unreachable", "exception") if word in found}
    return {**told, "failed": not found.get("unreachable"), "msg": f"{name} has failed: {why}"}
