"""The field: a cluster of three, and contenders that can be killed, stopped, ended and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from distlock_core.embedded.spawn import spawn
from distlock_core.testing import Cluster, Member, find_etcd
from tests.support.etcd_fixtures import thrifty
from tests.support.paths import ROOT
from tests.support.soak.spans import Span, clock, read

NAME, PREFIX = "soak", "/soak/"
FRESH = 0.3  # seconds; a contender with a True within these has the lock now
GOODBYE = 20.0  # seconds that a contender may take to go


class Later(NamedTuple):
    """An action at a moment."""

    at: float
    what: Callable[[], None]


class Contender:
    """A place for a process: a killed one is followed by another."""

    def __init__(self, place: int, folder: Path, arguments: list[str]) -> None:
        self.name = f"m{place}"
        self._folder = folder
        self._arguments = arguments
        self._lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.files: list[Path] = []

    @property
    def is_up(self) -> bool:
        return self._process is not None and not self._stopped

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._lives += 1
        file = self._folder / f"{self.name}-{self._lives}.spans"
        self.files.append(file)
        *head, ttl, kind = self._arguments
        argv = [sys.executable, "-m", "tests.support.soak.contender", *head, ttl, str(file), *([kind] if kind else [])]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
        environment["PYTHONPATH"] = str(ROOT)
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = spawn(argv, env=environment, output=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._stopped = None, False

    def terminate(self) -> None:
        """Ask it to end; it must do so in order and in time."""
        if self._process is None:
            return
        self.resume()
        deadline = clock() + GOODBYE
        while not self.files[-1].exists() and clock() < deadline:
            time.sleep(0.02)  # it is only just beginning, and knows no signals yet
        self._process.terminate()
        code = self._process.wait(GOODBYE)
        assert code == 0, f"{self.name} ended with {code}"
        self._process = None

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped = True

    def resume(self) -> None:
        if self._stopped:
            os.kill(self.pid, signal.SIGCONT)
            self._stopped = False

    def spans(self) -> list[Span]:
        return [span for file in self.files if file.exists() for span in read(file)]

    def said(self) -> str:
        """Its output, which is empty unless something is wrong."""
        log = self._folder / f"{self.name}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def died(self) -> bool:
        """True if it has ended by itself."""
        return self._process is not None and self._process.poll() is not None


class Field:
    """All processes of a soak test; a `with` block leaves none of them."""

    def __init__(self, ttl: int, contenders: int, etcd: str | None = None, kind: str = "") -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="distlock-soak-")
        env = thrifty(etcd or find_etcd())
        self.cluster = Cluster.start(3, etcd=etcd, heartbeat_ms=100, election_ms=600, fsync=False, env=env)
        arguments = [",".join(self.cluster.endpoints), PREFIX, NAME, str(ttl), kind]
        self.contenders = [Contender(place, Path(self._scratch.name), arguments) for place in range(1, contenders + 1)]
        self._later: list[Later] = []
        self._down: Member | None = None
        self.began = clock()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self._later.append(Later(clock() + seconds, what))

    def do_what_is_due(self) -> None:
        due = [later for later in self._later if later.at <= clock()]
        self._later = [later for later in self._later if later not in due]
        for later in due:
            later.what()

    @property
    def is_calm(self) -> bool:
        """True when nothing is left to be done."""
        return not self._later

    def spans(self) -> list[Span]:
        return [span for contender in self.contenders for span in contender.spans()]

    def holder(self) -> Contender | None:
        """The contender that reports to have the lock now."""
        since = clock() - FRESH
        for contender in self.contenders:
            if contender.is_up and any(span.end >= since for span in contender.spans()[-1:]):
                return contender
        return None

    def member_to_fault(self) -> list[Member]:
        """The members, if all of them are healthy: one fault at a time is enough."""
        if self._down is not None and self._down.is_healthy(0.5):
            self._down = None
        return [] if self._down is not None else self.cluster.members

    def faulted(self, member: Member) -> None:
        self._down = member

    def __enter__(self) -> Field:
        for contender in self.contenders:
            contender.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for contender in self.contenders:
            contender.kill()
        self.cluster.stop()
        self._scratch.cleanup()
