"""Texts of windows that are open or closed at the moment."""

from __future__ import annotations

import time


def _around(start: float, end: float) -> str:
    """A window from `start` to `end`, in hours from now, in UTC."""
    times = (time.strftime("%H:%M", time.gmtime(time.time() + hours * 3600)) for hours in (start, end))
    return "-".join(times)


def open_now() -> str:
    return _around(-2, 2)


def closed_now() -> str:
    """Closed for some hours from now on."""
    return _around(6, 8)
