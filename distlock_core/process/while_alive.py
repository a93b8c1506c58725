"""Cancels that are set when another process (optionally with its children) has ended."""

from __future__ import annotations

import errno
import os
import select

from distlock_core.base.deadline import FOREVER, Interrupt, now
from distlock_core.base.plain_signal import signal
from distlock_core.errors import DistlockError
from distlock_core.process.fate import is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from distlock_core.process.table import Process

    class QuitRequest(Protocol):
        """A cancel by which a caller is asked to quit."""

        def is_set(self) -> bool: ...
        def fileno(self) -> int: ...
        def set(self, number: int | None = None) -> None: ...


LOOK = 0.5  # seconds between two scans of a process's descendants
ORPHANED = 3.0  # seconds before a process's end in which its orphaned descendants still count as its own
QUIT_AFTER = 60.0  # seconds that a keeper continues after a first SIGTERM while its process is alive


class WhileAlive:
    """A cancel that is set when a process has ended, or when this process is asked to quit.

    A service manager, or the shutdown of a machine, signals all processes at once. So a first SIGTERM only starts a
    wait of `QUIT_AFTER` seconds for that process's end; a second one takes effect at once.

    `family` is the read end of a pipe whose write end the process has. Its children may have inherited the write end:
    then the process has ended only when the last of them has, too. Nothing is read from the pipe.
    """

    def __init__(
        self, pid: int, started: int, family: int | None = None, quit_request: QuitRequest | None = None
    ) -> None:
        """`quit_request`: a cancel that asks the caller to quit, instead of SIGTERM."""
        self._pid, self._started, self._family = pid, started, family
        self._process: int | None = None
        self._has_exited = False  # according to the kernel
        self._alarm: Any = None  # what SIGALRM did before
        self._quits_at = FOREVER
        self.quit = Interrupt() if quit_request is None else quit_request
        if quit_request is None:
            signal.signal(signal.SIGTERM, lambda number, _: self._terminate(number))
        # An epoll descriptor can itself be polled.
        self._any = select.epoll()
        self._any.register(self.quit.fileno(), select.EPOLLIN)
        if family is not None:
            self._any.register(family, 0)  # its end is always reported; its data is not wanted
        self._expect()

    @property
    def ended(self) -> bool:
        return self._has_ended() and (self._family is None or is_closed(self._family))

    def _has_ended(self) -> bool:
        """True only if it is certain: a process that cannot be examined (no descriptor is left) has not ended."""
        if self._process is not None and is_readable(self._process):
            return True
        # Compare the start time too: the pid may have been reused before the pidfd was opened.
        return self._has_exited or is_gone(self._pid, self._started)

    def is_set(self) -> bool:
        if self.quit.is_set() or self.ended:
            return True
        # One of the two may have ended: unregister it, or a wait for the other one would spin.
        for descriptor, _ in self._any.poll(0):
            self._any.unregister(descriptor)
            self._has_exited = self._has_exited or descriptor == self._process
        return self.ended

    def fileno(self) -> int:
        return self._any.fileno()

    def close(self) -> None:
        """Stop watching."""
        self._any.close()
        if self._process is not None:
            os.close(self._process)
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)

    def _expect(self) -> None:
        try:
            self._process = os.pidfd_open(self._pid)  # readable when the process has ended
            self._any.register(self._process, select.EPOLLIN)
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) in (errno.EINVAL, errno.ENOENT):  # by kernel version
                raise DistlockError(f"{self._pid} is a thread, not a process") from error
            self._look_every(1.0)  # kernels before 5.3 have no pidfd

    def _terminate(self, number: int) -> None:
        if self._quits_at != FOREVER or self.ended:
            self.quit.set(number)
            return
        self._quits_at = now() + QUIT_AFTER
        if self._alarm is None:
            self._look_every(LOOK)

    def _look_every(self, seconds: float) -> None:
        def look(*_: object) -> None:
            try:
                ended = self.ended
            except OSError:
                ended = False  # it could not be examined: try again next time
            if ended or now() >= self._quits_at:
                self.quit.set()

        self._alarm = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


