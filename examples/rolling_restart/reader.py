"""Clients of the cluster: they read continuously, and count."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence

READERS = 4
TRY_TIMEOUT = 0.5  # seconds; a read without an answer is retried with the next member
PAUSE = 0.05


class Readers:
    """Linearizable reads in several threads, each tried over the endpoints until `patience` seconds have passed."""

    def __init__(self, endpoints: Sequence[str], patience: float) -> None:
        self.patience = patience
        self.reads = 0
        self.failures = 0
        self.slowest = 0.0  # seconds, of the reads that succeeded
        self._counts = threading.Lock()
        self._end = threading.Event()
        members = [urllib.parse.urlsplit(endpoint).netloc for endpoint in endpoints]
        # Each thread begins with a different member.
        turns = [itertools.islice(itertools.cycle(members), n, None) for n in range(READERS)]
        self._threads = [threading.Thread(target=self._run, args=(turn,), daemon=True) for turn in turns]

    def wait_for_reads(self, count: int, timeout: float = 30.0) -> None:
        """Return when `count` reads have succeeded. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while self.reads < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the clients have read {self.reads} times, not {count}, in {timeout:g} s")
            time.sleep(0.05)

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(TRY_TIMEOUT + 1.0)

    def _run(self, members: Iterator[str]) -> None:
        member = next(members)
        while not self._end.wait(PAUSE):
            began = time.monotonic()
            while not self._read(member) and time.monotonic() - began <= self.patience:
                if self._end.wait(PAUSE):
                    return
                member = next(members)
            self._count(time.monotonic() - began)

    def _count(self, took: float) -> None:
        with self._counts:
            if took > self.patience:
                self.failures += 1
            else:
                self.reads += 1
                self.slowest = max(self.slowest, took)

    def _read(self, member: str) -> bool:
        connection = http.client.HTTPConnection(member, timeout=TRY_TIMEOUT)
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
