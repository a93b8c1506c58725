"""A command under a lock: started, given the signals that were meant for it, and waited for.

The command stays in the process group of whoever called distlock: so the terminal, job control and pipelines work as
they do without it. A signal that the terminal sends reaches the command by itself; one that somebody sends to distlock
alone is passed on. One sent to the whole group by a process (`kill -TERM -GROUP`) therefore comes twice: from that
process, and from distlock, which cannot tell it from one for itself alone.

If distlock itself is killed with SIGKILL, the command runs on, and its persistent lock stays until it is unlocked.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distlock_core.errors import NotStarted
from distlock_core.wording import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import struct_siginfo

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,  # `perl -e 'alarm 60; exec @ARGV'` sets a timer that stays distlock's
    signal.SIGTSTP,
    signal.SIGCONT,
)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP)
SI_KERNEL = 0x80  # siginfo's si_code of a signal that no process has sent: the terminal's, a timer's


class ExitedBySignal(int):
    """The exit code 128+n of what signal n has ended: to tell it from a program's own choice of that number."""


class Ended(NamedTuple):
    """How a command ended: with an exit code, or by a signal."""

    code: int
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """As a shell has it: the command's own, or 128 and the signal's number."""
        return self.code if self.signal is None else ExitedBySignal(128 + self.signal)


class SignalMask:
    """Signals held back from now on, to be asked for one by one; `restore()` lets them come again."""

    def __init__(self) -> None:
        # Where the caller ignores it, nothing would tell that the command has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED_ON, signal.SIGCHLD))

    def restore(self) -> None:
        # One that the command was meant to stop by must not stop the release, now that it has ended.
        signal.sigtimedwait([signal.SIGTSTP], 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)


def run(command: Sequence[str], environ: Mapping[str, str], mask: SignalMask) -> Ended:
    """Run a command to its end. The caller has blocked the signals with a `SignalMask` before.

    Nothing is read by a shell. Raises `NotStarted`. Daemons that the command leaves behind are left alone.
    """
    pid = _start(command, environ, mask)
    told_to_stop = False
    while True:
        found = signal.sigwaitinfo((*PASSED_ON, signal.SIGCHLD))
        if found.si_signo == signal.SIGCHLD:
            ended = _look_after(pid, told_to_stop)
            if ended is not None:
                return ended
            continue
        if found.si_signo in (signal.SIGTSTP, signal.SIGCONT):
            told_to_stop = found.si_signo == signal.SIGTSTP
        if not _has_it_too(pid, found):
            _send(pid, found.si_signo)


def in_the_foreground() -> bool:
    """True when this is the job in the foreground of its terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _start(command: Sequence[str], environ: Mapping[str, str], mask: SignalMask) -> int:
    try:
        # Python ignores these two; a command expects the default.
        restored = [signal.SIGPIPE, signal.SIGXFSZ]
        return os.posix_spawnp(command[0], list(command), environ, setsigmask=mask.before, setsigdef=restored)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStarted(f"cannot start {printable(command[0])}: {reason}; the lock is released") from error


def _look_after(pid: int, told_to_stop: bool) -> Ended | None:
    """Reap the command if it has ended. If it has stopped, and a shell looks after this job, stop with it."""
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if found == 0:
        return None
    if os.WIFSTOPPED(status):
        if told_to_stop or in_the_foreground():
            _stop()
        return None
    if os.WIFSIGNALED(status):
        return Ended(0, os.WTERMSIG(status))
    return Ended(os.WEXITSTATUS(status))


def _stop() -> None:
    """Stop, so that the shell sees its job stopped. Its SIGCONT is pending afterwards, and is passed on in its turn.

    Not before the command has: one that ignores Ctrl-Z keeps the terminal. And not by SIGSTOP: this signal does
    nothing where no shell would ever continue us.
    """
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])


def _has_it_too(pid: int, found: struct_siginfo) -> bool:
    """True for a signal that the terminal has sent to the command as well."""
    if found.si_code != SI_KERNEL or found.si_signo not in FROM_TERMINAL:
        return False
    if found.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid():
        return False  # that the terminal has gone is told to the leader of its session alone
    # `timeout`, for one, makes a group of its own.
    return os.getpgid(pid) == os.getpgrp()


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, and is about to be reaped; or it is set-uid, and nobody may
