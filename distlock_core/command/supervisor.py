"""Supervisor of a command under a lock: passes on signals, ends the command when its lock is lost, waits for its end.

The command stays in the process group of distlock's caller, so that the terminal, job control and pipelines work as
without distlock. A signal from the terminal reaches the command directly; one sent to distlock alone is passed on. One
that a process sends to the whole group (`kill -TERM -GROUP`) arrives twice: from that process, and from distlock, which
cannot distinguish it from one to itself alone.

Under a lease, the whole tree of the command is dead before the lease can expire: SIGTERM is sent at deadline -
kill_after, SIGKILL before the deadline. If distlock itself is killed with SIGKILL, the kernel kills a leased command;
a persistent one runs on, and its lock stays until it is unlocked.
"""

from __future__ import annotations

import os
import time
from _thread import get_ident

from distlock_core.base.deadline import FOREVER, now
from distlock_core.base.plain_signal import signal
from distlock_core.command import job_control
from distlock_core.command.end import BROKEN, HUNG, LOST, OVERDUE, REFUSED, CommandEnd
from distlock_core.command.process import Command
from distlock_core.command.signal_mask import STOPPING, name_of
from distlock_core.command.spawn import TooLate
from distlock_core.errors import NotStarted
from distlock_core.lock.loss_reasons import Loss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distlock_core.command.end_conditions import EndConditions
    from distlock_core.command.kill import TreeKiller
    from distlock_core.command.prefork import Prefork
    from distlock_core.command.signal_mask import SignalMask

SHORT = 0.2  # seconds; a watch is started only for commands that run longer: the release notices a loss, too
LONGEST_SLEEP = 1.0  # seconds under a lease: timers stop while the machine is suspended, so check the clock


