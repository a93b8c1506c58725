"""A reader of a watch in a separate thread."""

from __future__ import annotations

import threading
import time
from typing import Any

from distlock_core.events.watch import Watching
from tests.support.scene import BOUND

BEGINNING = 5.0  # seconds for the first read, which must not succeed in some tests


class Reader:
    """Reads a watch in a separate thread."""

    def __init__(self, watch: Watching) -> None:
        self.watch = watch
        self.events: list[Any] = []
        self.trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._wait_for_the_beginning()

    def _wait_for_the_beginning(self) -> None:
        """Wait until it has read the present state: later changes must be reported."""
        deadline = time.monotonic() + BEGINNING
        source: Any = self.watch._source
        while source._revision is None and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _read(self) -> None:
        try:
            self.events.extend(self.watch)
        except BaseException as trouble:
            self.trouble = trouble

    def wait(self, *told: Any, within: float = BOUND) -> list[Any]:
        """Wait for these events, (kind, token) pairs, and no others. Forgets them afterwards."""
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
