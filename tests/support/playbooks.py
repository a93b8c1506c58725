"""Playbooks that tests write and run: what each task returned, by host."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

from tests.support.processes import Process

BIN = Path(sys.executable).parent
PLAYBOOK_TIMEOUT = 250.0  # seconds after which it counts as hung


def write_playbook(folder: Path, plays: str, hosts: tuple[str, ...]) -> tuple[Path, Path]:
    """A playbook and its inventory, as files."""
    stem = secrets.token_hex(4)
    playbook, inventory = folder / f"{stem}.yml", folder / f"{stem}.ini"
    playbook.write_text(plays)
    connection = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    inventory.write_text("".join(f"{host} {connection}\n" for host in hosts))
    return playbook, inventory


class Task(dict[str, Any]):
    """What one task has returned for one host. `outcome` is ok, failed, skipped, unreachable or retry."""

    def __init__(self, line: dict[str, Any]) -> None:
        super().__init__(line["result"])
        self.name, self.host, self.outcome = line["task"], line["host"], line["outcome"]


class Played:
    """A finished playbook: its exit code, its output, and the results of its tasks."""

    def __init__(self, process: Process) -> None:
        out, err = process.communicate(timeout=PLAYBOOK_TIMEOUT)
        self.code, self.text = process.returncode, out + err
        record = Path(process.args[-1]).with_suffix(".record")  # type: ignore[index, arg-type]
        lines = record.read_text().splitlines() if record.exists() else []
        self.tasks = [Task(json.loads(line)) for line in lines]

    def task(self, name: str, host: str = "h1") -> Task:
        """The last result of a task for a host."""
        found = [task for task in self.tasks if (task.name, task.host) == (name, host)]
        assert found, (name, host, self.text)
        return found[-1]
