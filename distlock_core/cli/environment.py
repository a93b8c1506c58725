"""The environment of a command under a lock. For what a nested distlock reads from it see `process/nesting.py`."""

from __future__ import annotations

import os

from distlock_core.process.nesting import HELD, LEASE, TOKEN, held_around, without_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from distlock_core.lock.lock import Lock


def for_command(environ: Mapping[str, str], lock: Lock) -> dict[str, str]:
    """The environment of a command under `lock`.

    The variables have the first lock; the others of several follow in DISTLOCK_HELD, as those held further out do.
    """
    child = without_own(environ)
    # Keys as bytes, independent of the locale.
    held = [(os.fsdecode(holder.key), holder.token) for holder in lock.holders]
    (first, token), *others = held
    own_keys = {key for key, _ in held}
    around = [(os.fsdecode(key), number) for key, number in held_around(environ).items()]
    outer = [(key, number) for key, number in around if key not in own_keys]
    child[TOKEN] = str(token)
    if lock.lease is not None:
        child[LEASE] = f"{lock.lease:x}"
    child[HELD] = "\n".join([first, *(f"{number} {key}" for key, number in (*others, *outer))])
    return child
