"""Stands in for each node's service manager: stops and starts the node's etcd member on request."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Sequence

from distlock_core.testing import Member


class Services:
    """Listens on loopback for the lines "stop NAME" and "start NAME", and answers "ok" when it is done."""

    def __init__(self, members: Sequence[Member]) -> None:
        by_name = {member.name: member for member in members}

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                verb, name = self.rfile.readline().decode().split()
                {"stop": by_name[name].stop, "start": by_name[name].start}[verb]()
                self.wfile.write(b"ok\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
