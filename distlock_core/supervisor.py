"""A command under a lock: given the signals that were meant for it, ended when its lock is lost, and waited for.

The command stays in the process group of whoever called distlock: so the terminal, job control and pipelines work as
they do without it. A signal that the terminal sends reaches the command by itself; one that somebody sends to distlock
alone is passed on. One sent to the whole group by a process (`kill -TERM -GROUP`) therefore comes twice: from that
process, and from distlock, which cannot tell it from one for itself alone.

Under a lease, the whole tree of the command is dead before the lease can run out: SIGTERM comes at deadline -
kill_after, SIGKILL before the deadline. If distlock itself is killed with SIGKILL, a leased command is killed by the
kernel; a persistent one runs on, and its lock stays until it is unlocked.
"""

from __future__ import annotations

import os
import signal
import time
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence

from distlock_core import spawn
from distlock_core.patience import FOREVER, now
from distlock_core.session import Loss
from distlock_core.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.heartbeat import Heartbeat
    from distlock_core.killing import Killing
    from distlock_core.processes import Process
    from distlock_core.session import Session
    from distlock_core.signalmask import SignalMask
    from distlock_core.threads import Thread

SHORT = 0.2  # seconds; a command that is done by then is not worth a watch: the release tells the same
LONGEST_SLEEP = 1.0  # seconds under a lease: no timer counts while the machine is suspended, so look at the clock

LOST, HUNG, OVERDUE = "lost", "hung", "overdue"


class ExitedBySignal(int):
    """The exit code 128+n of what signal n has ended: to tell it from a program's own choice of that number."""


class Ended(Value):
    """How a command ended: an exit code, or a signal; by itself, or as its lock was lost, it hung, or took too long."""

    code: int
    signal: int | None = None
    cause: str = ""
    unkillable: tuple[int, ...] = ()

    @property
    def exit_code(self) -> int:
        """As a shell has it: the command's own, or 128 and the signal's number."""
        return self.code if self.signal is None else ExitedBySignal(128 + self.signal)


class Care(Value):
    """What may end a command before its time. `tell` gets the cause, and a line for people, when something does."""

    session: Session
    kill_on_loss: bool
    kill_after: float  # seconds from SIGTERM to SIGKILL
    tell: Callable[[str, str], None]
    heartbeat: Heartbeat | None = None
    limit: float = FOREVER  # seconds that the command may run

    @property
    def leased(self) -> bool:
        return self.session.lease is not None

    @property
    def last_moment(self) -> float:
        """When it counts as lost if no renewal is confirmed before: early enough for SIGTERM, where that is sent."""
        return self.session.deadline - (self.kill_after if self.kill_on_loss else 0.0)


