"""The compared tools: how each runs a command under a lock, and how its waiters are counted."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from bench.environment import ROOT
from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.environment import Environment
    from bench.processes import Processes
    from bench.server import Server

ETCD_LOCK = "etcd-lock@1.1.0"
NODE_CACHE = ROOT / "build" / "bench" / "node"
BARE = "python -c pass"


@dataclass(frozen=True)
class Tool:
    """One way to run a command under a lock."""

    name: str
    argv: Callable[[str, Sequence[str]], list[str]]  # of a lock's name and a command
    env: Mapping[str, str]
    server: Server | None = None  # None: its lock is not in etcd
    waiters: Callable[[str], int] | None = None  # the number of waiters; None: cannot be counted
    keep: Callable[[str, int], list[str]] | None = None  # of a lock's name and the pid that it is kept for
    longest: int | None = None  # queue that is measured

    @staticmethod
    def keeper(said: str) -> int:
        """The pid of the keeper, from the output of `keep`."""
        return int(json.loads(said)["locks"][0]["keeper"])


def bare(at: Environment) -> Tool:
    return Tool(BARE, lambda _lock, _command: [at.python, "-c", "pass"], at.variables)


def distlock(
    at: Environment, server: Server, ttl: int | None = None, transport: str = "http", configured: bool = False
) -> Tool:
    """`configured`: all settings are in a config file, as the docs install it, and none in the environment."""
    name = "distlock" if ttl is None else "distlock-ttl"
    name = name if transport == "http" else f"distlock-{transport}"
    if configured:
        name = "distlock-config" if server.cacert is None else "distlock-tls"
    options = [] if ttl is None else [f"--ttl={ttl}"]
    prefix = f"{at.prefix}{name}/"

    def argv(lock: str, command: Sequence[str]) -> list[str]:
        return [at.python, at.distlock, f"--lock-name={lock}", *options, "--", *command]

    def keep(lock: str, pid: int) -> list[str]:
        log = ["--log-file", str(at.folder / "keeper.log"), "--json"]
        return [
            at.python,
            at.distlock,
            f"--lock-name={lock}",
            "--lock",
            f"--while-pid={pid}",
            *options,
            *log,
        ]

    settings = {"DISTLOCK_ENDPOINTS": server.endpoint, "DISTLOCK_PREFIX": prefix, "DISTLOCK_TIMEOUT": "-1"}
    if transport != "http":
        settings["DISTLOCK_TRANSPORT"] = transport
    if configured:
        settings = {"DISTLOCK_CONFIG": str(_config_file(at, server, name, prefix))}
    return Tool(
        name,
        argv,
        {**at.variables, **settings},
        server,
        lambda lock: server.keys_under(f"{prefix}{lock}/queue/"),
        None if ttl is None else keep,
        # 200 of them start so slowly that their reads time out, and a client that then leaves ends an etcd 3.5.1.
        60 if transport == "grpc" else None,
    )


def _config_file(at: Environment, server: Server, name: str, prefix: str) -> Path:
    """The example from the docs, with this etcd's endpoint."""
    path = at.folder / f"{name}.yaml"
    lines = [
        "endpoints:",
        f"  - {server.endpoint}",
        f"prefix: {prefix}",
        "timeout: 600          # seconds; -1: forever, 0: do not wait",
        "connect_timeout: 3",
        "busy_exit_code: 75",
        *([] if server.cacert is None else [f"cacert: {server.cacert}"]),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def etcdctl(at: Environment, server: Server, binary: str) -> Tool:
    name = "etcdctl" if server.cacert is None else "etcdctl-tls"
    prefix = f"{at.prefix}{name}/"
    # It leaves its lease behind, which must not expire while another tool is measured.
    secure = [] if server.cacert is None else [f"--cacert={server.cacert}"]
    start = [binary, f"--endpoints={server.endpoint}", *secure, "lock", "--ttl=3600"]
    return Tool(
        name,
        lambda lock, command: [*start, prefix + lock, *command],
        {**at.variables, "ETCDCTL_API": "3"},
        server,
        lambda lock: server.keys_under(f"{prefix}{lock}/"),
    )


def flock(at: Environment) -> Tool:
    return Tool("flock", lambda lock, command: ["flock", str(at.folder / lock), *command], at.variables)


def python_etcd3(at: Environment, server: Server) -> Tool:
    script = str(Path(__file__).with_name("python_etcd3_lock.py"))
    address = server.endpoint.partition("//")[2]
    # Its waiters write no keys: they are counted as watchers, on an etcd without other watchers.
    return Tool(
        "python-etcd3",
        lambda lock, command: [at.python, script, address, at.prefix + lock, *command],
        # The package cannot be imported beside protobuf 4 and later with its compiled implementation.
        {**at.variables, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        server,
        lambda _lock: server.gauge("etcd_debugging_mvcc_watcher_total"),
    )


def etcdlocker(at: Environment, server: Server) -> Tool:
    node = shutil.which("node") or "node"
    script = str(NODE_CACHE / "node_modules" / "etcd-lock" / "cmd" / "etcdlocker.js")
    address = server.endpoint.partition("//")[2]

    def argv(lock: str, command: Sequence[str]) -> list[str]:
        # A separate -i for each: two runs with the same id would both enter.
        options = ["-e", address, "-i", os.urandom(6).hex(), "-k", at.prefix + lock, "-t", "60"]
        return [node, script, *options, "--", *command]

    # As above: watchers, not keys.
    return Tool("etcdlocker", argv, at.variables, server, lambda _lock: server.gauge("etcd_debugging_store_watchers"))


def missing_distlock() -> str | None:
    return None if importlib.util.find_spec("distlock_core.cli.distlock") else "not installed here: pip install -e ."


def missing_flock() -> str | None:
    return None if shutil.which("flock") else "no flock: apt-get install util-linux"


def missing_openssl() -> str | None:
    return None if shutil.which("openssl") else "no openssl to make certificates: apt-get install openssl"


def missing_python_etcd3() -> str | None:
    return None if importlib.util.find_spec("etcd3") else "no package etcd3: pip install -e '.[etcd3]'"


def missing_etcdlocker(processes: Processes) -> str | None:
    """Installs it into a cache folder that git ignores, unless it is there."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "no node and npm: apt-get install nodejs npm"
    if (NODE_CACHE / "node_modules" / "etcd-lock").exists():
        return None
    NODE_CACHE.mkdir(parents=True, exist_ok=True)
    # Without install scripts, as the tool never uses what they build.
    install = ["npm", "install", "--prefix", str(NODE_CACHE), "--ignore-scripts", "--no-audit", "--no-fund", ETCD_LOCK]
    try:
        processes.run(install, os.environ, bound=120.0)  # with the configuration of npm in the home folder
    except ToolFailedError as failure:
        return f"npm install {ETCD_LOCK} failed ({failure})"
    return None
