"""Trees of processes: who descends from whom, and how to reach all of them. Linux."""

from __future__ import annotations

import os
import signal
import time

from distlock_core.errors import ConfigError
from distlock_core.patience import now
from distlock_core.values import Value
from distlock_core.whoami import proc_is_mine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Process = tuple[int, int]  # pid and start time, which name a process once and for all

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 2, 36
CHASE = 0.1  # seconds that children are killed for as they appear, in one go
STILL = 0.001  # seconds between two looks at children that are all killed already
MOST_ROUNDS = 10  # of stopping; a tree that is not still after these is killed as it is found

_libc: Any = None


class Stat(Value):
    """One process, as /proc shows it."""

    parent: int
    state: bytes
    threads: int
    started: int  # clock ticks since boot

    @property
    def is_alive(self) -> bool:
        """False for a zombie. One whose other threads still work has only lost its first thread."""
        return self.state not in (b"Z", b"X") or self.threads > 1


def stat_of(pid: int) -> Stat | None:
    """Return what /proc says of a process, None where it shows no such process."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        # The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
        fields = text[text.rindex(b")") + 2 :].split(None, 20)
        return Stat(int(fields[1]), fields[0], int(fields[17]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


# What a process asks of the kernel for itself and its children.


def load() -> None:
    """Load what the calls below need, so that nothing is missing later. Raises `ImportError`, `OSError`."""
    _prctl(PR_GET_PDEATHSIG, None)


def become_subreaper() -> None:
    """From now on, whatever my descendants leave behind becomes my child: nobody gets out of my sight."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent is. To be called in a child, before exec.

    The kernel forgets it when the process changes its user, by a set-uid program or by itself.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it was gone before I asked


def check_visible() -> str:
    """Make sure that a tree of processes can be seen here. Raises `ConfigError` where it cannot.

    Returns what cannot be seen all the same, "" where that is nothing.
    """
    if not proc_is_mine():
        is_there = os.path.exists("/proc/self/stat")
        raise ConfigError("/proc is that of another pid namespace" if is_there else "/proc is not mounted")
    if os.getuid() != 0 and parent_of(1) is None:
        return "/proc hides the processes of other users here"
    return ""


# Who descends from whom.


def pids() -> set[int]:
    """The pids of all processes that can be seen. Raises `OSError`."""
    return {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}


def children(pid: int) -> set[Process]:
    """The living processes whose parent this one is now."""
    try:
        found = _listed_children(pid)
    except OSError:  # a kernel without these files, or a thread that has just ended
        found = {other for other in pids() if parent_of(other) == pid}
    stats = {child: stat_of(child) for child in found}
    return {(child, stat.started) for child, stat in stats.items() if stat is not None and stat.is_alive}


def _listed_children(pid: int) -> set[int]:
    found: set[int] = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            found.update(map(int, (file.readall() or b"").split()))
    return found


def sleeps(pid: int) -> int | None:
    """How many times a process has gone to sleep, None where there is no such process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(b"voluntary_ctxt_switches:"))
    except (OSError, StopIteration):
        return None


def descendants(*roots: int, leave_out: frozenset[Process] = frozenset()) -> set[Process]:
    """Every living process below the roots, the roots left out, and those to leave out with all below them."""
    found = {pid: stat for pid in pids() for stat in [stat_of(pid)] if stat is not None}
    return {(pid, found[pid].started) for pid in _below(roots, found, leave_out) if found[pid].is_alive}


def _below(roots: tuple[int, ...], found: dict[int, Stat], leave_out: frozenset[Process]) -> set[int]:
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
    """The pid of a process's parent, None where there is no such process; 0 for the first of all."""
    stat = stat_of(pid)
    return None if stat is None else stat.parent


def descends_from(pid: int, ancestor: int) -> bool:
    """True if a process is below another one. What has ended is below nobody."""
    for _ in range(64):
        parent = parent_of(pid)
        if parent is None or parent <= 1:
            return False
        if parent == ancestor:
            return True
        pid = parent
    return False


