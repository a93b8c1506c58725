"""One of several processes that race for the same locks.

Its work inside is safe only without another one inside of any of these locks: for each it makes a file that must not
exist.
"""

from __future__ import annotations

import os
from pathlib import Path

from distlock_core import connect


def main(endpoint: str, prefix: str, folder: str, turns: str, *names: str) -> None:
    realm = connect([endpoint], prefix)
    for _ in range(int(turns)):
        with realm.lock(names, timeout=60) as lock:
            assert list(lock.tokens) == list(names)
            for name in names:
                os.close(os.open(Path(folder, name), os.O_CREAT | os.O_EXCL))
            for name in names:
                Path(folder, name).unlink()
