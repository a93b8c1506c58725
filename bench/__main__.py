"""Runs the measurements and prints them: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from bench import commits, imports, tools, waiters, wall
from bench.processes import InterruptedBySignalError, Processes, ToolFailedError
from bench.server import Server
from bench.table import Report
from distlock_core.testing import BinaryNotFound, Cluster, etcd_version, find_etcd, find_etcdctl

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = ("wall", "commits", "drain", "imports", "waiting")
TOOLS = ("distlock", "distlock-ttl", "etcdctl", "flock", "python-etcd3", "etcdlocker")


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


class Bench:
    """Who takes part, who does not and why; one who fails stays out of the rest of that part."""

    def __init__(self, only: Sequence[str]) -> None:
        self._only = only
        self.tools: list[tools.Tool] = []
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def enter(self, name: str, missing: Callable[[], str | None], tool: Callable[[], tools.Tool]) -> None:
        if name not in self._only:
            return
        why = missing()
        if why is None:
            self.tools.append(tool())
        else:
            self.left_out[name] = why

    def failed(self, tool: tools.Tool, why: str) -> None:
        say(f"{tool.name}: {why}")
        before = self.left_out.get(tool.name)
        if before is None:
            self.left_out[tool.name] = why
        elif why not in before:
            self.left_out[tool.name] = f"{before}; {why}"


def _measure(stack: contextlib.ExitStack, options: argparse.Namespace) -> Report:
    processes = stack.enter_context(Processes())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    cluster = stack.enter_context(Cluster.start(members=1))
    machine: dict[str, Any] = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "etcd": etcd_version(cluster.etcd),
    }
    env = tools.clean_environment(folder)
    bench = _field(stack, processes, Server(cluster), folder, env, options.only)
    report = Report({**machine, **bench.versions}, bench.left_out)
    report.idle = commits.idle(Server(cluster))
    if "wall" in options.only:
        say(f"wall time: {options.rounds} rounds of {len(bench.tools) + 1}")
        report.wall = wall.measure(processes, tools.bare(env), bench.tools, options.rounds, bench.failed)
    if "commits" in options.only:
        say(f"commits: {commits.CYCLES} cycles of each")
        report.commits = commits.measure(processes, bench.tools, bench.failed)
    if "drain" in options.only:
        say(f"drain: {', '.join(map(str, options.waiters))} waiters")
        report.drain = waiters.drain(processes, bench.tools, options.waiters, bench.failed)
    if "waiting" in options.only:
        say("one waiter of each")
        report.waiting = waiters.observe(processes, bench.tools, bench.failed)
    ours = [tool for tool in bench.tools if tool.name == "distlock"]
    if "imports" in options.only and ours:
        say("imports")
        try:
            report.imports = imports.measure(ours[0])
        except ToolFailedError as failure:
            bench.failed(ours[0], str(failure))
    return report


def _field(
    stack: contextlib.ExitStack,
    processes: Processes,
    server: Server,
    folder: Path,
    env: dict[str, str],
    only: list[str],
) -> Bench:
    # Etcd is ours alone; the random part is for the day when somebody points this at one that is not.
    prefix = f"/bench-{secrets.token_hex(4)}/"
    bench = Bench(only)
    no_distlock = tools.missing_distlock
    bench.enter("distlock", no_distlock, lambda: tools.distlock(server, env, prefix + "distlock/"))
    bench.enter("distlock-ttl", no_distlock, lambda: tools.distlock(server, env, prefix + "leased/", ttl=60))
    bench.enter(
        "etcdctl",
        lambda: _missing(find_etcdctl),
        lambda: tools.etcdctl(server, env, prefix + "etcdctl/", find_etcdctl()),
    )
    bench.enter("flock", tools.missing_flock, lambda: tools.flock(env, folder))
    bench.enter(
        "python-etcd3", tools.missing_python_etcd3, lambda: tools.python_etcd3(server, env, prefix + "python-etcd3/")
    )

    def v2() -> tools.Tool:
        old = stack.enter_context(Cluster.start(members=1, etcd=find_etcd("3.4"), extra_args=("--enable-v2",)))
        bench.versions["etcd for the v2 API"] = etcd_version(old.etcd)
        return tools.etcdlocker(Server(old), env, prefix + "etcdlocker/")

    bench.enter("etcdlocker", lambda: _missing(lambda: find_etcd("3.4")) or tools.missing_etcdlocker(processes), v2)
    return bench


def _missing(find: Callable[[], str]) -> str | None:
    try:
        find()
    except BinaryNotFound as missing:
        return str(missing)
    return None


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
        default="1,10,30,60",
        help="lengths of the line that is drained (default: 1,10,30,60)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, or there is nothing to take a median of")
    try:
        options.waiters = [int(each) for each in options.waiters.split(",")]
    except ValueError:
        options.waiters = []
    if not options.waiters or min(options.waiters) < 1:
        parser.error("--waiters: numbers from 1 on")
    named = [each.strip() for each in options.only.split(",") if each.strip()]
    unknown = sorted(set(named) - set(PARTS) - set(TOOLS))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)}: neither a part nor a tool")
    # Naming parts says nothing about tools, and the other way round.
    options.only = [part for part in PARTS if part in named] or list(PARTS)
    options.only += [tool for tool in TOOLS if tool in named] or list(TOOLS)
    return options


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