class Tree:
    """A command and everything it has started, as far as it can be found.

    The command itself is signalled by its pid also where /proc shows nothing. `pace` is how many seconds it has taken
    at last to find all of the tree and send each a signal.
    """

    def __init__(
        self,
        pid: int,
        *,
        subreaper: bool,
        strangers: frozenset[Process] = frozenset(),
        started: int | None = None,
        is_child: bool = True,
    ) -> None:
        """With the subreaper set, all that this process has below it belongs to the command, but for strangers.

        `started`: when the command was, where it may have ended meanwhile. `is_child`: it is a child of this process
        that has not been reaped, so that its pid is nobody else's.
        """
        self._pid = pid
        self._subreaper = subreaper
        self._strangers = strangers
        stat = stat_of(pid) if started is None else None
        self._started = started if stat is None else stat.started
        self._known: set[Process] = set() if self._started is None else {(pid, self._started)}
        self._older: set[int] = set()  # pids of what is older than the command, and so no part of it
        self.is_child = is_child
        self.refused: set[Process] = set()
        self.pace = 0.0

    def living(self) -> set[Process]:
        """Who of it lives. A zombie does not."""
        self._known = self._look(set())
        return set(self._known)

    def _look(self, known: set[Process]) -> set[Process]:
        """Find the living processes of the tree, with one look at each. Those known already are not looked at again."""
        began = now()
        skipped = {pid for pid, _ in known}
        found: dict[int, Stat] = {}
        try:
            for pid in pids() - self._older - skipped:
                stat = stat_of(pid)
                if stat is not None and self._started is not None and stat.started < self._started:
                    self._older.add(pid)
                elif stat is not None:
                    found[pid] = stat
        except OSError:
            pass  # no /proc any more, or no descriptor left for it: what is known is reached all the same
        members = {pid for pid, started in self._known if pid in found and found[pid].started == started}
        roots = (os.getpid(),) if self._subreaper else tuple(members)
        members |= _below((*roots, *skipped, *members), found, self._strangers)
        members.discard(os.getpid())
        self.pace = max(now() - began, self.pace / 2)
        fresh = {(pid, found[pid].started) for pid in members if found[pid].is_alive}
        return known | fresh | self._itself()

    def _itself(self) -> set[Process]:
        """The command, where it has not been reaped: nobody else can have its pid then."""
        if not self.is_child:
            return set()
        stat = stat_of(self._pid)
        if stat is not None:
            return {(self._pid, stat.started)} if stat.is_alive else set()
        return {(self._pid, self._started or 0)}

    def send(self, number: int, to: set[Process]) -> None:
        """Send a signal. Who may not be signalled (set-uid, another user) is put into `refused`.

        Elders come first: a shell that lived to see its command die of it would begin the next one.
        """
        began = now()
        for pid, started in sorted(to, key=lambda process: (process[1], process[0])):
            # Looked at again right before: a pid can be given to somebody else.
            if (pid == self._pid and self.is_child) or _is(pid, started):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
                except PermissionError:
                    self.refused.add((pid, started))
        if len(to) > 1:
            self.pace = max(self.pace, 2 * (now() - began))

    def freeze(self, until: float) -> set[Process]:
        """Stop all of it: look again until nobody new appears, so that nobody can fork out of sight. Returns who was.

        Those who were stopped before are not among them. `until` is on the `now()` clock: a tree that forks and exits
        without end is never still.
        """
        still: set[Process] = set()
        frozen: set[Process] = set()
        for _ in range(MOST_ROUNDS):
            fresh = self._look(still) - still
            if not fresh:
                break
            running = {(pid, started) for pid, started in fresh if not _is_stopped(pid)}
            self.send(signal.SIGSTOP, running)
            frozen |= running
            still |= fresh
            if now() >= until:
                break
        self._known |= still
        return frozen

    def kill(self, until: float) -> None:
        """Kill all of it with SIGKILL, once it is still, or at the moment `until`, on the `now()` clock."""
        self.freeze(until)
        self.send(signal.SIGKILL, self.living())
        if self._subreaper:
            self._chase(now() + CHASE)

    def _chase(self, until: float) -> None:
        """Kill my children as the kernel lists them, which is faster than any look at /proc, until none is left.

        One that forks and exits without end becomes my child each time that its parent exits.
        """
        spared = {pid for pid, _ in self._strangers | self.refused}
        killed: set[int] = set()
        while now() < until:
            try:
                found = _listed_children(os.getpid()) - spared
            except OSError:
                return
            for pid in found - killed:
                _kill(pid)  # not reaped yet: so it is nobody else's pid
            dead = {pid for pid in found & killed if pid != self._pid and _reap(pid)}
            if not found - dead or (found == {self._pid} and not _is_alive(self._pid)):
                return
            if found <= killed:
                time.sleep(STILL)
            killed |= found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended, or may not be signalled


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _is_alive(pid: int) -> bool:
    stat = stat_of(pid)
    return stat is not None and stat.is_alive


def _is(pid: int, started: int) -> bool:
    stat = stat_of(pid)
    return stat is not None and stat.started == started and stat.is_alive


def _is_stopped(pid: int) -> bool:
    stat = stat_of(pid)
    return stat is not None and stat.state in (b"T", b"t")


def _prctl(option: int, value: int | None) -> None:
    global _libc
    import ctypes

    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.byref(ctypes.c_int()) if value is None else ctypes.c_ulong(value)
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
