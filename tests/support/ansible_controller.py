"""A controller for tests: `ansible-playbook` with local connections, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import yaml

from distlock_core.process.identity import start_time
from distlock_core.process.table import descendants
from tests.support.paths import ROOT
from tests.support.processes import BOUND, Process, is_running, wait_until

BIN = Path(sys.executable).parent
EXAMPLES = ROOT / "examples" / "ansible"
RUN_BOUND = 250.0  # seconds after which a run that ends by itself counts as hung


class Run:
    """One `ansible-playbook`. Its output goes to a file, so that it never waits for a reader."""

    def __init__(self, command: Sequence[str], env: dict[str, str], log: Path, start: Callable[..., Process]) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = start(command, env, stdout=out, stderr=out)
        self.pid = self._process.pid
        self._seen: set[int] = set()

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, text: str) -> None:
        """Wait for this output."""
        wait_until(lambda: text in self.output or not self.is_alive(), f"{text!r} in the output", RUN_BOUND)
        assert text in self.output, self.output

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """Its exit code, when it has ended by itself."""
        try:
            return self._process.wait(RUN_BOUND)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.output) from None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def workers(self) -> set[int]:
        """The processes that it has forked so far. They have their parent's command line."""
        children = {int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _parent(int(entry)) == self.pid}
        found = {pid for pid in children if b"ansible-playbook" in _read(f"/proc/{pid}/cmdline")}
        self._seen |= found
        return found

    def close(self) -> None:
        """End its remaining processes and those of its tasks."""
        self.workers()
        # The pid of an ended process may have been reused.
        mine = [pid for pid in (self.pid, *self._seen) if b"ansible-playbook" in _read(f"/proc/{pid}/cmdline")]
        left = descendants(*mine)
        self._process.kill()
        self._process.wait()
        for pid, started in left:
            if start_time(pid) == started:
                os.kill(pid, signal.SIGKILL)


class Controller:
    """A folder with playbooks, and all the runs of one test."""

    def __init__(self, folder: Path, env: dict[str, str], start: Callable[..., Process]) -> None:
        self.folder = folder
        self.bin = BIN
        self.env = dict(env)
        self._start = start
        self._runs: list[Run] = []
        self.wrap: Callable[[list[str]], list[str]] = lambda command: command  # a wrapper around its command line

    def start(self, playbook: Any, *arguments: str, hosts: str = "h1", **env: str) -> Run:
        """Start a playbook: a path, or a list of plays. `hosts` are names separated by commas, all of them local."""
        number = len(self._runs)
        if not isinstance(playbook, (str, Path)):
            path = self.folder / f"play{number}.yml"
            path.write_text(yaml.safe_dump(playbook, sort_keys=False))
            playbook = path
        inventory = () if "-i" in arguments else ("-i", f"{hosts},", "-c", "local")
        command = [str(self.bin / "ansible-playbook"), *inventory, *arguments, str(playbook)]
        self._runs.append(Run(self.wrap(command), {**self.env, **env}, self.folder / f"run{number}.log", self._start))
        return self._runs[-1]

    def run(self, playbook: Any, *arguments: str, hosts: str = "h1", **env: str) -> tuple[int, str]:
        """Run it to its end: exit code and output."""
        run = self.start(playbook, *arguments, hosts=hosts, **env)
        return run.end(), run.output

    def close(self) -> None:
        for run in self._runs:
            run.close()


# All of these tasks are raw: without a module, a task takes almost no time.


class Gate:
    """A task that waits: `task()` is what the play does, `reached()` and `open()` are for the test."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self._arrived = folder / f"{name}.arrived"
        self.fifo = folder / f"{name}.fifo"
        os.mkfifo(self.fifo)

    def task(self) -> dict[str, Any]:
        script = f"echo $$ >> {self._arrived}; exec cat {self.fifo}"
        return {"name": "at the gate", "ansible.builtin.raw": script}

    def reached(self, times: int = 1) -> None:
        wait_until(lambda: len(self.pids()) >= times, "the task at the gate", RUN_BOUND)

    def pids(self) -> list[int]:
        return [int(line) for line in self._arrived.read_text().split()] if self._arrived.exists() else []

    def open(self) -> None:
        """Let all waiting tasks through, if there are any."""
        wait_until(self._open_once, "nobody at the gate", BOUND)

    def _open_once(self) -> bool:
        if not any(is_running(pid) for pid in self.pids()):
            return True
        try:
            os.close(os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass  # it has not opened its end yet
        return False


def note(folder: Path, line: str, name: str = "notes") -> dict[str, Any]:
    """A task that appends a line to a file."""
    script = f"echo {line} >> {folder / name}"
    return {"name": f"note {line}", "ansible.builtin.raw": script}


def notes(folder: Path, name: str = "notes") -> list[str]:
    path = folder / name
    return path.read_text().split() if path.exists() else []


def guarded(folder: Path) -> list[dict[str, Any]]:
    """Tasks that detect two runs in them at once: see `overlaps`."""
    inside = folder / "inside"
    host = "{{ inventory_hostname }}"
    enter = f"mkdir {inside} || echo {host} >> {folder / 'overlaps'}; echo {host} >> {folder / 'been'}"
    return [
        {"name": "enter", "ansible.builtin.raw": enter},
        {"name": "leave", "ansible.builtin.raw": f"rmdir {inside}"},
    ]


def overlaps(folder: Path) -> list[str]:
    return notes(folder, "overlaps")


def _parent(pid: int) -> int | None:
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    except (ValueError, IndexError):
        return None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def extra(folder: Path, *steps: dict[str, Any], name: str = "steps") -> list[str]:
    """The options by which an example takes these steps, on all hosts."""
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(list(steps)))
    return ["-e", json.dumps({"steps": str(path), "target": "all"})]
