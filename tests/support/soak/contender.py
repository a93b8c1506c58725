"""A contender for the lock: checks continuously whether it has it, and records the answers.

Usage: python -m tests.support.soak.contender ENDPOINTS PREFIX NAME TTL FILE [gullible]

SIGTERM ends it in order. A gullible one keeps its first True forever: the judge has to detect it.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from distlock_core import LockManager, connect
from tests.support.soak.spans import Log, clock

PAUSE = 0.002  # seconds between two samples


def main() -> None:
    endpoints, prefix, name, ttl, file, *rest = sys.argv[1:]
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    log = Log(Path(file))
    believed = None
    with connect(endpoints, prefix) as realm, LockManager(realm, name, int(ttl), value=file) as manager:
        while not over.wait(PAUSE):
            before = manager.token
            begun = clock()
            mine = manager.have_lock()
            returned = clock()
            if believed is not None:
                log.saw(believed, begun, returned)
            elif not mine:
                log.saw_nothing()
            elif before is not None and before == manager.token:
                log.saw(before, begun, returned)
                believed = before if rest == ["gullible"] else None


if __name__ == "__main__":
    main()
