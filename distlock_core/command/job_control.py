"""Job control: how a command in the same process group shares its terminal with distlock."""

from __future__ import annotations

import os

from distlock_core.base.plain_signal import signal
from distlock_core.command.signal_mask import STOPPING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import struct_siginfo

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH, *STOPPING)
SI_KERNEL = 0x80  # siginfo's si_code of a signal from the kernel: from the terminal or a timer


def in_the_foreground() -> bool:
    """True if this process belongs to the foreground job of its terminal."""
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
    """Stop this process, so that the shell sees its job stopped. The SIGCONT is pending afterwards, and is passed on.

    To be called only after the command has stopped, since a command that ignores Ctrl-Z keeps the terminal. SIGSTOP
    is not used: the signal used here has no effect where no shell would ever continue this process.
    """
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTSTP])


def has_it_too(pid: int, found: struct_siginfo) -> bool:
    """True for a signal that the terminal has also sent to the command."""
    if found.si_code != SI_KERNEL or found.si_signo not in FROM_TERMINAL:
        return False
    if found.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid():
        return False  # the end of a terminal is signalled only to its session's leader
    # `timeout`, for example, moves to a new process group.
    return os.getpgid(pid) == os.getpgrp()
