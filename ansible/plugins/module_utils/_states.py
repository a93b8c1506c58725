# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings a lock into the requested state, on a node or on the controller, and makes the result of the task."""

from __future__ import annotations

import os
import re
import time

from ansible_collections.distlock.distlock.plugins.module_utils._arguments import connection_arguments, connection_spec
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters import acquire_release
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.breaking import break_hold
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.run_holds import RunHolds
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import read_settings
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.base.text import printable
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.connection import realm_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import (
    ConfigError,
    DistlockError,
    Frozen,
    LockBusy,
    NotHolder,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.model.wording import (
    in_queue,
    is_held_by,
    owner_of,
    taken,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import hostname, is_same
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.nesting import HELD as HELD_AROUND
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.nesting import (
    TOKEN as TOKEN_AROUND,
)

LOCKED, UNLOCKED, HELD, BROKEN = "locked", "unlocked", "held", "broken"
RUN_END = "run_end"

# The default owners, which the action plugin inserts.
OF_A_HOST = re.compile(r"ansible:(?P<host>.+)@(?P<run>[^@]+:\d+\.[0-9a-f]{8})$")
OF_A_RUN = re.compile(r"ansible:(?P<run>[^@]+:\d+\.[0-9a-f]{8})$")

# Options whose setting has another name.
SETTING = {"name": "lockname", "owner": "id"}

# Options that are settings of the lock.
WORDS = (
    *("name", "reason", "timeout", "owner", "slots", "window", "expect", "ttl", "on_loss", "cooldown"),
    *("rank", "gate", "gate_timeout", "gate_every", "gate_for"),
)


def argument_spec():
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": [LOCKED, UNLOCKED, HELD, BROKEN], "default": LOCKED},
        "until": {"type": "str", "choices": [UNLOCKED, RUN_END], "default": UNLOCKED},
        "reason": {"type": "str"},
        "timeout": {"type": "float"},
        "owner": {"type": "str"},
        "slots": {"type": "int"},
        "window": {"type": "str"},
        "expect": {"type": "str"},
        "rank": {"type": "int"},
        "ttl": {"type": "int"},
        "on_loss": {"type": "str", "choices": ["continue", "kill"]},
        "cooldown": {"type": "int"},
        "gate": {"type": "str"},
        "gate_timeout": {"type": "float"},
        "gate_every": {"type": "float"},
        "gate_for": {"type": "float"},
        "force": {"type": "bool", "default": False},
        "token": {"type": "int", "no_log": False},
        "lockstep": {"type": "bool"},
        "run": {"type": "dict", "no_log": False},
        **connection_spec(),
    }


def carry_out(params, check_mode, cancel=None, run=None, family=None):
    """Bring the lock into the state, and return the result of the task, with `failed` if that was not possible.

    `run` is the controller's process for until=run_end, and `family` what its workers have inherited from it.
    `step`, `of_this_run`, `waits` and `again` in what is returned are for the action plugin, which takes them out.
    """
    started = time.monotonic()
    report = {"changed": False, "lock": params["name"], "owner": None, "token": None, "since": None, "position": 0}
    task = None
    try:
        task = _Task(params, check_mode)
        if task.warnings:
            report["warnings"] = task.warnings
        if params["state"] == LOCKED:
            report.update(task.lock(cancel, run, family))
        elif params["state"] == UNLOCKED:
            report.update(task.unlock())
        elif params["state"] == BROKEN:
            report.update(task.break_hold())
        else:
            report.update(task.check())
    except DistlockError as error:
        report.update(_refused(error) if task is None else task.refused(error))
    report["waited"] = round(time.monotonic() - started, 2) if params["state"] == LOCKED else 0.0
    return report


class _Task:
    def __init__(self, params, check_mode):
        self._params = params
        self._dry = check_mode
        self.name = printable(params["name"])
        arguments = {SETTING.get(word, word): params[word] for word in WORDS}
        self._settings = read_settings({**arguments, **connection_arguments(params)}, "ansible:" + hostname())
        self.warnings = list(self._settings.warnings)
        if not self._settings.lockname:
            raise ConfigError("no lock is named: name is empty")
        self.owner = self._settings.id
        # With a default owner, the holds of this run under its own name count, too.
        default = OF_A_HOST.match(self.owner) or OF_A_RUN.match(self.owner)
        self._run = default.group("run") if default else ""
        self._run_owners = (self.owner, "ansible:" + self._run) if default else ()
        facts = params["run"] or {}
        self._taker = facts.get("taker")
        self._asks = bool(facts.get("asks"))  # the controller wants details of a refusal, to act on them
        self._first = bool(facts.get("first"))  # only try: the controller reports the holder before the wait
        self._mine = RunHolds(None, None, self._run_owners, self._taker)
        for word in (HELD_AROUND, TOKEN_AROUND):  # the locks around the run, unknown to this host
            if facts.get(word):
                os.environ[word] = facts[word]

    def lock(self, cancel, run, family):
        until, ttl = self._params["until"], self._params["ttl"]
        if until != RUN_END and self._params["on_loss"] is not None:
            raise ConfigError("on_loss applies to a lock that ends with the run: it goes with until: " + RUN_END)
        if until == RUN_END and run is None:
            raise ConfigError("until: " + RUN_END + " is for the action plugin of this collection, on the controller")
        positions, settings = [], self._settings
        timeout = settings.timeout
        if self._first:
            settings = settings._replace(timeout=0.0)

        def progress(waiting):
            positions.append(waiting.position)
            self._refuse_to_wait_for_ever(waiting.state)

        try:
            done = acquire_release.take(
                settings,
                run=run,
                taker=self._taker,
                token=self._params["token"],
                bound=until == RUN_END,
                family=family,
                unrenewed=ttl is not None,
                run_owners=self._run_owners,
                dry_run=self._dry,
                cancel=cancel,
                progress=progress,
            )
        except DistlockError as error:
            # The error, with the position in the queue.
            report = {**self.refused(error), "position": positions[0] if positions else _position(error)}
            if self._first and timeout != 0 and isinstance(error, (LockBusy, Frozen)):
                report["again"] = timeout
            return report
        position = done.waited.fields() if done.waited else {"position": 0, "waited_for": ""}
        if not done.changed:
            return {"msg": "already: " + is_held_by(done.holder), **_shown(done.holder), **position}
        ends = ", until this run ends" if until == RUN_END else ""
        before, after = _diff(self.name, done.before and done.before.owner), _diff(self.name, self.owner)
        report = {"changed": True, "diff": {"before": before, "after": after}, **position}
        if done.holder is None:
            first = "would wait: " + ANSIBLE.said(done.waits) + " Then " if done.waits else ""
            return {**report, "msg": f"{first}{self.name} would be locked by {printable(self.owner)}{ends}"}
        how = "taken over from this owner's run that has ended" if done.before else "locked"
        waited = f", {done.waited}" if done.waited else ""
        msg = f"{self.name} is {how} by {printable(self.owner)}, token {done.holder.token}{ends}{waited}"
        return {**report, **_shown(done.holder), "msg": msg}

    def unlock(self):
        realm = realm_of(self._settings)
        mine = self._release(realm, dry=True)
        if mine is None:
            return {"msg": self.name + " is not locked"}
        if _is_a_plays(mine) and not self._params["force"]:
            return {"msg": is_held_by(mine) + ", for its play: it ends with that", **_shown(mine)}
        ended = mine if self._dry else self._release(realm)
        if ended is None:
            return {"msg": self.name + " is not locked"}  # released meanwhile
        cooldown = self._settings.cooldown
        cooling = "" if cooldown is None else f" in {cooldown}s"
        who = owner_of(ended.owner)
        would = "would be" if self._dry else "is"
        after = None if cooldown is None else ended.owner
        return {
            "changed": True,
            "diff": {"before": _diff(self.name, ended.owner), "after": _diff(self.name, after, cooling)},
            "msg": f"{self.name}, which was held by {who}, {would} unlocked{cooling}",
            **_shown(ended),
        }

    def break_hold(self):
        broken = break_hold(self._settings, self._params["token"], dry_run=self._dry)
        if broken is None:
            return {"msg": f"no hold of {self.name} has token {self._params['token']}"}
        would = "would be" if self._dry else "is"
        return {
            "changed": True,
            "diff": {"before": _diff(self.name, broken.owner), "after": _diff(self.name, None)},
            "msg": f"{self.name}, which was held by {owner_of(broken.owner)}, {would} broken",
            **_shown(broken),
        }

    def check(self):
        try:
            holder = acquire_release.check(self._settings, self._params["token"], taker=self._taker)
        except NotHolder as error:
            holder = self._mine.among(error.state)
            if holder is None or self._params["token"] is not None:
                raise
        return {"msg": is_held_by(holder), **_shown(holder)}

    def refused(self, error):
        """The result for an error, with details that only the controller can check."""
        state = getattr(error, "state", None)
        if state is None and isinstance(error, NotHolder):
            state = error.state = realm_of(self._settings).show(self._settings.lockname)
        report = _refused(error)
        if not self._asks or self._params["state"] == BROKEN:  # a hold to be broken is that of its token, no other
            return report
        for holder in () if state is None else state.holders:
            taker = holder.record.details.get("taker")
            if holder.owner == self.owner and isinstance(taker, dict) and holder.record.text("kind") == "lock":
                report["step"] = {"token": holder.token, "taker": taker}
            elif self._run and self._is_of_this_run(holder):
                report["of_this_run"] = {"token": holder.token, "owner": holder.owner}
        if state is not None and isinstance(error, (LockBusy, Frozen)):
            report["waits"] = in_queue(state, _position(error))
        return report

    def _release(self, realm, dry=False):
        token, force = self._params["token"], self._params["force"]
        try:
            return acquire_release.release(
                self._settings, taker=self._taker, token=token, force=force, dry_run=dry, realm=realm
            )
        except NotHolder as error:
            holder = self._mine.among(error.state)
            if holder is None or token not in (None, holder.token):
                raise
            settings = self._settings._replace(id=holder.owner)
            return acquire_release.release(settings, taker=self._taker, token=token, dry_run=dry, realm=realm)

    def _is_of_this_run(self, holder):
        """True for a hold of another host of this run."""
        owner = OF_A_HOST.match(holder.owner or "")
        taker = holder.record.details.get("taker")
        same = isinstance(taker, dict) and self._taker is not None and is_same(taker, self._taker)
        return same and owner is not None and owner.group("run") == self._run

    def _refuse_to_wait_for_ever(self, state):
        """Refuse if only this run could release the lock, under a strategy that goes task by task."""
        if not (self._params["lockstep"] and self._run and state.holders):
            return
        if all(self._is_of_this_run(holder) for holder in state.holders):
            raise LockBusy(f"{taken(state)}. That is this run, and {WAITS_FOR_EVER}", state=state)


WAITS_FOR_EVER = (
    "this strategy takes all hosts of a batch through one task after the other, so none could release it while another "
    "waits. Use serial: 1, or a strategy that does not (ansible.builtin.host_pinned), or until: run_end, or the role "
    "guarded with guarded_one_by_one: true"
)
TAKES_ALL_WORKERS = (
    "under this strategy each of them takes a worker for that, so none would be left for the one that holds it: set "
    "serial, or use ansible.builtin.host_pinned, or more forks than that"
)
WAITS_FOR_EVER_AT_RUN_END = (
    "it is released at the end of this run and not before, so to wait for it would never end. Name no owner, or one "
    "for all hosts: what lasts until the end of the run is shared by its hosts"
)


def _refused(error):
    report = {"failed": True, "msg": ANSIBLE.said(error), "kind": error.kind}
    state = getattr(error, "state", None)
    if state is not None:
        report["waiting"] = state.waiting
        report["position"] = _position(error)
        if state.holders:
            report.update(_shown(state.holders[0]))
    return report


def _position(error):
    """The position in the queue that a wait would have had."""
    state = getattr(error, "state", None)
    return 0 if state is None else state.position or state.waiting + 1


def _shown(holder):
    return {
        "owner": holder.owner,
        "token": holder.token,
        "since": holder.since,
        "reason": holder.reason,
        "lifetime": holder.lifetime,
    }


def _is_a_plays(holder):
    """True for the lock of a play under one of the strategies: its keeper has also acquired it."""
    return holder.keeper is not None and holder.keeper == holder.record.number("pid")


def _diff(name, owner, more=""):
    return f"{name}: held by {printable(owner)}{more}\n" if owner else f"{name}: not held\n"
