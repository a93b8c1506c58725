"""Open `with` blocks of the main thread, whose locks are released when the program ends.

An interrupt can arrive just as such a block is left, before the lock has deferred it, so that the lock is not released.
When the program ends, all blocks are over, so any lock that is still held is released.
"""

from __future__ import annotations

import atexit
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Lock(Protocol):
        """An object with `release()`."""

        def release(self) -> None: ...


_open: dict[int, Lock] = {}
_pid = 0


def enter(lock: Lock) -> None:
    """Register a lock whose block the main thread has entered."""
    global _pid
    if _pid != os.getpid():
        _open.clear()  # in a forked child: they belong to the parent
        if _pid == 0:
            atexit.register(_end)
        _pid = os.getpid()
    _open[id(lock)] = lock


def leave(lock: Lock) -> None:
    """Remove a lock that was released."""
    _open.pop(id(lock), None)


def _end() -> None:
    while _open and _pid == os.getpid():
        _, lock = _open.popitem()
        try:
            lock.release()
        except Exception:  # noqa: BLE001, S110 - the program is ending, so the error cannot be reported
            pass
