"""One client's connection through the proxy, with its connection to etcd: a thread and two sockets."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Callable, NamedTuple

from distlock_core.testing.held import Held
from distlock_core.testing.http1 import HEAD_END, Body, Head

if TYPE_CHECKING:
    from typing import Protocol

    class Rules(Protocol):
        """The proxy's rules for connections, and a condition that is notified when they change."""

        target: tuple[str, int]
        changed: threading.Condition
        blackholed: bool
        muted: bool
        latency: float
        damaged: int

        def admit(self, path: str, body: bytes) -> Exchange: ...

        def ended(self, connection: Connection) -> None: ...


_STREAMS = ("/watch", "/lease/keepalive", "/election/observe", "/maintenance/snapshot")
_HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_CONNECT_TIMEOUT = 5.0
_MUTED_POLL = 10  # milliseconds between two checks whether a tunnel is still mute


class Exchange(NamedTuple):
    """A request, with the rules for itself (inward) and for its reply (outward)."""

    path: str
    body: bytes
    inward: tuple[str, bytes | int | Held] | None
    outward: tuple[str, bytes | int | Held] | None

    @property
    def is_stream(self) -> bool:
        """True if its reply may be endless."""
        return self.path.endswith(_STREAMS)


class HungUp(Exception):
    """One of the two sides has closed the connection, or the proxy closes both."""


