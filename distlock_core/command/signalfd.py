"""SignalFd: waiting for signals with a time limit. Linux."""

from __future__ import annotations

import math
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_POLL = 86400.0  # seconds; poll() counts milliseconds in 31 bits. Returning early does no harm
WORD = 64  # bits


class SignalFd:
    """Waits until one of some blocked signals is pending, and leaves it pending.

    It replaces the time limit of `signal.sigtimedwait`: after a SIGSTOP that outlasts the limit, CPython returns a
    signal that was never sent, from uninitialized memory (seen on 3.11).
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        import ctypes

        words = (ctypes.c_uint64 * 16)()  # 1024 bits, as libc has it
        for number in numbers:
            words[(number - 1) // WORD] |= 1 << (number - 1) % WORD
        self._fd: int = ctypes.CDLL(None, use_errno=True).signalfd(-1, words, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "signalfd")
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Return when a signal is pending, or after `seconds`."""
        self._poll.poll(math.ceil(min(max(0.0, seconds), LONGEST_POLL) * 1000))

    def close(self) -> None:
        os.close(self._fd)
