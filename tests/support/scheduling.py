"""Which xdist worker runs which test, and in which order."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

ON_ONE_WORKER = ("test_fleet.py", "test_transports.py")
# Their tests are at work all the time, most others wait for much of theirs.
BUSY = ("ansible_collection", "puppet", "puppet_module", "puppet_runs", "salt_modules")
# Some of theirs last half a minute, whatever the machine: at the end, others would be idle meanwhile.
LONG = ("test_docs.py", "test_examples.py", "test_races.py", "test_soak.py")
WORKERS_A_CORE = 4
MEMORY_OF_A_WORKER = 700_000_000  # bytes: its etcds, and what its tests start
CELL = re.compile(r"\b3\.\d-(?:plain|tls|auth)\b")  # of the contract: one etcd each


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Four workers for each core, where there is memory for them.

    Three quarters of a test's time is waiting for leases, timeouts and other processes, which takes no core.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(WORKERS_A_CORE * len(os.sched_getaffinity(0)), memory // MEMORY_OF_A_WORKER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What shares a costly fixture runs on one worker, everything else wherever there is room.

    By path: the suffix that xdist's own groups put behind a test's id is not seen under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            cell = CELL.search(nodeid)
            if cell is not None:
                return f"contract of {cell.group()}"
            return path if path.endswith(ON_ONE_WORKER) else nodeid

    if config.getvalue("dist") != "load":
        return None
    # Else the large groups would all come first: their tests wait, and leave the cores idle at the beginning.
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers, those that are busy all the time and those that wait take turns, so no core is idle."""
    if not hasattr(config, "workerinput"):
        return
    first = [item for item in items if item.path.name in ON_ONE_WORKER]
    long = [item for item in items if item.path.name in LONG]
    busy = [item for item in items if item.path.parent.name in BUSY and item.path.name not in ON_ONE_WORKER]
    taken = {*first, *long, *busy}
    others = [item for item in items if item not in taken]
    places = [(-1.0, item) for item in first] + [(0.0, item) for item in long]
    # The last tenth is the others': they are short.
    places += [(0.9 * (number + 1) / len(busy), item) for number, item in enumerate(busy)]
    places += [((number + 1) / len(others), item) for number, item in enumerate(others)]
    items[:] = [item for _, item in sorted(places, key=lambda place: place[0])]
