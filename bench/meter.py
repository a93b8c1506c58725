"""A forwarder in front of etcd that counts requests, and bytes in each direction."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOST = "127.0.0.1"
_REQUEST = b"POST /v3/"
_PIECE = 65536


@dataclass
class Traffic:
    """Totals since the start; `read` is the number of bytes that clients received."""

    requests: int = 0
    sent: int = 0
    read: int = 0

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(self.requests - before.requests, self.sent - before.sent, self.read - before.read)


class Meter:
    """Forwards a free port to one endpoint over plain HTTP, until the end of the ``with`` block."""

    def __init__(self, endpoint: str) -> None:
        target = urllib.parse.urlsplit(endpoint)
        self._target = (target.hostname or _HOST, target.port or 2379)
        self._listener = socket.create_server((_HOST, 0), backlog=512)
        self.endpoint = f"http://{_HOST}:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._seen = Traffic()
        self._open: set[socket.socket] = set()

    def traffic(self) -> Traffic:
        with self._lock:
            return Traffic(self._seen.requests, self._seen.sent, self._seen.read)

    def __enter__(self) -> Meter:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for end in left:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for run in (self._forward_requests, self._forward_replies):
                threading.Thread(target=run, args=(client, server), daemon=True).start()

    def _forward_requests(self, client: socket.socket, server: socket.socket) -> None:
        tail = b""
        with self._kept(client):
            for piece in _pieces(client, server):
                with self._lock:
                    self._seen.sent += len(piece)
                    self._seen.requests += (tail + piece).count(_REQUEST)
                tail = piece[1 - len(_REQUEST) :]

    def _forward_replies(self, client: socket.socket, server: socket.socket) -> None:
        with self._kept(server):
            for piece in _pieces(server, client):
                with self._lock:
                    self._seen.read += len(piece)

    @contextlib.contextmanager
    def _kept(self, end: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(end)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(end)
            end.close()


def _pieces(source: socket.socket, target: socket.socket) -> Iterator[bytes]:
    """Bytes read from the source that are to be written to the target; the end of the source ends the target."""
    with contextlib.suppress(OSError):
        while True:
            piece = source.recv(_PIECE)
            if not piece:
                break
            yield piece
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