class WhileChildrenAlive(WhileAlive):
    """As `WhileAlive`, but a process has ended only when all processes that it has left running have ended too.

    These are its descendants, including later ones. A run is often ended by signalling one process after another: so
    a process that lost its parent within the last `ORPHANED` seconds, and is in a session of the run or of its
    children, also counts. A process with a new session (a daemon), or one orphaned earlier, is not waited for. The
    kernel reports none of this, so all of it is scanned every `LOOK` seconds: a process started just before a SIGKILL
    may be missed.

    A pidfd is held of each process that would be waited for, so that others can see them: `awaited_by()`.
    """

    def __init__(self, pid: int, started: int) -> None:
        self._left: set[Process] = set()
        self._shown: dict[Process, int] = {}
        self._seen: dict[Process, float] = {}  # when each was last seen below the process
        self._sessions: set[int | None] = set()
        super().__init__(pid, started)

    @property
    def ended(self) -> bool:
        if not self._has_ended():
            below = _below({self._pid})
            sessions = {_session(pid) for pid in (self._pid, *_pids(_children(self._pid)))}
            if not self._has_ended():  # otherwise it has ended meanwhile, and has no children any more
                self._sessions |= sessions - {None}
                self._left = below | self._orphans(below)
                self._show({(pid, started) for pid, started in self._left if _session(pid) in self._sessions})
                return False
        left = {(pid, started) for pid, started in self._left if not is_gone(pid, started)}
        self._left = left | _below({pid for pid, _ in left})
        return not self._left

    def _orphans(self, below: set[Process]) -> set[Process]:
        moment = now()
        self._seen.update(dict.fromkeys(below, moment))
        self._seen = {process: seen for process, seen in self._seen.items() if seen > moment - ORPHANED}
        lost = self._seen.keys() - below
        return {
            (pid, started) for pid, started in lost if not is_gone(pid, started) and _session(pid) in self._sessions
        }

    def _show(self, processes: set[Process]) -> None:
        for process in self._shown.keys() - processes:
            os.close(self._shown.pop(process))
        for process in processes - self._shown.keys():
            try:
                self._shown[process] = os.pidfd_open(process[0])
            except (AttributeError, OSError):
                pass  # it has just ended, or there are no pidfds (Linux before 5.3), or no descriptor is left

    def _expect(self) -> None:
        self._look_every(LOOK)


def awaited_by(pid: int) -> set[int]:
    """The living processes of which a process has pidfds: for a keeper, those that it would wait for.

    Empty for a process that cannot be examined.
    """
    from distlock_core.process.identity import stat_of

    found: set[int] = set()
    try:
        entries = os.listdir(f"/proc/{pid}/fdinfo")
    except OSError:
        return found
    for entry in entries:
        try:
            with open(f"/proc/{pid}/fdinfo/{entry}", "rb") as info:
                found.update(int(line.split()[1]) for line in info if line.startswith(b"Pid:"))
        except OSError:
            pass  # closed meanwhile
    return {one for one in found if one > 0 and (stat := stat_of(one)) is not None and stat.is_alive}


def _below(roots: set[int]) -> set[Process]:
    """Every living descendant of `roots`. Reads only their part of the process list, since it is called often."""
    os.close(os.open("/proc/self/stat", os.O_RDONLY))  # raises if /proc cannot be read at the moment
    found: set[Process] = set()
    while roots:
        born = {child for pid in roots for child in _children(pid)} - found
        found |= born
        roots = _pids(born)
    return found


def _children(pid: int) -> set[Process]:
    from distlock_core.process.table import children

    return children(pid)


def _pids(processes: set[Process]) -> set[int]:
    return {pid for pid, _ in processes}


def _session(pid: int) -> int | None:
    """The session of a process, None if it is unknown.

    0 is a valid session: one that was made outside this pid namespace, as in a container entered from its host
    (`docker exec`, `nsenter`).
    """
    try:
        return os.getsid(pid)
    except OSError:
        return None


def is_closed(descriptor: int) -> bool:
    """True if the other end of this pipe is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def is_readable(descriptor: int) -> bool:
    """True if the descriptor is readable: for a pidfd, if its process has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
