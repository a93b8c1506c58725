"""A queue of real processes that wait for one lock: the time until it is drained, and the cost for etcd."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from bench.processes import ToolFailedError, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from bench.processes import Processes
    from bench.server import Server
    from bench.tools import Tool

QUEUED = 120.0  # seconds until all are in the queue: 60 interpreters start on few cores
DRAINED = 10.0  # and a second more for each waiter
SETTLED = 1.0  # seconds until the last in the queue is idle


@dataclass(frozen=True)
class Drain:
    """Figures from the release by the holder to the end of the last waiter's process."""

    tool: str
    waiters: int
    seconds: float
    commits_per_acquisition: float  # all commits from before the first waiter until all are done

    @property
    def hand_over(self) -> float:
        """Milliseconds from one holder to the next."""
        return self.seconds * 1000 / self.waiters


def drain(
    processes: Processes, tools: Sequence[Tool], sizes: Sequence[int], failed: Callable[[Tool, str], None]
) -> list[Drain]:
    found = []
    running = [tool for tool in tools if tool.waiters is not None]
    for size in sizes:
        for tool in list(running):
            if tool.longest is not None and size > tool.longest:
                failed(tool, f"{size} waiters: not measured, at most {tool.longest}")
                running.remove(tool)
                continue
            try:
                assert tool.server is not None
                found.append(_drain(processes, tool, tool.server, size))
            except ToolFailedError as failure:
                failed(tool, f"{size} waiters: {failure}")
                running.remove(tool)  # a longer queue would fail as well, after its whole time limit
    return found


def _drain(processes: Processes, tool: Tool, server: Server, size: int) -> Drain:
    lock = f"drain-{size}"
    with processes.bounded(2 * QUEUED):  # the wait for the queue, and room for the rest
        with held(processes, tool, lock) as holder:
            before = server.commits()
            waiters = line_up(processes, tool, lock, size)
            time.sleep(SETTLED)
            started = time.perf_counter()
        late = processes.wait_all(waiters, DRAINED + size)
        seconds = time.perf_counter() - started
        if late:
            raise ToolFailedError(f"{late} still waited {DRAINED + size:g} s after the lock had become free")
        processes.finish([holder, *waiters])
    return Drain(tool.name, size, seconds, (server.commits() - before) / size)


@contextlib.contextmanager
def held(processes: Processes, tool: Tool, lock: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run of the tool that holds the lock until the end of the block: its command reads from a pipe until then."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        pipe = Path(folder) / "hold"
        os.mkfifo(pipe)
        holder = processes.start(tool.argv(lock, ["/bin/cat", str(pipe)]), tool.env)
        ends: list[int] = []

        def reads() -> bool:
            with contextlib.suppress(OSError):  # ENXIO until the command reads
                ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            return bool(ends) or holder.poll() is not None

        try:
            wait_until("holding the lock", reads, 30.0)
            if not ends:
                processes.finish([holder])
                raise ToolFailedError("it ended without running the command")
            yield holder
        finally:
            for end in ends:
                os.close(end)


def line_up(processes: Processes, tool: Tool, lock: str, size: int) -> list[subprocess.Popen[bytes]]:
    count = tool.waiters
    assert count is not None
    before = count(lock)  # the holder, and others that are counted like waiters
    waiters = [processes.start(tool.argv(lock, ["/bin/true"]), tool.env) for _ in range(size)]

    def settled() -> bool:
        return count(lock) - before >= size or any(waiter.poll() is not None for waiter in waiters)

    wait_until(f"{size} waiters in the queue", settled, QUEUED, pause=0.1)
    ended = [waiter for waiter in waiters if waiter.returncode is not None]
    if ended:
        processes.finish(ended[:1])
        raise ToolFailedError("a waiter ended while the lock was held")
    return waiters
