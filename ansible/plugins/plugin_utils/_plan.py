# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a run in check mode: later tasks find the locks as a real run would have left them."""

from __future__ import annotations

import hashlib
import os

from ansible import constants
from ansible_collections.distlock.distlock.plugins.module_utils._states import (
    BROKEN,
    HELD,
    LOCK_NAMES,
    LOCKED,
    UNLOCKED,
    named,
)


class Plan:
    """Kept in files, because each task has its own worker. Ansible removes the folder at the end of the run."""

    def __init__(self, arguments, host, of_the_play=None):
        """`host` stands for the owner if none is named; `of_the_play` is the hold that a strategy would have."""
        self._arguments = arguments
        self._names = arguments[LOCK_NAMES] or [arguments["name"]]
        self._of_the_play = bool(of_the_play) and set(self._names) <= set(of_the_play.get(LOCK_NAMES) or ())
        self._paths = self._paths_for(host)
        self._runs_paths = self._paths_for("") if host else self._paths

    def foreseen(self):
        """The result of a task that depends on what an earlier task only planned, None if there is no such plan."""
        state, name = self._arguments["state"], named(self._arguments)
        owner = self._arguments["owner"]
        report = {"lock": name, "owner": None, "token": None, "since": None, "position": 0, "waited": 0.0}
        if self._of_the_play:
            return {**report, "changed": False, "msg": f"{name} would be held by its play, and ends with that"}
        planned = self._read(self._paths) or self._read(self._runs_paths)
        if planned == LOCKED and state in (LOCKED, HELD):
            return {**report, "changed": False, "msg": f"{name} would be held by {owner} at this point"}
        if planned == LOCKED:
            self._write(UNLOCKED)
            return {**report, "changed": True, "msg": f"{name}, held by {owner} at this point, would be unlocked"}
        if state == planned == UNLOCKED:
            return {**report, "changed": False, "msg": f"{name} would not be locked at this point"}
        if planned == UNLOCKED and state == LOCKED:
            self._write(LOCKED)
            return {**report, "changed": True, "msg": f"{name} would be locked by {owner}"}
        if planned == UNLOCKED:
            return {**report, "failed": True, "kind": "not_locked", "msg": f"{name} would not be held at this point"}
        return None

    def note(self, at_run_end):
        state = UNLOCKED if self._arguments["state"] == BROKEN else self._arguments["state"]
        self._write(state, self._runs_paths if at_run_end else self._paths)

    def _write(self, what, paths=None):
        for path in paths or {*self._paths, *self._runs_paths}:
            with open(path, "w", encoding="utf-8") as file:
                file.write(what)

    def _read(self, paths):
        """The plan for a lock, or for several that have the same; else None."""
        found = set()
        for path in paths:
            try:
                with open(path, encoding="utf-8") as file:
                    found.add(file.read())
            except FileNotFoundError:
                found.add(None)
        return found.pop() if len(found) == 1 else None

    def _paths_for(self, host):
        return [self._path_for(name, host) for name in self._names]

    def _path_for(self, name, host):
        words = [name, *(str(self._arguments[word]) for word in ("owner", "prefix", "endpoints"))]
        key = hashlib.sha256("\n".join([*words, host]).encode()).hexdigest()
        return os.path.join(constants.DEFAULT_LOCAL_TMP, "distlock-" + key)
