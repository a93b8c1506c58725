# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module on its host: first without waiting, then with a visible wait, and tied to the run."""

from __future__ import annotations

import time

from ansible.utils.display import Display
from ansible_collections.distlock.distlock.plugins.module_utils._states import LOCKED, OF_A_HOST, UNLOCKED
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.fate import GONE, fate
from ansible_collections.distlock.distlock.plugins.plugin_utils._tied import Tied

SHORTEST_WAIT = 0.1  # seconds; 0 would not wait at all
# Results of the module for this plugin only.
INNER = ("step", "of_this_run", "waits", "again")


class OnHost:
    def __init__(self, execute, run, arguments, host, lost):
        """`execute(arguments)` runs the module; `lost(host)` is true for a host that is out of the play."""
        self._execute = execute
        self._run = run
        self._arguments = arguments
        self._host = host
        self._lost = lost

    def carry_out(self):
        started = time.monotonic()
        done = self._lock(started) if self._arguments["state"] == LOCKED else self._other()
        for word in INNER:
            done.pop(word, None)
        if self._arguments["state"] == LOCKED and "waited" in done:
            done["waited"] = round(time.monotonic() - started, 2)
        return done

    def _lock(self, started):
        done = self._once(first=True)
        again = done.get("again")
        if again is None:
            return done
        Display().display(f"distlock: {self._host}: waiting: {done.get('waits')}")
        # Without a limit here, the host's own settings apply again.
        left = {"timeout": max(SHORTEST_WAIT, again - (time.monotonic() - started))} if again > 0 else {}
        return self._once(**left)

    def _other(self):
        done = self._once()
        mine = done.get("of_this_run")
        if done.get("failed") and mine is not None:
            owner = OF_A_HOST.match(mine["owner"])
            if owner is not None and self._lost(owner.group("host")):
                # Its host is out of the play: nobody else would release it.
                done = self._once(owner=mine["owner"], token=mine["token"])
        return done

    def _once(self, first=False, **changes):
        """Run the module. Enter a step that an earlier run of this controller has left, if that run has ended."""
        done = self._tied(first, changes)
        step = done.get("step")
        # Only the controller can check: to the host, that run is a process of another machine.
        if done.get("failed") and step is not None and "token" not in changes and fate(step["taker"])[0] == GONE:
            done = self._tied(first, {**changes, "token": step["token"]})
        return done

    def _tied(self, first, changes):
        arguments = {**self._arguments, **changes}
        arguments["run"] = {**self._run.facts, "asks": True, "first": first}
        with Tied(self._run.pid) as tied:
            done = self._execute(arguments)
        if tied.run_is_gone and done.get("changed") and arguments["state"] == LOCKED:
            self._execute({**arguments, "state": UNLOCKED, "token": done.get("token")})
        return done
