# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The locks of the hosts of one play, one for each host."""

from __future__ import annotations

import time

from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.ansible_run_lock import (
    start_run_keeper,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import shown_name
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.connection import realm_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError, LockLost
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.keeper.run_keeper import wait_for
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.keeper.run_keeper_process import (
    AFTER_FAILURE,
    UNUSED,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._hosts import complain, display, say, warn_not_released
from ansible_collections.distlock.distlock.plugins.plugin_utils._play_lock import (
    Settling,
    end_hold,
    is_unsettled,
    longest_end,
    stopped_by,
)
from ansible_collections.distlock.distlock.plugins.plugin_utils._story import Waiting

TO_COME, WAITS, HOLDS, PARTS, DONE = "to come", "waits", "holds", "parts", "done"
REST = 0.2  # seconds between two checks while no host can continue


class Turn:
    """One host's way through the play."""

    def __init__(self, host, settings):
        self.host = host
        self.settings = settings
        realm = (str(settings.endpoints), settings.prefix)
        self.lines = [(*realm, name) for name in settings.lock_names]
        self.stage = TO_COME
        self.keeper = None
        self.shown = ""
        self.wait = Waiting(host, shown_name(settings))
        self.settling = Settling()
        self.stop = False
        self.given_up = None

    @property
    def holds(self):
        """True until a loss is known. Needs no request to etcd."""
        if self.stage == HOLDS:
            self.keeper.update()
        return self.stage == HOLDS and not self.keeper.over


class HostLocks:
    def __init__(self, wanted, play):
        self._play = play
        in_order = sorted(wanted.items(), key=lambda one: one[1].rank)  # within a rank as in the inventory
        self._turns = {host: Turn(host, settings) for host, settings in in_order}
        self._slots = {}  # by queue: what the lock's policy says, else the settings
        self._kept = {}  # by queue: what keeps the hosts of this run from going on

    def keep_back(self, host):
        """True if no task of this host may start now."""
        turn = self._turns.get(host)
        return turn is not None and turn.stage != DONE and not turn.holds

    def shown(self, host):
        """The variable that shows the hold to the host's tasks."""
        turn = self._turns.get(host)
        hold = turn.keeper.hold if turn is not None and turn.keeper is not None else None
        return None if hold is None else hold._asdict()

    def advance(self, state):
        """Do what is possible without waiting, and return the hosts to stop because they have no lock.

        `state` says of a host whether it is through the play, and whether it has failed.
        """
        stopped = []
        for turn in self._turns.values():
            if turn.keeper is not None:
                turn.keeper.update()
            if turn.stage == TO_COME:
                through, _failed = state(turn.host)
                if through:
                    turn.stage = DONE  # failed in an earlier play
                elif self._has_room(turn):
                    self._start(turn)
            if turn.stage == WAITS:
                self._look(turn)
            if turn.stage in (TO_COME, WAITS) and any(line in self._kept for line in turn.lines):
                self._give_up(turn)
            if turn.stage == HOLDS:
                self._go_on(turn, state)
            if turn.stage == PARTS:
                turn.settling.show(turn.keeper, turn.host)
            if turn.stage == PARTS and turn.keeper.over:
                self._parted(turn)
            if turn.stop:
                turn.stop = False
                stopped.append(turn.host)
        return stopped

    def rest(self):
        """Wait until a lock is acquired or released, if no host can continue before that."""
        busy = [turn for turn in self._turns.values() if turn.stage in (WAITS, PARTS)]
        if busy and not any(turn.stage == HOLDS for turn in self._turns.values()):
            wait_for([turn.keeper for turn in busy], REST)

    def finish(self, advance):
        """Make sure that every lock is released, at the end of the play and within the time that may take."""
        deadline = time.monotonic() + max((longest_end(turn.settings) for turn in self._turns.values()), default=0)
        advance()
        while any(turn.stage != DONE for turn in self._turns.values()):
            if time.monotonic() > deadline:
                names = sorted({turn.keeper.name for turn in self._turns.values() if turn.stage != DONE})
                display.warning(f"distlock: {', '.join(names)}: may not be released yet; the end of this run does it")
                return
            self.rest()
            time.sleep(0.005)
            advance()

    def _has_room(self, turn):
        """Limit the waiters of this run in one queue to the number of slots. Shared holders have no limit."""
        if turn.settings.shared:
            return True
        there = [line for other in self._turns.values() if other.stage in (WAITS, HOLDS, PARTS) for line in other.lines]
        return all(there.count(line) < self._slots_of(line, turn.settings) for line in turn.lines)

    def _slots_of(self, line, settings):
        """Looked up once: a policy that changes during the play holds for its claims, not for the number of waiters."""
        if line not in self._slots:
            try:
                policy = realm_of(settings).policy(line[-1])
            except DistlockError:
                policy = None  # whoever acquires the lock reports it
            self._slots[line] = settings.slots if policy is None or policy.slots is None else policy.slots
        return self._slots[line]

    def _start(self, turn):
        try:
            turn.keeper = start_run_keeper(turn.settings, f"{self._play} on {turn.host}")
            turn.stage = WAITS
        except DistlockError as error:
            self._fail(turn, error)

    def _look(self, turn):
        if turn.keeper.hold is not None:
            turn.stage = HOLDS
            turn.wait.ends()
        elif turn.keeper.over:
            turn.wait.ends(turn.keeper.trouble)
            self._fail(turn, turn.keeper.trouble)
        elif turn.keeper.waiting and turn.keeper.waiting != turn.shown:
            turn.shown = turn.keeper.waiting
            turn.wait.says(turn.shown)
            say(f"{turn.host}: waiting: {turn.shown}")

    def _go_on(self, turn, state):
        if turn.keeper.over:
            self._fail(turn, turn.keeper.trouble)
            return
        through, failed = state(turn.host)
        if through:
            turn.stage = PARTS
            if failed and turn.settings.on_failure in AFTER_FAILURE:
                for line in turn.lines:
                    self._kept.setdefault(line, f"{stopped_by(turn.settings)} after {turn.host} has failed")
            end_hold(turn.keeper, turn.settings, self._play, {turn.host} if failed else set())

    def _give_up(self, turn):
        """Refuse to wait until a person has looked, and then repeat what has failed on another host."""
        name, why = next((line[-1], self._kept[line]) for line in turn.lines if line in self._kept)
        turn.given_up = DistlockError(f"{name} is {why}, so no other host of this run goes on")
        if turn.stage == TO_COME:
            self._fail(turn, turn.given_up)
        else:
            turn.stage = PARTS
            turn.keeper.end_hold(UNUSED)

    def _parted(self, turn):
        if turn.given_up is not None:
            self._fail(turn, turn.given_up)
            return
        trouble = turn.keeper.trouble
        if is_unsettled(trouble):
            how = stopped_by(turn.settings)
            for line in turn.lines:
                self._kept.setdefault(line, f"{how}, as its gate was not green after {turn.host}")
            self._fail(turn, trouble)
            return
        if isinstance(trouble, LockLost):
            self._fail(turn, trouble)
        elif trouble is not None:
            warn_not_released("the lock", trouble, turn.host)
        turn.stage = DONE

    def _fail(self, turn, trouble):
        turn.stage = DONE
        turn.stop = True
        complain(trouble, turn.host)
