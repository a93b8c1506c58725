"""Waiting: for what reports no event, and for something to read."""

from __future__ import annotations

import math
import select
import time
from typing import Any, Callable

SHORTEST, LONGEST = 0.01, 0.05  # seconds between two looks
SHARE = 0.02  # of the time waited: by how much a wait may be longer than it has to be


def poll(condition: Callable[[], Any], bound: float) -> Any:
    """The value of `condition` as soon as it is true; if it is not within `bound` seconds, its last value.

    Most conditions ask etcd or read /proc. With a look every 10 ms, tests that wait would keep a core busy.
    """
    began = time.monotonic()
    while True:
        found = condition()
        waited = time.monotonic() - began
        if found or waited >= bound:
            return found
        time.sleep(min(LONGEST, max(SHORTEST, waited * SHARE)))


def is_readable(source: Any, seconds: float) -> bool:
    """True as soon as there is something to read, or its end. select() takes no descriptor beyond 1023."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    return bool(poll.poll(math.ceil(max(0.0, seconds) * 1000)))
