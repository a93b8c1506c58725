"""The example of a singleton: exactly one does the job; when it is gone, another does."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import BOUND, Output, Process, wait_until

EXAMPLE = ROOT / "examples" / "singleton.py"
TTL = 3


@pytest.fixture
def start(etcd: Cluster, realm_prefix: str, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        options = [f"--endpoints={etcd.endpoints[0]}", f"--prefix={realm_prefix}", f"--file={tmp_path / 'job.log'}"]
        argv = [sys.executable, str(EXAMPLE), *options, f"--ttl={TTL}", "--every=0.02"]
        started.append(Process(argv, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_one_does_the_job_and_when_it_is_gone_another_does(
    start: Callable[[], Process], etcd: Cluster, realm_prefix: str, tmp_path: Path, how: signal.Signals
) -> None:
    names = {}
    for _ in range(3):
        process = start()
        names[Output(process.stdout).until(r"(\S+) stands for").group(1)] = process

    def owners() -> list[str]:
        """Who has worked, in turns."""
        log = tmp_path / "job.log"
        lines = [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []
        return [name for place, name in enumerate(lines) if place == 0 or lines[place - 1] != name]

    wait_until(owners, "the job is done")
    first = owners()[-1]
    names[first].send_signal(how)
    names[first].wait(BOUND)
    wait_until(lambda: owners()[-1] != first, "another does the job")
    for process in names.values():
        process.terminate()
        assert process.wait(BOUND) in (0, -signal.SIGKILL)
    tokens = [int(line.split()[0]) for line in (tmp_path / "job.log").read_text().splitlines()]
    assert tokens == sorted(tokens)
    left = Etcd(etcd, realm_prefix).keys()
    assert "singleton" not in left
