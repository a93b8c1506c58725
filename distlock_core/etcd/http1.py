"""A small HTTP/1.1 client for etcd's JSON gateway.

Why not `http.client`: it loads the email package and ssl, which cost a short-lived `distlock` as much as the rest of
its start together, and its timeouts count per read, so a server that drips bytes outlasts any deadline. Here every
wait is a `Patience`: one deadline for the whole call, interruptible.
"""

from __future__ import annotations

import select

from distlock_core.etcd.address import Address, ConnectFailed, aside, connect, reason_of
from distlock_core.patience import Patience

__all__ = ["CHUNK", "Address", "ConnectFailed", "Connection", "ConnectionLost", "Stream", "aside", "reason_of"]

MAX_HEAD = 64 * 1024  # bytes; a status line and headers beyond this are no etcd
CHUNK = 64 * 1024


class ConnectionLost(Exception):
    """The connection broke, or the time was up, after the request may have been sent."""


class Connection:
    """One connection to one address, for one request at a time."""

    def __init__(self, address: Address, patience: Patience) -> None:
        """Connect. Raises `ConnectFailed`, `Cancelled`."""
        self.address = address
        self._buffer = b""
        # Where it leads, and how many other addresses there are to try if nothing is heard there.
        self._socket, self.where, self.others = connect(address, patience)

    def open(self, path: str, body: bytes, patience: Patience, headers: dict[str, str] | None = None) -> Stream:
        """Send a request and read the head of the response. Raises `ConnectionLost`, `Cancelled`."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{self.address.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        )
        self._send(head.encode("latin-1") + body, patience)
        return Stream(self, *self._read_head(patience))

    def is_stale(self) -> bool:
        """True when the server has hung up (or says something unasked) while the connection was idle."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(self._buffer) or bool(poll.poll(0))

    def await_answer(self, patience: Patience) -> bool:
        """Wait for something to read: then the server is done with what it was asked. False at the deadline."""
        return patience.wait(self._socket.fileno())

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes, patience: Patience) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                if not patience.wait(self._socket.fileno(), select.POLLOUT):
                    raise ConnectionLost("timed out") from None
            except OSError as error:
                raise ConnectionLost(reason_of(error)) from error

    def _receive(self, patience: Patience) -> bytes | None:
        """Some bytes, b"" at the end of the connection, None at the deadline."""
        while True:
            try:
                return self._socket.recv(CHUNK)
            except BlockingIOError:
                if not patience.wait(self._socket.fileno()):
                    return None
            except OSError as error:
                raise ConnectionLost(reason_of(error)) from error

    def _read_head(self, patience: Patience) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            data = self._receive(patience)
            if data is None:
                raise ConnectionLost("timed out")
            self._buffer += data
            if not data or len(self._buffer) > MAX_HEAD:
                raise ConnectionLost("closed the connection" if not data else "no HTTP answer")
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ConnectionLost("no HTTP answer")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(rest[:3]), headers


class Stream:
    """The body of one response, as it comes."""

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "")
        self._left: int | None = int(length) if length.isdigit() and not self._chunked else None
        self._ended = self._left == 0

    @property
    def reusable(self) -> bool:
        """True when the body has been read to its end and the server keeps the connection open."""
        delimited = self._chunked or self._left is not None
        return self._ended and delimited and self.headers.get("connection", "").lower() != "close"

    def read(self, patience: Patience) -> bytes | None:
        """Some of the body, b"" at its end, None at the deadline. Raises `ConnectionLost`, `Cancelled`."""
        if self._ended:
            return b""
        return self._read_chunk(patience) if self._chunked else self._read_plain(patience)

    def read_all(self, patience: Patience) -> bytes:
        """All of the body. Raises `ConnectionLost`, at the deadline too, and `Cancelled`."""
        parts = []
        while part := self.read(patience):
            parts.append(part)
        if part is None:
            raise ConnectionLost("timed out")
        return b"".join(parts)

    def _read_plain(self, patience: Patience) -> bytes | None:
        if not self._connection._buffer and not self._fill(patience):
            return None
        data, self._connection._buffer = self._connection._buffer, b""
        if self._left is None:
            return data
        data, self._connection._buffer = data[: self._left], data[self._left :]
        self._left -= len(data)
        self._ended = self._left == 0
        if not data:
            raise ConnectionLost("closed the connection")
        return data

    def _read_chunk(self, patience: Patience) -> bytes | None:
        # A chunk is taken only when all of it is here: a deadline in the middle then loses nothing.
        connection = self._connection
        while True:
            line, newline, rest = connection._buffer.partition(b"\r\n")
            if newline:
                size = _chunk_size(line)
                if len(rest) >= size + 2:
                    connection._buffer = rest[size + 2 :]
                    self._ended = size == 0
                    return rest[:size]
            if not self._fill(patience):
                return None
            if self._ended:
                raise ConnectionLost("closed the connection")

    def _fill(self, patience: Patience) -> bool:
        """Read more into the buffer: False at the deadline. At the connection's end, `_ended`."""
        data = self._connection._receive(patience)
        if data is None:
            return False
        self._connection._buffer += data
        self._ended = not data
        return True


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise ConnectionLost("no HTTP answer") from None
