# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks that are given as data to another task, which runs their modules itself: for the modules probe and gate."""

from __future__ import annotations

from ansible.errors import AnsibleActionSkip, AnsibleError

FREE_FORM = "_raw_params"
# Keywords of a task that these tasks may have beside their module.
KEYWORDS = ("name", "args")


class GivenTask:
    """One of the tasks: its name (by default that of its module), module and arguments."""

    def __init__(self, task, number):
        """`number`: its place among the tasks. Raises `AnsibleError`."""
        actions = [word for word in task if word not in KEYWORDS]
        if len(actions) != 1:
            found = " and ".join(sorted(map(str, actions))) or "none"
            raise AnsibleError(
                f"task {number}: expected one module with its arguments, and a name at most; found {found}"
            )
        self.action = str(actions[0])
        words = task[self.action]
        if isinstance(words, str):
            words = {FREE_FORM: words}
        if words is not None and not isinstance(words, dict):
            raise AnsibleError(f"task {number}: the arguments of {self.action} are neither a dictionary nor a text")
        self.arguments = {**(words or {}), **(task.get("args") or {})}
        self.name = str(task.get("name") or self.action)

    def run(self, caller, task_vars, *, check_mode):
        """The result of its module, run by an action plugin. Raises `AnsibleError` if there is no such module."""
        task = caller._task.copy()
        task.action, task.args, task.check_mode, task.async_val = self.action, dict(self.arguments), check_mode, 0
        loaders = caller._shared_loader_obj
        has_action = loaders.action_loader.has_plugin(self.action)
        if not has_action and not loaders.module_loader.has_plugin(self.action):
            raise AnsibleError(f"there is no module {self.action}")
        handler = loaders.action_loader.get(
            self.action if has_action else "ansible.builtin.normal",
            task=task,
            connection=caller._connection,
            play_context=caller._play_context,
            loader=caller._loader,
            templar=caller._templar,
            shared_loader_obj=loaders,
        )
        try:
            return handler.run(task_vars=task_vars)
        except AnsibleActionSkip as skip:
            return {"skipped": True, "msg": str(skip)}
        except AnsibleError as error:
            return {"failed": True, "msg": str(error)}


def given_tasks(tasks):
    """The tasks of an argument. Raises `AnsibleError`."""
    return [GivenTask(task, number) for number, task in enumerate(tasks, 1)]


def has_failed(found):
    """True for the result of a task that has failed, or whose host was unreachable."""
    return bool(found.get("failed") or found.get("unreachable"))


def why(found):
    """Why a task has failed: its own words, or the last line that its program has printed."""
    printed = [str(found.get(word) or "").strip() for word in ("stdout", "stderr")]
    last = next((text.splitlines()[-1] for text in printed if text), "")
    return last or str(found.get("msg") or "no reason was given")
