"""What docs/salt.md shows works as it stands there; only steps that change packages and services are stood in for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml
from pages import recipe, with_stand_ins
from salted import BIN, Minion, states
from witness import Etcd, wait_until

from distlock_core import Realm, connect
from distlock_core.testing import Cluster

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def settled(etcd: Cluster, realm_prefix: str) -> list[tuple[str, str]]:
    """The endpoints and the prefix of the test in place of those of the page."""
    mine = [("http://10.0.0.1:2379", etcd.endpoints[0]), ("http://10.0.0.2:2379", etcd.endpoints[0])]
    return [*mine, ("/distlock/", realm_prefix)]


def noted(folder: Path, name: str) -> str:
    """A command that leaves its name and whether the lock is held; without a shell it is one word."""
    program = folder / name
    look = f"{BIN}/distlock --lock-name=percona_prod --nowait -- true 2>/dev/null"
    program.write_text(f"#!/bin/sh\nenv -u DISTLOCK_HELD -u DISTLOCK_TOKEN {look}\necho {name} $? >>{folder}/notes\n")
    program.chmod(0o755)
    return str(program)


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def all_true(done: dict[str, Any]) -> bool:
    return all(state["result"] is True for state in done.values())