class Connection(threading.Thread):
    """Forwards a client's requests to etcd and the replies back, until client, etcd or proxy closes it."""

    def __init__(self, proxy: Rules, client: socket.socket) -> None:
        super().__init__(name="proxy-connection", daemon=True)
        self.streaming = False
        self.silent = False
        self._proxy = proxy
        self._client = client
        self._etcd: socket.socket | None = None
        self._closed = False
        self._from_client = b""
        self._from_etcd = b""

    def run(self) -> None:
        """Forward one exchange after another, until the end."""
        try:
            while self._exchange():
                pass
        except (HungUp, OSError, ValueError):
            pass
        finally:
            self.close()
            self._client.close()
            if self._etcd is not None:
                self._etcd.close()
            self._proxy.ended(self)

    def close(self) -> None:
        """Close both sides, from any thread. The connection's thread wakes up and ends."""
        self._closed = True
        self.streaming = False
        for s in (self._client, self._etcd):
            if s is not None:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # already closed by the other side

    def _exchange(self) -> bool:
        while not self._from_client:
            self._from_client += self._receive_client()
        if _is_not_http(self._from_client):
            return self._tunnel()
        head = Head(self._read_head())
        body = Body(head, reply=False)
        raw = bytearray(head.raw)
        while not body.done:
            self._from_client = self._from_client or self._receive_client()
            taken = body.feed(self._from_client)
            raw += self._from_client[:taken]
            self._from_client = self._from_client[taken:]
        exchange = self._proxy.admit(head.path, bytes(body.content))
        if exchange.inward is not None and exchange.inward[0] == "cut_request":
            assert isinstance(exchange.inward[1], int)
            self._proxy.damaged = len(raw)
            self._to_etcd().sendall(raw[: exchange.inward[1]])
            self._to_etcd().shutdown(socket.SHUT_WR)
            self._reply(exchange)
            return False
        if exchange.inward is not None and not self._obey(*exchange.inward, exchange.body):
            return False
        self._pass_gate()
        self._to_etcd().sendall(raw)
        return self._reply(exchange) and not head.last

    def _reply(self, exchange: Exchange) -> bool:
        while True:
            while HEAD_END not in self._from_etcd:
                self._from_etcd += self._receive_etcd()
            raw, _, self._from_etcd = self._from_etcd.partition(HEAD_END)
            head = Head(raw + HEAD_END)
            if head.status >= 200:
                break
            self._client.sendall(head.raw)  # 1xx: the reply proper follows
        if exchange.outward is not None and exchange.outward[0] in ("cut_reply", "garble_reply"):
            return self._damage(head, *exchange.outward)
        # The head of a unary reply proves that etcd has answered: the gateway sends it only then.
        if exchange.outward is not None and not self._obey(*exchange.outward, exchange.body):
            return False
        self._block_while(self._is_mute)
        self._client.sendall(head.raw)
        self._set_streaming(exchange.is_stream)
        body = Body(head, reply=True)
        while not body.done:
            if not self._from_etcd:
                self._from_etcd = self._receive_etcd()
                if exchange.is_stream:
                    self._pass_gate()
            self._block_while(self._is_mute)
            taken = body.feed(self._from_etcd)
            body.content.clear()  # unused, and a stream has no end
            self._client.sendall(self._from_etcd[:taken])
            self._from_etcd = self._from_etcd[taken:]
        self._set_streaming(False)
        return not head.last

    def _damage(self, head: Head, action: str, position: bytes | int | Held) -> bool:
        """Forward the reply, truncated or garbled at a position."""
        assert isinstance(position, int)
        body, raw = Body(head, reply=True), bytearray(head.raw)
        while not body.done:
            self._from_etcd = self._from_etcd or self._receive_etcd()
            taken = body.feed(self._from_etcd)
            raw += self._from_etcd[:taken]
            self._from_etcd = self._from_etcd[taken:]
        self._proxy.damaged = len(raw)
        if action == "cut_reply":
            self._client.sendall(raw[:position])
            return False
        raw[position % len(raw)] = 0x7E  # a tilde: not in a number, in base64 or in JSON's syntax
        self._client.sendall(raw)
        return not head.last

    def _obey(self, action: str, payload: bytes | int | Held, body: bytes) -> bool:
        """Apply a rule. Return False if the connection is to be closed."""
        if action == "garble":
            assert isinstance(payload, bytes)
            self._client.sendall(payload)
            return False
        if action in ("lose_request", "lose_reply"):
            return False
        assert isinstance(payload, Held)
        held = payload
        with self._proxy.changed:
            held.catch(body)
        self._block_while(lambda: held.pending)
        return not held.dropped

    def _tunnel(self) -> bool:
        """Forward bytes both ways without parsing them."""
        etcd = self._to_etcd()
        poll = select.poll()
        poll.register(self._client, select.POLLIN)
        poll.register(etcd, select.POLLIN)
        self._pass_gate()
        etcd.sendall(self._from_client)
        while True:
            for fd, _ in poll.poll(_MUTED_POLL if self._from_etcd else None):
                source = self._client if fd == self._client.fileno() else etcd
                data = source.recv(65536)
                if not data:
                    return False
                self._pass_gate()
                if source is etcd:
                    self._from_etcd += data
                else:
                    etcd.sendall(data)
            if self._from_etcd and not self._proxy.muted and not self.silent:
                self._client.sendall(self._from_etcd)
                self._from_etcd = b""

    def _read_head(self) -> bytes:
        while HEAD_END not in self._from_client:
            self._from_client += self._receive_client()
        head, _, self._from_client = self._from_client.partition(HEAD_END)
        return head + HEAD_END

    def _receive_client(self) -> bytes:
        return self._receive(self._client, self._etcd)

    def _receive_etcd(self) -> bytes:
        return self._receive(self._to_etcd(), self._client)

    def _receive(self, source: socket.socket, other: socket.socket | None) -> bytes:
        """The next bytes of `source`. Raises HungUp once either side has disconnected with nothing left to read."""
        poll = select.poll()
        poll.register(source, select.POLLIN | _HUNG_UP)
        if other is not None:
            poll.register(other, _HUNG_UP)  # not POLLIN: early data of the other side is read later
        ready = dict(poll.poll())
        if ready.get(source.fileno(), 0) & select.POLLIN:
            data = source.recv(65536)
            if data:
                return data
        raise HungUp

    def _to_etcd(self) -> socket.socket:
        if self._etcd is None:
            etcd = socket.create_connection(self._proxy.target, timeout=_CONNECT_TIMEOUT)
            etcd.settimeout(None)
            etcd.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._etcd = etcd
            if self._closed:
                raise HungUp
        return self._etcd

    def _pass_gate(self) -> None:
        """Wait as long as delay(), blackhole() and silence() require."""
        until = time.monotonic() + self._proxy.latency
        self._block_while(lambda: self._proxy.blackholed or self.silent or time.monotonic() < until)

    def _is_mute(self) -> bool:
        return self._proxy.blackholed or self._proxy.muted or self.silent

    def _block_while(self, condition: Callable[[], bool]) -> None:
        """Wait under the proxy's lock. Raises HungUp if the connection is closed meanwhile."""
        poll = select.poll()
        poll.register(self._client, _HUNG_UP)
        with self._proxy.changed:
            while condition():
                self._proxy.changed.wait(0.01)
                if self._closed or poll.poll(0):
                    raise HungUp  # even if it was just released: nothing is done for a client that has given up

    def _set_streaming(self, streaming: bool) -> None:
        with self._proxy.changed:
            if self._closed:
                raise HungUp
            self.streaming = streaming
            self._proxy.changed.notify_all()


def _is_not_http(data: bytes) -> bool:
    # 0x16 begins a TLS handshake, "PRI * HTTP/2.0" a gRPC connection without TLS.
    return data[:1] == b"\x16" or data.startswith(b"PRI ")
