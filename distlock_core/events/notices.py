"""Notices: changes in the state of a lock, delivered to listeners in order, in a separate thread."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque

from distlock_core.base.threads import Thread, report, start_thread
from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ACQUIRED, REMOVED, UNKNOWN = "ACQUIRED", "REMOVED", "UNKNOWN"

MOST_WAITING = 1000  # notices queued behind a listener that does not return; beyond it the oldest are dropped
LAST_CALL = 5.0  # seconds that `close()` waits for a listener


class Notice(Value):
    """A change of state: `kind` is ACQUIRED (held), UNKNOWN (held or lost) or REMOVED (no longer held).

    Of several locks that are held together, `lock` has all names in one phrase.
    """

    kind: str
    lock: str
    token: int


class Listeners:
    """Delivers each notice to every listener in turn, in one thread.

    `tell()` never blocks. An exception in a listener is logged, and the next listener is called. A listener that does
    not return blocks the other listeners, and nothing else.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Notice], object], ...] = ()
        self._waiting: deque[Notice] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._closed = False
        self._thread: Thread | None = None

    def add(self, listener: Callable[[Notice], object]) -> None:
        """Add a listener, which is called with every notice from now on."""
        with self._changed:
            self._listeners += (listener,)
            if self._thread is None and not self._closed:
                self._thread = start_thread(self._run, "distlock-listeners")

    def remove(self, listener: Callable[[Notice], object]) -> None:
        """Remove a listener, which gets no queued notices either. Removing an unknown one is not an error."""
        with self._changed:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def tell(self, notice: Notice) -> None:
        with self._changed:
            if self._thread is not None and not self._closed:
                self._waiting.append(notice)
                self._changed.notify()

    def close(self) -> None:
        """Deliver the queued notices, then stop. Waits at most `LAST_CALL` seconds for a listener that hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and not thread.is_current:
            thread.join(LAST_CALL)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                notice, listeners = self._waiting.popleft(), self._listeners
            for listener in listeners:
                if listener in self._listeners:
                    _call(listener, notice)


def _call(listener: Callable[[Notice], object], notice: Notice) -> None:
    pid = os.getpid()
    try:
        listener(notice)
    except BaseException as error:
        if pid != os.getpid():
            raise  # the listener has forked, and this ends the child
        log("a listener failed at %s of %s", notice.kind, notice.lock, error=error)


def warn(message: str, *words: str) -> None:
    """Log a warning, as `log()` does an error."""
    try:
        logging.getLogger("distlock").warning(message, *words)
    except Exception as trouble:  # noqa: BLE001
        report(trouble)


def log(message: str, *words: str, error: BaseException) -> None:
    """Log an error that must not stop the thread. Never raises, and imports nothing."""
    try:
        logging.getLogger("distlock").error(message, *words, exc_info=error)
    except Exception as trouble:  # noqa: BLE001 - the log handler fails too, for example without a free descriptor
        report(trouble)
