"""One of many processes that race for the slots of a lock.

It acquires and releases the lock again and again, until the file STOP exists. It assumes one slot: the policy says how
many there are.
"""

from __future__ import annotations

import os
import random
import time

from distlock_core import AcquireTimeout, EtcdUnavailable, connect


def main(endpoint: str, prefix: str, stop: str) -> None:
    realm = connect([endpoint], prefix, connect_timeout=30)
    while not os.path.exists(stop):
        try:
            with realm.lock("web", timeout=2):
                time.sleep(random.uniform(0.02, 0.06))
        except (AcquireTimeout, EtcdUnavailable):
            pass  # a dozen processes, and what else runs here, may be too much for an etcd
