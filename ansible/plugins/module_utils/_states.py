# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings a lock into the requested state, on a node or on the controller, and makes the result of the task."""

from __future__ import annotations

import os
import re
import time

from ansible_collections.distlock.distlock.plugins.module_utils._arguments import connection_arguments, connection_spec
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters import acquire, check, release
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.breaking import break_hold
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.run_holds import RunHolds
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import (
    LOCK_NAMES,
    read_settings,
    shown_name,
)
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
    are,
    are_held_by,
    in_queues,
    listed,
    owner_of,
    owners_of,
    taken,
    tokens_of,
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
    *("name", LOCK_NAMES, "reason", "timeout", "owner", "slots", "shared", "window", "expect", "ttl", "on_loss"),
    "cooldown",
    *("rank", "gate", "gate_timeout", "gate_every", "gate_for"),
)


def argument_spec():
    return {
        "name": {"type": "str"},
        "lock_names": {"type": "list", "elements": "str"},
        "state": {"type": "str", "choices": [LOCKED, UNLOCKED, HELD, BROKEN], "default": LOCKED},
        "until": {"type": "str", "choices": [UNLOCKED, RUN_END], "default": UNLOCKED},
        "reason": {"type": "str"},
        "timeout": {"type": "raw"},
        "owner": {"type": "str"},
        "slots": {"type": "int"},
        "shared": {"type": "bool"},
        "window": {"type": "str"},
        "expect": {"type": "str"},
        "rank": {"type": "int"},
        "ttl": {"type": "raw"},
        "on_loss": {"type": "str", "choices": ["continue", "kill"]},
        "cooldown": {"type": "raw"},
        "gate": {"type": "str"},
        "gate_timeout": {"type": "raw"},
        "gate_every": {"type": "raw"},
        "gate_for": {"type": "raw"},
        "force": {"type": "bool", "default": False},
        "token": {"type": "int", "no_log": False},
        "lockstep": {"type": "bool"},
        "run": {"type": "dict", "no_log": False},
        **connection_spec(),
    }


# For AnsibleModule, and for an action plugin.
NAMES = ("name", LOCK_NAMES)
RULES = {"mutually_exclusive": [NAMES], "required_one_of": [NAMES]}


def named(params):
    """The name of the lock, or the names of several in one phrase."""
    return params["name"] if params[LOCK_NAMES] is None else listed(params[LOCK_NAMES] or [""])


