"""A command under a lock: started, given the signals that were meant for it, and waited for.

The command stays in the process group of whoever called distlock: so the terminal, job control and pipelines work as
they do without it. A signal that the terminal sends reaches the command by itself; one that somebody sends to distlock
alone is passed on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distlock_core.errors import NotStarted
from distlock_core.wording import printable

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
SI_KERNEL = 0x80  # siginfo's si_code of a signal that no process has sent: the terminal's


class Ended(NamedTuple):
    """How a command ended: with an exit code, or by a signal."""

    code: int
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """As a shell has it: the command's own, or 128 and the signal's number."""
        return self.code if self.signal is None else 128 + self.signal


class SignalMask:
    """Signals held back from now on, to be asked for one by one; `restore()` lets them come again."""

    def __init__(self) -> None:
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED_ON, signal.SIGCHLD, signal.SIGCONT))

    def restore(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)


def run(command: Sequence[str], environ: Mapping[str, str], mask: SignalMask) -> Ended:
    """Run a command to its end. The caller has blocked the signals with a `SignalMask` before.

    Nothing is read by a shell. Raises `NotStarted`. Daemons that the command leaves behind are left alone.
    """
    pid = _start(command, environ, mask)
    while True:
        found = signal.sigwaitinfo((*PASSED_ON, signal.SIGCHLD, signal.SIGCONT))
        if found.si_signo == signal.SIGCHLD:
            ended = _look_after(pid)
            if ended is not None:
                return ended
        elif found.si_code != SI_KERNEL:
            _send(pid, found.si_signo)


def _start(command: Sequence[str], environ: Mapping[str, str], mask: SignalMask) -> int:
    try:
        # Python ignores these two; a command expects the default.
        restored = [signal.SIGPIPE, signal.SIGXFSZ]
        return os.posix_spawnp(command[0], list(command), environ, setsigmask=mask.before, setsigdef=restored)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotStarted(f"cannot start {printable(command[0])}: {reason}; the lock is released") from error


def _look_after(pid: int) -> Ended | None:
    """Reap the command if it has ended. If it was stopped at the terminal, stop with it."""
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if found == 0:
        return None
    if os.WIFSTOPPED(status):
        if _at_the_terminal():
            # The shell looks at distlock, and must see that its job has stopped.
            os.kill(os.getpid(), signal.SIGSTOP)
            _send(pid, signal.SIGCONT)
        return None
    if os.WIFSIGNALED(status):
        return Ended(0, os.WTERMSIG(status))
    return Ended(os.WEXITSTATUS(status))


def _at_the_terminal() -> bool:
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


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, and is about to be reaped; or it is set-uid, and nobody may
