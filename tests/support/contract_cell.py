"""A cell of the contract: one driver, one etcd, one way to secure it."""

from __future__ import annotations

import secrets
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any, Callable

from distlock_core import Realm
from distlock_core.base.deadline import Interrupt, Patience
from distlock_core.etcd.auth.access import Access
from distlock_core.etcd.transport import dial
from distlock_core.etcd.values import Compare, Delete, Event, Get, KeyValue, Outcome, Put, Range, prefix_end
from distlock_core.testing import Cluster, Proxy
from tests.support.polling import poll

TRANSPORTS = {"gateway": "http", "grpc": "grpc"}
SECURITY = ("plain", "tls", "auth")  # the last one is TLS with auth on
BOUND = 20.0  # seconds that an immediate event may take on a busy machine


class Cell:
    """An etcd, a client with one driver, and a range of keys that no other test uses."""

    def __init__(self, driver: str, version: str, security: str, cluster: Cluster) -> None:
        self.driver, self.version, self.security, self.cluster = driver, version, security, cluster
        self.prefix = f"/c-{secrets.token_hex(6)}/".encode()
        self.opened: list[Any] = []
        self.etcd = self.dial()

    def dial(self, *urls: str, transport: str = "", **access: Any) -> Any:
        """Another client, to these endpoints or the cluster's own."""
        settings = {**self.cluster.settings, **access}
        etcd = dial(
            list(urls) or self.cluster.endpoints, Access(**settings), transport=transport or TRANSPORTS[self.driver]
        )
        self.opened.append(etcd)
        return etcd

    def other(self) -> Any:
        """A client over the other driver."""
        return self.dial(transport="http" if self.driver == "grpc" else "grpc")

    def proxy(self) -> tuple[Proxy, str]:
        """A proxy in front of it, and the URL to reach it by."""
        proxy = Proxy(self.cluster.endpoints[0])
        self.opened.append(proxy)
        scheme = urllib.parse.urlsplit(self.cluster.endpoints[0]).scheme
        return proxy, f"{scheme}://{urllib.parse.urlsplit(proxy.url).netloc}"

    def close(self) -> None:
        self.etcd.txn([], [Delete(self.prefix, prefix_end(self.prefix))], [], Patience.lasting(BOUND))
        for one in self.opened:
            one.close()

    # Shortcuts for most tests.

    def key(self, rest: str | bytes) -> bytes:
        return self.prefix + (rest if isinstance(rest, bytes) else rest.encode())

    def txn(self, compares: Sequence[Compare] = (), then: Sequence[Any] = (), otherwise: Sequence[Any] = ()) -> Outcome:
        outcome: Outcome = self.etcd.txn(compares, then, otherwise, patience())
        return outcome

    def put(self, rest: str | bytes, value: bytes = b"v", lease: int = 0) -> int:
        return self.txn(then=[Put(self.key(rest), value, lease)]).revision

    def delete(self, rest: str | bytes) -> int:
        return self.txn(then=[Delete(self.key(rest))]).revision

    def read(self, *gets: Get) -> tuple[Range, ...]:
        ranges: tuple[Range, ...] = self.etcd.read(gets, patience()).ranges()
        return ranges

    def get(self, rest: str | bytes) -> KeyValue | None:
        (found,) = self.read(Get(self.key(rest)))
        return found.kvs[0] if found.kvs else None

    def lease(self, ttl: int = 30) -> int:
        lease = new_lease()
        assert self.etcd.grant(lease, ttl, patience()) == ttl
        return lease

    def watch(self, *ranges: tuple[bytes, bytes | None], revision: int, etcd: Any = None) -> Any:
        watch = (etcd or self.etcd).watch(ranges, revision, patience())
        self.opened.insert(0, watch)
        return watch

    def realm(self, etcd: Any = None, **options: Any) -> Realm:
        return Realm(etcd or self.etcd, self.prefix.decode(), **options)


def patience(seconds: float = BOUND, cancel: Interrupt | None = None) -> Patience:
    return Patience.lasting(seconds, cancel)


def new_lease() -> int:
    return secrets.randbits(62) | 1


def until(condition: Callable[[], Any], timeout: float = BOUND) -> None:
    """Wait for it, with a bound."""
    assert poll(condition, timeout), f"it did not come about within {timeout:g} s"


def wait_until_noticed(etcd: Any) -> None:
    """gRPC notices a connection's end in a separate thread; requests sent before that are rightly in doubt."""
    for channel in getattr(etcd, "_channels", ()):
        wait_until_not_ready(channel)


def wait_until_not_ready(channel: Any) -> None:
    states: list[str] = []
    channel.raw.subscribe(lambda state: states.append(state.name))
    until(lambda: states and states[-1] != "READY")


def events_of(watch: Any, count: int) -> list[Event]:
    """The next `count` events."""
    found: list[Event] = []
    limit = patience()
    while len(found) < count:
        came = watch.wait(limit)
        assert came, f"{len(found)} of {count} events came"
        found += came
    return found


class Started:
    """Work in the background: what it returned, or raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(BOUND)
        assert self.done, "it did not come to an end"
        if self._error is not None:
            raise self._error
        return self._result
