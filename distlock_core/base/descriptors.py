"""Closing of the file descriptors that a process has inherited."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

MOST = 1024  # descriptors that are tried without /proc


def close_inherited(last: int, but: Collection[int] = ()) -> None:
    """Close all descriptors above `last`, but these."""
    try:
        found = [int(name) for name in os.listdir("/proc/self/fd")]  # not all up to the limit, which may be 10**9
    except OSError:
        found = list(range(MOST))
    for descriptor in found:
        if descriptor > last and descriptor not in but:
            try:
                os.close(descriptor)
            except OSError:
                pass  # that of the listing itself
