"""A small HTTP/1.1 client for etcd's JSON gateway.

Why not `http.client`: it loads the email package and ssl, which cost a short-lived `distlock` as much as the rest of
its start together, and its timeouts count per read, so a server that drips bytes outlasts any deadline. Here every
wait is a `Patience`: one deadline for the whole call, interruptible.
"""

from __future__ import annotations

import _socket as socket  # what `socket` makes enumerations of, which takes a tenth of a short-lived distlock's time
import errno
import os
import select

from distlock_core.etcd.http_reply import TIMED_OUT, ConnectionLost, Inbox, Reply
from distlock_core.patience import Patience, ready_within
from distlock_core.values import Value

__all__ = ["CHUNK", "Address", "ConnectFailed", "Connection", "ConnectionLost", "aside", "reason_of", "resolve"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    Answer = TypeVar("Answer")
    AddressInfo = Sequence[tuple[Any, ...]]

CHUNK = 256 * 1024  # bytes of one read


class ConnectFailed(Exception):
    """No connection came about: nothing was sent."""


class Address(Value):
    """Where an endpoint listens. `url` is how it is called in messages."""

    url: str
    host: str
    port: int
    tls: bool = False


class Connection:
    """One connection to one address, for one request at a time."""

    def __init__(self, address: Address, patience: Patience) -> None:
        """Connect. Raises `ConnectFailed`, `Cancelled`."""
        self.address = address
        self._inbox = Inbox(self)
        self._socket = _connect(address, patience)

    def open(self, path: str, body: bytes, patience: Patience, headers: dict[str, str] | None = None) -> Reply:
        """Send a request and read the head of the response. Raises `ConnectionLost`, `Cancelled`."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{self.address.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        )
        self._send(head.encode("latin-1") + body, patience)
        return Reply(self._inbox, patience)

    def is_stale(self) -> bool:
        """True when the server has hung up (or says something unasked) while the connection was idle."""
        return bool(self._inbox.data) or bool(ready_within(0, {self._socket.fileno(): select.POLLIN}))

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
                # Looked at by itself: a server that reads a byte at a time is always just about ready.
                if patience.over() or not patience.wait(self._socket.fileno(), select.POLLOUT):
                    raise ConnectionLost(TIMED_OUT) from None
            except OSError as error:
                raise ConnectionLost(reason_of(error)) from error

    def receive(self, patience: Patience) -> bytes | None:
        """Some bytes, b"" at the end of the connection, None at the deadline."""
        while True:
            try:
                return self._socket.recv(CHUNK)
            except BlockingIOError:
                if not patience.wait(self._socket.fileno()):
                    return None
            except OSError as error:
                raise ConnectionLost(reason_of(error)) from error


def _connect(address: Address, patience: Patience) -> socket.socket:
    problem = "no address"
    for family, kind, protocol, _, target in resolve(address, patience):
        attempt = socket.socket(family, kind, protocol)
        attempt.setblocking(False)
        try:
            code = attempt.connect_ex(target)
            if code == errno.EINPROGRESS:
                if not patience.wait(attempt.fileno(), select.POLLOUT):
                    raise ConnectFailed("timed out")
                code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                # A request is one small segment that waits for its answer: nothing is gained by holding it back.
                attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return attempt
            problem = reason_of(OSError(code, os.strerror(code)))
        except BaseException:
            attempt.close()
            raise
        attempt.close()
    raise ConnectFailed(problem)


def resolve(address: Address, patience: Patience) -> AddressInfo:
    """The addresses of a host. A resolver that hangs is left behind at the deadline, in a thread of its own."""
    # As bytes: for a string Python loads its codec for international names first.
    host = address.host.encode("ascii" if address.host.isascii() else "idna")
    try:
        return socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    try:
        found = aside(lambda: socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM), patience)
    except OSError as error:
        raise ConnectFailed(f"its name does not resolve: {error.strerror}") from error
    if found is None:
        raise ConnectFailed("its name was not resolved in time")
    return found


def aside(work: Callable[[], Answer], patience: Patience, name: str = "distlock-resolve") -> Answer | None:
    """Do something that cannot be interrupted in a thread of its own, which is left behind at the deadline: None.

    Raises what the work raises, and `Cancelled`.
    """
    from distlock_core.threads import start_thread

    answers: list[Answer] = []
    errors: list[Exception] = []
    reader, writer = os.pipe()

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            errors.append(error)
        finally:
            os.close(writer)

    start_thread(run, name)
    try:
        if not patience.wait(reader):
            return None
    finally:
        os.close(reader)
    if errors:
        raise errors[0]
    return answers[0]


def reason_of(error: OSError) -> str:
    return (error.strerror or str(error) or "failed").lower()
