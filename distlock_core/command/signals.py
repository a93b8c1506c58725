"""The lists of signals, and SignalMask: those that a supervisor waits for, held back and asked for one by one."""

from __future__ import annotations

import select
import signal

from distlock_core.base.deadline import FOREVER, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.command.signalfd import SignalFd

CATCHABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)  # errors come of them instead; a command gets them back
# Faults of this process itself: a handler would come back to the same instruction for ever, and the kernel does not
# hold one back.
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
# What by default does nothing, or stops a process.
HARMLESS = {*STOPPING, *PYTHON_IGNORES, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
# What people send, and whatever else would end this process on the spot.
ENDING = CATCHABLE - HARMLESS - FAULTS
SLICE = 0.05  # seconds by which a signal may be noticed late in a brief wait


class SignalMask:
    """Signals held back from now on, to be asked for one by one; `restore()` lets them come again."""

    def __init__(self, pending: SignalFd | None = None) -> None:
        """`pending` tells when there is one, for waits with a time limit; it is closed with this."""
        # Where the caller ignores it, nothing would tell that the command has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._pending = pending
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, CATCHABLE)

    def restore(self) -> None:
        # What the command was meant to stop by must not stop the release, now that it has ended; its last sign of
        # life, or a signal that it would have caught, must not end distlock before the release.
        for number in (*STOPPING, signal.SIGIO):
            signal.sigtimedwait([number], 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)

    def next(self, moment: float, process: int | None = None) -> signal.struct_siginfo | None:
        """Return the next one, None at the moment. `process`: a pidfd whose end ends a brief wait at once.

        A time limit of `sigtimedwait` itself is never used: after a SIGSTOP that outlasts it, CPython returns a signal
        that nobody has sent, read out of memory that was never filled in (seen on 3.11).
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
        """Close what waiting has opened. The signals stay held back."""
        if self._pending is not None:
            self._pending.close()
            self._pending = None


def _ends(process: int | None, seconds: float) -> bool:
    """Wait for the end of a process: for so many seconds."""
    poll = select.poll()
    if process is not None:
        poll.register(process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def name_of(number: int) -> str:
    """SIGTERM, or `signal 35` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
