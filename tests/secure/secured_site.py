"""A realm in a secured etcd, and what these tests share beside fixtures."""

from __future__ import annotations

import json
import select
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any, Callable

from distlock_core import Realm, connect
from distlock_core.testing import Cluster, environment

BOUND = 30.0  # seconds after which what is to happen at once counts as missing; a busy machine is slow
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "subprocess.Popen[str]"]


class Site:
    """One realm of one secured cluster, and what a client of it says."""

    def __init__(self, cluster: Cluster, prefix: str, **settings: Any) -> None:
        self.cluster = cluster
        self.prefix = prefix
        self.settings = {**cluster.settings, **settings}

    @property
    def env(self) -> dict[str, str | None]:
        """The environment of a command."""
        endpoints = {"DISTLOCK_ENDPOINTS": ",".join(self.cluster.endpoints), "DISTLOCK_PREFIX": self.prefix}
        return {**endpoints, **environment(self.settings)}

    def realm(self, *endpoints: str, **changes: Any) -> Realm:
        """The code under test; a change of None takes a setting away."""
        options = {"connect_timeout": BOUND, **self.settings, **changes}
        return connect(list(endpoints) or self.cluster.endpoints, self.prefix, **options)

    def node(self, user: str, *grants: tuple[str, str]) -> Site:
        """The same as seen by another user, who may do just this (by default all of the realm)."""
        granted = self.cluster.add_user(user, f"pw-of-{user}", grants or [("readwrite", self.prefix)])
        return Site(self.cluster, self.prefix, **granted)

    def ask(self, path: str, message: dict[str, Any], token: str = "") -> tuple[int, dict[str, Any]]:
        """What etcd's gateway answers, past the code under test."""
        request = urllib.request.Request(
            self.cluster.endpoints[0] + path, json.dumps(message).encode(), {"Authorization": token} if token else {}
        )
        context: ssl.SSLContext | None = self.cluster.tls.context() if self.cluster.tls else None
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def queued(site: Site, name: str, count: int = 1) -> None:
    """Wait until so many stand in line."""
    wait_until(lambda: site.realm().show(name).waiting >= count, f"{count} in line for {name}")


def wait_until(condition: Callable[[], Any], what: str, bound: float = BOUND) -> Any:
    """Return what `condition` says as soon as it is true."""
    deadline = time.monotonic() + bound
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {bound:g} s: {what}"
        time.sleep(0.02)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line on a process's stdout, with a bound."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], BOUND)[0], "it has said nothing"
    line: str = process.stdout.readline()
    return line.rstrip("\n")


def one_line(text: str) -> str:
    """The only line of a text."""
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text[:-1]
