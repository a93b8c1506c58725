"""Signals to distlock itself, before and after the command under the lock runs."""

from __future__ import annotations

import signal

from distlock_core.patience import Interrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

# Those that people send, and whatever else that would end us on the spot: the place in line is to be given up first.
ENDING = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGXCPU,
)


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
