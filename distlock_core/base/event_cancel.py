"""EventCancel: makes a `threading.Event` end a wait at once, although it has no descriptor to wait on."""

from __future__ import annotations

import threading

from distlock_core.base.deadline import Interrupt
from distlock_core.base.threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from distlock_core.base.deadline import Cancel

LINGER = 0.5  # seconds; a thread that waits for an event cannot be interrupted, so it wakes at this interval


class EventCancel:
    """A `with` block's `Interrupt`, which is set as soon as the event is.

    A thread waits for the event, and ends at most `LINGER` seconds after the block.
    """

    def __init__(self, event: Cancel, wait: Callable[[float], bool]) -> None:
        self._event = event
        self._wait = wait
        self._interrupt = Interrupt()
        self._over = threading.Event()

    def __enter__(self) -> Interrupt:
        if self._event.is_set():
            self._interrupt.set()
        start_thread(self._follow, "distlock-cancel")
        return self._interrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _follow(self) -> None:
        while not self._over.is_set() and not self._wait(LINGER):
            pass
        if self._event.is_set():
            self._interrupt.set()
        self._over.wait()  # the block uses the interrupt until then
        self._interrupt.close()
