"""RunKeeper: starts a process that waits for a lock and keeps it for a run of many processes.

The run has one end of a pipe, which all its children inherit; the keeper has the other. So the keeper notices the end
of the run when the last of its processes is gone, whatever the cause. Only that, an `end_hold()` before it, or a loss
ends its hold.
"""

from __future__ import annotations

import json
import os
import select

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import DistlockError, LockLost
from distlock_core.hints import from_fields
from distlock_core.keeper import detach, run_keeper_process
from distlock_core.process.nesting import HELD, TOKEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class KeeperHold(Value):
    """The hold of a run keeper. Several locks that were acquired together have one token."""

    lock: str  # of several, their names in one phrase
    owner: str
    token: int
    since: int
    lock_names: tuple[str, ...]


class RunKeeper:
    """A run keeper, as seen by the run. `update()` processes the keeper's messages; it never blocks.

    `waiting` names the holders that it waits for, `settling` says why its gate does not let the lock go yet. `hold` is
    its hold, None before and afterwards. `trouble` is why there is none: refused, lost, not certainly released, or (of
    kind `gate`) kept. `over` is True when no more messages will come.
    """

    def __init__(self, name: str, orders: Mapping[str, Any], realm_settings: Mapping[str, Any] | None = None) -> None:
        """Start it.

        Orders: `connection`, `spec` (arguments of `Realm.lock()`), `timeout`, `kill_after`, `at_end`, and `gate`, None
        or the arguments of `RunGate`.

        The lock is leased. A hold without a renewal counts as lost `kill_after` seconds before the lease can expire.
        `at_end` (the arguments of `end_hold()`) is used when the run ends without calling `end_hold()`. Its errors get
        `realm_settings`. Raises `DistlockError`.
        """
        self.name = name
        self.waiting = ""
        self.settling = ""
        self.hold: KeeperHold | None = None
        self.trouble: DistlockError | None = None
        self.over = False
        self._realm_settings = realm_settings or {}
        self._heard = b""
        self._is_ending = False
        around = {word: os.environ[word] for word in (TOKEN, HELD) if word in os.environ}
        orders = {**orders, "around": around}  # passed explicitly: the keeper itself is not nested in them
        self.pid, self._orders, self._words = detach.spawn(
            run_keeper_process.__name__, f"distlock keeper for {name}", orders
        )
        os.set_blocking(self._words, False)

    def fileno(self) -> int:
        """A descriptor that is readable when `update()` has a message to process. Only while not `over`."""
        return self._words

    def update(self) -> None:
        while not self.over:
            try:
                data = os.read(self._words, 65536)
            except BlockingIOError:
                return
            *lines, self._heard = (self._heard + data).split(b"\n")
            for line in lines:
                if not self.over:
                    self._take_in(json.loads(line))
            if not data and not self.over:
                self._ended_in_silence()

    def wait(self, seconds: float) -> None:
        """Wait for a message, at most `seconds`, and `update()`."""
        if not self.over:
            wait_for([self], seconds)
            self.update()

    def end_hold(self, how: str, detail: str | int | None = None) -> None:
        """Ask it to end its hold.

        `how` is `release`, `keep` or `freeze` (with a reason), or `cool`, with the seconds that apply if the lock's
        policy has no cooldown; None releases it then. `release` and `cool` wait for the gate, if there is one: if it is
        not green in time, the lock is kept or frozen. `unused` releases a lock under which nothing was done.

        Returns at once: `over` is set when that is done, and `trouble` if it failed.
        """
        if not self.over and not self._is_ending:
            self._is_ending = True
            try:
                os.write(self._orders, json.dumps([how, detail]).encode() + b"\n")
            except OSError:
                pass  # it has ended: the next update shows it

    def _take_in(self, said: dict[str, Any]) -> None:
        if "waiting" in said:
            self.waiting = said["waiting"]
        elif "settling" in said:
            self.settling = said["settling"]
        elif "hold" in said:
            self.waiting = ""
            lock, owner, token, since, names = said["hold"]
            self.hold = KeeperHold(lock, owner, token, since, tuple(names))
        else:
            if said.get("message"):
                kind = LockLost if said["kind"] == LockLost.kind else DistlockError
                self.trouble = kind(said["message"])
                self.trouble.kind = said["kind"]
                self.trouble.hints = from_fields(said.get("hints", ()))
                self.trouble.realm_settings = self._realm_settings
            self._end()

    def _ended_in_silence(self) -> None:
        name = printable(self.name)
        if self.hold is None and not self._is_ending:
            self.trouble = DistlockError(f"{name}: the process that should acquire the lock has ended")
        elif self.hold is not None and self._is_ending:
            self.trouble = DistlockError(f"{name}: the process that should release it has ended; the lock may remain")
        elif self.hold is not None:
            self.trouble = LockLost(f"{name} was lost: the process that kept it has ended")
        self._end()

    def _end(self) -> None:
        self.over = True
        self.hold = None
        os.close(self._orders)
        os.close(self._words)


def wait_for(run_keepers: list[RunKeeper], seconds: float) -> None:
    """Wait for a message from one of them, at most `seconds`."""
    poll = select.poll()
    for run_keeper in run_keepers:
        if not run_keeper.over:
            poll.register(run_keeper, select.POLLIN)
    poll.poll(int(seconds * 1000))
