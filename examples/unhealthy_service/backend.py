"""A service that holds a lock while it is healthy. The lock's value is its address, where callers find it.

    python examples/unhealthy_service/backend.py [--sick-file=/tmp/sick] [--endpoints=http://127.0.0.1:2379]

While the file exists the service counts as unhealthy and releases its lock, so that nobody calls it. When the file is
removed, it acquires the lock again, and the calls continue. If the service is killed, or hangs for longer than the ttl,
its lock expires, and the calls stop as well.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from distlock_core import LockManager, connect


class Work(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"done\n")

    def log_message(self, *_: object) -> None:
        print("called", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoints", default="http://127.0.0.1:2379")
    parser.add_argument("--prefix", default="/distlock/")
    parser.add_argument("--sick-file", default="/tmp/sick")
    parser.add_argument("--ttl", type=int, default=5, help="seconds until a dead service is no longer called")
    args = parser.parse_args()

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    realm = connect(args.endpoints, args.prefix)
    with ThreadingHTTPServer(("127.0.0.1", 0), Work) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        while not over.is_set():
            if is_healthy(args.sick_file):
                with LockManager(realm, "backend", args.ttl, value=url):
                    while is_healthy(args.sick_file) and not over.wait(0.2):
                        pass
            over.wait(0.2)
        server.shutdown()
    return 0


def is_healthy(sick_file: str) -> bool:
    return not os.path.exists(sick_file)


if __name__ == "__main__":
    sys.exit(main())
