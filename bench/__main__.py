"""Runs the benchmarks and prints the results: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench import ansible_tasks, commits, imports, line, listing, residents, tools, waiters, wall
from bench.environment import Environment
from bench.field import TOOLS, Field, say
from bench.processes import InterruptedBySignalError, Processes, ToolFailedError
from bench.server import Server
from bench.table import Report
from distlock_core.testing import BinaryNotFound, Cluster, etcd_version

QUICK = ("--rounds=10", "--waiters=10,60", "--lines=10,100")
PARTS = ("wall", "commits", "drain", "line", "list", "imports", "resident", "ansible")


def main() -> int:
    options = _options()
    try:
        with contextlib.ExitStack() as stack:
            report = _measure(stack, options)
    except InterruptedBySignalError as interrupted:
        print(f"bench: stopped by {interrupted}; everything that it started is gone", file=sys.stderr)
        return 128 + interrupted.number
    except BinaryNotFound as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 1
    print(report.text())
    if options.json:
        Path(options.json).write_text(json.dumps(report.data(), indent=2) + "\n")
    return 0


def _measure(stack: contextlib.ExitStack, options: argparse.Namespace) -> Report:
    processes = stack.enter_context(Processes())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    cluster = stack.enter_context(Cluster.start(members=1))
    server = Server(cluster)
    at = Environment.make(folder)
    field = Field.assemble(stack, processes, at, server, options.only)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "etcd": etcd_version(cluster.etcd)}
    report = Report({**machine, **field.versions}, field.left_out)
    report.idle = commits.idle(server)
    if "wall" in options.only:
        say(f"wall time: {options.rounds} rounds of {len(field.tools) + 1}")
        report.wall = wall.measure(processes, tools.bare(at), list(field.tools), options.rounds, field.drop)
    if "commits" in options.only:
        say(f"commits: {commits.CYCLES} cycles of each")
        report.commits = commits.measure(processes, list(field.tools), field.drop)
    if "drain" in options.only:
        say(f"drain: {', '.join(map(str, options.waiters))} waiters")
        report.drain = waiters.drain(processes, field.tools, options.waiters, field.failed)
    if "resident" in options.only:
        say(f"one holder, waiter, keeper of each: {residents.OBSERVED:g} s")
        report.residents = residents.observe(processes, field.tools, field.failed)
    ours = [tool for tool in field.tools if tool.name == "distlock"]
    if "imports" in options.only and ours:
        say("imports")
        try:
            report.imports = imports.measure(ours[0])
        except ToolFailedError as failure:
            field.failed(ours[0], str(failure))
    if "line" in options.only:
        say(f"line: {', '.join(map(str, options.lines))} waiters in few processes")
        report.lines = []
        try:
            for length in options.lines:
                report.lines.append(line.drain(server, at.prefix, length))
        except ToolFailedError as failure:
            report.left_out["a longer line"] = str(failure)
    if "list" in options.only and ours:
        say("list")
        report.listings = listing.measure(at, server, ours[0])
    if "ansible" in options.only:
        _measure_ansible(processes, at, cluster, report)
    return report


def _measure_ansible(processes: Processes, at: Environment, cluster: Cluster, report: Report) -> None:
    if not ansible_tasks.is_there():
        report.left_out["ansible"] = ansible_tasks.MISSING
        return
    say("a task of Ansible's")
    try:
        report.ansible = ansible_tasks.measure(processes, at, cluster.endpoints[0])
    except ToolFailedError as failure:
        report.left_out["ansible"] = str(failure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a lock costs, beside other tools.")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="rounds of the wall time (default: 30)")
    parser.add_argument(
        "--only",
        metavar="NAME[,NAME]",
        default="",
        help=f"parts ({', '.join(PARTS)}) and tools ({', '.join(TOOLS)}); default: all of both",
    )
    parser.add_argument(
        "--waiters",
        metavar="N[,N]",
        default="1,10,30,60,200",
        help="lengths of the queue that is drained (default: %(default)s)",
    )
    parser.add_argument(
        "--lines",
        metavar="N[,N]",
        default="10,100,1000",
        help="lengths of the lines of threads (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help=f"fewer and smaller: {' '.join(QUICK)}")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    given = sys.argv[1:]
    options = parser.parse_args([*QUICK, *given] if "--quick" in given else given)
    if options.rounds < 2:
        parser.error("--rounds: at least 2, or there is nothing to take a median of")
    try:
        options.waiters = [int(each) for each in options.waiters.split(",")]
        options.lines = [int(each) for each in options.lines.split(",")]
    except ValueError:
        parser.error("--waiters, --lines: numbers, separated by commas")
    if min(options.waiters) < 1 or min(options.lines) < 1:
        parser.error("--waiters, --lines: numbers from 1 on")
    named = [each.strip() for each in options.only.split(",") if each.strip()]
    unknown = sorted(set(named) - set(PARTS) - set(TOOLS))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)}: neither a part nor a tool")
    # --only for parts selects no tools, and vice versa.
    options.only = [part for part in PARTS if part in named] or list(PARTS)
    options.only += [tool for tool in TOOLS if tool in named] or list(TOOLS)
    return options


if __name__ == "__main__":
    sys.exit(main())
