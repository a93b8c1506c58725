"""The tools that take part in this run, and the reasons why others do not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Callable

from bench import tools
from bench.server import Server
from distlock_core.testing import BinaryNotFound, Cluster, Tls, etcd_version, find_etcd, find_etcdctl

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Collection

    from bench.environment import Environment
    from bench.processes import Processes

TOOLS = (
    "distlock",
    "distlock-ttl",
    "distlock-config",
    "distlock-tls",
    "distlock-grpc",
    "etcdctl",
    "etcdctl-tls",
    "flock",
    "python-etcd3",
    "etcdlocker",
)


class Field:
    """The tools that can run here, and notes about those that cannot start or fail later."""

    def __init__(self, only: Collection[str]) -> None:
        self._only = only
        self.tools: list[tools.Tool] = []
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    @classmethod
    def assemble(
        cls,
        stack: contextlib.ExitStack,
        processes: Processes,
        at: Environment,
        server: Server,
        only: Collection[str],
    ) -> Field:
        """Find the tools with these names; an etcd that is started for one of them ends with the stack."""
        field = cls(only)

        def etcdlocker() -> tools.Tool:
            old = stack.enter_context(Cluster.start(members=1, etcd=find_etcd("3.4"), extra_args=("--enable-v2",)))
            field.versions["etcd for the v2 API"] = etcd_version(old.etcd)
            return tools.etcdlocker(at, Server(old))

        field._enter("distlock", tools.missing_distlock, lambda: tools.distlock(at, server))
        field._enter("distlock-ttl", tools.missing_distlock, lambda: tools.distlock(at, server, ttl=60))
        secured = Secured(stack, at)
        field._enter("distlock-config", tools.missing_distlock, lambda: tools.distlock(at, server, configured=True))
        field._enter(
            "distlock-tls",
            lambda: tools.missing_distlock() or tools.missing_openssl(),
            lambda: tools.distlock(at, secured.server(), configured=True),
        )
        field._enter(
            "etcdctl-tls",
            lambda: _missing(find_etcdctl) or tools.missing_openssl(),
            lambda: tools.etcdctl(at, secured.server(), find_etcdctl()),
        )
        field._enter(
            "distlock-grpc",
            lambda: tools.missing_distlock() or tools.missing_python_etcd3(),
            lambda: tools.distlock(at, server, transport="grpc"),
        )
        field._enter("etcdctl", lambda: _missing(find_etcdctl), lambda: tools.etcdctl(at, server, find_etcdctl()))
        field._enter("flock", tools.missing_flock, lambda: tools.flock(at))
        field._enter("python-etcd3", tools.missing_python_etcd3, lambda: tools.python_etcd3(at, server))
        field._enter(
            "etcdlocker",
            lambda: _missing(lambda: find_etcd("3.4")) or tools.missing_etcdlocker(processes),
            etcdlocker,
        )
        return field

    def failed(self, tool: tools.Tool, why: str) -> None:
        """Report now, and again at the end, that a tool has no figures in one part."""
        say(f"{tool.name}: {why}")
        before = self.left_out.get(tool.name)
        if before is None:
            self.left_out[tool.name] = why
        elif why not in before:
            self.left_out[tool.name] = f"{before}; {why}"

    def drop(self, tool: tools.Tool, why: str) -> None:
        """Report a tool that cannot acquire even a free lock, and exclude it from all other parts."""
        self.failed(tool, why)
        self.tools.remove(tool)

    def _enter(self, name: str, missing: Callable[[], str | None], tool: Callable[[], tools.Tool]) -> None:
        if name not in self._only:
            return
        why = missing()
        if why is None:
            self.tools.append(tool())
        else:
            self.left_out[name] = why


class Secured:
    """An etcd that speaks TLS, started for the first tool that needs it."""

    def __init__(self, stack: contextlib.ExitStack, at: Environment) -> None:
        self._stack = stack
        self._at = at
        self._server: Server | None = None

    def server(self) -> Server:
        if self._server is None:
            tls = Tls.make(str(self._at.folder))
            self._server = Server(self._stack.enter_context(Cluster.start(members=1, tls=tls)))
        return self._server


def say(text: str) -> None:
    """Print progress, which is not part of the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _missing(find: Callable[[], str]) -> str | None:
    try:
        find()
    except BinaryNotFound as missing:
        return str(missing)
    return None
