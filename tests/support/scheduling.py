"""Which xdist worker runs which test, and in which order."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

ON_ONE_WORKER = ("test_fleet.py",)  # the fixture of all its tests is a session's, in conftest.py
SHARED_BY_A_FILE = re.compile(r'^@pytest\.fixture\(.*scope="module"', re.MULTILINE)
# Their tests are at work all the time, most others wait for much of theirs.
BUSY = ("ansible_collection", "puppet", "puppet_module", "puppet_runs", "salt_modules")
# Some of theirs last half a minute, whatever the machine: at the end, others would be idle meanwhile.
LONG = ("test_docs.py", "test_examples.py", "test_gate.py", "test_long_line.py", "test_races.py", "test_soak.py")
# Of the workers, the share that runs them, from where to where: a worker starts a server for each program that it runs
# (see `preloaded/`), and Puppet's takes as long as ten runs.
AT_HOME = {
    "puppet_module": (0.0, 0.4),
    "puppet_runs": (0.0, 0.4),
    "ansible_collection": (0.3, 1.0),
    "salt_modules": (0.6, 1.0),
}
WORKERS_A_CORE = 4
MEMORY_OF_A_WORKER = 700_000_000  # bytes: its etcds, and what its tests start
CELL = re.compile(r"\b3[.\d]+-(?:plain|tls|auth)\b")  # of the contract: one etcd each


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Four workers for each core, where there is memory for them.

    Three quarters of a test's time is waiting for leases, timeouts and other processes, which takes no core.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(WORKERS_A_CORE * len(os.sched_getaffinity(0)), memory // MEMORY_OF_A_WORKER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What shares a costly fixture runs on one worker, what needs a server on some, everything else wherever is room.

    By path: the suffix that xdist's own groups put behind a test's id is not seen under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
        def _split_scope(self, nodeid: str) -> str:
            return shared_by(config.rootpath, nodeid) or nodeid

        def _assign_work_unit(self, node: Any) -> None:
            place = self.nodes.index(node)
            self.workqueue.move_to_end(next_for(place, len(self.nodes), self.workqueue), last=False)
            super()._assign_work_unit(node)

    if config.getvalue("dist") != "load":
        return None
    # Else the large groups would all come first: their tests wait, and leave the cores idle at the beginning.
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def next_for(place: int, workers: int, scopes: Iterable[str]) -> str:
    """The first of the scopes that is at home on this worker; if there is none, the first."""
    first = None
    for scope in scopes:
        begin, end = AT_HOME.get(scope.removeprefix("tests/").partition("/")[0], (0.0, 1.0))
        if begin * workers <= place < max(end * workers, begin * workers + 1):
            return scope
        first = first or scope
    assert first is not None
    return first


def shared_by(root: Path, nodeid: str) -> str:
    """The name of those tests that share a costly fixture with this one; empty if there is none."""
    cell = CELL.search(nodeid)
    if cell is not None:
        return f"contract of {cell.group()}"
    path = nodeid.partition("::")[0]
    return path if path.endswith(ON_ONE_WORKER) or _has_shared_fixture(root / path) else ""


@functools.cache
def _has_shared_fixture(path: Path) -> bool:
    """True for a file with a fixture for the whole file: among several workers, each test would have its own."""
    return SHARED_BY_A_FILE.search(path.read_text(encoding="utf-8")) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers, those that are busy all the time and those that wait take turns, so no core is idle.

    What takes long, and what runs on one worker, begins in the first half.
    """
    if not hasattr(config, "workerinput"):
        return
    groups: dict[str, list[pytest.Item]] = {}
    kinds: dict[str, list[pytest.Item]] = {"first": [], "long": [], "busy": [], "others": []}
    for item in items:
        group = shared_by(config.rootpath, item.nodeid)
        if group.endswith(ON_ONE_WORKER):
            kinds["first"].append(item)
        elif group:
            groups.setdefault(group, []).append(item)
        elif item.path.name in LONG:
            kinds["long"].append(item)
        else:
            kinds["busy" if item.path.parent.name in BUSY else "others"].append(item)
    places = [(-1.0, item) for item in kinds["first"]]
    places += [(place, item) for place, group in _spread(list(groups.values()), 0.5) for item in group]
    places += _spread(kinds["long"], 0.5)
    places += _spread(kinds["busy"], 0.9)  # the last tenth is the others': they are short
    places += _spread(kinds["others"], 1.0)
    items[:] = [item for _, item in sorted(places, key=lambda place: place[0])]


def _spread(what: Sequence[Any], end: float) -> list[tuple[float, Any]]:
    """Each with its place between the beginning, 0, and `end`."""
    return [(end * number / len(what), one) for number, one in enumerate(what)]
