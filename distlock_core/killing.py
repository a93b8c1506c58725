"""The end of a command's tree: asked for with SIGTERM at once, made with SIGKILL at a set moment."""

from __future__ import annotations

import os
import signal

from distlock_core.patience import now
from distlock_core.processes import Process, Tree

PASS = 0.02  # seconds between two rounds of killing
UNKILLABLE = 5.0  # seconds after the first SIGKILL; what lives then cannot be killed


class Killing:
    """A tree that is being ended. `kill_at` is on the `now()` clock."""

    def __init__(
        self, pid: int, kill_at: float, *, subreaper: bool, strangers: frozenset[Process] = frozenset()
    ) -> None:
        """Send SIGTERM to all of it. With the subreaper set, all below this process is the tree, but for strangers."""
        self._tree = Tree(pid, subreaper=subreaper, strangers=strangers)
        self._kill_at = kill_at
        self._kernel_knows = subreaper and not strangers
        living = self._tree.living()
        self._tree.send(signal.SIGTERM, living)
        self._tree.send(signal.SIGCONT, living)  # what is stopped hears nothing

    def next_moment(self) -> float:
        """When to look again, on the `now()` clock."""
        return now() + (PASS if now() >= self._kill_at else min(5 * PASS, self._kill_at - now()))

    def go_on(self) -> None:
        """Send SIGKILL, if it is time for that."""
        if now() >= self._kill_at:
            self._tree.send(signal.SIGKILL, self._tree.living())

    def is_over(self, *, reaped: bool) -> bool:
        """True when all of it is dead and the command `reaped`, or when what lives cannot be killed."""
        living = self._tree.living()
        if not living and reaped and (not self._kernel_knows or _has_no_child()):
            return True
        if now() < self._kill_at:
            return False
        return now() >= self._kill_at + UNKILLABLE or (bool(living) and living <= self._tree.refused)

    def survivors(self) -> tuple[int, ...]:
        """The pids of what lives."""
        return tuple(sorted(pid for pid, _ in self._tree.living()))


def _has_no_child() -> bool:
    """What /proc, read file by file, can miss (who forks and ends meanwhile), a subreaper's kernel does not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
