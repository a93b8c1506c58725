"""Counts that do not depend on the machine's speed: modules, instructions, commits, requests, bytes."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench import imports
from bench.line import lined_up
from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.environment import Environment
    from bench.meter import Meter
    from bench.processes import Processes
    from bench.server import Server
    from bench.tools import Tool

CYCLES = 5
SHORT, LONG = 4, 24  # waiters: a cost that does not grow with the queue is the same per hand-over in both
BOUND = 60.0


def modules(tools: Mapping[str, Tool]) -> dict[str, dict[str, list[str]]]:
    """The modules that each case loads in addition to bare Python and to the cases before it: distlock's and others."""
    found: dict[str, dict[str, list[str]]] = {}
    known: set[str] = set()
    for case, tool in tools.items():
        python, *arguments = tool.argv("imports", ["/bin/true"])
        known = known or set(imports.of(python, ["-c", "pass"], tool.env))
        loaded = set(imports.of(python, arguments, tool.env)) - known
        own = {name for name in loaded if name.split(".")[0] == "distlock_core"}
        found[f"{case} adds" if found else case] = {"own": sorted(own), "other": sorted(loaded - own)}
        known |= loaded
    return found


def commits(processes: Processes, server: Server, tool: Tool) -> float:
    before = server.commits()
    for _ in range(CYCLES):
        processes.run(tool.argv("commits", ["/bin/true"]), tool.env)
    return (server.commits() - before) / CYCLES


def run_alone(processes: Processes, meter: Meter, tool: Tool) -> dict[str, float]:
    """Requests and bytes of a run that finds the lock free."""
    before = meter.traffic()
    for _ in range(CYCLES):
        processes.run(tool.argv("traffic", ["/bin/true"]), {**tool.env, "DISTLOCK_ENDPOINTS": meter.endpoint})
    seen = meter.traffic() - before
    return {"requests": seen.requests / CYCLES, "bytes sent": seen.sent / CYCLES, "bytes read": seen.read / CYCLES}


def hand_over(server: Server, meter: Meter, prefix: str, waiters: int, ttl: int | None = None) -> dict[str, float]:
    """Commits, requests and bytes of one hand-over in a queue of this length, with the library."""
    with lined_up(server, meter.endpoint, prefix, f"counted-{waiters}-{ttl}", waiters, ttl) as line:
        commits, before = server.commits(), meter.traffic()
    line.drained()
    seen = meter.traffic() - before
    found = {"commits": server.commits() - commits, "requests": seen.requests, "bytes read": seen.read}
    return {name: round(value / waiters, 2) for name, value in found.items()}


def instructions(at: Environment, tools: Mapping[str, Tool]) -> dict[str, float] | None:
    """The instructions of a run, as a multiple of those of bare Python. None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    bare = _instructions([at.python, "-c", "pass"], at.variables)
    found = {}
    for case, tool in tools.items():
        patient = {**tool.env, "DISTLOCK_CONNECT_TIMEOUT": "60"}  # valgrind is about twenty times slower
        found[case] = round(_instructions(tool.argv("instructions", ["/bin/true"]), patient) / bare, 3)
    return found


def interpreter() -> str:
    """The interpreter and machine, on which the number of instructions depends."""
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"


def _instructions(argv: list[str], env: Mapping[str, str]) -> int:
    # The count of the process itself; a forked child has a separate one, on a line with its pid.
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *argv]
    done = subprocess.run(
        command, env={**env, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=BOUND, check=False
    )
    first = re.search(r"^==(\d+)== Callgrind", done.stderr, re.MULTILINE)
    if done.returncode != 0 or first is None:
        said = [line for line in done.stderr.splitlines() if not line.startswith(("==", "--"))]
        raise ToolFailedError(f"exit {done.returncode} under valgrind: {' '.join(said)}")
    return int(re.findall(rf"^=={first[1]}== Collected : (\d+)", done.stderr, re.MULTILINE)[-1])
