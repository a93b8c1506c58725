"""Shell: a line of shell that answers a question about a lock, such as `--unless`, and is ended with all it started."""

from __future__ import annotations

import os
import select
import sys
import time

from distlock_core.base.deadline import now
from distlock_core.base.plain_signal import signal
from distlock_core.errors import CheckFailed
from distlock_core.process.identity import start_time
from distlock_core.process.table import pids
from distlock_core.process.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.process.table import Process

SHELL = "/bin/sh"
TO_END = 1.0  # seconds from SIGTERM to SIGKILL
TO_DIE = 2.0  # seconds after SIGKILL; a process that survives them is left behind
PASS = 0.01  # seconds between two looks at a tree that is being ended
SLICE = 0.05  # seconds by which an end may be noticed late where the kernel has no descriptors of processes
READ, READS = 65536, 64  # bytes of one read, and the most reads in a row: a line may print without end
KEPT = 4096  # bytes at the end of its output
GUARD = b"read -r line || kill -s KILL 0"  # 0: its process group
RESET = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores


def stderr() -> int:
    """The descriptor of this process's stderr, for the output of a line."""
    try:
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    except (OSError, ValueError):
        return 2  # closed


class Shell:
    """A line that `/bin/sh -c` reads, started by the constructor, with no input.

    It runs in a process group of its own, so that Ctrl-C reaches this process alone, and the whole group can be ended.
    A guard, the first process of the group, kills it if this process dies. Call `wait()` until it returns a status, or
    `end()`.
    """

    def __init__(
        self, line: str, environ: Mapping[str, str], output: int | None = None, *, leaves: bool = True
    ) -> None:
        """Start it. Both its outputs go to the descriptor `output`; without one, only its `last_line` is kept.

        Processes of its group that it leaves when it ends by itself are left alone, or killed if it `leaves` none.
        Raises `CheckFailed`.
        """
        self._leaves = leaves
        self._reaped = False
        self._tail = b""
        self._descriptor: int | None = None
        self._reader: int | None = None
        theirs = output
        if theirs is None:
            try:
                self._reader, theirs = os.pipe()
            except OSError as error:
                raise CheckFailed(f"cannot read its output: {error.strerror}") from error
            os.set_blocking(self._reader, False)
        streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, theirs, 1),
            (os.POSIX_SPAWN_DUP2, theirs, 2),
        ]
        self._guard: _Guard | None = None
        try:
            self._guard = _Guard()
            self.pid = _spawn(line.encode("utf-8", "surrogateescape"), environ, streams, self._guard.pid)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._close()
            raise CheckFailed(f"cannot start {SHELL}: {reason}") from error
        finally:
            if output is None:
                os.close(theirs)
        self._started = start_time(self.pid)
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
                self._read()
                if not self._leaves:
                    self._kill_group()
                self._close()
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            if self._descriptor is None:
                patience.pause(SLICE)
            else:
                watched = [one for one in (self._descriptor, self._reader) if one is not None]
                patience.wait_any(dict.fromkeys(watched, select.POLLIN))
            self._read()
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
        guard = self._guard
        if guard is None:
            return tree.living()
        # The number of the group is not reused before the guard is reaped.
        members = _members(guard.pid) - {guard.pid}
        return tree.living() | {(pid, started) for pid in members for started in [start_time(pid)] if started}

    def _kill_group(self) -> None:
        try:
            if self._guard is not None:
                os.killpg(self._guard.pid, signal.SIGKILL)
        except OSError:
            pass  # none of its processes is left, or none may be signalled

    @property
    def last_line(self) -> str:
        """The last line of its output that is not empty, if no descriptor was given for that."""
        lines = [line.strip() for line in self._tail.decode("utf-8", "backslashreplace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def _read(self) -> None:
        """Read what it has printed, and keep the end of that. What it has left behind may hold the pipe open."""
        for _ in range(READS):
            if self._reader is None:
                return
            try:
                found = os.read(self._reader, READ)
            except BlockingIOError:
                return
            if not found:
                os.close(self._reader)
                self._reader = None
            self._tail = (self._tail + found)[-KEPT:]

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _close(self) -> None:
        self._reaped = True
        for descriptor in (self._descriptor, self._reader):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._reader = None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.dismiss()


class _Guard:
    """A process that leads a group, and kills it when this process is gone: then its input ends without a line."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        streams = [
            (os.POSIX_SPAWN_DUP2, reader, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        try:
            self.pid = _spawn(GUARD, {}, streams, 0)
        except (OSError, ValueError):
            os.close(self._writer)
            raise
        finally:
            os.close(reader)

    def dismiss(self) -> None:
        """End it, and leave the group alone."""
        try:
            os.write(self._writer, b"\n")
        except OSError:
            pass  # it has been killed with its group
        os.close(self._writer)
        try:
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)  # it may be stopped
                os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # another part of this process takes the status of all children


def _spawn(line: bytes, environ: Mapping[str, str], streams: Sequence[Any], group: int) -> int:
    """Start a shell that reads a line, in a process group (0: a new one), and return its pid."""
    return os.posix_spawn(
        SHELL,
        [os.fsencode(SHELL), b"-c", line],
        environ,
        file_actions=streams,
        setpgroup=group,
        setsigmask=[],
        setsigdef=RESET,
    )


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
