"""What one task of the Ansible module costs beside Ansible's own ping: seconds of CPU, over a local connection."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.environment import ROOT
from bench.processes import ToolFailedError

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
    """Seconds of CPU on controller and host together: of a playbook without any task, and of one task more."""

    playbook: float
    ping: float
    distlock: float


def is_there() -> bool:
    return os.access(PLAYBOOK, os.X_OK)


def measure(processes: Processes, at: Environment, endpoint: str) -> AnsibleTasks:
    """The cheapest of a few rounds: what is above it is noise."""
    env = _environment(at, endpoint)
    lock = [{MODULE: {"name": "x", "state": state}} for state in ("locked", "unlocked")]
    kinds: dict[str, list[dict[str, Any]]] = {
        "none": [],
        "ping": [{"ansible.builtin.ping": {}}] * TASKS,
        "distlock": lock * (TASKS // 2),
    }
    cheapest = dict.fromkeys(kinds, float("inf"))
    for _ in range(ROUNDS):
        for kind, tasks in kinds.items():
            playbook = at.folder / f"{kind}.json"
            playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
            before = _used()
            processes.run([str(PLAYBOOK), "-i", "h1,", "-c", "local", str(playbook)], env, BOUND)
            cheapest[kind] = min(cheapest[kind], _used() - before)
    none = cheapest["none"]
    return AnsibleTasks(none, (cheapest["ping"] - none) / TASKS, (cheapest["distlock"] - none) / TASKS)


def _environment(at: Environment, endpoint: str) -> Mapping[str, str]:
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
        "ANSIBLE_PYTHON_INTERPRETER": at.python,
        "DISTLOCK_ENDPOINTS": endpoint,
        "DISTLOCK_PREFIX": at.prefix,
    }


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
