"""A simulated fleet that stands for the locks of one realm: ``python -m bench.fleet --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.environment import ROOT
from bench.field import say
from bench.processes import ToolFailedError
from bench.server import Server
from bench.table import table
from distlock_core import connect
from distlock_core.testing import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the nodes asked for, in one run: growth is seen
SMALLEST = 100  # nodes
PROCESSES = 8  # at most, with at least 250 nodes in each
WAITING = 10.0  # seconds during which nothing changes
DRAINED = 60.0  # seconds, and one more for each 20 nodes
QUEUED = 60.0  # the same
LIMIT = 480.0  # seconds for all sizes
# A ticket lives for 10 s by default, and is renewed in a third of that: beyond this number of nodes that alone takes
# more than a core of etcd, so that a larger fleet is given longer ones.
MANY, TICKET_TTL, LONG_TICKET_TTL = 1000, 10, 60
OUTPUT = ROOT / "build" / "bench" / "fleet.json"


@dataclass(frozen=True)
class Fleet:
    """Figures of one size. All members together, except for the commits."""

    nodes: int
    ticket_ttl: int
    queued: int  # nodes in a queue when waiting began: fewer, where the machine cannot keep up
    queueing: float  # seconds until they were
    watches: int
    waiting_commits: float  # per second, while nothing changes
    waiting_cpu: float  # of all members, in cores
    waiting_bytes: float  # per second and node, sent by etcd
    etcd_mib: float  # resident memory
    drain: float  # seconds from the release of all locks to the end of the last node
    commits: float  # per node, in the drain
    bytes: float  # per node, in the drain, sent by etcd
    drain_cpu: float  # of all members, in cores
    failed: int

    @property
    def per_second(self) -> float:
        return self.nodes / self.drain


class Members:
    """All members of a cluster, as their own metrics show them."""

    def __init__(self, cluster: Cluster) -> None:
        self._members = cluster.members

    def total(self, metric: str) -> float:
        return sum(member.metric(metric, timeout=30.0) for member in self._members)

    def commits(self) -> float:
        return max(member.metric("etcd_server_proposals_committed_total", timeout=30.0) for member in self._members)

    def sent(self) -> float:
        return self.total("etcd_network_client_grpc_sent_bytes_total")

    def cpu(self) -> float:
        return self.total("process_cpu_seconds_total")


def ticket_ttl_of(nodes: int, options: argparse.Namespace) -> int:
    chosen: int | None = options.ticket_ttl
    return chosen or (TICKET_TTL if nodes <= MANY else LONG_TICKET_TTL)


def measure(nodes: int, options: argparse.Namespace, until: float) -> Fleet:
    """Measure one size, on a separate cluster. Raises `ToolFailedError` if it has not ended by `until`."""
    with Cluster.start(members=3) as cluster, contextlib.ExitStack() as stack:
        members, server, prefix = Members(cluster), Server(cluster), "/fleet/"
        with contextlib.ExitStack() as holds:
            realm = holds.enter_context(connect(cluster.endpoints, prefix))
            for number in range(options.locks):
                for _ in range(options.slots):
                    holds.enter_context(realm.lock(f"lock-{number:03}", slots=options.slots))
            held = server.keys_under(prefix)
            started = time.monotonic()
            workers = stack.enter_context(workers_of(cluster.endpoints, prefix, nodes, options))
            queued = 0
            queueing_ends = min(started + QUEUED + nodes / 20, until)
            while queued < nodes and time.monotonic() < queueing_ends:
                time.sleep(0.2)
                queued = server.keys_under(prefix) - held
            queueing = time.monotonic() - started
            if time.monotonic() >= until:
                raise ToolFailedError(f"{queued} were in a queue when the time was up")
            before, began = (members.commits(), members.cpu(), members.sent()), time.monotonic()
            time.sleep(WAITING)
            watches, memory = (
                members.total("etcd_debugging_mvcc_watcher_total"),
                members.total("process_resident_memory_bytes"),
            )
            seconds = time.monotonic() - began
            waiting = [(now - then) / seconds for now, then in zip(_counters(members), before)]
            before, began = _counters(members), time.monotonic()
        ends = min(began + DRAINED + nodes / 20, until)
        ended = [json.loads(output_of(worker, max(1.0, ends - time.monotonic()))) for worker in workers]
        drain = time.monotonic() - began
        after = _counters(members)
        peak = max(memory, members.total("process_resident_memory_bytes"))
    failed = sum(one["failed"] for one in ended)
    if failed:
        say(f"{failed} nodes failed, such as: {next(one['failures'][0] for one in ended if one['failures'])}")
    return Fleet(
        nodes,
        ticket_ttl_of(nodes, options),
        queued,
        queueing,
        int(watches),
        waiting[0],
        waiting[1],
        waiting[2] / nodes,
        peak / 2**20,
        drain,
        (after[0] - before[0]) / nodes,
        (after[2] - before[2]) / nodes,
        (after[1] - before[1]) / drain,
        failed,
    )


def _counters(members: Members) -> tuple[float, float, float]:
    return members.commits(), members.cpu(), members.sent()


@contextlib.contextmanager
def workers_of(
    endpoints: Sequence[str], prefix: str, nodes: int, options: argparse.Namespace
) -> Iterator[list[subprocess.Popen[str]]]:
    processes = min(PROCESSES, max(1, nodes // 250))
    ends = [nodes * number // processes for number in range(processes + 1)]
    workers = []
    try:
        for first, last in zip(ends, ends[1:]):
            argv = [sys.executable, "-m", "bench.fleet_worker", f"--endpoints={','.join(endpoints)}"]
            argv += [f"--prefix={prefix}", f"--nodes={first}:{last}", f"--locks={options.locks}"]
            argv += [f"--slots={options.slots}", f"--hold={options.hold}"]
            argv += [f"--ticket-ttl={ticket_ttl_of(nodes, options)}"]
            argv += [] if options.ttl is None else [f"--ttl={options.ttl}"]
            workers.append(subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        yield workers
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()


def output_of(worker: subprocess.Popen[str], bound: float) -> str:
    assert worker.stdout is not None
    try:
        worker.wait(bound)
    except subprocess.TimeoutExpired:
        raise ToolFailedError(f"a process of the fleet did not end within {bound:.0f} s") from None
    if worker.returncode != 0:
        raise ToolFailedError(f"a process of the fleet ended with {worker.returncode}")
    return worker.stdout.read()


def shown(found: list[Fleet]) -> str:
    heads: tuple[str, ...] = (
        "nodes",
        "ticket ttl",
        "queued",
        "watches",
        "in s",
        "waiting: commits/s",
        "cores",
        "B/s a node",
        "etcd MiB",
    )
    heads = (*heads, "drain s", "hand-overs/s", "commits a node", "KiB a node", "cores", "failed")
    rows = [
        (
            f"{one.nodes}",
            f"{one.ticket_ttl}",
            f"{one.queued}",
            f"{one.watches}",
            f"{one.queueing:.1f}",
            f"{one.waiting_commits:.1f}",
            f"{one.waiting_cpu:.2f}",
            f"{one.waiting_bytes:.0f}",
            f"{one.etcd_mib:.0f}",
            f"{one.drain:.1f}",
            f"{one.per_second:.0f}",
            f"{one.commits:.1f}",
            f"{one.bytes / 1024:.1f}",
            f"{one.drain_cpu:.2f}",
            f"{one.failed}",
        )
        for one in found
    ]
    return table("A fleet that stands for the locks of one realm, on three members", heads, rows)


def _write(found: list[Fleet], options: argparse.Namespace) -> None:
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {"locks": options.locks, "slots": options.slots, "ttl": options.ttl, "hold": options.hold}
    figures = [{**asdict(one), "per_second": one.per_second} for one in found]
    options.json.write_text(json.dumps({"cpus": os.cpu_count(), **settings, "fleets": figures}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description="A simulated fleet, of growing size.")
    parser.add_argument("--nodes", type=int, default=10_000, help="nodes of the largest fleet (default: 10000)")
    parser.add_argument("--locks", type=int, default=100, help="locks that they stand for (default: 100)")
    parser.add_argument("--slots", type=int, default=1, help="slots of each lock (default: 1)")
    parser.add_argument("--ttl", type=int, help="ttl of a hold (default: a persistent lock)")
    parser.add_argument(
        "--ticket-ttl",
        type=int,
        help=f"of a place in the queue (default: {TICKET_TTL}, beyond {MANY} nodes {LONG_TICKET_TTL})",
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all sizes (default: %(default)g)")
    parser.add_argument("--hold", type=float, default=0.0, help="seconds that a node holds it (default: 0)")
    parser.add_argument("--json", type=Path, default=OUTPUT, help="write all figures there (default: %(default)s)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for etcd and the workers
    sizes = sorted({max(min(SMALLEST, options.nodes), int(options.nodes * share)) for share in SHARES})
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all child processes are ended
    found: list[Fleet] = []
    until = time.monotonic() + options.limit
    for size in sizes:
        say(f"{size} nodes")
        try:
            found.append(measure(size, options, until))
        except ToolFailedError as failure:
            say(f"{size} nodes: {failure}")
            break
        say(shown(found[-1:]).partition("\n")[2])
        _write(found, options)  # after each: a run that is stopped keeps its figures
    print(shown(found))
    return 0 if len(found) == len(sizes) else 1


if __name__ == "__main__":
    sys.exit(main())
