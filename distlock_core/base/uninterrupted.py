"""Uninterrupted: a piece of work that Ctrl-C does not break off; the interrupt is raised when the work is done."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enumerations of all that is looked at here
import os
from _thread import get_native_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

    from distlock_core.base.deadline import Cancel


class Uninterrupted:
    """For the time of a `with` block, what the program's signal handlers raise is held back, and raised at its end.

    Python's own handler of SIGINT raises KeyboardInterrupt, others raise SystemExit, in the middle of whatever is done
    just then. Here the handlers run as always, and only what they raise comes later. It is a cancel too: set by the
    second of them, since whoever asks twice will not wait, and by the `cancel` that was given. Handlers run in the main
    thread alone: in any other there is nothing to hold back.
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
            except BaseException as error:  # noqa: BLE001 - it has come just before it would have been held back
                self._raised.append(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if _signal.getsignal(number) == self._note:
                _signal.signal(number, handler)
        if self._raised:
            raise self._raised[0]

    def _hold_back(self) -> None:
        for number in range(1, _signal.NSIG):
            handler = _signal.getsignal(number)
            if callable(handler) and handler != self._note:
                self._before[number] = handler
                _signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before[number](number, frame)
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self._raised.append(error)


def in_main_thread() -> bool:
    """True in the thread that signal handlers run in."""
    return get_native_id() == os.getpid()
