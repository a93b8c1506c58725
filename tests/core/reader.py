"""Somebody who reads a watch, in a thread of their own."""

from __future__ import annotations

import threading
import time
from typing import Any

from scene import BOUND

from distlock_core.watching import Watching


class Reader:
    """Reads a watch in a thread of its own."""

    def __init__(self, watch: Watching) -> None:
        self.watch = watch
        self.events: list[Any] = []
        self.trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.events.extend(self.watch)
        except BaseException as trouble:
            self.trouble = trouble

    def wait(self, *told: Any, within: float = BOUND) -> list[Any]:
        """Wait for as many events, which must be these: (kind, token) pairs. Forgets them then."""
        deadline = time.monotonic() + within
        while len(self.events) < len(told) and self.trouble is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.trouble is None
        events, self.events[:] = list(self.events), []
        assert [(event.kind, event.token) for event in events] == list(told)
        return events

    def end(self) -> None:
        self.watch.close()
        self._thread.join(BOUND)
        assert not self._thread.is_alive()
