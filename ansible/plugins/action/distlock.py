# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of the module distlock: environment, default owner, endless waits, and until=run_end."""

from __future__ import annotations

import json
import os
import signal

from ansible import constants, context
from ansible.plugins.action import ActionBase
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import with_seconds
from ansible_collections.distlock.distlock.plugins.module_utils._states import (
    BROKEN,
    HELD,
    LOCKED,
    NAMES,
    RULES,
    RUN_END,
    SETTING,
    TAKES_ALL_WORKERS,
    UNLOCKED,
    WAITS_FOR_EVER,
    WAITS_FOR_EVER_AT_RUN_END,
    argument_spec,
    carry_out,
    named,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import (
    ConfigError,
    DistlockError,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import start_time
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.while_alive import WhileAlive
from ansible_collections.distlock.distlock.plugins.plugin_utils._controller import Run, fill_in
from ansible_collections.distlock.distlock.plugins.plugin_utils._facts import refuse_facts_in_arguments, written_in
from ansible_collections.distlock.distlock.plugins.plugin_utils._lockstep import is_in_lockstep, rivals, shares_workers
from ansible_collections.distlock.distlock.plugins.plugin_utils._on_host import INNER, OnHost
from ansible_collections.distlock.distlock.plugins.plugin_utils._plan import Plan
from ansible_collections.distlock.distlock.plugins.plugin_utils._selection import is_deselected

# Lease settings of the environment apply to the lock of a run, not to a step, whose lease nobody renews.
OF_A_RUN = ("ttl", "on_loss")


MEANS_NOTHING = {
    LOCKED: ("cooldown", "force"),
    UNLOCKED: (
        "until",
        "reason",
        "timeout",
        "slots",
        "shared",
        "window",
        "expect",
        "rank",
        "ttl",
        "on_loss",
        "lockstep",
    ),
    HELD: (
        "until",
        "reason",
        "timeout",
        "slots",
        "window",
        "expect",
        "rank",
        "ttl",
        "on_loss",
        "lockstep",
        "cooldown",
        "force",
        "gate",
        "gate_timeout",
        "gate_every",
        "gate_for",
    ),
    BROKEN: (
        *("lock_names", "until", "timeout", "slots", "shared", "window", "expect", "ttl", "on_loss", "lockstep"),
        *("cooldown", "force", "rank", "gate", "gate_timeout", "gate_every", "gate_for"),
    ),
}


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        self._supports_async = True  # on the object: the constructor of ansible-core 2.15 resets it
        result = super().run(tmp, task_vars)
        del tmp  # deprecated, without effect
        if is_deselected(self._task, task_vars):
            return {**result, "changed": False, "skipped": True, "skip_reason": "Not selected by the tags of this run"}
        options = argument_spec()
        arguments = self.validate_argument_spec(options, **RULES)[1]
        at_run_end = arguments["state"] == LOCKED and arguments["until"] == RUN_END
        try:
            self._refuse_what_means_nothing(arguments)
            of_controller = ("gate",) if at_run_end else ()
            refuse_facts_in_arguments(self._task, task_vars, self._templar, self._task.resolved_action, of_controller)
            arguments = with_seconds(arguments)
            # The locks are those of the task, whatever the environment names.
            left_out = (*NAMES, *(() if at_run_end else OF_A_RUN))
            fill_in(arguments, {word for word in options if word not in left_out}, SETTING)
            done = self._carry_out(arguments, at_run_end, task_vars)
        except DistlockError as error:
            done = {"failed": True, "changed": False, "msg": ANSIBLE.said(error), "kind": error.kind}
        return {**result, **done}

    def _refuse_what_means_nothing(self, arguments):
        """Refuse options of another state in the task itself. Module defaults and environment apply to all states."""
        written = written_in(self._task)
        for word in MEANS_NOTHING[arguments["state"]]:
            if word in written and arguments[word] not in (None, False):
                raise ConfigError(f"{word} cannot be used with state: {arguments['state']}")

    def _carry_out(self, arguments, at_run_end, task_vars):
        run, host = Run(), task_vars["inventory_hostname"]
        owned = arguments["owner"] is not None
        of_the_play = task_vars.get("distlock_held")
        plan = Plan(arguments, "" if owned else host, of_the_play) if self._task.check_mode else None
        if not owned:
            arguments["owner"] = run.owner if at_run_end else run.owner_for(host)
        if arguments["lockstep"] is None:
            arguments["lockstep"] = is_in_lockstep(self._task.get_play())
        if arguments["state"] == LOCKED and arguments["timeout"] not in (None, 0):
            self._refuse_to_wait_for_ever(arguments, task_vars, run, at_run_end)
        foreseen = plan.foreseen() if plan and arguments["state"] != BROKEN else None
        if foreseen:
            return foreseen
        done = self._here(arguments, run) if at_run_end else self._there(arguments, task_vars, run)
        if plan and done.get("changed") and not done.get("failed"):
            plan.note(at_run_end)
        return done

    def _there(self, arguments, task_vars, run):
        """Run the module on the host."""

        def execute(said):
            given = {word: value for word, value in said.items() if value is not None}
            return self._execute_module(module_args=given, task_vars=task_vars, wrap_async=self._task.async_val)

        if self._task.async_val or self._task.check_mode:
            return execute({**arguments, "run": run.facts})
        at_work = set(task_vars.get("ansible_play_hosts") or ())

        def lost(host):
            return self._task.run_once or host not in at_work

        return OnHost(execute, run, arguments, task_vars["inventory_hostname"], lost).carry_out()

    def _here(self, arguments, run):
        """Acquire in this worker a lock that ends with the run, and leave it to a keeper."""
        if self._task.async_val:
            raise ConfigError("async: the lock of until: run_end is not taken in the background; use timeout")
        before = signal.getsignal(signal.SIGTERM)
        alive = WhileAlive(run.pid, start_time(run.pid))
        try:
            # Without the tags that Ansible attaches to its values.
            plain = json.loads(json.dumps({**arguments, "run": run.facts}))
            done = carry_out(plain, self._task.check_mode, alive, run.pid, run.family)
            return {word: value for word, value in done.items() if word not in INNER}
        finally:
            signal.signal(signal.SIGTERM, before)
            if alive.quit.is_set():
                os.kill(os.getpid(), signal.SIGTERM)  # the queue is left; now for Ansible's handler

    def _refuse_to_wait_for_ever(self, arguments, task_vars, run, at_run_end):
        if not (arguments["lockstep"] or at_run_end or shares_workers(self._task.get_play())):
            return
        default_owner = (lambda _: run.owner) if at_run_end else run.owner_for
        others = rivals(self._task, task_vars, self._templar, default_owner)
        if arguments["shared"]:
            return  # they hold it together
        waiting = len(others) + 1 - (arguments["slots"] or 1)
        if waiting <= 0:
            return
        name = named(arguments)
        if arguments["lockstep"] or at_run_end:
            who = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            why = WAITS_FOR_EVER_AT_RUN_END if at_run_end else WAITS_FOR_EVER
            raise ConfigError(f"{name}: {who} would wait for it in the same task, as another owner, and {why}")
        forks = int(context.CLIARGS.get("forks") or constants.DEFAULT_FORKS)
        # Under free, a throttled task blocks all other tasks, too.
        forks = min(forks, self._task.throttle or forks)
        if waiting >= forks:
            raise ConfigError(f"{name}: {waiting} hosts would wait for it at once, and {TAKES_ALL_WORKERS} ({forks})")
