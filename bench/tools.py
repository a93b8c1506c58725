"""The tools that are compared: how each is told to run a command under a lock, and how its waiters are counted."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.processes import Processes
    from bench.server import Server

ETCD_LOCK = "etcd-lock@1.1.0"
ROOT = Path(__file__).resolve().parent.parent
NODE_CACHE = ROOT / "build" / "bench" / "node"
BARE = "python -c pass"


@dataclass(frozen=True)
class Tool:
    """One way to run a command under a lock."""

    name: str
    argv: Callable[[str, Sequence[str]], list[str]]  # of a lock's name and a command
    env: Mapping[str, str]
    server: Server | None = None  # None: its lock is not in etcd
    waiters: Callable[[str], int] | None = None  # grows by one with each that waits; None: not counted, so no drain


def bare(env: Mapping[str, str]) -> Tool:
    return Tool(BARE, lambda _lock, _command: [sys.executable, "-c", "pass"], env)


def distlock_script() -> Path:
    return Path(sys.executable).with_name("distlock")


def distlock(server: Server, env: Mapping[str, str], prefix: str, ttl: int | None = None) -> Tool:
    options = [] if ttl is None else [f"--ttl={ttl}"]

    def argv(lock: str, command: Sequence[str]) -> list[str]:
        return [str(distlock_script()), f"--lock-name={lock}", *options, "--", *command]

    return Tool(
        "distlock" if ttl is None else "distlock-ttl",
        argv,
        {**env, "DISTLOCK_ENDPOINTS": server.endpoint, "DISTLOCK_PREFIX": prefix, "DISTLOCK_TIMEOUT": "-1"},
        server,
        lambda lock: server.keys_under(f"{prefix}{lock}/queue/"),
    )


def etcdctl(server: Server, env: Mapping[str, str], prefix: str, binary: str) -> Tool:
    return Tool(
        "etcdctl",
        lambda lock, command: [binary, f"--endpoints={server.endpoint}", "lock", prefix + lock, *command],
        {**env, "ETCDCTL_API": "3"},
        server,
        lambda lock: server.keys_under(f"{prefix}{lock}/"),
    )


def flock(env: Mapping[str, str], folder: Path) -> Tool:
    return Tool("flock", lambda lock, command: ["flock", str(folder / lock), *command], env)


def python_etcd3(server: Server, env: Mapping[str, str], prefix: str) -> Tool:
    script = str(Path(__file__).with_name("python_etcd3_lock.py"))
    address = server.endpoint.partition("//")[2]
    # Its waiters write no keys: they are seen as watchers, on an etcd that nobody else watches.
    return Tool(
        "python-etcd3",
        lambda lock, command: [sys.executable, script, address, prefix + lock, *command],
        # The package cannot be imported beside protobuf 4 and later with its compiled implementation.
        {**env, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        server,
        lambda _lock: server.gauge("etcd_debugging_mvcc_watcher_total"),
    )


def etcdlocker(server: Server, env: Mapping[str, str], prefix: str) -> Tool:
    node = shutil.which("node") or "node"
    script = str(NODE_CACHE / "node_modules" / "etcd-lock" / "cmd" / "etcdlocker.js")
    address = server.endpoint.partition("//")[2]

    def argv(lock: str, command: Sequence[str]) -> list[str]:
        # -i is unique to each: two runs of one id both enter.
        options = ["-e", address, "-i", os.urandom(6).hex(), "-k", prefix + lock, "-t", "60"]
        return [node, script, *options, "--", *command]

    # As above: watchers, not keys.
    return Tool("etcdlocker", argv, env, server, lambda _lock: server.gauge("etcd_debugging_store_watchers"))


def missing_distlock() -> str | None:
    return None if distlock_script().exists() else "not installed here: pip install -e ."


def missing_flock() -> str | None:
    return None if shutil.which("flock") else "no flock: apt-get install util-linux"


def missing_python_etcd3() -> str | None:
    return None if importlib.util.find_spec("etcd3") else "no package etcd3: pip install -e '.[etcd3]'"


def missing_etcdlocker(processes: Processes) -> str | None:
    """Installs it into a cache folder that git ignores, the first time."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "no node and npm: apt-get install nodejs npm"
    if (NODE_CACHE / "node_modules" / "etcd-lock").exists():
        return None
    NODE_CACHE.mkdir(parents=True, exist_ok=True)
    # Without install scripts: what they build is for calls that the tool never makes.
    install = ["npm", "install", "--prefix", str(NODE_CACHE), "--ignore-scripts", "--no-audit", "--no-fund", ETCD_LOCK]
    try:
        processes.run(install, os.environ, bound=120.0)  # with the configuration of npm in the home folder
    except ToolFailedError as failure:
        return f"npm install {ETCD_LOCK} failed ({failure})"
    return None


def clean_environment(folder: Path) -> dict[str, str]:
    """What every tool gets: nothing that steers a lock, nothing from a config file, no proxy."""
    steering = ("DISTLOCK", "ETCD", "LOCKNAME", "NODE_OPTIONS", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {**env, "HOME": str(folder), "no_proxy": "127.0.0.1"}
