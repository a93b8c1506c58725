"""Real runs of Puppet, each with its own confdir, against a real etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Holder, connect
from distlock_core.testing import Cluster
from tests.support.preloaded.client import Preloaded
from tests.support.puppet_node import BIN, DISTLOCK_PUPPET, Guarded, PuppetNode

LOCK = "percona_prod"


@pytest.fixture
def holder(etcd: Cluster, realm_prefix: str) -> Callable[[], Holder | None]:
    """The present holder of percona_prod, None if it is free."""
    realm = connect(etcd.endpoints, realm_prefix)
    return lambda: next(iter(realm.show(LOCK).holders), None)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    folder = tmp_path / "guarded"
    folder.mkdir()
    guarded = Guarded(folder)
    yield guarded
    guarded.gate.touch()  # nothing that a failed test has left waits for ever


@pytest.fixture
def new_node(
    need: Callable[..., str],
    distlock_env: dict[str, str],
    ruby_env: dict[str, str],
    puppet: Preloaded,
    tmp_path: Path,
) -> Iterator[Callable[..., PuppetNode]]:
    """new_node("db1", whole_run=True, asked=False, **puppet_conf) -> a node; with the lock percona_prod if so told."""
    need("puppet")
    nodes: list[PuppetNode] = []
    env = {**distlock_env, **ruby_env, "PATH": f"{BIN}:{distlock_env['PATH']}"}

    def new(certname: str = "db1", *, whole_run: bool = False, **conf: Any) -> PuppetNode:
        hooks = {
            "prerun_command": f"{DISTLOCK_PUPPET} acquire {LOCK} --reason upgrade",
            "postrun_command": f"{DISTLOCK_PUPPET} release {LOCK}",
        }
        nodes.append(
            PuppetNode(tmp_path, certname, env, start=puppet.start, **{**(hooks if whole_run else {}), **conf})
        )
        return nodes[-1]

    yield new
    for node in nodes:
        node.end()
