"""Requests to end a call of distlock: signals, and the end of whoever reads its output."""

from __future__ import annotations

import os
import select
import sys

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
    _HANDLER.target = interrupt, count
    for number in ENDING:
        if signal.getsignal(number) not in (signal.SIG_IGN, _HANDLER):
            signal.signal(number, _HANDLER)
    return interrupt


def interrupt_when_the_reader_goes(interrupt: Interrupt) -> None:
    """Set `interrupt` when stdout's reader goes away, even while nothing is written, as `tail -f` does."""
    from distlock_core.base.threads import start_thread

    def wait() -> None:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are always reported
        poll.poll()
        interrupt.set()

    start_thread(wait, "distlock-reader")


class _Countdown:
    """The handler of all ending signals. A second call of `interrupt_on_signals()` only gives it another target."""

    never_raises = True
    target: tuple[Interrupt, int]  # the interrupt, and the number of signals until it is set

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        interrupt, left = self.target
        self.target = interrupt, left - 1
        if left <= 1:
            interrupt.set(number)


_HANDLER = _Countdown()


class InterruptOrHangup:
    """A cancel that is set by an interrupt, and, from `watch_output()` on, when nobody reads this process's output.

    A command started over ssh without a terminal gets no signal when its caller goes away: only its output has no
    reader any more. If SIGHUP is ignored, as under `nohup`, this is ignored as well.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        # An epoll descriptor can itself be polled.
        self._any = select.epoll()
        self._any.register(interrupt.fileno(), select.EPOLLIN)
        self._watches_output = False

    def watch_output(self) -> None:
        """Watch stderr from now on, or stdout if stderr is a file or closed.

        A terminal is not watched: its end is signalled by SIGHUP.
        """
        if self._watches_output or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            return
        self._watches_output = True
        for output in (2, 1):
            try:
                if not os.isatty(output):
                    self._any.register(output, 0)  # errors are always reported
                return
            except OSError:
                pass  # a file, /dev/null, or closed

    @property
    def is_hangup(self) -> bool:
        """True if it is set because the reader has gone away, not by the interrupt."""
        return not self._interrupt.is_set() and bool(self._any.poll(0))

    def set(self, number: int | None = None) -> None:
        self._interrupt.set(number)

    def is_set(self) -> bool:
        return self._interrupt.is_set() or bool(self._any.poll(0))

    def fileno(self) -> int:
        return self._any.fileno()

    def close(self) -> None:
        self._any.close()
