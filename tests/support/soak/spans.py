"""The spans in which a contender's have_lock() was True, in a file that survives its death.

One record per span: the token, the moment at which the first call with True had *returned*, and the moment at which the
last one was *begun*. So the contender certainly believed to have the lock in the whole span. Moments are of
CLOCK_MONOTONIC, which is the same for all processes of a machine.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("=qdd")
_MOST = 4096  # spans of one process


class Span(NamedTuple):
    """The contender `who` believed from `begin` to `end` that it had the lock, with `token`."""

    who: str
    token: int
    begin: float
    end: float


class Log:
    """Written in place, so that a SIGKILL loses at most the present sample."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_MOST * _RECORD.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._place = -1
        self._span: tuple[int, float] | None = None

    def saw(self, token: int, begun: float, returned: float) -> None:
        """Record a call that returned True, with the moments of its begin and return."""
        if self._span is None or self._span[0] != token:
            self._place += 1
            self._span = (token, returned)
        _RECORD.pack_into(self._map, self._place * _RECORD.size, *self._span, begun)

    def saw_nothing(self) -> None:
        """Record a call that returned False."""
        self._span = None


def read(path: Path) -> list[Span]:
    """All spans of a contender so far; it may still be writing."""
    data = path.read_bytes()
    spans = []
    for place in range(len(data) // _RECORD.size):
        token, begin, end = _RECORD.unpack_from(data, place * _RECORD.size)
        if not token:
            break
        # A single sample begins before it returns.
        spans.append(Span(path.stem, token, begin, end))
    return spans


def clock() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)
