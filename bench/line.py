"""A queue of waiters in few processes: threads that use the library, each over a separate connection."""

from __future__ import annotations

import argparse
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from bench.processes import ToolFailedError, wait_until
from distlock_core import DistlockError, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.server import Server

STACK = 256 * 1024  # bytes of a waiter's thread
QUEUED = 300.0  # seconds until all are in the queue
DRAINED = 30.0  # and a second more for each ten waiters
SETTLED = 1.0
SENT = "etcd_network_client_grpc_sent_bytes_total"


class Line:
    """Waiters for one lock, in order of arrival; each releases the lock as soon as it holds it."""

    def __init__(self, endpoint: str, prefix: str, name: str, ttl: int | None = None) -> None:
        self.prefix, self.name = prefix, name
        self._endpoint = endpoint
        self._ttl = ttl
        self._threads: list[threading.Thread] = []
        self._failures: list[str] = []

    def grow(self, waiters: int) -> None:
        before = threading.stack_size(STACK)
        try:
            for _ in range(waiters):
                thread = threading.Thread(target=self._wait, daemon=True)
                thread.start()
                self._threads.append(thread)
        finally:
            threading.stack_size(before)

    def drained(self) -> None:
        """Wait until every waiter has held the lock. Raises `ToolFailedError`."""
        deadline = time.monotonic() + DRAINED + len(self._threads) / 10
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = sum(thread.is_alive() for thread in self._threads)
        if late or self._failures:
            raise ToolFailedError(self._failures[0] if self._failures else f"{late} waiters had no turn in time")

    def _wait(self) -> None:
        try:
            with connect(self._endpoint, self.prefix) as realm, realm.lock(self.name, timeout=-1, ttl=self._ttl):
                pass
        except DistlockError as error:
            self._failures.append(str(error))


@contextmanager
def lined_up(
    server: Server, endpoint: str, prefix: str, name: str, waiters: int, ttl: int | None = None
) -> Iterator[Line]:
    """A lock that is held until the end of the block, and waiters that have all joined its queue."""
    with ExitStack() as stack:
        realm = stack.enter_context(connect(endpoint, prefix))
        stack.enter_context(realm.lock(name))
        line = Line(endpoint, prefix, name, ttl)
        line.grow(waiters)
        queue = f"{prefix}{name}/queue/"
        wait_until(f"{waiters} waiters in the queue", lambda: server.keys_under(queue) >= waiters, QUEUED, pause=0.1)
        time.sleep(SETTLED)
        yield line


@dataclass(frozen=True)
class LineDrain:
    """Figures from the release by the holder to the release by the last waiter."""

    waiters: int
    seconds: float
    commits: float  # per hand-over
    bytes_read: float  # per hand-over, sent by etcd
    show: float  # seconds of CPU of `realm.show()` while all of them wait

    @property
    def hand_over(self) -> float:
        return self.seconds * 1000 / self.waiters


def drain(server: Server, prefix: str, waiters: int) -> LineDrain:
    """Waiters spread over several processes, as a single one would run 1,000 threads in turn."""
    from bench.fleet import output_of, workers_of

    prefix = f"{prefix}line-{waiters}/"
    one_lock = argparse.Namespace(locks=1, slots=1, ttl=None, hold=0.0, ticket_ttl=None)
    with ExitStack() as stack:
        with connect(server.endpoint, prefix, connect_timeout=QUEUED) as realm, realm.lock("lock-000"):
            workers = stack.enter_context(workers_of([server.endpoint], prefix, waiters, one_lock))
            queue = f"{prefix}lock-000/queue/"
            wait_until(f"{waiters} waiters in the queue", lambda: server.keys_under(queue) >= waiters, QUEUED, 0.1)
            time.sleep(SETTLED)
            show = _cpu(lambda: realm.show("lock-000"))
            before, read = server.commits(), server.gauge(SENT)
            started = time.perf_counter()
        for worker in workers:
            output_of(worker, DRAINED + waiters / 10)
        seconds = time.perf_counter() - started
        read = server.gauge(SENT) - read
    return LineDrain(waiters, seconds, (server.commits() - before) / waiters, read / waiters, show)


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread only, since the waiters are threads of the same process."""
    best = float("inf")
    for _ in range(3):
        before = time.thread_time()
        work()
        best = min(best, time.thread_time() - before)
    return best
