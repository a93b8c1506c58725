"""An etcd for the measurements: its counters, keys and leases."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.testing import Cluster

_QUIET = 0.3  # seconds without a commit after which a tool's work counts as done
# etcd closes a connection on which no request arrives soon, which happens while hundreds of processes start.
_ATTEMPTS = 5


class Server:
    """A cluster of one member, without other users."""

    def __init__(self, cluster: Cluster) -> None:
        self.endpoint = cluster.endpoints[0]
        self.cacert = cluster.tls.authority.cacert if cluster.tls else None
        self._http = _opener(cluster)
        self._member = cluster.members[0]

    def gauge(self, name: str) -> int:
        try:
            return int(self._member.metric(name))
        except KeyError:
            raise ToolFailedError(f"this etcd has no metric {name}") from None

    def commits(self) -> int:
        """Committed proposals, read once etcd has been idle for a moment, as some tools clean up after their end."""
        deadline = time.monotonic() + 5.0
        count, since = self._committed(), time.monotonic()
        while time.monotonic() - since < _QUIET and time.monotonic() < deadline:
            time.sleep(0.03)
            now = self._committed()
            if now != count:
                count, since = now, time.monotonic()
        return count

    def keys_under(self, prefix: str) -> int:
        answer = self._post(
            "/v3/kv/range", {"key": _base64(prefix), "range_end": _base64(_after(prefix)), "count_only": True}
        )
        return int(answer.get("count", 0))

    def put(self, keys: Sequence[tuple[str, str]]) -> None:
        puts = [{"request_put": {"key": _base64(key), "value": _base64(value)}} for key, value in keys]
        self._post("/v3/kv/txn", {"success": puts})

    def raw_range(self, prefix: str) -> bytes:
        """The raw reply of etcd with all keys that have this prefix."""
        return self._ask("/v3/kv/range", {"key": _base64(prefix), "range_end": _base64(_after(prefix))}, 120.0)

    def leases(self) -> int:
        return len(self._post("/v3/lease/leases", {}).get("leases", ()))

    def _committed(self) -> int:
        return self.gauge("etcd_server_proposals_committed_total")

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads(self._ask(path, body, 5.0)))

    def _ask(self, path: str, body: dict[str, Any], bound: float) -> bytes:
        request = urllib.request.Request(self.endpoint + path, json.dumps(body).encode(), method="POST")
        for _ in range(_ATTEMPTS - 1):
            # Nothing that is asked for here does harm if it is done twice.
            with contextlib.suppress(ConnectionError):
                return self._answer(request, bound)
        return self._answer(request, bound)

    def _answer(self, request: urllib.request.Request, bound: float) -> bytes:
        with self._http.open(request, timeout=bound) as answer:
            return bytes(answer.read())


def _opener(cluster: Cluster) -> urllib.request.OpenerDirector:
    # A proxy from the environment must not be used for the loopback interface.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if cluster.tls is not None:
        handlers.append(urllib.request.HTTPSHandler(context=cluster.tls.context()))
    return urllib.request.build_opener(*handlers)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _after(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
