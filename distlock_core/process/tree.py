"""Tree: a command and everything it has started: found, signalled, stopped and killed. Linux."""

from __future__ import annotations

import os
import signal
import time

from distlock_core.base.deadline import now
from distlock_core.process.table import Process, Stat, below, listed_children, pids, stat_of

CHASE = 0.1  # seconds that children are killed for as they appear, in one go
STILL = 0.001  # seconds between two looks at children that are all killed already
MOST_ROUNDS = 10  # of stopping; a tree that is not still after these is killed as it is found


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
        members |= below((*roots, *skipped, *members), found, self._strangers)
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
                found = listed_children(os.getpid()) - spared
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
