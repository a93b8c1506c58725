"""Cancels that are set when this process's output has no reader any more."""

from __future__ import annotations

import os
import select

from distlock_core.base.deadline import Interrupt
from distlock_core.base.plain_signal import signal


class Audience:
    """A cancel that is set by an interrupt, and, from `listen()` on, when this process's output has no reader any more.

    A command started over ssh without a terminal gets no signal when its caller goes away: only its output has no
    reader any more. If SIGHUP is ignored, as under `nohup`, this is ignored as well.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        # An epoll descriptor can itself be polled.
        self._any = select.epoll()
        self._any.register(interrupt.fileno(), select.EPOLLIN)
        self._listens = False

    def listen(self) -> None:
        """Watch stderr from now on, or stdout if stderr is a file or closed.

        A terminal is not watched: its end is signalled by SIGHUP.
        """
        if self._listens or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            return
        self._listens = True
        for output in (2, 1):
            try:
                if not os.isatty(output):
                    self._any.register(output, 0)  # errors are always reported
                return
            except OSError:
                pass  # a file, /dev/null, or closed

    @property
    def has_gone(self) -> bool:
        """True if the reader has gone away, False if the interrupt was set."""
        return not self._interrupt.is_set() and bool(self._any.poll(0))

    def set(self, number: int | None = None) -> None:
        self._interrupt.set(number)

    def is_set(self) -> bool:
        return self._interrupt.is_set() or bool(self._any.poll(0))

    def fileno(self) -> int:
        return self._any.fileno()

    def close(self) -> None:
        self._any.close()


class WhileRead:
    """A cancel that is set when this process's output has no reader any more, or when a signal asks it to end.

    A command on another machine gets no signal when its caller goes away: only its output has no reader any more.
    """

    def __init__(self, output: int = 1) -> None:
        self._quit = Interrupt()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: self._quit.set(number))
        self._output = output
        self._any = select.epoll()
        self._any.register(self._quit.fileno(), select.EPOLLIN)
        try:
            self._any.register(output, 0)
        except OSError:
            pass  # a file, which always counts as read

    @property
    def signal(self) -> int | None:
        return self._quit.signal

    def is_set(self) -> bool:
        return bool(self._any.poll(0))

    def fileno(self) -> int:
        return self._any.fileno()
