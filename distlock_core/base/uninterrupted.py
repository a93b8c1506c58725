"""Uninterrupted: a block that Ctrl-C does not interrupt; the exception is raised at the end of the block."""

from __future__ import annotations

import os
from _thread import get_native_id

from distlock_core.base.plain_signal import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

    from distlock_core.base.deadline import Cancel


class Uninterrupted:
    """A `with` block that defers exceptions of the program's signal handlers to its end.

    Python's handler of SIGINT raises KeyboardInterrupt, others raise SystemExit, at any point of the code. In this
    block the handlers run as always, and only their exceptions are deferred. (A handler whose attribute `never_raises`
    is True has none.) It is also a cancel: set by the second
    such exception, since a user who asks twice does not want to wait, and by the given `cancel`. Signal handlers run
    only in the main thread: in any other thread there is nothing to defer.
    """

    def __init__(self, cancel: Cancel | None = None) -> None:
        self._cancel = cancel
        self._raised: list[BaseException] = []
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        return len(self._raised) > 1 or (self._cancel is not None and self._cancel.is_set())

    def __enter__(self) -> Uninterrupted:
        while in_main_thread():
            try:
                self._hold_back()
                break
            except BaseException as error:  # noqa: BLE001 - raised just before it could be deferred
                self._raised.append(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        if self._raised:
            raise self._raised[0]

    def _hold_back(self) -> None:
        for number in range(1, signal.NSIG):
            handler = signal.getsignal(number)
            # A handler that is known to raise nothing stays: a system call for each signal costs a hand-over time.
            if callable(handler) and handler != self._note and not getattr(handler, "never_raises", False):
                self._before[number] = handler
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before[number](number, frame)
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self._raised.append(error)


def in_main_thread() -> bool:
    """True in the thread in which signal handlers run."""
    return get_native_id() == os.getpid()
