"""A singleton: of all instances of this program, on any number of machines, one at a time does the job.

    python examples/singleton.py [--endpoints=http://127.0.0.1:2379] [--file=job.log]

Start several instances, then kill the working one in any way: another one takes over, at once if the killed one could
still release the lock, otherwise within the ttl. The job appends a line with the lock's token to a file: a reader
recognizes the lines of an earlier holder by their smaller token.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

from distlock_core import LockManager, Notice, connect


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoints", default="http://127.0.0.1:2379")
    parser.add_argument("--prefix", default="/distlock/")
    parser.add_argument("--file", default="job.log")
    parser.add_argument("--ttl", type=int, default=10, help="seconds until a dead instance is replaced")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two runs of the job")
    args = parser.parse_args()

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    realm = connect(args.endpoints, args.prefix)
    with LockManager(realm, "singleton", args.ttl, reason="the job", listener=tell) as manager:
        print(f"{manager.owner} stands for the job", flush=True)
        while not over.wait(args.every):
            token = manager.token  # None unless have_lock()
            if token is not None:
                do_the_job(args.file, token, manager.owner)
    return 0


def do_the_job(file: str, token: int, owner: str) -> None:
    with open(file, "a", encoding="utf-8") as log:
        log.write(f"{token} {owner} {time.strftime('%H:%M:%S')}\n")


def tell(notice: Notice) -> None:
    print(f"{notice.kind} {notice.lock}, token {notice.token}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
