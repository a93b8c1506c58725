"""Compares this tree's counts with the expected ones: ``python -m bench.check``; ``--renew`` updates the latter."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import counts, tools
from bench.environment import Environment
from bench.field import say
from bench.meter import Meter
from bench.processes import InterruptedBySignalError, Processes, ToolFailedError
from bench.server import Server
from distlock_core.testing import Cluster, Tls

EXPECTED = Path(__file__).with_name("expected.json")
RENEW = "make bench-check RENEW=yes"
# Relative tolerance of each count. The number of bytes varies with the lengths of pids and names; the number of reads
# with how many events of a watch arrive together, which depends on the scheduler.
INSTRUCTIONS = 0.05  # TLS handshakes vary
TOLERANCES = {
    "alone": {"commits": 0.0, "requests": 0.0, "bytes sent": 0.1, "bytes read": 0.1},
    "hand-over": {"commits": 0.15, "requests": 0.5, "bytes read": 0.5},
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.check", description="Counts, compared with those expected.")
    parser.add_argument("--renew", action="store_true", help=f"update {EXPECTED.name}")
    renew = parser.parse_args().renew
    try:
        found = measured()
    except InterruptedBySignalError as interrupted:
        return 128 + interrupted.number
    except ToolFailedError as failure:
        print(f"bench-check: {failure}", file=sys.stderr)
        return 1
    if renew:
        before = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
        if "instructions" not in found and before:
            found["instructions"] = before["instructions"]  # no valgrind here
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n")
        print(f"bench-check: {EXPECTED.name} is updated; see: git diff {EXPECTED.relative_to(Path.cwd())}")
        return 0
    lines = differences(json.loads(EXPECTED.read_text()), found)
    for line in lines:
        print(f"bench-check: {line}", file=sys.stderr)
    if lines:
        print(f"bench-check: if that is intended, update the expected counts with: {RENEW}", file=sys.stderr)
        return 1
    print("bench-check: all counts are as expected")
    return 0


def measured() -> dict[str, Any]:
    """All counts, by kind and case."""
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(Processes())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        server = Server(stack.enter_context(Cluster.start(members=1, fsync=False)))
        secured = Server(stack.enter_context(Cluster.start(members=1, fsync=False, tls=Tls.make(str(folder)))))
        meter = stack.enter_context(Meter(server.endpoint))
        at = Environment.make(folder)
        alone, leased = tools.distlock(at, server), tools.distlock(at, server, ttl=60)
        starts = {
            "environment": alone,
            "config file": tools.distlock(at, server, configured=True),
            "config file, TLS": tools.distlock(at, secured, configured=True),
        }
        say("modules")
        found: dict[str, Any] = {"modules": counts.modules(starts)}
        say("commits and traffic of a run alone")
        found["alone"] = {
            case: {"commits": counts.commits(processes, server, tool), **counts.run_alone(processes, meter, tool)}
            for case, tool in (("persistent", alone), ("ttl", leased))
        }
        say(f"hand-overs in lines of {counts.SHORT} and {counts.LONG}")
        found["hand-over"] = {
            f"{waiters} waiters{words}": counts.hand_over(server, meter, at.prefix, waiters, ttl)
            for waiters in (counts.SHORT, counts.LONG)
            for words, ttl in (("", None), (", ttl", 60))
        }
        say("instructions")
        ratios = counts.instructions(at, starts)
        if ratios is None:
            say("no instructions: apt-get install valgrind")
        else:
            found["instructions"] = {"interpreter": counts.interpreter(), "x bare Python": ratios}
        return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """One line for each unexpected count."""
    ours, theirs = found.get("instructions"), expected.get("instructions")
    is_same = theirs is not None and theirs["interpreter"] == counts.interpreter()
    lines = []
    for case, modules in found["modules"].items():
        for whose, names in modules.items():
            if whose == "own" or is_same:  # Python's own modules differ between its versions
                lines += _changed(case, set(expected["modules"].get(case, {}).get(whose, ())), set(names))
    for part, tolerances in TOLERANCES.items():
        for case, values in found[part].items():
            before = expected.get(part, {}).get(case, {})
            for name, value in values.items():
                lines += _beyond(f"{part}, {case}: {name}", before.get(name), value, tolerances[name])
    if theirs is None or not is_same:
        say(f"Python's own modules and instructions are not compared: {counts.interpreter()} has none expected")
    elif ours:
        before = theirs["x bare Python"]
        for case, ratio in ours["x bare Python"].items():
            lines += _beyond(f"instructions, {case}: x bare Python", before.get(case), ratio, INSTRUCTIONS)
    return lines


def _changed(case: str, expected: set[str], found: set[str]) -> list[str]:
    if len(found) == len(expected):
        return []  # a renamed module costs nothing
    names = [f"+ {name}" for name in sorted(found - expected)] + [f"- {name}" for name in sorted(expected - found)]
    return [f"modules, {case}: {len(expected)} expected, {len(found)} loaded: {', '.join(names)}"]


def _beyond(what: str, expected: float | None, found: float, tolerance: float) -> list[str]:
    if expected is None:
        return [f"{what}: {found:g}, and none is expected"]
    if abs(found - expected) <= tolerance * expected + 1e-9:
        return []
    return [f"{what}: {expected:g} expected, {found:g} found ({(found - expected) / expected:+.0%})"]


if __name__ == "__main__":
    sys.exit(main())
