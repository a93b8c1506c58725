"""Cancel tokens that are set when nobody reads this process's output any more."""

from __future__ import annotations

import os
import select
import signal

from distlock_core.base.deadline import Interrupt


class Audience:
    """A cancel that is set by an interrupt, and, from `listen()` on, when nobody reads what this process says.

    A command that was started over ssh without a terminal gets no signal when the caller has gone: only its output
    leads nowhere. Whoever ignores SIGHUP, as under `nohup`, does not care for that.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        # An epoll descriptor can itself be polled.
        self._any = select.epoll()
        self._any.register(interrupt.fileno(), select.EPOLLIN)
        self._listens = False

    def listen(self) -> None:
        """Look after stderr from now on; after stdout, where stderr is a file or nothing.

        Not after a terminal: its end is told by SIGHUP, to those whom it concerns.
        """
        if self._listens or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            return
        self._listens = True
        for output in (2, 1):
            try:
                if not os.isatty(output):
                    self._any.register(output, 0)  # an error is told without being asked for
                return
            except OSError:
                pass  # a file, /dev/null, or closed

    @property
    def has_gone(self) -> bool:
        """True when it was the audience, and not the interrupt."""
        return not self._interrupt.is_set() and bool(self._any.poll(0))

    def set(self, number: int | None = None) -> None:
        self._interrupt.set(number)

    def is_set(self) -> bool:
        return self._interrupt.is_set() or bool(self._any.poll(0))

    def fileno(self) -> int:
        return self._any.fileno()

    def close(self) -> None:
        self._any.close()


class WhileHeard:
    """A cancel that is set when nobody reads this process's output any more, or a signal tells it to end.

    A command on another machine gets no signal when whoever has started it is gone: only its output leads nowhere.
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
            pass  # a file, which is never left

    @property
    def signal(self) -> int | None:
        return self._quit.signal

    def is_set(self) -> bool:
        return bool(self._any.poll(0))

    def fileno(self) -> int:
        return self._any.fileno()
