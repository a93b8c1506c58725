"""The two use cases of the original locker in examples/: a name server, and an unhealthy service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
BOUND = 30.0
Start = Callable[..., "Program"]


class Program:
    """An example that runs; what it prints goes to a file."""

    def __init__(self, output: Path, *argv: str) -> None:
        self._output = output
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
        with open(output, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen([sys.executable, *argv], stdout=file, env=clean)

    @property
    def text(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def lines(self) -> list[str]:
        return self.text.splitlines()

    def until(self, line: str) -> None:
        """Wait for it to be the last line."""
        self.when(lambda: self.lines()[-1:] == [line])

    def when(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < deadline, self.lines()
            assert self.process.poll() is None, self.lines()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(BOUND)


@pytest.fixture
def start(etcd: Cluster, realm_prefix: str, tmp_path: Path) -> Iterator[Start]:
    started: list[Program] = []

    def start(example: str, *arguments: str) -> Program:
        options = [f"--endpoints={etcd.endpoints[0]}", f"--prefix={realm_prefix}"]
        output = tmp_path / f"output-{len(started)}"
        started.append(Program(output, str(EXAMPLES / example), *arguments, *options))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.wait()


def test_a_name_server_over_locks_with_values(start: Start) -> None:
    names = start("name_server/names.py")
    first = start("name_server/service.py", "db", "10.1.1.1", "--ttl=5")
    names.until("db=10.1.1.1")
    second = start("name_server/service.py", "db", "10.1.1.2", "--ttl=5")
    web = start("name_server/service.py", "web", "10.1.1.9", "--ttl=5")
    names.until("db=10.1.1.1 web=10.1.1.9")
    looking = start("name_server/names.py", "db")
    assert looking.process.wait(BOUND) == 0
    assert looking.lines() == ["10.1.1.1"]
    first.end(signal.SIGKILL)
    names.until("db=10.1.1.2 web=10.1.1.9")  # the standby
    assert web.end() == 0
    names.until("db=10.1.1.2")
    assert second.end() == 0
    names.until("-")
    assert start("name_server/names.py", "db").process.wait(BOUND) == 1
    assert names.end(signal.SIGINT) == 130


def test_a_service_that_is_unhealthy_or_dead_is_not_called(start: Start, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    caller = start("unhealthy_service/caller.py", "--every=0.05")
    backend = start("unhealthy_service/backend.py", f"--sick-file={sick}", "--ttl=5")
    caller.when(lambda: caller.lines()[-1:] != [] and caller.lines()[-1].startswith("calling http://"))
    backend.when(lambda: len(backend.lines()) > 2)
    sick.touch()
    caller.until("nobody to call")
    calls = len(backend.lines())
    sick.unlink()
    backend.when(lambda: len(backend.lines()) > calls + 2)  # it is called again
    before = len(caller.text)
    backend.end(signal.SIGKILL)
    # A call that is under way fails, and may print that after the other thread's line, or in the middle of it.
    caller.when(lambda: "nobody to call" in caller.text[before:])
    assert caller.end() == 0
    assert caller.text[before:].partition("nobody to call")[2].count("failed") <= 1
