"""The environment of a command under a lock. For what a nested distlock reads from it see `process/nesting.py`."""

from __future__ import annotations

import os

from distlock_core.process.nesting import HELD, LEASE, TOKEN, held_around, without_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from distlock_core.lock.lock import Lock


def for_command(environ: Mapping[str, str], lock: Lock) -> dict[str, str]:
    """The environment of a command under `lock`."""
    child = without_own(environ)
    this_key = os.fsdecode(lock.key.encode())  # as bytes, independent of the locale
    around = held_around(environ)
    outer = [f"{number} {os.fsdecode(key)}" for key, number in around.items() if os.fsdecode(key) != this_key]
    child[TOKEN] = str(lock.token)
    if lock.lease is not None:
        child[LEASE] = f"{lock.lease:x}"
    child[HELD] = "\n".join([this_key, *outer])
    return child
