"""Fixtures for all tests: the installed commands, run in the test's own realm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.needs import need as need_tool
from tests.support.processes import Process

COMMAND_TIMEOUT = 100.0  # seconds after which a command counts as hung, on a busy machine


@pytest.fixture(scope="session", autouse=True)
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The state directory of the library in this process and of the commands, in place of the machine's."""
    folder = str(tmp_path_factory.mktemp("state"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTLOCK_STATE_DIR", folder)
        yield folder


@pytest.fixture
def distlock_env(etcd: Cluster, realm_prefix: str, state_dir: str) -> dict[str, str]:
    """The environment of a distlock command: `etcd`, `realm_prefix`, `state_dir`, and nothing else of DISTLOCK_*."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    ours = {"DISTLOCK_ENDPOINTS": etcd.endpoints[0], "DISTLOCK_PREFIX": realm_prefix, "DISTLOCK_STATE_DIR": state_dir}
    return {**env, **ours}


@pytest.fixture
def run_distlock(distlock_env: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_distlock(*args, env={}, input=None, timeout=100, command="distlock") runs the installed command to its end.

    `env` is added to `distlock_env`; a value of None removes a variable.
    """

    def run(
        *args: str,
        env: dict[str, str | None] | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = COMMAND_TIMEOUT,
        command: str = "distlock",
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_installed(command), *args],
            env=_merged(distlock_env, env),
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def spawn_distlock(distlock_env: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """As run_distlock, but returns a Popen with pipes. Its process group is killed after the test."""
    processes: list[Process] = []

    def spawn(
        *args: str, env: dict[str, str | None] | None = None, command: str = "distlock", **options: Any
    ) -> Process:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = Process(
            [_installed(command), *args],
            env=_merged(distlock_env, env),
            text=True,
            start_new_session=True,
            **{**pipes, **options},
        )
        processes.append(process)
        return process

    yield spawn
    for process in processes:
        _end(process)


def _installed(command: str) -> str:
    path = os.path.join(os.path.dirname(sys.executable), command)
    return path if os.access(path, os.X_OK) else need_tool(command, install="make .venv/.ready")


def _merged(base: dict[str, str], more: dict[str, str | None] | None) -> dict[str, str]:
    merged = {**base, **(more or {})}
    return {key: value for key, value in merged.items() if value is not None}


def _end(process: Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # including its descendants in the group
    except ProcessLookupError:
        pass
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
