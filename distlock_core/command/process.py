"""Command: the process under a lock, and all its descendants."""

from __future__ import annotations

import os
import time

from distlock_core.base.deadline import now
from distlock_core.base.plain_signal import signal
from distlock_core.command import job_control, spawn
from distlock_core.command.end import CommandEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from distlock_core.command.end_conditions import EndConditions
    from distlock_core.command.prefork import Prefork
    from distlock_core.process.table import Process
    from distlock_core.process.tree import Tree

LONGEST_FREEZE = 1.0  # seconds that stopping a tree may take
LAST_RESORT = 5.0  # seconds for which a command is killed again and again when its supervision has failed
AGAIN = 0.01  # seconds between two tries of this


class Command:
    """A command. `pid` is 0 before its start."""

    def __init__(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        mask: set[int | signal.Signals],
        conditions: EndConditions,
    ) -> None:
        """`mask`: the signals that the command blocks."""
        self._words = words
        self._environ = environ
        self._mask = mask
        self._conditions = conditions
        self._started: int | None = None  # start time as in /proc
        self._tree: Tree | None = None
        self.pid = 0
        self.pidfd: int | None = None  # for a brief wait
        self.ended: CommandEnd | None = None
        self.strangers: frozenset[Process] = frozenset()

    def start(self, prefork: Prefork | None = None) -> None:
        """Start the command; a `prefork` process becomes it. Raises `NotStarted`, `TooLate`."""
        conditions = self._conditions
        changed = {**self._environ, **(conditions.heartbeat.variables if conditions.heartbeat is not None else {})}
        environ = {name: value for name, value in changed.items() if value is not None}
        if conditions.sees_tree:
            from distlock_core.command.kill import has_no_child
            from distlock_core.process.identity import stat_of
            from distlock_core.process.table import become_subreaper, descendants

            # `sh -c 'x & exec distlock ...'`: earlier children of this process do not belong to the command. The lock
            # is held already, and to look at all processes takes milliseconds: so only if there is any child at all.
            if not has_no_child():
                waits = 0 if prefork is None else prefork.pid
                self.strangers = frozenset(found for found in descendants(os.getpid()) if found[0] != waits)
            become_subreaper()
        if prefork is not None:
            self.pid = prefork.open(environ, self._mask)
        elif conditions.sees_tree or conditions.heartbeat is not None:
            self.pid = spawn.start_by_fork(
                self._words,
                environ,
                self._mask,
                inherited=None if conditions.heartbeat is None else conditions.heartbeat.inherited,
                tied=conditions.leased,
                not_after=conditions.last_moment,
            )
        else:
            self.pid = spawn.start(self._words, environ, self._mask)
        if conditions.sees_tree:
            stat = stat_of(self.pid)
            self._started = None if stat is None else stat.started
        else:
            try:
                self.pidfd = os.pidfd_open(self.pid)
            except (AttributeError, OSError):
                pass  # a kernel before 5.3: the end is noticed a little later
        if conditions.heartbeat is not None:
            conditions.heartbeat.started()

    @property
    def tree(self) -> Tree:
        """The command and all its descendants that can be found."""
        if self._tree is None:
            from distlock_core.process.tree import Tree

            self._tree = Tree(
                self.pid,
                subreaper=self._conditions.sees_tree,
                strangers=self.strangers,
                started=self._started,
                is_child=self.ended is None,
            )
        return self._tree

    @property
    def pace(self) -> float:
        """Seconds that the last scan of the tree took, 0 before the first."""
        return 0.0 if self._tree is None else self._tree.pace

    @property
    def has_descendants(self) -> bool:
        """True while a descendant lives. Valid only if the whole tree can be seen."""
        from distlock_core.command.kill import has_no_child

        return bool(self.tree.living()) if self.strangers else not has_no_child()

    def reap(self) -> bool:
        """Reap ended children. True if the command has stopped since the last call."""
        has_stopped = False
        while True:
            try:
                # A subreaper has children that it did not start.
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return has_stopped
            if pid == 0:
                return has_stopped
            if pid != self.pid or self.ended is not None:
                continue
            if os.WIFSTOPPED(status):
                has_stopped = True
                continue
            if self._tree is not None:
                self._tree.is_child = False
            by_signal = os.WIFSIGNALED(status)
            self.ended = CommandEnd(0, os.WTERMSIG(status)) if by_signal else CommandEnd(os.WEXITSTATUS(status))

    def stop_with_it(self, may_go_on: Callable[[], bool]) -> None:
        """Stop this process after the command has stopped.

        Under a lease the whole tree is stopped, since the lease is not renewed meanwhile. `may_go_on` is called when
        this process is continued.
        """
        if not self._conditions.leased:
            job_control.stop()
            return
        frozen = self.tree.freeze(now() + LONGEST_FREEZE)
        job_control.stop()
        if may_go_on():
            self.tree.send(signal.SIGCONT, frozen)

    def kill(self) -> tuple[int, ...]:
        """Kill all processes that can be found, as a last resort. Returns the survivors.

        Uses as little code as possible: whatever has failed before may fail again.
        """
        until = now() + LAST_RESORT
        living: set[Process] = set()
        while self.pid:
            try:
                self.reap()
                if self.ended is None:
                    os.kill(self.pid, signal.SIGKILL)
                if self._conditions.sees_tree or self._conditions.kill_on_loss:
                    self.tree.kill(now())
                    living = self.tree.living()
            except Exception:  # noqa: BLE001, S110 - tried again
                pass
            if (self.ended is not None and not living) or now() >= until:
                break
            time.sleep(AGAIN)
        left = {pid for pid, _ in living} | ({self.pid} if self.pid and self.ended is None else set())
        return tuple(sorted(left))

    def close(self) -> None:
        if self.pidfd is not None:
            os.close(self.pidfd)
