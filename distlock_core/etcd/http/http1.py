"""A small HTTP/1.1 client for etcd's JSON gateway.

It replaces `http.client`, which imports the email package and ssl (as slow as the rest of a short-lived distlock's
start together), and whose timeouts count per read, so that a server that sends single bytes outlasts any deadline. Here
every wait has a `Patience`: one deadline for the whole call, interruptible.
"""

from __future__ import annotations

import select

from distlock_core.base.deadline import Patience, ready_within
from distlock_core.etcd.address import Address
from distlock_core.etcd.happy_eyeballs import ConnectFailed, aside, open_socket, reason_of
from distlock_core.etcd.http.reply import TIMED_OUT, ConnectionLost, Inbox, Reply

__all__ = ["CHUNK", "Address", "ConnectFailed", "Connection", "ConnectionLost", "aside", "reason_of"]

CHUNK = 256 * 1024  # bytes of one read


class Connection:
    """One connection to one address, for one request at a time."""

    def __init__(self, address: Address, patience: Patience) -> None:
        """Connect. Raises `ConnectFailed`, `Cancelled`."""
        self.address = address
        self._inbox = Inbox()  # without a reference back, so that a dropped connection is closed at once
        # Its address, and the number of other addresses to try if it stays silent.
        self._socket, self.where, self.others = open_socket(address, patience)

    def open(
        self, path: str, body: bytes, patience: Patience, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> Reply:
        """Send a request and read the head of the response. Raises `ConnectionLost`, `Cancelled`."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}:{self.address.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        )
        self._send(head.encode("latin-1") + body, patience)
        return Reply(self, self._inbox, patience)

    def is_stale(self) -> bool:
        """True if the server has disconnected (or sent something) while the connection was idle."""
        return bool(self._inbox.data) or bool(ready_within(0, {self._socket.fileno(): select.POLLIN}))

    def await_answer(self, patience: Patience) -> bool:
        """Wait for data: the server has then finished the request. False at the deadline."""
        return patience.wait(self._socket.fileno())

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes, patience: Patience) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                # Checked separately: the socket of a server that reads single bytes is always ready.
                if patience.over() or not patience.wait(self._socket.fileno(), select.POLLOUT):
                    raise ConnectionLost(TIMED_OUT) from None
            except OSError as error:
                raise ConnectionLost(reason_of(error)) from error

    def receive(self, patience: Patience) -> bytes | None:
        """Return some bytes, b"" at the end of the connection, None at the deadline."""
        while True:
            try:
                return self._socket.recv(CHUNK)
            except BlockingIOError:
                if not patience.wait(self._socket.fileno()):
                    return None
            except OSError as error:
                raise ConnectionLost(reason_of(error)) from error
