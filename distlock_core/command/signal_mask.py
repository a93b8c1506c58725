"""Lists of signals, and SignalMask: blocks the signals that a supervisor waits for, and returns them one by one."""

from __future__ import annotations

import select

from distlock_core.base.deadline import FOREVER, now
from distlock_core.base.plain_signal import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.command.signalfd import SignalFd

CATCHABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)  # Python raises errors instead; reset for a command
# Faults of this process itself: a handler would return to the same instruction forever, and the kernel does not block
# them.
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
# Signals that by default do nothing, or stop a process.
HARMLESS = {*STOPPING, *PYTHON_IGNORES, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
# Signals that people send, and all others that would end this process at once.
ENDING = CATCHABLE - HARMLESS - FAULTS
SLICE = 0.05  # seconds by which a signal may be noticed late in a brief wait


class SignalMask:
    """Blocks all signals from now on; `next()` returns them one by one, `restore()` unblocks them."""

    def __init__(self, pending: SignalFd | None = None) -> None:
        """`pending` waits for one with a time limit; it is closed with this object."""
        # If the caller ignores it, the command's end would not be signalled.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._pending = pending
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, CATCHABLE)

    def restore(self) -> None:
        # A signal to stop the command, which has ended, must not stop the release; its last sign of life, or a signal
        # that it would have caught, must not end distlock before the release.
        for number in (*STOPPING, signal.SIGIO):
            signal.sigtimedwait([number], 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)

    def next(self, moment: float, process: int | None = None) -> signal.struct_siginfo | None:
        """Return the next signal, None at `moment`. `process`: a pidfd, whose end ends a brief wait at once.

        The time limit of `sigtimedwait` itself is never used, for the reason given in `SignalFd`.
        """
        if moment == FOREVER:
            return signal.sigwaitinfo(CATCHABLE)
        while True:
            found = signal.sigtimedwait(CATCHABLE, 0)
            left = moment - now()
            if found is not None or left <= 0:
                return found
            if self._pending is not None:
                self._pending.wait(left)
            elif _ends(process, min(left, SLICE)):
                return signal.sigtimedwait(CATCHABLE, 0)

    def close(self) -> None:
        """Close the descriptors for waiting. The signals stay blocked."""
        if self._pending is not None:
            self._pending.close()
            self._pending = None


def _ends(process: int | None, seconds: float) -> bool:
    """Wait up to `seconds` for the end of a process."""
    poll = select.poll()
    if process is not None:
        poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def name_of(number: int) -> str:
    """The name of a signal: `SIGTERM`, or `signal 35` if it has none."""
    # The first of several names, as `signal.Signals` has it. That one is not asked: this is needed under the lock too.
    names = [name for name, value in vars(signal).items() if value == number and name.startswith("SIG")]
    return min((name for name in names if not name.startswith("SIG_")), default=f"signal {number}")
