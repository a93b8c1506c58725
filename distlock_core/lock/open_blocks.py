"""Open `with` blocks of the main thread, whose locks are released when the program ends.

An interrupt can come in the very moment in which such a block is left, before its lock could hold it back. The block is
over by the time that the program ends: a lock that is still held then is released.
"""

from __future__ import annotations

import atexit
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Lock(Protocol):
        """What can be released."""

        def release(self) -> None: ...


_open: dict[int, Lock] = {}
_pid = 0


def enter(lock: Lock) -> None:
    """The main thread is inside a block of this lock."""
    global _pid
    if _pid != os.getpid():
        _open.clear()  # in a forked child they are the parent's
        if _pid == 0:
            atexit.register(_end)
        _pid = os.getpid()
    _open[id(lock)] = lock


def leave(lock: Lock) -> None:
    """It has been released."""
    _open.pop(id(lock), None)


def _end() -> None:
    while _open and _pid == os.getpid():
        _, lock = _open.popitem()
        try:
            lock.release()
        except Exception:  # noqa: BLE001, S110 - nobody is left to tell
            pass
