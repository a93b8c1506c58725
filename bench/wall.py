"""Wall-clock time of a lock, a command and an unlock: whole processes, in rounds, so that noise affects all alike."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.processes import Processes
    from bench.tools import Tool


@dataclass(frozen=True)
class Wall:
    """Milliseconds; the ratio compares the median with that of bare Python."""

    tool: str
    p10: float
    median: float
    p90: float
    ratio: float


def measure(
    processes: Processes, base: Tool, tools: Sequence[Tool], rounds: int, failed: Callable[[Tool, str], None]
) -> list[Wall]:
    seconds: dict[str, list[float]] = {tool.name: [] for tool in (base, *tools)}
    running = [base, *tools]
    for number in range(rounds + 1):
        # Rotated, so that no tool always runs with the caches that the same tool has left.
        turn = number % len(running)
        for tool in running[turn:] + running[:turn]:
            try:
                took = processes.run(tool.argv("wall", ["/bin/true"]), tool.env)
            except ToolFailedError as failure:
                failed(tool, str(failure))
                running.remove(tool)
                del seconds[tool.name]
                continue
            if number > 0:  # the first round warms up the caches
                seconds[tool.name].append(took)
    bare = statistics.median(seconds[base.name])
    return [_summary(name, values, bare) for name, values in seconds.items()]


def _summary(name: str, seconds: list[float], bare: float) -> Wall:
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    median = statistics.median(seconds)
    return Wall(name, tenths[0] * 1000, median * 1000, tenths[-1] * 1000, median / bare)
