"""Cost for a node of a process that holds a lock, waits for one, or keeps one for another process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from bench.processes import ToolFailedError, wait_until
from bench.waiters import QUEUED, held, line_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.processes import Processes
    from bench.tools import Tool

SETTLED = 2.0  # seconds until all processes are idle
OBSERVED = 30.0  # some wake every 10 or 20 s only
KEEPER_ENDS = 5.0


@dataclass(frozen=True)
class Resident:
    """One process, with nothing of the command that it runs."""

    tool: str
    part: str  # holder, waiter or keeper
    private_mib: float
    wake_ups: float  # voluntary context switches per second, of all its threads


def observe(processes: Processes, tools: Sequence[Tool], failed: Callable[[Tool, str], None]) -> list[Resident]:
    """Observe all of them at the same time."""
    with contextlib.ExitStack() as stack, processes.bounded(2 * QUEUED + OBSERVED):
        pids: list[tuple[Tool, str, int]] = []
        for tool in tools:
            try:
                holder = stack.enter_context(held(processes, tool, "resident"))
                pids.append((tool, "holder", holder.pid))
                if tool.waiters is not None:
                    (waiter,) = line_up(processes, tool, "resident", 1)
                    pids.append((tool, "waiter", waiter.pid))
                if tool.keep is not None:
                    pids.append((tool, "keeper", stack.enter_context(_kept(processes, tool))))
            except ToolFailedError as failure:
                failed(tool, f"as a resident: {failure}")
        time.sleep(SETTLED)
        before, started = {pid: _switches(pid) for _, _, pid in pids}, time.monotonic()
        time.sleep(OBSERVED)
        found = []
        for tool, part, pid in pids:
            wake_ups = (_switches(pid) - before[pid]) / (time.monotonic() - started)
            try:
                found.append(Resident(tool.name, part, _private_mib(pid), wake_ups))
            except OSError as failure:
                failed(tool, f"its {part} ended while it was observed: {failure}")
        return found


@contextlib.contextmanager
def _kept(processes: Processes, tool: Tool) -> Iterator[int]:
    """The pid of a keeper, which is ended with the block."""
    assert tool.keep is not None
    kept = processes.start(["/bin/sleep", "3600"], tool.env)
    keeper = None
    try:
        argv = tool.keep("kept", kept.pid)
        done = subprocess.run(argv, env=dict(tool.env), capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise ToolFailedError(f"exit {done.returncode}: {done.stderr.strip()}")
        keeper = tool.keeper(done.stdout)
        yield keeper
    finally:
        processes.stop([kept])
        if keeper is not None:
            wait_until("the keeper's end", lambda: not os.path.exists(f"/proc/{keeper}"), KEEPER_ENDS)


def _private_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024


def _switches(pid: int) -> int:
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total