class Supervisor:
    """Runs one command. The caller has blocked the signals with a `SignalMask` before."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], mask: SignalMask, care: Care) -> None:
        self._command = command
        self._environ = environ
        self._mask = mask
        self._care = care
        self._pid = 0
        self._ended: Ended | None = None
        self._told_to_stop = False
        self._watch_at = 0.0
        self._late_at = FOREVER
        self._loss: Loss | None = None
        self._cause = ""
        self._killing: Killing | None = None
        self._strangers: frozenset[Process] = frozenset()
        self._telling: list[Thread] = []

    def run(self) -> Ended:
        """Run the command to its end. Raises `NotStarted`.

        Daemons that it leaves behind at a normal end are left alone.
        """
        care = self._care
        try:
            if care.leased and now() >= care.last_moment:
                self._find_loss()
                return Ended(0, None, LOST)  # stopped for too long before it began: nothing is started
            self._start()
            while True:
                self._handle(self._next_signal())
                self._look_at_lock()
                self._look_at_life()
                self._look_at_time()
                if self._is_over():
                    ended = self._ended or Ended(0, signal.SIGKILL)
                    survivors = () if self._killing is None else self._killing.survivors()
                    return ended._replace(cause=self._cause, unkillable=survivors)
        finally:
            care.session.stop()
            if care.heartbeat is not None:
                care.heartbeat.beat()  # its last words may be for the manager around distlock
                care.heartbeat.close()
            self._mask.close()
            for telling in self._telling:
                telling.join()

    # The command.

    def _start(self) -> None:
        care = self._care
        changed = {**self._environ, **(care.heartbeat.variables if care.heartbeat is not None else {})}
        environ = {name: value for name, value in changed.items() if value is not None}
        if care.leased or care.heartbeat is not None:
            from distlock_core.processes import become_subreaper, descendants

            if care.leased:
                # `sh -c 'x & exec distlock ...'`: what was below me before the command is not the command's.
                self._strangers = frozenset(descendants(os.getpid()))
                become_subreaper()
            inherited = None if care.heartbeat is None else care.heartbeat.inherited
            self._pid = spawn.start_by_fork(
                self._command, environ, self._mask.before, inherited=inherited, tied=care.leased
            )
        else:
            self._pid = spawn.start(self._command, environ, self._mask.before)
        if care.heartbeat is not None:
            care.heartbeat.started()
        self._watch_at = now() + SHORT
        self._late_at = now() + care.limit
        thread = get_ident()
        care.session.on_lost = lambda _: signal.pthread_kill(thread, signal.SIGCHLD)

    def _next_signal(self) -> signal.struct_siginfo | None:
        moments = [self._watch_at, self._late_at]
        if self._care.leased and self._loss is None:
            moments.append(min(self._care.last_moment, now() + LONGEST_SLEEP))
        if self._care.heartbeat is not None and self._killing is None:
            moments.append(self._care.heartbeat.next_moment())
        if self._killing is not None:
            moments.append(self._killing.next_moment())
        moment = min(moments)
        # Short, and not worth what a descriptor loads.
        brief = not self._care.leased and self._care.heartbeat is None and self._killing is None
        return self._mask.next(moment, brief=brief)

    def _handle(self, found: signal.struct_siginfo | None) -> None:
        if found is None or found.si_signo == signal.SIGIO:
            return
        if found.si_signo == signal.SIGCHLD:
            self._reap()
            return
        if found.si_signo in (signal.SIGTSTP, signal.SIGCONT):
            self._told_to_stop = found.si_signo == signal.SIGTSTP
        from distlock_core import jobs

        if self._ended is None and not jobs.has_it_too(self._pid, found):
            try:
                os.kill(self._pid, found.si_signo)
            except (ProcessLookupError, PermissionError):
                pass  # it has ended, and is about to be reaped; or it is set-uid, and nobody may

    def _reap(self) -> None:
        """Take in who has ended. If the command has stopped, and a shell looks after this job, stop with it."""
        while True:
            try:
                # As a subreaper I have children that I did not start.
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid != self._pid:
                continue
            if os.WIFSTOPPED(status):
                from distlock_core import jobs

                if self._told_to_stop or jobs.in_the_foreground():
                    jobs.stop()
            elif os.WIFSIGNALED(status):
                self._ended = Ended(0, os.WTERMSIG(status))
            else:
                self._ended = Ended(os.WEXITSTATUS(status))

    # What may end it before its time.

    def _look_at_lock(self) -> None:
        session = self._care.session
        if now() >= self._watch_at:
            self._watch_at = FOREVER
            if self._ended is None:
                session.start()
        if self._loss is None and self._ended is None:
            self._find_loss()

    def _find_loss(self) -> None:
        care = self._care
        self._loss = care.session.loss
        overdue = care.leased and now() >= care.last_moment
        if self._loss is None and overdue:
            silence = now() - care.session.deadline + (care.session.lease.ttl if care.session.lease else 0)
            self._loss = Loss(f"etcd has confirmed no renewal for {silence:.1f}s", time.time())
        if self._loss is None:
            return
        when = time.strftime("%H:%M:%S", time.localtime(self._loss.at))
        kill = care.kill_on_loss
        what = "the command is ended" if kill else "the command RUNS ON WITHOUT ITS LOCK"
        self._tell(
            LOST, f"the lock was lost at {when}: {self._loss.why}; {what if self._pid else 'nothing was started'}"
        )
        self._cause = LOST
        if kill and self._pid:
            # Past the deadline another may hold the lock already: no time is left to be asked kindly.
            late = care.leased and now() >= care.session.deadline
            in_time = care.session.deadline - min(0.5, care.kill_after / 5) if overdue else FOREVER
            self._end_tree(now() if late else min(now() + care.kill_after, in_time))

    def _look_at_time(self) -> None:
        if now() < self._late_at or self._ended is not None:
            return
        self._late_at = FOREVER
        if self._killing is None:
            limit = self._care.limit
            self._tell(OVERDUE, f"the command has not ended within {limit:g}s; it is ended")
            self._cause = self._cause or OVERDUE
            self._end_tree(now() + self._care.kill_after)

    def _look_at_life(self) -> None:
        care = self._care
        if care.heartbeat is None or (self._ended is not None and self._killing is None):
            return
        # Taken in also while it is being ended: a full socket would stop who sends, at its cleaning up for example.
        why = care.heartbeat.beat()
        if why and self._killing is None:
            self._tell(HUNG, f"the command shows no life: {why}; it is ended")
            self._cause = self._cause or HUNG
            self._end_tree(now() + care.kill_after)

    def _end_tree(self, kill_at: float) -> None:
        from distlock_core.killing import Killing

        self._killing = Killing(self._pid, kill_at, subreaper=self._care.leased, strangers=self._strangers)

    def _is_over(self) -> bool:
        if self._killing is None:
            return self._ended is not None
        self._reap()
        self._killing.go_on()
        return self._killing.is_over(reaped=self._ended is not None)

    def _tell(self, cause: str, line: str) -> None:
        """Say it in a thread: when nobody reads what is said, the kill must not wait for that."""
        from distlock_core.threads import start_thread

        self._telling.append(start_thread(lambda: self._care.tell(cause, line), "distlock-tell"))
