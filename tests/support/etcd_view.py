"""The keys and leases in etcd as tests see them: over the JSON gateway, past the code under test."""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.parse
from typing import Any

from distlock_core.testing import Cluster
from tests.support.processes import BOUND


class Etcd:
    """The content of etcd, read over its JSON gateway without the code under test. Names are under the prefix."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.prefix = prefix
        self._address = urllib.parse.urlsplit(cluster.endpoints[0]).netloc
        self._leases_before = self.leases()

    def keys(self, prefix: str | None = None) -> list[str]:
        """The keys under the prefix, without it, and without the notes on how each lock's last hold ended."""
        return [key for key in self.found(prefix, keys_only=True) if not is_note(key)]

    def found(self, prefix: str | None = None, **options: Any) -> dict[str, dict[str, Any]]:
        """Every key under the prefix, without it, with etcd's JSON object for each."""
        start = self.prefix if prefix is None else prefix
        answer = self.ask("/v3/kv/range", {"key": b64(start), "range_end": b64(after(start)), **options})
        return {text(kv["key"])[len(start) :]: kv for kv in answer.get("kvs", ())}

    def leases(self) -> set[int]:
        return {int(lease["ID"]) for lease in self.ask("/v3/lease/leases", {}).get("leases", ())}

    def new_leases(self) -> set[int]:
        """The leases that did not exist when the test began."""
        return self.leases() - self._leases_before

    def lock(self, name: str, owner: str = "other", reason: str = "upgrade", since: int | None = None) -> None:
        """Hold a lock as another owner."""
        rest = json.dumps({"reason": reason, "run": os.urandom(4).hex()})
        record = f"{int(time.time()) if since is None else since};{owner};{rest}"
        self.ask("/v3/kv/put", {"key": b64(self.whole(name)), "value": b64(record)})

    def unlock(self, name: str) -> None:
        self.ask("/v3/kv/deleterange", {"key": b64(self.whole(name))})

    def assert_nothing_left(self) -> None:
        assert self.keys() == []
        assert self.new_leases() == set()

    def whole(self, name: str) -> str:
        """The key of a name. One that begins with a slash is a whole key."""
        return name if name.startswith("/") else self.prefix + name

    def ask(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=BOUND)
        try:
            connection.request("POST", path, json.dumps(message))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()


def is_note(key: str) -> bool:
    """True for the note about the last hold of a lock, inside or outside a realm."""
    return "__last" in key.split("/")


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


def after(prefix: str) -> str:
    """The first key after all those with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
