"""nginx in front of etcd, as a process of the test."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence

from distlock_core.embedded.ports import free_ports

BOUND = 20.0


class Nginx:
    """nginx on a loopback port, in the foreground, with all its files in one folder. `close()` it."""

    def __init__(
        self, binary: str, folder: str, upstreams: Sequence[str], *, http: str = "", location: str = ""
    ) -> None:
        """`upstreams` are host:port, used in turn; `http` and `location` are further lines of its configuration."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        servers = "".join(f"server {one} max_fails=0;" for one in upstreams)
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
        )
        config = os.path.join(folder, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;"
                "events { worker_connections 256; }"
                f"http {{ access_log {folder}/access.log; {paths} {http}"
                f"upstream etcd {{ {servers} keepalive 16; }}"
                f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://etcd; {location} }} }} }}"
            )
        self.folder = folder
        self._process = subprocess.Popen(
            [binary, "-p", folder, "-e", f"{folder}/error.log", "-c", config], stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + BOUND
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    with open(f"{folder}/error.log", encoding="utf-8") as log:
                        raise AssertionError(f"nginx does not answer: {log.read()}") from None
                time.sleep(0.02)

    def asked(self) -> list[str]:
        """The access log: a line for each answered request."""
        with open(f"{self.folder}/access.log", encoding="utf-8") as log:
            return log.read().splitlines()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