class Supervisor:
    """Runs one command. The caller has blocked the signals with a `SignalMask`."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        mask: SignalMask,
        conditions: EndConditions,
        prefork: Prefork | None = None,
    ) -> None:
        """`prefork`: a process that waits to become the command, if there is one."""
        self._command = Command(command, environ, mask.before, conditions)
        self._mask = mask
        self._conditions = conditions
        self._prefork = prefork
        self._passed_on: set[int] = set()
        self._told_to_stop = False
        self._has_stopped = False  # the command has, but distlock has not
        self._watch_at = 0.0
        self._late_at = FOREVER
        self._loss: Loss | None = None
        self._cause = ""
        self._killer: TreeKiller | None = None

    def run(self) -> CommandEnd:
        """Run the command to its end. Raises `NotStarted`.

        Daemons that remain after a normal end are left alone. Whatever fails in here, the command has ended when this
        returns, or is among the `unkillable`.
        """
        conditions = self._conditions
        try:
            if conditions.leased and now() >= conditions.last_moment:
                return self._too_late()  # distlock was stopped for too long: start nothing
            self._start()
            while not self._is_over():
                self._handle(self._next_signal())
                self._reap()
                self._look_at_lock()
                self._look_at_life()
                self._look_at_time()
                self._look_at_end()
            ended = self._command.ended or CommandEnd(0, signal.SIGKILL)
            survivors = () if self._killer is None else self._killer.survivors()
            return ended._replace(cause=self._cause, unkillable=survivors)
        except NotStarted:
            raise
        except TooLate:
            return self._too_late()
        except BaseException as error:  # noqa: BLE001 - no error may leave the command without supervision
            return self._break_off(error)
        finally:
            conditions.session.stop()
            self._close_heartbeat()
            self._mask.close()
            self._command.close()
            conditions.reporter.close()

    def _start(self) -> None:
        self._command.start(self._prefork)
        self._watch_at = now() + SHORT
        self._late_at = now() + self._conditions.limit
        thread = get_ident()
        self._conditions.session.on_lost = lambda _: signal.pthread_kill(thread, signal.SIGCHLD)

    def _too_late(self) -> CommandEnd:
        self._find_loss()
        return CommandEnd(0, None, LOST)

    def _next_signal(self) -> signal.struct_siginfo | None:
        moments = [self._watch_at, self._late_at]
        if self._conditions.leased and self._loss is None:
            moments.append(min(self._last_moment, now() + LONGEST_SLEEP))
        if self._conditions.heartbeat is not None and self._killer is None:
            moments.append(self._conditions.heartbeat.next_moment())
        if self._killer is not None:
            moments.append(self._killer.next_moment())
        return self._mask.next(min(moments), self._command.pidfd)

    def _handle(self, found: signal.struct_siginfo | None) -> None:
        """Pass a signal on, unless it is for distlock itself: from its threads, the kernel or an ended child."""
        if found is None or (found.si_code <= 0 and found.si_pid == os.getpid()):
            return
        number = found.si_signo
        if found.si_code > 0 and number in (signal.SIGCHLD, signal.SIGIO):
            return
        if number in STOPPING or number == signal.SIGCONT:
            self._told_to_stop = number in STOPPING
        self._reap()
        if self._command.ended is not None:
            self._handle_without_command(number)
            return
        self._passed_on.add(number)
        if job_control.has_it_too(self._command.pid, found):
            if self._has_stopped and self._told_to_stop:
                self._stop()
            return
        try:
            os.kill(self._command.pid, number)
        except PermissionError:
            who = f"the command (process {self._command.pid}) runs as another user"
            self._say(REFUSED, f"{name_of(number)} could not be passed on: {who}")
        except ProcessLookupError:
            pass  # the command has ended, and is about to be reaped

    def _handle_without_command(self, number: int) -> None:
        """Handle a signal while the command's descendants are waited for: it goes to all of them, or ends them."""
        if self._killer is not None or not self._conditions.wait_for_tree:
            return
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            self._end_tree(now() + self._conditions.kill_after)
        else:
            tree = self._command.tree
            tree.send(number, tree.living())

    def _reap(self) -> None:
        """Reap ended children. If the command has stopped, and a shell controls this job, stop too."""
        if self._conditions.heartbeat is not None and self._command.ended is None:
            self._conditions.heartbeat.receive()
        if self._command.reap():
            self._has_stopped = True
            if self._killer is None and (self._told_to_stop or job_control.in_the_foreground()):
                self._stop()

    def _stop(self) -> None:
        self._has_stopped = False
        self._command.stop_with_it(self._may_go_on)

    def _may_go_on(self) -> bool:
        self._look_at_lock()
        return self._killer is None

    # Conditions that end the command early.

    def _look_at_lock(self) -> None:
        session = self._conditions.session
        if now() >= self._watch_at:
            self._watch_at = FOREVER
            if not self._is_done():
                session.start()
        if self._loss is not None or self._is_done():
            return
        if self._conditions.kill_on_loss and self._conditions.is_renewal_late:
            from distlock_core.process.table import take_precedence

            # The tree may have to be ended soon: measure how long a scan takes.
            self._command.tree.measure(alone=take_precedence())
        self._find_loss()

    @property
    def _last_moment(self) -> float:
        """`EndConditions.last_moment`, or earlier for a tree whose scan takes long."""
        return self._conditions.last_moment - (self._command.pace if self._conditions.kill_on_loss else 0.0)

    def _find_loss(self) -> None:
        conditions = self._conditions
        self._loss = conditions.session.loss
        if self._loss is None and conditions.leased and now() >= self._last_moment:
            silence = (
                now() - conditions.session.deadline + (conditions.session.lease.ttl if conditions.session.lease else 0)
            )
            self._loss = Loss(f"etcd has confirmed no renewal for {silence:.1f}s", time.time())
        if self._loss is None:
            return
        self._cause = LOST
        kill = conditions.kill_on_loss
        if kill and self._command.pid:
            # After the deadline another may already hold the lock: no time is left for SIGTERM.
            late = conditions.leased and now() >= conditions.session.deadline
            self._end_tree(now() + (0.0 if late else conditions.kill_after))
        if conditions.on_lost is not None:
            conditions.on_lost(self._loss.why)
        what = "the command is ended" if kill else "the command RUNS ON WITHOUT ITS LOCK"
        when = time.strftime("%H:%M:%S", time.localtime(self._loss.at))
        self._say(
            LOST,
            f"the lock was lost at {when}: {self._loss.why}; {what if self._command.pid else 'nothing was started'}",
        )

    def _look_at_time(self) -> None:
        if now() < self._late_at or self._command.ended is not None:
            return
        self._late_at = FOREVER
        if self._killer is None:
            self._cause = self._cause or OVERDUE
            self._end_tree(now() + self._conditions.kill_after)
            self._say(OVERDUE, f"the command has not ended within {self._conditions.limit:g}s; it is ended")

    def _look_at_life(self) -> None:
        conditions = self._conditions
        if conditions.heartbeat is None or (self._command.ended is not None and self._killer is None):
            return
        # Read even while the command is being ended: a full socket would block it in its clean-up.
        why = conditions.heartbeat.beat()
        if why and self._killer is None:
            self._cause = self._cause or HUNG
            self._end_tree(now() + conditions.kill_after)
            self._say(HUNG, f"the command shows no life: {why}; it is ended")

    def _look_at_end(self) -> None:
        """If the command was ended from outside, end its descendants too: none may outlive the lock."""
        if self._command.ended is None or self._killer is not None or not self._conditions.sees_tree:
            return
        if self._was_ended_from_outside(self._command.ended) and self._command.tree.living():
            self._end_tree(now() + self._conditions.kill_after)

    def _was_ended_from_outside(self, ended: CommandEnd) -> bool:
        """True if a signal has ended the command, or if it exited as after a signal that asked it to end."""
        asked = signal.SIGTERM in self._passed_on
        return ended.signal is not None or asked or ended.code - 128 in self._passed_on

    def _close_heartbeat(self) -> None:
        try:
            if self._conditions.heartbeat is not None:
                self._conditions.heartbeat.close()
        except OSError:
            pass  # the command is over

    def _end_tree(self, kill_at: float) -> None:
        from distlock_core.command.kill import TreeKiller, head_start

        if self._killer is not None:
            self._killer.hurry(kill_at)
            return
        conditions = self._conditions
        self._killer = TreeKiller(
            self._command.tree,
            kill_at,
            dead_by=lambda: conditions.dead_by,
            head_start=head_start(conditions.kill_after),
            subreaper=conditions.sees_tree,
            strangers=bool(self._command.strangers),
        )

    def _is_over(self) -> bool:
        if self._killer is not None:
            self._reap()
            self._killer.go_on()
            self._reap()
            return self._killer.is_over(reaped=self._command.ended is not None)
        return self._is_done()

    def _is_done(self) -> bool:
        """True if the command has ended, and no descendant has to be ended or waited for."""
        if self._command.ended is None or self._killer is not None:
            return False
        return not self._conditions.wait_for_tree or not self._command.has_descendants

    def _say(self, cause: str, line: str) -> None:
        """Report by the reporter's thread: the kill must not wait for a reader of the output."""
        self._conditions.reporter.say(lambda: self._conditions.tell(cause, line))

    def _break_off(self, error: BaseException) -> CommandEnd:
        left = self._command.kill()
        what = "the command was ended" if self._command.pid else "nothing was started"
        self._say(BROKEN, f"the command cannot be looked after: {type(error).__name__}: {error}; {what}")
        return (self._command.ended or CommandEnd(0, signal.SIGKILL))._replace(cause=BROKEN, unkillable=left)
