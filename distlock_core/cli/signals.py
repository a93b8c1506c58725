"""Signals to distlock itself, before and after the command under the lock runs."""

from __future__ import annotations

from distlock_core.base.deadline import Interrupt
from distlock_core.base.plain_signal import signal
from distlock_core.command.signal_mask import ENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


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
