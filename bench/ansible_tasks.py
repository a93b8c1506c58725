"""CPU time of one task of the Ansible module and of Ansible's own ping, over a local connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.environment import ROOT
from bench.processes import ToolFailedError, cpu_of_children

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.environment import Environment
    from bench.processes import Processes

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
MISSING = f"{PLAYBOOK} is missing: pip install 'ansible-core>=2.15,<2.20'"
TASKS = 6  # of each kind, in one playbook
ROUNDS = 3
BOUND = 120.0  # seconds for a playbook
MODULE = "distlock.distlock.distlock"


@dataclass(frozen=True)
class AnsibleTasks:
    """Seconds of CPU on controller and host together, for a host with or without distlock_core installed."""

    installed: bool
    playbook: float  # without any task
    ping: float  # for one more task, as below
    distlock: float


def is_there() -> bool:
    return os.access(PLAYBOOK, os.X_OK)


def measure(processes: Processes, at: Environment, endpoint: str) -> list[AnsibleTasks]:
    """The lowest figures of several rounds, as anything above them is noise."""
    env = {**playbook_environment(at), "DISTLOCK_ENDPOINTS": endpoint, "DISTLOCK_PREFIX": at.prefix}
    bare = os.path.realpath(sys.executable)  # outside any virtual environment
    return [_measure(processes, at.folder, env, python, python != bare) for python in (bare, at.python)]


def _measure(processes: Processes, folder: Path, env: Mapping[str, str], python: str, installed: bool) -> AnsibleTasks:
    lock = [{MODULE: {"name": "x", "state": state}} for state in ("locked", "unlocked")]
    kinds: dict[str, list[dict[str, Any]]] = {
        "none": [],
        "ping": [{"ansible.builtin.ping": {}}] * TASKS,
        "distlock": lock * (TASKS // 2),
    }
    env = {**env, "ANSIBLE_PYTHON_INTERPRETER": python}
    cheapest = dict.fromkeys(kinds, float("inf"))
    for _ in range(ROUNDS):
        for kind, tasks in kinds.items():
            playbook = folder / f"{kind}.json"
            playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
            before = cpu_of_children()
            processes.run([str(PLAYBOOK), "-i", "h1,", "-c", "local", str(playbook)], env, BOUND)
            cheapest[kind] = min(cheapest[kind], cpu_of_children() - before)
    none = cheapest["none"]
    return AnsibleTasks(installed, none, (cheapest["ping"] - none) / TASKS, (cheapest["distlock"] - none) / TASKS)


def playbook_environment(at: Environment) -> dict[str, str]:
    """The environment of `ansible-playbook`, with the collection built from this tree."""
    collections = at.folder / "collections"
    build = [sys.executable, str(ROOT / "tools/build_collection.py"), "--tree", "--into", str(collections)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=BOUND, check=False)
    if done.returncode != 0:
        raise ToolFailedError(done.stderr.strip().rpartition("\n")[2])
    config = at.folder / "ansible.cfg"
    config.touch()
    return {
        **{name: value for name, value in at.variables.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_PIPELINING": "1",
    }
