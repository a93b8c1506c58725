"""A service that can be found by its name: it holds the lock of that name, and the lock's value is its address.

    python examples/name_server/service.py db 10.1.1.1 [--endpoints=http://127.0.0.1:2379]

Start a second one for the same name with another address: it stands by, and takes over the name if the first ends.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from distlock_core import LockManager, connect


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("address")
    parser.add_argument("--endpoints", default="http://127.0.0.1:2379")
    parser.add_argument("--prefix", default="/names/", help="a separate realm: every lock in it is a name")
    parser.add_argument("--ttl", type=int, default=10, help="seconds until a dead service loses its name")
    args = parser.parse_args()

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with LockManager(connect(args.endpoints, args.prefix), args.name, args.ttl, value=args.address):
        over.wait()  # a real one would serve here
    return 0


if __name__ == "__main__":
    sys.exit(main())
