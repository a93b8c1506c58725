"""Tree: a command and all its descendants, which can be found, signalled, stopped and killed. Linux."""

from __future__ import annotations

import os
import time

from distlock_core.base.deadline import now
from distlock_core.base.plain_signal import signal
from distlock_core.process.identity import Stat, stat_of
from distlock_core.process.table import Process, below, listed_children, pids, threads, yield_precedence

GLANCE = 0.1  # seconds that an estimate of the tree's pace may take
SHARED = 10  # how many times its processor time a scan takes beside a tree of the lowest priority
CHASE = 0.1  # seconds for which children are killed as they appear, in one pass
STILL = 0.001  # seconds between two scans of children that are all killed already
MOST_ROUNDS = 10  # of stopping; a tree that still forks after these is killed as it is found


class Tree:
    """A command and all its descendants that can be found.

    The command itself is signalled by its pid even where /proc shows nothing. `pace` is the number of seconds that a
    scan of the tree, with a signal to each process, takes, as measured or estimated last.
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
        """`subreaper`: this process is one, so all its descendants but `strangers` belong to the command.

        `started`: start time of the command, if it may have ended meanwhile. `is_child`: the command is a child of this
        process and has not been reaped, so that its pid cannot be reused.
        """
        self._pid = pid
        self._subreaper = subreaper
        self._strangers = strangers
        stat = stat_of(pid) if started is None else None
        self._started = started if stat is None else stat.started
        self._known: set[Process] = set() if self._started is None else {(pid, self._started)}
        self._older: set[int] = set()  # pids of processes older than the command, which do not belong to it
        self.is_child = is_child
        self.refused: set[Process] = set()
        self.pace = 0.0

    def living(self) -> set[Process]:
        """The living processes of the tree. A zombie is not alive."""
        self._known = self._look(set())
        return set(self._known)

    def _look(self, known: set[Process]) -> set[Process]:
        """Find the living processes of the tree. Each is examined once, and those in `known` not again."""
        began = now()
        skipped = {pid for pid, _ in known}
        found: dict[int, Stat] = {}
        try:
            for pid in pids() - self._older - skipped:
                stat = self._stat_of(pid)
                if stat is not None:
                    found[pid] = stat
        except OSError:
            pass  # no /proc any more, or no descriptor left: known processes are still reached
        members = {pid for pid, started in self._known if pid in found and found[pid].started == started}
        roots = (os.getpid(),) if self._subreaper else tuple(members)
        members |= below((*roots, *skipped, *members), found, self._strangers)
        members.discard(os.getpid())
        self.pace = max(now() - began, self.pace / 2)
        fresh = {(pid, found[pid].started) for pid in members if found[pid].is_alive}
        return known | fresh | self._itself()

    def _stat_of(self, pid: int) -> Stat | None:
        """The entry of a process, None if it is gone or older than the command."""
        stat = stat_of(pid)
        if stat is not None and self._started is not None and stat.started < self._started:
            self._older.add(pid)
            return None
        return stat

    def measure(self, *, alone: bool) -> None:
        """Estimate `pace` from a partial scan of at most `GLANCE` seconds.

        On a busy machine a full scan of a large tree takes seconds, in which its caller would notice nothing else. So
        the estimate is based on the scan's processor time: as it is if this thread has the highest priority (`alone`),
        otherwise `SHARED` times as much, for the time that the tree still takes at the lowest priority.
        """
        began, at_first = now(), time.thread_time()
        try:
            listed = pids() - self._older
        except OSError:
            return
        took = listing = time.thread_time() - at_first
        for seen, pid in enumerate(listed, 1):
            self._stat_of(pid)
            if now() >= began + GLANCE or seen == len(listed):
                took += (time.thread_time() - at_first - listing) * len(listed) / seen
                break
        self.pace = max(took * (1 if alone else SHARED), self.pace / 2)

    def _itself(self) -> set[Process]:
        """The command, unless it has been reaped: before that its pid cannot be reused."""
        if not self.is_child:
            return set()
        stat = stat_of(self._pid)
        if stat is not None:
            return {(self._pid, stat.started)} if stat.is_alive else set()
        return {(self._pid, self._started or 0)}

    def make_way(self, until: float) -> None:
        """Give all of it the lowest priority, for a user who may not raise the priority of this process.

        The children are processed as the kernel lists them, one whole generation after another, since busy processes
        slow down the rest. It ends at `until` (on the `now()` clock), even if it is not finished.
        """
        spared = {pid for pid, _ in self._strangers}
        generation = _children_of(os.getpid()) - spared if self._subreaper else {self._pid}
        seen: set[int] = set()
        while generation and now() < until:
            for pid in generation:
                yield_precedence(pid)
            seen |= generation
            children: set[int] = set()
            for pid in generation:
                children |= _children_of(pid)
                for thread in _threads_of(pid) - generation:
                    yield_precedence(thread)
                if now() >= until:
                    return
            generation = children - spared - seen

    def send(self, number: int, to: set[Process]) -> None:
        """Send a signal. Processes that may not be signalled (set-uid, another user) are added to `refused`.

        The eldest come first: a shell that outlived its command would start the next one.
        """
        began = now()
        for pid, started in sorted(to, key=lambda process: (process[1], process[0])):
            # Examined again right before: a pid can be reused.
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
        """Stop the whole tree: scan again until no new process appears. Returns the processes that this has stopped.

        Processes that were already stopped are not among them. `until` (on the `now()` clock) bounds this, since a tree
        that keeps forking and exiting never comes to rest.
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
        """Kill the whole tree with SIGKILL, once it is stopped, or at `until` (on the `now()` clock)."""
        self.freeze(until)
        self.send(signal.SIGKILL, self.living())
        if self._subreaper:
            self._chase(now() + CHASE)

    def _chase(self, until: float) -> None:
        """Kill this process's children until none is left. The kernel's list of them is faster than a scan of /proc.

        A process that keeps forking and exiting becomes this process's child whenever its parent exits.
        """
        spared = {pid for pid, _ in self._strangers | self.refused}
        killed: set[int] = set()
        while now() < until:
            try:
                found = listed_children(os.getpid()) - spared
            except OSError:
                return
            for pid in found - killed:
                _kill(pid)  # not reaped yet, so the pid is not reused
            dead = {pid for pid in found & killed if pid != self._pid and _reap(pid)}
            if not found - dead or (found == {self._pid} and not _is_alive(self._pid)):
                return
            if found <= killed:
                time.sleep(STILL)
            killed |= found


def _children_of(pid: int) -> set[int]:
    try:
        return listed_children(pid)
    except OSError:
        return set()  # it has ended, or this kernel does not list them


def _threads_of(pid: int) -> set[int]:
    try:
        return threads(pid)
    except OSError:
        return set()


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
