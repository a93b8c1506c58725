"""Salt's own commands against a real etcd."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.needs import SALT, missing
from tests.support.salt_minions import BIN, SYNCED, Fleet, Minion, synced


@pytest.fixture(scope="session")
def salt_is_there() -> None:
    if not all(os.access(BIN / tool, os.X_OK) for tool in ("salt-master", "salt-minion", "salt-call", "salt")):
        missing(f"salt-master is missing. To install it: {SALT}")


@pytest.fixture
def new_minion(salt_is_there: None, etcd: Cluster, realm_prefix: str, tmp_path: Path) -> Callable[..., Minion]:
    """new_minion(id="m0", **config) -> a minion without a master, in the test's own realm."""

    def new(minion_id: str = "m0", **config: Any) -> Minion:
        section = {"endpoints": etcd.endpoints, "prefix": realm_prefix}
        return Minion(tmp_path / minion_id, minion_id, {"distlock": section, **config})

    return new


@pytest.fixture
def minion(new_minion: Callable[..., Minion]) -> Minion:
    return new_minion()


@pytest.fixture(scope="session")
def fleet(salt_is_there: None, etcd: Cluster) -> Iterator[Fleet]:
    """A master, the minions m0, m1, m2, and one without processes of its own for its jobs, `threaded`.

    Its master has the reactor of docs/salt.md, its modules are those from file_roots. Only test_fleet.py uses it, and
    runs on one worker for that.
    """
    section = {"endpoints": list(etcd.endpoints)}
    minions: dict[str, dict[str, Any]] = {f"m{number}": {"distlock": section} for number in range(3)}
    minions["threaded"] = {"distlock": section, "multiprocessing": False}
    fleet = Fleet(minions, {"distlock": section, **yaml.safe_load(recipe("Salt reactor"))})
    try:
        for name, found in fleet.salt("*", "saltutil.sync_all").items():
            assert synced(found) == SYNCED, (name, found)
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def lock_name() -> str:
    """A lock that no other test has."""
    return f"salt-{secrets.token_hex(4)}"


@pytest.fixture
def keys(in_etcd: Etcd) -> Etcd:
    """The keys of the test's own realm."""
    return in_etcd
