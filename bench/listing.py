"""Cost of listing a realm, compared with the CPU time of json.loads for the same reply from etcd."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from bench.processes import ToolFailedError, cpu_of_children
from distlock_core import connect

if TYPE_CHECKING:
    from bench.environment import Environment
    from bench.server import Server
    from bench.tools import Tool

SIZES = (100, 1000, 10000)  # locks, each with a note on its last hold
NOTES = 100_000  # of other names, in one realm more with the middle number of locks
BATCH = 60  # locks in one transaction, two keys each
RUNS = 3
BOUND = 120.0
TRACE = '"host":"node-1","pid":3048,"start":302895,"boot":"724c2e44-1020-4f0d-9fde-a9d1398a8dba","machine":"57e36840"'
RECORD = f'{{"reason":"Upgrade RPMs","run":"d75287296f5c5fcf158c9cddb9f5cd99","kind":"run",{TRACE},"ns":4026531836}}'
NOTE = '{"how":"released","owner":"node-1","token":4711,"since":1795263660,"run":"d75287296f5c5fcf158c9cddb9f5cd99"}'


@dataclass(frozen=True)
class Listing:
    """Lowest CPU seconds of several runs; for a process, minus those of a process that lists no lock."""

    locks: int
    notes: int  # of other names
    mib: float  # of the reply that has all keys of the realm
    loads: float
    realm_list: float
    list: float
    json: float

    @property
    def ratio(self) -> float:
        return self.realm_list / self.loads


def measure(at: Environment, server: Server, tool: Tool) -> list[Listing]:
    found = []
    for locks, notes in [*((size, 0) for size in SIZES), (SIZES[1], NOTES)]:
        prefix = f"{at.prefix}listing-{locks}-{notes}/"
        _fill(server, prefix, locks, notes)
        found.append(_of(server, tool, prefix, locks, notes))
    return found


def _of(server: Server, tool: Tool, prefix: str, locks: int, notes: int) -> Listing:
    body = server.raw_range(prefix)
    loads = _cheapest(lambda: json.loads(body), time.process_time)
    with connect(server.endpoint, prefix, connect_timeout=BOUND) as realm:
        listed = realm.list()
        if len(listed) != locks:
            raise ToolFailedError(f"{len(listed)} locks are listed, of {locks}")
        in_library = _cheapest(realm.list, time.process_time)
    nothing = _process(tool, f"{prefix}nothing/")
    plain, as_json = _process(tool, prefix), _process(tool, prefix, "--json")
    return Listing(locks, notes, len(body) / 2**20, loads, in_library, plain - nothing, as_json - nothing)


def _process(tool: Tool, prefix: str, *options: str) -> float:
    script = tool.argv("x", [])[:2]
    env = {**tool.env, "DISTLOCK_PREFIX": prefix, "DISTLOCK_CONNECT_TIMEOUT": str(BOUND)}

    def run() -> None:
        subprocess.run(
            [*script, "--list", "--quiet", *options], env=env, stdout=subprocess.DEVNULL, timeout=BOUND, check=True
        )

    return _cheapest(run, cpu_of_children)


def _cheapest(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    best = float("inf")
    for _ in range(RUNS):
        before = clock()
        work()
        best = min(best, clock() - before)
    return best


def _fill(server: Server, prefix: str, locks: int, notes: int) -> None:
    keys = [(f"{prefix}lock-{number:05}", f"1795263660;node-{number};{RECORD}") for number in range(locks)]
    keys += [(f"{prefix}__last/lock-{number:05}", f"1795263660;node-{number};{NOTE}") for number in range(locks)]
    keys += [(f"{prefix}__last/job-{number:06}", f"1795263660;node-{number};{NOTE}") for number in range(notes)]
    for start in range(0, len(keys), 2 * BATCH):
        server.put(keys[start : start + 2 * BATCH])
