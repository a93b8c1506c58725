"""Somebody who reads a watch, in a thread of their own."""

from __future__ import annotations

import threading
import time
from typing import Any

from distlock_core.events.watch import Watching
from tests.support.scene import BOUND

BEGINNING = 5.0  # seconds that are given to a first read; in some tests it is not to succeed


class Reader:
    """Reads a watch in a thread of its own."""

    def __init__(self, watch: Watching) -> None:
        self.watch = watch
        self.events: list[Any] = []
        self.trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._wait_for_the_beginning()

    def _wait_for_the_beginning(self) -> None:
        """Until it has read what is held now: what comes to pass after that is to be told."""
        deadline = time.monotonic() + BEGINNING
        follower = self.watch._follower
        while follower._revision is None and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)

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
