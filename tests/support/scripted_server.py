"""A scripted server on loopback, which stands for a program that is no etcd, or a hostile one."""

from __future__ import annotations

import socket
import threading
import time
from typing import Callable

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def as_chunks(data: bytes, size: int) -> list[bytes]:
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in (data[i : i + size] for i in range(0, len(data), size))]


def reply(status: str, body: bytes | str, *headers: str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def chunked(*chunks: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks
    )


class Script:
    """A server on loopback that reads one request per connection, and gives a scripted answer."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.recv(65536)
            try:
                self._answer(client)
            except OSError:
                pass  # the client has disconnected

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def says(*pieces: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)

    return answer
