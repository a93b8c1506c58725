"""Processes that locks are taken for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Callable

import pytest

NewRun = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def new_run() -> Iterator[NewRun]:
    """new_run() -> a process that a lock can be taken for; it lives until it is killed."""
    runs: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        runs.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.communicate()


def end(run: subprocess.Popen[bytes]) -> None:
    run.kill()
    run.wait()
