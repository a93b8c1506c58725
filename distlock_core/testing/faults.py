"""A proxy in front of one etcd member that loses, holds, delays and garbles messages, to provoke races.

It parses HTTP/1.1 to distinguish requests and replies. Anything else (gRPC, TLS) is forwarded through a plain tunnel,
to which cut, blackhole, mute, silence and delay apply.
"""

from __future__ import annotations

import fnmatch
import socket
import threading
import time
import urllib.parse
from typing import Callable, Union

from distlock_core.embedded.ports import free_ports
from distlock_core.testing.connection import Connection, Exchange
from distlock_core.testing.held import Held

When = Callable[[bytes], bool]
Payload = Union[bytes, int, Held]
_HOST = "127.0.0.1"


class _Rule:
    """An action for the next `times` requests that match."""

    def __init__(self, action: str, path: str, when: When | None, times: int, payload: Payload = b"") -> None:
        self.action = action
        self.payload = payload
        self.times = times
        self._path = path
        self._when = when

    @property
    def on_reply(self) -> bool:
        return self.action in ("lose_reply", "hold_reply", "cut_reply", "garble_reply")

    def matches(self, path: str, body: bytes) -> bool:
        return self.times > 0 and fnmatch.fnmatchcase(path, self._path) and (self._when is None or self._when(body))


