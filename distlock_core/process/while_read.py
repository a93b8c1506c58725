"""WhileRead: a cancel that is set when this process's output has no reader any more."""

from __future__ import annotations

import select

from distlock_core.base.deadline import Interrupt
from distlock_core.base.plain_signal import signal


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
