"""Waiting for what reports no event."""

from __future__ import annotations

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