class Proxy:
    """A proxy on a free port in front of `target_url`. Use it in a `with` block, or close() it.

    A rule's `path` is compared with the request's whole path ("/v3/kv/txn"; "*" matches any), `when` is called with the
    request's body. At most one rule applies to a request and one to its reply: the oldest that matches and has `times`
    left. All methods may be called from any thread.
    """

    def __init__(self, target_url: str) -> None:
        target = urllib.parse.urlsplit(target_url)
        self.target = (target.hostname or _HOST, target.port or 2379)
        self.requests: list[tuple[str, bytes]] = []
        self.accepted = 0  # connections
        self.changed = threading.Condition()
        self.blackholed = False
        self.muted = False
        self.latency = 0.0
        self.damaged = 0  # size in bytes of the last request or reply that was cut or garbled
        self._cut = False
        self._closed = False
        self._rules: list[_Rule] = []
        self._connections: set[Connection] = set()
        self._listener, self._port = _listen_anywhere()
        self._start_accepting()

    @property
    def url(self) -> str:
        """The URL for clients, which never changes."""
        return f"http://{_HOST}:{self._port}"

    def lose_reply(self, path: str, when: When | None = None, times: int = 1) -> None:
        """Forward the request, discard etcd's answer when it has arrived, and close the client's connection."""
        self._add(_Rule("lose_reply", path, when, times))

    def lose_request(self, path: str, when: When | None = None, times: int = 1) -> None:
        """Discard the request and close the client's connection; etcd never sees it."""
        self._add(_Rule("lose_request", path, when, times))

    def hold_request(self, path: str, when: When | None = None) -> Held:
        """Hold the next matching request before etcd sees it."""
        held = Held(self.changed)
        self._add(_Rule("hold_request", path, when, 1, held))
        return held

    def hold_reply(self, path: str, when: When | None = None) -> Held:
        """Hold the reply to the next matching request, after etcd has answered."""
        held = Held(self.changed)
        self._add(_Rule("hold_reply", path, when, 1, held))
        return held

    def garble(self, path: str, replacement: bytes, times: int = 1) -> None:
        """Answer with these raw bytes (a whole HTTP reply, or nonsense) and close; etcd never sees the request."""
        self._add(_Rule("garble", path, None, times, replacement))

    def cut_request(self, path: str, after: int, when: When | None = None, times: int = 1) -> None:
        """Forward `after` bytes of the request (head and body), half-close, and return etcd's answer to that."""
        self._add(_Rule("cut_request", path, when, times, after))

    def cut_reply(self, path: str, after: int, when: When | None = None, times: int = 1) -> None:
        """Forward `after` bytes of the reply (head and body), and close the client's connection."""
        self._add(_Rule("cut_reply", path, when, times, after))

    def garble_reply(self, path: str, at: int, when: When | None = None, times: int = 1) -> None:
        """Replace one byte of the reply (head and body) by one that etcd never writes."""
        self._add(_Rule("garble_reply", path, when, times, at))

    def delay(self, seconds: float) -> None:
        """Delay every request, and every message of a stream, by `seconds`."""
        with self.changed:
            self.latency = seconds

    def cut(self) -> None:
        """Close all connections and refuse new ones."""
        with self.changed:
            if self._cut or self._closed:
                return
            self._cut = True
            self._stop_listening()
            # Bound but not listening: connections are refused, and no other process gets the port meanwhile.
            self._listener = _bind(self._port)
            self._close_connections(lambda _: True)

    def blackhole(self) -> None:
        """Accept connections and requests, but forward nothing in either direction until heal()."""
        with self.changed:
            self.blackholed = True

    def silence(self) -> None:
        """Forward nothing more on existing connections, which stay open. New connections work."""
        with self.changed:
            for connection in self._connections:
                connection.silent = True

    def mute(self) -> None:
        """Forward everything to etcd, but nothing back until heal()."""
        with self.changed:
            self.muted = True

    def heal(self) -> None:
        """End cut, blackhole, mute, silence and delay. Rules and held requests stay as they are."""
        with self.changed:
            for connection in self._connections:
                connection.silent = False
            self.blackholed, self.muted, self.latency = False, False, 0.0
            if self._cut and not self._closed:
                self._cut = False
                self._start_accepting()
            self.changed.notify_all()

    def break_streams(self) -> int:
        """Close the connections that carry a stream (watch, keepalive), and return their number."""
        with self.changed:
            return self._close_connections(lambda connection: connection.streaming)

    @property
    def streams(self) -> int:
        """The number of open streams, whose reply has begun and not ended."""
        with self.changed:
            return sum(connection.streaming for connection in self._connections)

    def wait_for_requests(self, path: str, count: int = 1, timeout: float = 10.0) -> list[bytes]:
        """The bodies of the requests to `path` so far, as soon as there are `count`. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self._bodies(path)) >= count, timeout):
                raise TimeoutError(f"{len(self._bodies(path))} of {count} requests to {path} came in {timeout:g} s")
            return self._bodies(path)

    def close(self) -> None:
        """Close everything, within a few seconds."""
        with self.changed:
            if self._closed:
                return
            self._closed = True
            self._stop_listening()
            self._close_connections(lambda _: True)
            remaining = list(self._connections)
        deadline = time.monotonic() + 5
        for connection in remaining:
            connection.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Called by the connections.

    def admit(self, path: str, body: bytes) -> Exchange:
        """Record a request that has arrived, and return its exchange with the rules for it."""
        with self.changed:
            self.requests.append((path, body))
            inward = self._take(path, body, on_reply=False)
            outward = self._take(path, body, on_reply=True)
            self.changed.notify_all()
        return Exchange(path, body, inward, outward)

    def ended(self, connection: Connection) -> None:
        """Record the end of a connection."""
        with self.changed:
            self._connections.discard(connection)
            self.changed.notify_all()

    def _add(self, rule: _Rule) -> None:
        with self.changed:
            self._rules.append(rule)

    def _take(self, path: str, body: bytes, *, on_reply: bool) -> tuple[str, Payload] | None:
        for rule in self._rules:
            if rule.on_reply == on_reply and rule.matches(path, body):
                rule.times -= 1
                return rule.action, rule.payload
        return None

    def _bodies(self, path: str) -> list[bytes]:
        return [body for its, body in self.requests if fnmatch.fnmatchcase(its, path)]

    def _close_connections(self, which: Callable[[Connection], bool]) -> int:
        chosen = [connection for connection in self._connections if which(connection)]
        for connection in chosen:
            connection.close()
        self.changed.notify_all()
        return len(chosen)

    def _start_accepting(self) -> None:
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), name="proxy-accept", daemon=True).start()

    def _stop_listening(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        except OSError:
            pass  # it was not listening
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                if self._cut or self._closed or listener is not self._listener:
                    client.close()
                    return
                connection = Connection(self, client)
                self.accepted += 1
                self._connections.add(connection)
                connection.start()  # before any thread may wait for its end


def _bind(port: int) -> socket.socket:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((_HOST, port))
    except OSError:
        s.close()
        raise
    return s


def _listen_anywhere() -> tuple[socket.socket, int]:
    for _ in range(20):
        (port,) = free_ports(1)
        try:
            return _bind(port), port
        except OSError:
            continue  # taken meanwhile
    raise OSError("no free port for the proxy")
