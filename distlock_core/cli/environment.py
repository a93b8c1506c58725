"""The environment of a command under a lock. For what a nested distlock reads from it see `process/nesting.py`."""

from __future__ import annotations

import os

from distlock_core.process.nesting import HELD, TOKEN, held_around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from distlock_core.lock.lock import Lock

LEASE = "DISTLOCK_LEASE"

# Settings of this call alone: a distlock inside the command must not use them by accident.
FOR_THIS_CALL = (
    *("LOCKNAME", "REASON", "VALUE", "TIMEOUT", "NOWAIT", "ID", "SLOTS", "TTL", "REFRESH", "KILL_AFTER", "ON_LOSS"),
    *("ON_FAILURE", "RECORD_ARGUMENTS", "WAIT_FOR", "COOLDOWN", "HEARTBEAT", "NODE", "WHILE_PID"),
    *("ONLY_IF", "UNLESS"),
)


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


def without_own(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a line of shell that is asked before there is a lock: without what steers this call alone."""
    own = {f"DISTLOCK_{word}" for word in FOR_THIS_CALL} | {LEASE}
    return {name: value for name, value in environ.items() if name not in own}
