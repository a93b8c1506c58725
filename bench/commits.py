"""Raft commits of an uncontended lock and unlock; each commit is a write to the disk of every member."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.processes import Processes
    from bench.server import Server
    from bench.tools import Tool

CYCLES = 20


@dataclass(frozen=True)
class Commits:
    """Commits per lock and unlock; a lease that is left behind costs one more when it expires."""

    tool: str
    commits: float
    leases_left: float


def measure(processes: Processes, tools: Sequence[Tool], failed: Callable[[Tool, str], None]) -> list[Commits]:
    found = []
    for tool in tools:
        if tool.server is None:
            continue
        try:
            found.append(_of(processes, tool, tool.server))
        except ToolFailedError as failure:
            failed(tool, str(failure))
    return found


def idle(server: Server, seconds: float = 3.0) -> float:
    """Commits per second of an idle etcd, by which the figures would have to be corrected."""
    before, started = server.commits(), time.monotonic()
    time.sleep(seconds)
    return (server.commits() - before) / (time.monotonic() - started)


def _of(processes: Processes, tool: Tool, server: Server) -> Commits:
    # A run before the measurement, so that one-time costs (such as the folder in v2) are not counted.
    processes.run(tool.argv("commits", ["/bin/true"]), tool.env)
    commits, leases = server.commits(), server.leases()
    for _ in range(CYCLES):
        processes.run(tool.argv("commits", ["/bin/true"]), tool.env)
    return Commits(tool.name, (server.commits() - commits) / CYCLES, (server.leases() - leases) / CYCLES)
