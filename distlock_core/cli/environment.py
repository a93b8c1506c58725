"""What a command under a lock finds in its environment, and what a distlock inside it reads there."""

from __future__ import annotations

import os
from collections.abc import Mapping

from distlock_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.lock import Lock
    from distlock_core.model import Keys

TOKEN = "DISTLOCK_TOKEN"  # noqa: S105 - a number that all may see: the fencing token of the lock in the first line of DISTLOCK_HELD
HELD = "DISTLOCK_HELD"  # the key in etcd; a line more, `TOKEN KEY`, for each lock held further out
LEASE = "DISTLOCK_LEASE"
LONGEST_TOKEN = 19  # digits of a 64-bit integer

# Meant for this call. A distlock inside the command is not to be steered by them by accident.
MINE_ALONE = (
    *("LOCKNAME", "REASON", "TIMEOUT", "NOWAIT", "ID", "SLOTS", "TTL", "REFRESH", "KILL_AFTER", "ON_LOSS"),
    *("ON_FAILURE", "COOLDOWN", "HEARTBEAT", "NODE", "WHILE_PID"),
)


def token(environ: Mapping[str, str], keys: Keys) -> int | None:
    """The token that a command under this lock has inherited, of several locks its own. Raises `ConfigError`."""
    for key, number in held_around(environ).items():
        if key == keys.lock or key.startswith(keys.slots):
            return number
    text = environ.get(TOKEN, "")
    if not text:
        return None
    if not _is_token(text):
        raise ConfigError(f"{TOKEN}: expected a whole number, found {ascii(text)[:60]}")
    return int(text)


def held_around(environ: Mapping[str, str]) -> dict[bytes, int]:
    """The keys and tokens of the locks that the commands around this one hold."""
    first, *outer = environ.get(HELD, "").split("\n")
    lines = [f"{environ.get(TOKEN, '')} {first}", *outer]
    pairs = [line.partition(" ")[::2] for line in lines]
    return {os.fsencode(key): int(number) for number, key in pairs if key and _is_token(number)}


def for_command(environ: Mapping[str, str], lock: Lock) -> dict[str, str]:
    """The environment of a command that runs under the lock."""
    mine = {f"DISTLOCK_{word}" for word in MINE_ALONE} | {LEASE}
    child = {name: value for name, value in environ.items() if name not in mine}
    around = held_around(environ)
    outer = [f"{number} {os.fsdecode(key)}" for key, number in around.items() if os.fsdecode(key) != lock.key]
    child[TOKEN] = str(lock.token)
    if lock.lease is not None:
        child[LEASE] = f"{lock.lease:x}"
    child[HELD] = "\n".join([lock.key, *outer])
    return child


def _is_token(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_TOKEN
