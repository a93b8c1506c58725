"""The process table: parents, children and descendants, and the prctl calls that keep them reachable. Linux."""

from __future__ import annotations

import os

from distlock_core.base.plain_signal import signal
from distlock_core.errors import ConfigError
from distlock_core.process.identity import Stat, proc_shows_own_namespace, stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Process = tuple[int, int]  # pid and start time, which identify a process for good

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 2, 36

_libc: Any = None


# Requests to the kernel for this process and its children.


def load() -> None:
    """Load all that the calls below need, so that none can fail later. Raises `ImportError`, `OSError`."""
    _prctl(PR_GET_PDEATHSIG, None)


def become_subreaper() -> None:
    """Make this process the new parent of its orphaned descendants, so that all of them stay visible."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies. To be called in a child, before exec.

    The setting is lost when the process changes its user, by a set-uid program or by itself.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # the parent had died before the request


def check_visible() -> str:
    """Check that a tree of processes can be seen here. Raises `ConfigError` if it cannot.

    Returns a sentence about processes that cannot be seen, "" if all can.
    """
    if not proc_shows_own_namespace():
        is_there = os.path.exists("/proc/self/stat")
        raise ConfigError("/proc is that of another pid namespace" if is_there else "/proc is not mounted")
    if os.getuid() != 0 and parent_of(1) is None:
        return "/proc hides the processes of other users here"
    return ""


def take_precedence() -> bool:
    """Give this thread the highest priority from now on. Returns False where that is not allowed: only root may.

    A busy tree leaves a process of the same priority no time to scan it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, OSError):
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        except OSError:
            return False
    return True


def yield_precedence(thread: int) -> None:
    """Give a thread of another process the lowest priority, which a user may do to its own processes."""
    try:
        os.setpriority(os.PRIO_PROCESS, thread, 19)
    except OSError:
        pass  # it has ended, or belongs to another user


# Parents and descendants.


def pids() -> set[int]:
    """The pids of all processes that can be seen. Raises `OSError`."""
    return {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}


def children(pid: int) -> set[Process]:
    """The living processes whose parent is currently this one."""
    try:
        found = listed_children(pid)
    except OSError:  # a kernel without these files, or a thread that has just ended
        found = {other for other in pids() if parent_of(other) == pid}
    stats = {child: stat_of(child) for child in found}
    return {(child, stat.started) for child, stat in stats.items() if stat is not None and stat.is_alive}


def listed_children(pid: int) -> set[int]:
    """The pids of its children, including zombies, as the kernel lists them. Raises `OSError` if it does not."""
    found: set[int] = set()
    for thread in threads(pid):
        with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            found.update(map(int, (file.readall() or b"").split()))
    return found


def threads(pid: int) -> set[int]:
    """The ids of its threads, the first of which is its pid. Raises `OSError`."""
    return set(map(int, os.listdir(f"/proc/{pid}/task")))


def sleeps(pid: int) -> int | None:
    """The number of times that a process has gone to sleep, None if there is no such process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(b"voluntary_ctxt_switches:"))
    except (OSError, StopIteration):
        return None


def descendants(*roots: int, leave_out: frozenset[Process] = frozenset()) -> set[Process]:
    """Every living process below the roots, without the roots, and without `leave_out` and its descendants."""
    found = {pid: stat for pid in pids() for stat in [stat_of(pid)] if stat is not None}
    return {(pid, found[pid].started) for pid in below(roots, found, leave_out) if found[pid].is_alive}


def below(roots: tuple[int, ...], found: dict[int, Stat], leave_out: frozenset[Process]) -> set[int]:
    """The pids in `found` below the roots, without `leave_out` and its descendants."""
    born: dict[int, list[int]] = {}
    for pid, stat in found.items():
        born.setdefault(stat.parent, []).append(pid)
    below: set[int] = set()
    unseen = list(roots)
    while unseen:
        for pid in born.get(unseen.pop(), ()):
            if pid not in below and (pid, found[pid].started) not in leave_out:
                below.add(pid)
                unseen.append(pid)
    return below


def parent_of(pid: int) -> int | None:
    """The pid of a process's parent, None if there is no such process, 0 for init."""
    stat = stat_of(pid)
    return None if stat is None else stat.parent


def descends_from(pid: int, ancestor: int) -> bool:
    """True if a process is a descendant of another one. False if it has ended."""
    for _ in range(64):
        parent = parent_of(pid)
        if parent is None or parent <= 1:
            return False
        if parent == ancestor:
            return True
        pid = parent
    return False


def _prctl(option: int, value: int | None) -> None:
    global _libc
    import ctypes

    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.byref(ctypes.c_int()) if value is None else ctypes.c_ulong(value)
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
