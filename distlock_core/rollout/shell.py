"""Shell: a line of shell that answers a question about a lock, such as `--unless`, and is ended with all it started."""

from __future__ import annotations

import os
import time

from distlock_core.base.deadline import now
from distlock_core.base.plain_signal import signal
from distlock_core.errors import CheckFailed
from distlock_core.process.identity import start_time
from distlock_core.process.table import pids
from distlock_core.process.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from distlock_core.base.deadline import Patience
    from distlock_core.process.table import Process

SHELL = "/bin/sh"
TO_END = 1.0  # seconds from SIGTERM to SIGKILL
TO_DIE = 2.0  # seconds after SIGKILL; a process that survives them is left behind
PASS = 0.01  # seconds between two looks at a tree that is being ended
SLICE = 0.05  # seconds by which an end may be noticed late where the kernel has no descriptors of processes
RESET = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores


class Shell:
    """A line that `/bin/sh -c` reads, started by the constructor, with no input.

    It runs in a process group of its own, so that Ctrl-C reaches this process alone, and the whole group can be ended.
    Call `wait()` until it returns a status, or `end()`.
    """

    def __init__(self, line: str, environ: Mapping[str, str], output: int) -> None:
        """Start it. Both its outputs go to the descriptor `output`. Raises `CheckFailed`."""
        self.line = line
        self._reaped = False
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        try:
            self.pid = os.posix_spawn(
                SHELL,
                [os.fsencode(SHELL), b"-c", line.encode("utf-8", "surrogateescape")],
                environ,
                file_actions=streams,
                setpgroup=0,
                setsigmask=[],
                setsigdef=RESET,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CheckFailed(f"cannot start {SHELL}: {reason}") from error
        self._started = start_time(self.pid)
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            pass  # a kernel before 5.3

    def wait(self, patience: Patience) -> int | None:
        """Return its exit code, or -n if signal n has ended it; None at the patience's end.

        Raises `Cancelled`, and `CheckFailed` if another part of this process has taken the status.
        """
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._close()
                raise CheckFailed(
                    "its exit code is unknown: this process ignores SIGCHLD, or waits for all its children"
                ) from None
            if pid:
                self._close()
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            if self._descriptor is None:
                patience.pause(SLICE)
            else:
                patience.wait(self._descriptor)
            if patience.over() and not self._has_ended():
                return None

    def end(self) -> None:
        """End it, and all that it has started: SIGTERM first, SIGKILL a second later. Nothing if it has ended."""
        if self._reaped:
            return
        tree = Tree(self.pid, subreaper=False, started=self._started)
        kill_at = now() + TO_END
        living = self._living(tree)
        tree.send(signal.SIGTERM, living)
        tree.send(signal.SIGCONT, living)  # a stopped process would not handle SIGTERM
        while living and now() < kill_at + TO_DIE:
            if now() >= kill_at:
                tree.kill(now() + PASS)
                self._kill_group()
            time.sleep(PASS)
            living = self._living(tree)
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pass
        self._close()

    def _living(self, tree: Tree) -> set[Process]:
        """The living processes of the tree, and of the group: an orphan is still a member of that."""
        # The number of the group is not reused before the shell is reaped.
        return tree.living() | {
            (pid, started) for pid in _members(self.pid) for started in [start_time(pid)] if started
        }

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass  # none of its processes is left, or none may be signalled

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _close(self) -> None:
        self._reaped = True
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _members(group: int) -> set[int]:
    """The pids of a process group, including zombies."""
    try:
        return {pid for pid in pids() if _group_of(pid) == group}
    except OSError:
        return set()  # no /proc


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0  # it has ended meanwhile
