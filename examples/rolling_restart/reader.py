"""A client of the cluster: reads all the while, and counts."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
import urllib.parse
from collections.abc import Sequence

PATIENCE = 3.0  # seconds a read may take, over all endpoints; an election is well below
TRY_TIMEOUT = 1.0
PAUSE = 0.02


class Reader:
    """Linearizable reads, one after the other, each retried over the endpoints until PATIENCE has passed."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.reads = 0
        self.failures = 0
        self.slowest = 0.0
        self._endpoints = itertools.cycle([urllib.parse.urlsplit(endpoint).netloc for endpoint in endpoints])
        self._endpoint = next(self._endpoints)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def wait_for_reads(self, count: int, timeout: float = 30.0) -> None:
        """Return when so many reads have succeeded. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while self.reads < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the client has read {self.reads} times, not {count}, in {timeout:g} s")
            time.sleep(0.05)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join(PATIENCE + TRY_TIMEOUT)

    def _run(self) -> None:
        while not self._end.wait(PAUSE):
            began = time.monotonic()
            while not self._read():
                if time.monotonic() - began > PATIENCE:
                    self.failures += 1
                    break
                self._endpoint = next(self._endpoints)
                if self._end.wait(PAUSE):
                    return
            else:
                self.reads += 1
                self.slowest = max(self.slowest, time.monotonic() - began)

    def _read(self) -> bool:
        connection = http.client.HTTPConnection(self._endpoint, timeout=TRY_TIMEOUT)
        try:
            # Not serializable: the answer needs a quorum. The key is "a"; whether it exists does not matter.
            connection.request("POST", "/v3/kv/range", '{"key": "YQ=="}')
            response = connection.getresponse()
            response.read()
            return response.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
