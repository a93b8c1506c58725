"""Signals to distlock itself, before and after the command under the lock runs."""

from __future__ import annotations

import signal

from distlock_core.base.deadline import Interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

# Those that by default do nothing, or stop a process.
HARMLESS = {
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them, and errors come of it instead
}
# A fault of this process: a handler would come back to the same instruction for ever.
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
# Those that people send, and whatever else that would end us on the spot: the place in line is to be given up first.
ENDING = signal.valid_signals() - HARMLESS - FAULTS - {signal.SIGKILL, signal.SIGSTOP}


def interrupt_on_signals(count: int = 1) -> Interrupt:
    """Return an interrupt that the `count`th ending signal from now on sets.

    A signal that the caller ignores (as `nohup` does with SIGHUP) stays ignored.
    """
    interrupt = Interrupt()
    left = count

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            interrupt.set(number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, note)
    return interrupt
