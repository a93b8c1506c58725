"""The realm of a test looked at from outside, and holders of locks in it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.processes import Process
from tests.support.realm_view import Holding, RealmView


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> RealmView:
    """The content of etcd under the test's prefix."""
    return RealmView(etcd, realm_prefix)


@pytest.fixture
def hold(spawn_distlock: Callable[..., Process]) -> Callable[..., Holding]:
    """hold("--lock-name=x", ...) -> a distlock that holds it until `let_go()`."""

    def start(*options: str, env: dict[str, str | None] | None = None) -> Holding:
        return Holding(spawn_distlock(*options, *Holding.COMMAND, env=env, stdin=subprocess.PIPE))

    return start


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[str], str]:
    """config_file("key: value") -> the path of a config file with this text."""

    def write(text: str) -> str:
        path = tmp_path / "distlock.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
