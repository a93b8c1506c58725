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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet_worker")
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--nodes", required=True, help="FIRST:LAST")
    parser.add_argument("--locks", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--ttl", type=int)
    parser.add_argument("--hold", type=float, required=True)
    options = parser.parse_args()
    first, last = map(int, options.nodes.split(":"))
    endpoints = options.endpoints.split(",")
    failures: list[str] = []

    def stand(node: int) -> None:
        # Each begins at another member, as clients with shuffled lists do.
        turn = node % len(endpoints)
        try:
            with connect(endpoints[turn:] + endpoints[:turn], options.prefix, connect_timeout=60) as realm:
                name = f"lock-{node % options.locks:03}"
                with realm.lock(name, f"node-{node}", timeout=-1, slots=options.slots, ttl=options.ttl):
                    time.sleep(options.hold)
        except DistlockError as error:
            failures.append(str(error))

    threading.stack_size(STACK)
    threads = [threading.Thread(target=stand, args=(node,)) for node in range(first, last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"failures": failures[:3], "failed": len(failures), "cpu": used.ru_utime + used.ru_stime}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
