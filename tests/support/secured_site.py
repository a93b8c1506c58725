"""A realm in a secured etcd, and helpers for tests with it."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from typing import Any, Callable

from distlock_core import Realm, connect
from distlock_core.testing import Cluster, environment
from tests.support.processes import BOUND, Process, line_of, one_line, wait_until

__all__ = ["BOUND", "Run", "Site", "Spawn", "line_of", "one_line", "queued", "wait_until"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]


class Site:
    """One realm of one secured cluster, and the settings of its client."""

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
        """The code under test; a change of None removes a setting."""
        options = {"connect_timeout": BOUND, **self.settings, **changes}
        return connect(list(endpoints) or self.cluster.endpoints, self.prefix, **options)

    def node(self, user: str, *grants: tuple[str, str]) -> Site:
        """The same site for another user, who has only these grants (default: the whole realm)."""
        granted = self.cluster.add_user(user, f"pw-of-{user}", grants or [("readwrite", self.prefix)])
        return Site(self.cluster, self.prefix, **granted)

    def ask(self, path: str, message: dict[str, Any], token: str = "") -> tuple[int, dict[str, Any]]:
        """The answer of etcd's gateway, without the code under test."""
        request = urllib.request.Request(
            self.cluster.endpoints[0] + path, json.dumps(message).encode(), {"Authorization": token} if token else {}
        )
        context: ssl.SSLContext | None = self.cluster.tls.context() if self.cluster.tls else None
        try:
            with urllib.request.urlopen(request, timeout=BOUND, context=context) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


def queued(site: Site, name: str, count: int = 1) -> None:
    """Wait for this number of waiters in the queue."""
    wait_until(lambda: site.realm().show(name).waiting >= count, f"{count} in line for {name}")
