"""Cost of one Salt state, Puppet resource and Ansible task, beside one that does nothing: `python -m bench.adapters`.

Commits, requests, connections and programs (by strace, if it is installed) are counts: they do not depend on the
machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from bench.ansible_tasks import BOUND, PLAYBOOK, playbook_environment
from bench.environment import ROOT, Environment
from bench.processes import Processes, ToolFailedError
from bench.server import Server
from bench.table import table
from distlock_core.testing import Cluster, Proxy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


STEPS = 6  # of each kind in one run
ROUNDS = 2
STATES = ("locked", "unlocked")
PROGRAM = Path(sys.executable).parent / "distlock-puppet"
SALT_CALL = Path(sys.executable).parent / "salt-call"
STRACE = shutil.which("strace")


@dataclass(frozen=True)
class Cost:
    """Average cost of one step, compared with a run without steps; `cpu` in seconds."""

    name: str
    commits: float
    requests: float
    connections: float
    programs: float
    cpu: float


@dataclass(frozen=True)
class Adapter:
    """A tool, and how it runs each kind of step `STEPS` times; the first kind has no step, the second does nothing."""

    name: str
    kinds: Mapping[str, Sequence[str]]
    env: Mapping[str, str]


class Bench:
    def __init__(self, processes: Processes, folder: Path, server: Server, proxy: Proxy) -> None:
        self._processes = processes
        self._server = server
        self._proxy = proxy
        self._trace = folder / "trace"

    def measure(self, adapter: Adapter) -> list[Cost]:
        """The counts of one run, and the lowest CPU time of several others, as anything above it is noise."""
        base, *found = (self._kind(f"{adapter.name}: {kind}", adapter, kind) for kind in adapter.kinds)
        return [_per_step(each, base) for each in found]

    def _kind(self, name: str, adapter: Adapter, kind: str) -> Cost:
        seconds = []
        for _ in range(ROUNDS):
            before = _used()
            self._processes.run(adapter.kinds[kind], adapter.env, BOUND)
            seconds.append(_used() - before)
        self._trace.write_text("")
        commits, requests = self._server.commits(), len(self._proxy.requests)
        connections = self._proxy.accepted
        self._processes.run([*self._tracer(), *adapter.kinds[kind]], adapter.env, BOUND)
        commits = self._server.commits() - commits  # waits until etcd is idle
        requests = len(self._proxy.requests) - requests
        connections = self._proxy.accepted - connections
        programs = sum(line.endswith("= 0") for line in self._trace.read_text().splitlines())
        return Cost(name, commits, requests, connections, programs, min(seconds))

    def _tracer(self) -> list[str]:
        if STRACE is None:
            return []
        return [STRACE, "-f", "--seccomp-bpf", "-qqq", "-e", "trace=execve", "-o", str(self._trace)]


def _per_step(run: Cost, base: Cost) -> Cost:
    return Cost(
        run.name,
        (run.commits - base.commits) / STEPS,
        (run.requests - base.requests) / STEPS,
        (run.connections - base.connections) / STEPS,
        (run.programs - base.programs) / STEPS,
        (run.cpu - base.cpu) / STEPS,
    )


def salt(folder: Path, env: Mapping[str, str]) -> Adapter | None:
    """States of one `salt-call --local state.apply`."""
    if not os.access(SALT_CALL, os.X_OK):
        return None
    home = folder / "minion"
    (home / "sls").mkdir(parents=True)
    config = {
        "root_dir": str(home),
        "id": "bench",
        "file_client": "local",
        "file_roots": {"base": [str(home / "sls")]},
        "module_dirs": [str(ROOT / "salt/_modules")],
        "states_dirs": [str(ROOT / "salt/_states")],
        "enable_fqdns_grains": False,
        "enable_gpu_grains": False,
    }
    (home / "minion").write_text(json.dumps(config))
    kinds = {
        "none": [],
        "test.nop": [{"test.nop": [{"name": str(number)}]} for number in range(STEPS)],
        "locked, unlocked": [{f"distlock.{STATES[n % 2]}": [{"name": f"x{n // 2}"}]} for n in range(STEPS)],
        "until: run_end": [{"distlock.locked": [{"name": f"r{n}"}, {"until": "run_end"}]} for n in range(STEPS)],
        "run": [{"distlock.run": [{"name": "x"}, {"cmd": "/bin/true"}]} for _ in range(STEPS)],
    }
    call = [str(SALT_CALL), "--local", "--config-dir", str(home), "--retcode-passthrough", "state.apply"]
    for number, states in enumerate(kinds.values()):
        sls = {f"step {place}": state for place, state in enumerate(states)} or {"x": {"test.nop": []}}
        (home / f"sls/kind{number}.sls").write_text(json.dumps(sls))
    return Adapter("Salt", {kind: [*call, f"kind{number}"] for number, kind in enumerate(kinds)}, env)


def puppet(folder: Path, env: Mapping[str, str]) -> Adapter | None:
    """Resources of one `puppet apply`."""
    if not shutil.which("puppet"):
        return None
    modules = folder / "modules"
    modules.mkdir()
    (modules / "distlock").symlink_to(ROOT / "puppet")
    true = "command => ['/bin/true']"
    kinds = {
        "none": [],
        "exec": [f"exec {{ '{n}': {true} }}" for n in range(STEPS)],
        "locked, unlocked": [
            f"distlock {{ '{n}': ensure => {STATES[n % 2]}, lock_name => 'x{n // 2}' }}" for n in range(STEPS)
        ],
        "until => run_end": [f"distlock {{ 'r{n}': until => run_end }}" for n in range(STEPS)],
        "distlock::exec": [
            f"distlock::exec {{ '{n}': lock_name => 'x', program => '{PROGRAM}', {true} }}" for n in range(STEPS)
        ],
    }
    home = folder / "puppet"
    places = [f"--{place}dir={home / place}" for place in ("conf", "var", "code")]
    call = ["puppet", "apply", *places, f"--modulepath={modules}", "--detailed-exitcodes", "--certname=bench", "-e"]
    commands = {kind: _succeeding([*call, "\n".join(resources)]) for kind, resources in kinds.items()}
    env = {**env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}
    return Adapter("Puppet", commands, env)


def _succeeding(command: list[str]) -> list[str]:
    """With --detailed-exitcodes, 2 means success with changes; without it, a failed resource would go unnoticed."""
    return ["/bin/sh", "-c", '"$@"; code=$?; test $code -eq 0 -o $code -eq 2', "sh", *command]


def ansible(folder: Path, at: Environment, env: Mapping[str, str]) -> Adapter | None:
    """Tasks of one playbook, over a local connection."""
    if not os.access(PLAYBOOK, os.X_OK):
        return None
    module = "distlock.distlock.distlock"
    kinds = {
        "none": [],
        "ping": [{"ansible.builtin.ping": {}}] * STEPS,
        "locked, unlocked": [{module: {"name": "x", "state": STATES[n % 2]}} for n in range(STEPS)],
        "until: run_end": [{module: {"name": f"r{n}", "until": "run_end"}} for n in range(STEPS)],
    }
    commands = {}
    for number, (kind, tasks) in enumerate(kinds.items()):
        path = folder / f"play{number}.json"
        path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        commands[kind] = [str(PLAYBOOK), "-i", "h1,", "-c", "local", str(path)]
    steering = playbook_environment(at)
    return Adapter("Ansible", commands, {**env, **steering, "ANSIBLE_PYTHON_INTERPRETER": at.python})


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.adapters", description=__doc__)
    names = ("salt", "puppet", "ansible")
    parser.add_argument("--only", choices=names, action="append", help="measure this one (default: all that are there)")
    only = parser.parse_args().only or names
    costs: list[Cost] = []
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(Processes())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        cluster = stack.enter_context(Cluster.start(members=1))
        proxy = stack.enter_context(Proxy(cluster.endpoints[0]))
        at = Environment.make(folder)
        env = {**at.variables, "DISTLOCK_ENDPOINTS": proxy.url, "DISTLOCK_PREFIX": at.prefix}
        bench = Bench(processes, folder, Server(cluster), proxy)
        makers: dict[str, Callable[[], Adapter | None]] = {
            "salt": lambda: salt(folder, env),
            "puppet": lambda: puppet(folder, env),
            "ansible": lambda: ansible(folder, at, env),
        }
        for name in only:
            adapter = makers[name]()
            if adapter is None:
                print(f"{name} is not installed: left out", file=sys.stderr)
                continue
            try:
                costs += bench.measure(adapter)
            except ToolFailedError as failure:
                print(f"{name}: {failure}", file=sys.stderr)
    heads = ("", "commits", "requests", "connections", "programs", "s of CPU")
    rows = [
        (
            each.name,
            *(f"{count:.1f}" for count in (each.commits, each.requests, each.connections, each.programs)),
            f"{each.cpu:.3f}",
        )
        for each in costs
    ]
    print(table(f"One step on average ({STEPS} in a run), beyond a run with none", heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
