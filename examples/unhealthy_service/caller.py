"""Calls the service in backend.py, and stops as soon as the service has lost its lock.

    python examples/unhealthy_service/caller.py [--endpoints=http://127.0.0.1:2379]

One thread watches the lock for the service's address, and the other one calls that address. The caller learns from the
lock that the service is gone, not from calls that fail.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from urllib.request import urlopen

from distlock_core import connect
from distlock_core.events.watch import Watching


class Backend:
    """The address of the service; None while it is not healthy."""

    url: str | None = None

    def follow(self, changes: Watching) -> None:
        for change in changes:
            self.url = None if change.kind == "released" else change.value
            print(f"calling {self.url}" if self.url else "nobody to call", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoints", default="http://127.0.0.1:2379")
    parser.add_argument("--prefix", default="/distlock/")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two calls")
    args = parser.parse_args()

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    backend = Backend()
    with connect(args.endpoints, args.prefix).watch("backend") as changes:
        follower = threading.Thread(target=backend.follow, args=(changes,))
        follower.start()
        while not over.wait(args.every):
            url = backend.url
            if url is not None:
                call(url)
    follower.join()
    return 0


def call(url: str) -> None:
    try:
        with urlopen(url, timeout=5) as answer:
            answer.read()
    except OSError as error:
        print(f"failed: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
