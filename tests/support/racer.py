"""One of several processes that race for a lock.

Its work inside is safe only without another one inside: it makes a file that must not exist, and increments a counter
by reading and writing it.
"""

from __future__ import annotations

import os
from pathlib import Path

from distlock_core import connect


def main(endpoint: str, prefix: str, folder: str, turns: str) -> None:
    inside, counter, tokens = (Path(folder, name) for name in ("inside", "counter", "tokens"))
    realm = connect([endpoint], prefix)
    for _ in range(int(turns)):
        with realm.lock("web", timeout=60) as lock:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            count = int(counter.read_text()) if counter.exists() else 0
            with open(tokens, "a", encoding="ascii") as file:
                file.write(f"{lock.token}\n")
            counter.write_text(str(count + 1))
            inside.unlink()
