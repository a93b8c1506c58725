"""A realm seen from outside, with contenders in the background and predicates for requests."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Callable

from distlock_core import Interrupt, Lock, Realm, connect
from distlock_core.base.deadline import Patience
from distlock_core.etcd.address import parse_endpoint
from distlock_core.etcd.endpoints import Endpoints
from distlock_core.etcd.http.gateway import Gateway
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, Outcome, Put, prefix_end
from distlock_core.model.record import Record
from distlock_core.testing import Cluster
from tests.support.polling import poll

TXN, WATCH, GRANT, KEEPALIVE, REVOKE = (
    "/v3/kv/txn",
    "/v3/watch",
    "/v3/lease/grant",
    "/v3/lease/keepalive",
    "/v3/lease/revoke",
)
BOUND = 20.0  # seconds that an immediate event may take on a busy machine
PROMPT = 8.0  # seconds; below the 10 s after which a waiter reads again in any case

When = Callable[[bytes], bool]


class Scene:
    """One realm in one cluster, read and changed without the code under test."""

    def __init__(self, cluster: Cluster, prefix: str, endpoints: Sequence[str] = ()) -> None:
        """A view over these endpoints, if the others are to fail."""
        self.cluster = cluster
        self.prefix = prefix
        self.curtain = Interrupt()
        self.endpoints = list(endpoints) or cluster.endpoints
        self._etcd = gateway(*self.endpoints)
        self._leases = self.leases()
        self._threads: list[threading.Thread] = []

    def realm(self, *endpoints: str, **options: Any) -> Realm:
        """The code under test, over these endpoints or those of the cluster."""
        return connect(list(endpoints) or self.cluster.endpoints, self.prefix, **options)

    def key(self, rest: str) -> bytes:
        return (self.prefix + rest).encode()

    def get(self, rest: str) -> KeyValue | None:
        found = self.under(rest, exactly=True)
        return found[0] if found else None

    def record(self, rest: str) -> Record:
        kv = self.get(rest)
        assert kv is not None, f"{rest} is not there"
        return Record.parse(kv.value)

    def put(self, rest: str, value: str = "1;someone;by hand", lease: int = 0) -> int:
        return self._do(Put(self.key(rest), value.encode(), lease)).revision

    def delete(self, rest: str) -> None:
        self._do(Delete(self.key(rest)))

    def clear(self, rest: str = "") -> None:
        self._do(Delete(self.key(rest), prefix_end(self.key(rest))))

    def under(self, rest: str = "", *, exactly: bool = False) -> tuple[KeyValue, ...]:
        key = self.key(rest)
        get = Get(key, None if exactly else prefix_end(key), youngest_first=not exactly)
        return self._etcd.read([get], Patience.lasting(BOUND)).ranges()[0].kvs[::-1]

    def line(self, name: str) -> tuple[KeyValue, ...]:
        """The tickets, the oldest first."""
        return self.under(f"{name}/queue/")

    def move(self, rest: str, to: str) -> None:
        """Delete a key, then write another."""
        self.delete(rest)
        self.put(to)

    def until_in_line(self, name: str, count: int) -> None:
        """Wait until there are this many tickets."""
        until(lambda: len(self.line(name)) == count)

    def replace(self, rest: str, value: str = "2;another;newer") -> int:
        """Give the lock to another holder, with another create_revision."""
        self.delete(rest)
        return self.put(rest, value)

    def leases(self) -> set[int]:
        answer = post(self.endpoints[0], "/v3/lease/leases", b"{}")
        return {int(lease["ID"]) for lease in answer.get("leases", ())}

    def new_leases(self) -> set[int]:
        """The leases granted during this test."""
        return self.leases() - self._leases

    def revoke(self, lease: int) -> None:
        self._etcd.revoke(lease, Patience.lasting(BOUND))

    def grant(self, ttl: int = 60) -> int:
        lease = int(time.time_ns())
        self._etcd.grant(lease, ttl, Patience.lasting(BOUND))
        return lease

    def replay(self, body: bytes) -> bool:
        """Forward a transaction that was held on its way. True if etcd has applied it."""
        return bool(post(self.endpoints[0], TXN, body).get("succeeded"))

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        """Do the work in the background."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return future

    def acquire(self, lock: Lock, timeout: float = -1, **options: Any) -> Future[Lock]:
        """Acquire in the background; cancelled at the end of the test."""
        return self.start(lambda: lock.acquire(timeout, **{"cancel": self.curtain, **options}))

    def queue(self, lock: Lock, timeout: float = -1, **options: Any) -> Future[Lock]:
        """As acquire(), and return when it is in the queue."""
        before = len(self.line(lock.name))
        future = self.acquire(lock, timeout, **options)
        until(lambda: len(self.line(lock.name)) > before or future.done())
        assert not future.done(), future
        return future

    def assert_clean(self, *holds: str) -> None:
        """Check that no other lock, no ticket and no lease of this test is left."""
        left = {kv.key.decode()[len(self.prefix) :] for kv in self.under()}
        assert {name for name in left if not name.startswith("__")} == set(holds)
        assert self.new_leases() == set()

    def close(self) -> None:
        self.curtain.set()
        for thread in self._threads:
            thread.join(5)
        if not any(thread.is_alive() for thread in self._threads):
            self.curtain.close()
        self._etcd.close()

    def _do(self, *ops: Any) -> Outcome:
        return self._etcd.txn([], ops, [], Patience.lasting(BOUND))


def gateway(*urls: str) -> Gateway:
    return Gateway(Endpoints([parse_endpoint(url) for url in urls]))


def until(condition: Callable[[], Any], timeout: float = BOUND) -> None:
    """Wait for it, with a bound."""
    assert poll(condition, timeout), f"it did not come about within {timeout:g} s"


def post(url: str, path: str, body: bytes) -> Any:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=BOUND)
    try:
        connection.request("POST", path, body)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def puts(key: bytes) -> When:
    """Transactions that put this key."""
    return lambda body: key in _keys(body, "request_put")


def puts_under(prefix: bytes) -> When:
    """Transactions that put a key with this prefix."""
    return lambda body: any(key.startswith(prefix) for key in _keys(body, "request_put"))


def deletes(key: bytes) -> When:
    """Transactions that delete this key."""
    return lambda body: key in _keys(body, "request_delete_range")


def reads(body: bytes) -> bool:
    """Transactions that only read."""
    return not any(True for _ in _keys(body, "request_put")) and b'"compare"' not in body


def _keys(body: bytes, kind: str) -> Iterable[bytes]:
    for op in json.loads(body).get("success", ()):
        if kind in op:
            yield base64.b64decode(op[kind]["key"])


__all__ = [
    "BOUND",
    "GRANT",
    "KEEPALIVE",
    "PROMPT",
    "REVOKE",
    "TXN",
    "WATCH",
    "Compare",
    "Scene",
    "deletes",
    "gateway",
    "post",
    "puts",
    "puts_under",
    "reads",
    "until",
]
