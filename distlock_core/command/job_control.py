"""Job control: how a command in the same process group shares its terminal with distlock."""

from __future__ import annotations

import os
import signal

from distlock_core.command.signals import STOPPING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import struct_siginfo

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH, *STOPPING)
SI_KERNEL = 0x80  # siginfo's si_code of a signal that no process has sent: the terminal's, a timer's


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


def stop() -> None:
    """Stop, so that the shell sees its job stopped. Its SIGCONT is pending afterwards, and is passed on in its turn.

    Not before the command has: one that ignores Ctrl-Z keeps the terminal. And not by SIGSTOP: this signal does
    nothing where no shell would ever continue us.
    """
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])


def has_it_too(pid: int, found: struct_siginfo) -> bool:
    """True for a signal that the terminal has sent to the command as well."""
    if found.si_code != SI_KERNEL or found.si_signo not in FROM_TERMINAL:
        return False
    if found.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid():
        return False  # that the terminal has gone is told to the leader of its session alone
    # `timeout`, for one, makes a group of its own.
    return os.getpgid(pid) == os.getpgrp()
