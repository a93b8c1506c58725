"""What a contender has seen of itself: the spans in which have_lock() said True, in a file that survives its death.

One record a span: the token, the moment at which the first call that said True had *returned*, and the moment at which
the last one was *begun*. So all of the span is surely inside of what the contender believed, and nothing outside of it
is laid to its charge. Moments are of CLOCK_MONOTONIC, which is one clock for all processes of a machine.
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
    """`who` believed from `begin` to `end` that it had the lock, under `token`."""

    who: str
    token: int
    begin: float
    end: float


class Log:
    """Written in place, so that a SIGKILL costs at most the sample that it hits."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_MOST * _RECORD.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._place = -1
        self._span: tuple[int, float] | None = None

    def saw(self, token: int, begun: float, returned: float) -> None:
        """A call that was begun and has returned then said True."""
        if self._span is None or self._span[0] != token:
            self._place += 1
            self._span = (token, returned)
        _RECORD.pack_into(self._map, self._place * _RECORD.size, *self._span, begun)

    def saw_nothing(self) -> None:
        """A call said False."""
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
