"""TreeKiller: ends a command's tree: SIGTERM at once, SIGKILL at a set moment."""

from __future__ import annotations

import os
import time

from distlock_core.base.deadline import FOREVER, now
from distlock_core.base.plain_signal import signal
from distlock_core.process.table import take_precedence
from distlock_core.process.tree import GLANCE, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PASS = 0.02  # seconds between two rounds of killing
UNKILLABLE = 5.0  # seconds after the first SIGKILL; a process that survives them cannot be killed
ROUNDS = 3.0  # scans of the whole tree that a kill takes: to stop it, to find no new process, to kill it
EARLIEST, PART = 0.5, 5  # SIGKILL begins kill_after / PART before the deadline, at most EARLIEST seconds
LOOKS = 10  # scans for survivors that are hard to see


class TreeKiller:
    """A tree that is being ended. All moments are on the `now()` clock; at `dead_by()` another holder may be let in.

    SIGKILL is sent at `kill_at`, and in any case early enough before `dead_by()`: by the measured time that a kill of
    this tree takes, but at least `head_start` seconds.
    """

    def __init__(
        self,
        tree: Tree,
        kill_at: float,
        *,
        dead_by: Callable[[], float] = lambda: FOREVER,
        head_start: float = 0.0,
        subreaper: bool = False,
        strangers: bool = False,
    ) -> None:
        """Send SIGTERM to the whole tree, or SIGKILL if no time is left for SIGTERM."""
        self._tree = tree
        self._kill_at = kill_at
        self._dead_by = dead_by
        self._head_start = head_start
        self._kernel_knows = subreaper and not strangers
        self._killed_at = FOREVER
        if not take_precedence() and dead_by() < FOREVER:
            tree.make_way(max(now() + GLANCE, min(kill_at, dead_by() - head_start)))
        if now() < self._moment():
            living = tree.living()
            tree.send(signal.SIGTERM, living)
            tree.send(signal.SIGCONT, living)  # a stopped process would not handle SIGTERM
        else:
            self.go_on()

    def hurry(self, kill_at: float) -> None:
        """Kill at `kill_at` at the latest."""
        self._kill_at = min(self._kill_at, kill_at)

    def next_moment(self) -> float:
        """The moment of the next step, on the `now()` clock."""
        left = self._moment() - now()
        return now() + (PASS if left <= 0 else min(5 * PASS, left))

    def go_on(self) -> None:
        """Send SIGKILL if it is time for it."""
        if now() >= self._moment():
            self._killed_at = min(self._killed_at, now())
            self._tree.kill(now() + PASS)

    def is_over(self, *, reaped: bool) -> bool:
        """True if the whole tree is dead and the command `reaped`, or if the survivors cannot be killed."""
        if self._killed_at == FOREVER and self._moment() - self._tree.pace <= now():
            return False  # no time is left to look before the kill
        living = self._tree.living()
        if not living and reaped and (not self._kernel_knows or has_no_child()):
            return True
        if self._killed_at == FOREVER:
            return False
        return now() >= self._killed_at + UNKILLABLE or (bool(living) and living <= self._tree.refused)

    def survivors(self) -> tuple[int, ...]:
        """The pids of the living processes. 0 stands for one that changes its pid too fast to be seen."""
        for _ in range(LOOKS):
            living = self._tree.living()
            if living or not self._kernel_knows or has_no_child():
                return tuple(sorted(pid for pid, _ in living))
        return (0,)

    def _moment(self) -> float:
        return min(self._kill_at, self._dead_by() - max(self._head_start, ROUNDS * self._tree.pace))


def end_tree(pid: int, kill_after: float, deadline: float, begun: Callable[[], None] = lambda: None) -> tuple[int, ...]:
    """End the tree of a process that is no child of this one. Returns the pids of processes that cannot be killed.

    SIGTERM comes first. The tree is dead before `deadline`, after which another may hold the lock. `begun` is called
    once SIGTERM is sent; it must neither block nor raise.
    """
    tree = Tree(pid, subreaper=False, is_child=False)
    killer = TreeKiller(tree, now() + kill_after, dead_by=lambda: deadline, head_start=head_start(kill_after))
    begun()
    while not killer.is_over(reaped=True):
        time.sleep(max(0.0, killer.next_moment() - now()))
        killer.go_on()
    return killer.survivors()


def head_start(kill_after: float) -> float:
    """Seconds by which SIGKILL precedes the moment at which a tree must be dead."""
    return min(EARLIEST, kill_after / PART)


def has_no_child() -> bool:
    """True if this process has no child, and so, as a subreaper, no descendant.

    A scan of /proc can miss a process that forks and exits; this cannot.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
