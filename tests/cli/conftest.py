"""The realm of a test looked at from outside, and holders of locks in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.cli import distlock
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


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_here(*args, env={}) is run_distlock in this process, for what is refused before etcd is asked.

    There is no etcd where it would look: an attempt to reach one would give another error.
    """

    def run(*args: Any, env: dict[str, str | None] | None = None) -> subprocess.CompletedProcess[str]:
        for name in [name for name in os.environ if name.startswith("DISTLOCK_")]:
            monkeypatch.delenv(name)
        for name, value in {"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1", **(env or {})}.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        words = [os.fsdecode(argument) for argument in args]
        code = distlock.run(words)
        output, errors = capfd.readouterr()
        return subprocess.CompletedProcess(words, code, output, errors)

    return run
