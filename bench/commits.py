"""What an uncontended lock and unlock cost etcd: raft commits, each of them a write to every member's disk."""

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
    """Per lock and unlock; a lease left behind costs one more commit when it ends."""

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
    """Commits per second while nobody does anything: what the figures would have to be corrected by."""
    before, started = server.commits(), time.monotonic()
    time.sleep(seconds)
    return (server.commits() - before) / (time.monotonic() - started)


def _of(processes: Processes, tool: Tool, server: Server) -> Commits:
    # Once before: what is paid only once, as the folder in v2, is not counted.
    processes.run(tool.argv("commits", ["/bin/true"]), tool.env)
    commits, leases = server.commits(), server.leases()
    for _ in range(CYCLES):
        processes.run(tool.argv("commits", ["/bin/true"]), tool.env)
    return Commits(tool.name, (server.commits() - commits) / CYCLES, (server.leases() - leases) / CYCLES)
