"""Trees of processes: who descends from whom, and how to end all of them. Linux."""

from __future__ import annotations

import os
import signal

from distlock_core.whoami import start_time

Process = tuple[int, int]  # pid and start time, which name a process once and for all

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def become_subreaper() -> None:
    """From now on, whatever my descendants leave behind becomes my child: nobody gets out of my sight."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent is. To be called in a child, before exec; set-uid programs undo it."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it was gone before I asked


def children(pid: int) -> set[Process]:
    """The living processes whose parent this one is now."""
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
    except OSError:  # a kernel without these files, or a thread that has just ended
        found = {int(entry) for entry in os.listdir("/proc") if entry.isdigit() and parent_of(int(entry)) == pid}
    return {(child, started) for child in found for started in [start_time(child)] if started is not None}


def sleeps(pid: int) -> int | None:
    """How many times a process has gone to sleep, None where there is no such process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(b"voluntary_ctxt_switches:"))
    except (OSError, StopIteration):
        return None


def descendants(*roots: int, leave_out: frozenset[Process] = frozenset()) -> set[Process]:
    """Every living process below the roots, the roots left out, and those to leave out with all below them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = parent_of(int(entry))
            if parent is not None:
                children.setdefault(parent, []).append(int(entry))
    found, unseen = set(), list(roots)
    while unseen:
        for pid in children.get(unseen.pop(), ()):
            started = start_time(pid)
            if started is not None and (pid, started) in leave_out:
                continue
            unseen.append(pid)
            if started is not None:
                found.add((pid, started))
    return found


class Tree:
    """A command and everything it has started, as far as it can be found."""

    def __init__(self, pid: int, *, subreaper: bool, strangers: frozenset[Process] = frozenset()) -> None:
        """With the subreaper set, all that this process has below it belongs to the command, but for strangers."""
        self._subreaper = subreaper
        self._strangers = strangers
        started = start_time(pid)
        self._known: set[Process] = set() if started is None else {(pid, started)}
        self.refused: set[Process] = set()

    def living(self) -> set[Process]:
        """Who of it lives. A zombie does not."""
        roots = [os.getpid()] if self._subreaper else [pid for pid, _ in self._known]
        self._known |= descendants(*roots, leave_out=self._strangers)
        self._known = {(pid, started) for pid, started in self._known if start_time(pid) == started}
        return set(self._known)

    def send(self, number: int, to: set[Process]) -> None:
        """Send a signal. Who may not be signalled (set-uid, another user) is put into `refused`.

        Elders come first: a shell that lived to see its command die of it would begin the next one.
        """
        for pid, started in sorted(to, key=lambda process: (process[1], process[0])):
            # Looked at again right before: a pid can be given to somebody else.
            if start_time(pid) == started:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
                except PermissionError:
                    self.refused.add((pid, started))


def parent_of(pid: int) -> int | None:
    """The pid of a process's parent, None where there is no such process; 0 for the first of all."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _prctl(option: int, value: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
