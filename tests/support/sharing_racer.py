"""One of several processes that share a lock or hold it alone.

Under the lock it appends `begin KIND` to the log, and `end KIND` before it releases.
"""

from __future__ import annotations

import os
import random
import time

from distlock_core import connect


def main(endpoint: str, prefix: str, log: str, kind: str, turns: str) -> None:
    realm = connect([endpoint], prefix, connect_timeout=30)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(int(turns)):
        time.sleep(random.uniform(0, 0.1))
        with realm.lock("web", f"{kind}-{os.getpid()}", shared=kind == "shared", timeout=120):
            os.write(file, f"begin {kind}\n".encode())
            time.sleep(random.uniform(0.02, 0.06))
            os.write(file, f"end {kind}\n".encode())