def carry_out(params, check_mode, cancel=None, run=None, family=None):
    """Bring the lock into the state, and return the result of the task, with `failed` if that was not possible.

    `run` is the controller's process for until=run_end, and `family` what its workers have inherited from it.
    `step`, `of_this_run`, `waits` and `again` in what is returned are for the action plugin, which takes them out.
    """
    started = time.monotonic()
    report = {"changed": False, "lock": named(params), "owner": None, "token": None, "since": None, "position": 0}
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
        arguments = {SETTING.get(word, word): params[word] for word in WORDS}
        self._settings = read_settings({**arguments, **connection_arguments(params)}, "ansible:" + hostname())
        self.warnings = list(self._settings.warnings)
        if not (params["name"] or params[LOCK_NAMES]):
            raise ConfigError("no lock is named: name is empty")
        self.name = shown_name(self._settings)
        self._names = self._settings.lock_names
        self.owner = self._settings.id
        # With a default owner, the holds of this run under its own name count, too.
        default = OF_A_HOST.match(self.owner) or OF_A_RUN.match(self.owner)
        self._run = default.group("run") if default else ""
        self._run_owners = (self.owner, "ansible:" + self._run) if default else ()
        facts = params["run"] or {}
        self._taker = facts.get("taker")
        self._asks = bool(facts.get("asks"))  # the controller wants details of a refusal, to act on them
        # To end a hold, it does not matter whether it is shared.
        self._asks_for_exclusive = params["state"] in (LOCKED, HELD) and not self._settings.shared
        self._first = bool(facts.get("first"))  # only try: the controller reports the holder before the wait
        self._mine = RunHolds(None, None, self._run_owners, self._taker, exclusive=self._asks_for_exclusive)
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
            for state in [place[0] for place in waiting.places] or [waiting.state]:
                self._refuse_to_wait_for_ever(state)

        try:
            done = acquire.take(
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
            return {"msg": "already: " + are_held_by(done.holders), **self._shown(done.holders), **position}
        ends = ", until this run ends" if until == RUN_END else ""
        owners = {holder.lock: holder.owner for holder in done.before}
        before = "".join(_diff(name, owners.get(name)) for name in self._names)
        after = "".join(_diff(name, self.owner) for name in self._names)
        report = {"changed": True, "diff": {"before": before, "after": after}, **position}
        if not done.holders:
            first = "would wait: " + ANSIBLE.said(done.waits) + " Then " if done.waits else ""
            return {**report, "msg": f"{first}{self.name} would be locked by {printable(self.owner)}{ends}"}
        how = "taken over from this owner's run that has ended" if done.before else "locked"
        waited = f", {done.waited}" if done.waited else ""
        msg = f"{are(self._names)} {how} by {printable(self.owner)}, {tokens_of(done.holders)}{ends}{waited}"
        return {**report, **self._shown(done.holders), "msg": msg}

    def unlock(self):
        realm = realm_of(self._settings)
        mine = self._release(realm, dry=True)
        if not mine:
            return {"msg": are(self._names) + " not locked", **self._shown(())}
        plays = [holder for holder in mine if _is_a_plays(holder)]
        if plays and not self._params["force"]:
            if len(plays) < len(self._names):
                raise NotHolder(
                    f"{are_held_by(plays)}, for its play: name the others without it",
                    state=realm.show(plays[0].lock),
                )
            return {"msg": are_held_by(plays) + ", for its play: it ends with that", **self._shown(plays)}
        ended = mine if self._dry else self._release(realm)
        if not ended:
            return {"msg": are(self._names) + " not locked", **self._shown(())}  # released meanwhile
        cooldown = self._settings.cooldown
        cooling = "" if cooldown is None else f" in {cooldown}s"
        was, is_now = ("was", "is") if len(ended) == 1 else ("were", "are")
        would = "would be" if self._dry else is_now
        before = "".join(_diff(holder.lock, holder.owner) for holder in ended)
        after = "".join(_diff(one.lock, None if cooldown is None else one.owner, cooling) for one in ended)
        names = listed([holder.lock for holder in ended])
        return {
            "changed": True,
            "diff": {"before": before, "after": after},
            "msg": f"{names}, which {was} held by {owners_of(ended)}, {would} unlocked{cooling}",
            **self._shown(ended),
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
            holders = check.check(self._settings, self._params["token"], taker=self._taker)
        except NotHolder as error:
            holders = self._of_this_run(self._states(error))
            if len(holders) < len(self._names) or self._params["token"] is not None:
                raise
        return {"msg": are_held_by(holders), **self._shown(holders)}

    def _of_this_run(self, states):
        """The holds of this run under the names that it uses by default."""
        return [holder for holder in map(self._mine.among, states) if holder is not None]

    def _states(self, error):
        """The states of all locks, of which an error may show one."""
        if len(self._names) == 1:
            return [error.state]
        return realm_of(self._settings).show_all(self._names)

    def refused(self, error):
        """The result for an error, with details that only the controller can check."""
        state = getattr(error, "state", None)
        if state is None and isinstance(error, NotHolder):
            state = error.state = realm_of(self._settings).show(self._names[0])
        report = _refused(error)
        if not self._asks or self._params["state"] == BROKEN:  # a hold to be broken is that of its token, no other
            return report
        states = getattr(error, "states", ()) or (() if state is None else (state,))
        for holder in [holder for state in states for holder in state.holders]:
            taker = holder.record.details.get("taker")
            if holder.owner == self.owner and isinstance(taker, dict) and holder.record.text("kind") == "lock":
                report["step"] = {"token": holder.token, "taker": taker}
            elif self._run and self._is_of_this_run(holder):
                report["of_this_run"] = {"token": holder.token, "owner": holder.owner}
        if state is not None and isinstance(error, (LockBusy, Frozen)):
            report["waits"] = in_queues([(one, one.waiting + 1) for one in states])
        return report

    def _release(self, realm, dry=False):
        token, force = self._params["token"], self._params["force"]
        try:
            return release.release(
                self._settings, taker=self._taker, token=token, force=force, dry_run=dry, realm=realm
            )
        except NotHolder as error:
            states = [state for state in self._states(error) if state.holders]
            holders = self._of_this_run(states)
            if not holders or len(holders) < len(states) or any(token not in (None, one.token) for one in holders):
                raise
            settings = self._settings._replace(id=holders[0].owner)
            return release.release(settings, taker=self._taker, token=token, dry_run=dry, realm=realm)

    def _shown(self, holders):
        """The fields of the hold; with `lock_names` those of each under `locks`, and those that all have in common."""
        if self._params[LOCK_NAMES] is None:
            return _shown(holders[0]) if holders else {}
        common = _shown(holders[0]) if holders else {}
        if len({holder.token for holder in holders}) > 1:
            common["token"] = None
        return {**common, "locks": [{"lock": holder.lock, **_shown(holder)} for holder in holders]}

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
        # Any shared holder keeps an exclusive one out, and only the last slot does.
        blocked = any if self._asks_for_exclusive and state.holders[0].is_shared else all
        if blocked(self._is_of_this_run(holder) for holder in state.holders):
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
