"""Some nodes of a simulated fleet, in one process: the library as it is, a thread and connections for each node."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time

from bench.line import STACK
from distlock_core import DistlockError, connect

ARRIVING = 8  # nodes of this process


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet_worker")
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--nodes", required=True, help="FIRST:LAST")
    parser.add_argument("--locks", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--ttl", type=int)
    parser.add_argument("--hold", type=float, required=True)
    parser.add_argument("--ticket-ttl", type=int, required=True)
    options = parser.parse_args()
    first, last = map(int, options.nodes.split(":"))
    endpoints = options.endpoints.split(",")
    failures: list[str] = []
    # Nodes do not arrive in the same millisecond: only this number joins the queue at a time.
    entrance = threading.BoundedSemaphore(ARRIVING)

    def stand(node: int) -> None:
        inside = threading.Event()

        def arrived(_: object) -> None:
            if not inside.is_set():
                inside.set()
                entrance.release()

        # Each starts with a different member, as clients with shuffled lists do.
        turn = node % len(endpoints)
        try:
            with connect(endpoints[turn:] + endpoints[:turn], options.prefix, connect_timeout=60) as realm:
                name = f"lock-{node % options.locks:03}"
                lock = realm.lock(
                    name, f"node-{node}", slots=options.slots, ttl=options.ttl, ticket_ttl=options.ticket_ttl
                )
                lock.acquire(timeout=-1, progress=arrived)
                try:
                    arrived(None)
                    time.sleep(options.hold)
                finally:
                    lock.release()
        except DistlockError as error:
            failures.append(str(error))
        finally:
            arrived(None)

    threading.stack_size(STACK)
    threads = [threading.Thread(target=stand, args=(node,)) for node in range(first, last)]
    for thread in threads:
        entrance.acquire()
        thread.start()
    for thread in threads:
        thread.join()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"failures": failures[:3], "failed": len(failures), "cpu": used.ru_utime + used.ru_stime}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
