"""Notices: what has become of a lock, told to listeners in a thread of their own, in order."""

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

MOST_WAITING = 1000  # notices that are kept for a listener that does not come back; beyond it the oldest go
LAST_CALL = 5.0  # seconds that the end waits for a listener


class Notice(Value):
    """`kind` is ACQUIRED (it is held), UNKNOWN (nobody can tell) or REMOVED (it is not held any more)."""

    kind: str
    lock: str
    token: int


class Listeners:
    """Tells each notice to every listener, one after the other, in one thread.

    Whoever has something to tell never waits. What a listener raises is logged, and the next one is called; one that
    does not come back holds up the others, and nobody else.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Notice], object], ...] = ()
        self._waiting: deque[Notice] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Condition()
        self._closed = False
        self._thread: Thread | None = None

    def add(self, listener: Callable[[Notice], object]) -> None:
        """Call it with every notice from now on."""
        with self._changed:
            self._listeners += (listener,)
            if self._thread is None and not self._closed:
                self._thread = start_thread(self._run, "distlock-listeners")

    def remove(self, listener: Callable[[Notice], object]) -> None:
        """Call it no more, also with what is waiting. One that is not there is no error."""
        with self._changed:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def tell(self, notice: Notice) -> None:
        with self._changed:
            if self._thread is not None and not self._closed:
                self._waiting.append(notice)
                self._changed.notify()

    def close(self) -> None:
        """Let the listeners have what is waiting, then end. Waits for it, but not for one that hangs for long."""
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
            raise  # it has forked, and this is how the child ends
        log("a listener failed at %s of %s", notice.kind, notice.lock, error=error)


def log(message: str, *words: str, error: BaseException) -> None:
    """Log what must not stop a thread that has more to do. Never raises, and loads nothing."""
    try:
        logging.getLogger("distlock").error(message, *words, exc_info=error)
    except Exception as trouble:  # noqa: BLE001 - a handler that fails as well, for want of a descriptor for example
        report(trouble)
