"""Nesting: the locks held around this process, which it has inherited in its environment, and those of its command."""

from __future__ import annotations

import os

from distlock_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distlock_core.model.keys import Keys
    from distlock_core.model.state import Holder

TOKEN = "DISTLOCK_TOKEN"  # noqa: S105 - a number that all may see: the fencing token of the lock in the first line of DISTLOCK_HELD
HELD = "DISTLOCK_HELD"  # the key in etcd; a line more, `TOKEN KEY`, for each lock held further out
LEASE = "DISTLOCK_LEASE"
# What a hook finds in its environment beside TOKEN: see `rollout/hooks.py`.
HOOK_FACTS = (
    *("DISTLOCK_EVENT", "DISTLOCK_LOCK_NAME", "DISTLOCK_OWNER", "DISTLOCK_LOCK_REASON", "DISTLOCK_SINCE"),
    *("DISTLOCK_LOSS", "DISTLOCK_OUTCOME", "DISTLOCK_EXIT_CODE"),
)
LONGEST_TOKEN = 19  # digits of a 64-bit integer

# Settings of this call alone: a distlock inside the command must not use them by accident.
FOR_THIS_CALL = (
    *("LOCKNAME", "REASON", "VALUE", "TIMEOUT", "NOWAIT", "ID", "SLOTS", "SHARED", "TTL", "REFRESH", "KILL_AFTER"),
    *("ON_LOSS", "WINDOW", "EXPECT", "RANK"),
    *("ON_FAILURE", "RECORD_ARGUMENTS", "WAIT_FOR", "COOLDOWN", "HEARTBEAT", "BEAT", "NODE", "WHILE_PID"),
    *("ONLY_IF", "UNLESS", "GATE", "GATE_TIMEOUT", "GATE_EVERY", "GATE_FOR", "GATE_AT"),
    *("ON_ACQUIRED", "ON_LOST", "ON_RELEASED", "HOOK_TIMEOUT"),
)


def token(environ: Mapping[str, str], keys: Keys) -> int | None:
    """The inherited token of this lock, or of the innermost one if this lock is not named. Raises `ConfigError`."""
    number = token_of(environ, keys)
    if number is not None:
        return number
    text = environ.get(TOKEN, "")
    if not text:
        return None
    if not _is_token(text):
        raise ConfigError(f"{TOKEN}: expected a whole number, found {ascii(text)[:60]}")
    return int(text)


def token_of(environ: Mapping[str, str], keys: Keys) -> int | None:
    """The inherited token of this lock, None if it is not held around this process."""
    for key, number in held_around(environ).items():
        if keys.is_held_by(key):
            return number
    return None


def held_around(environ: Mapping[str, str]) -> dict[bytes, int]:
    """The keys and tokens of all locks held around this process."""
    first, *outer = environ.get(HELD, "").split("\n")
    lines = [f"{environ.get(TOKEN, '')} {first}", *outer]
    pairs = [line.partition(" ")[::2] for line in lines]
    return {os.fsencode(key): int(number) for number, key in pairs if key and _is_token(number)}


def _is_token(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_TOKEN


def without_own(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a line of shell that is asked before there is a lock: without what steers this call alone."""
    own = {f"DISTLOCK_{word}" for word in FOR_THIS_CALL} | {LEASE}
    return {name: value for name, value in environ.items() if name not in own}


def for_command(environ: Mapping[str, str], holders: Sequence[Holder], lease: int | None) -> dict[str, str]:
    """The environment of a command under the locks of these holders.

    The variables have the first lock; the others of several follow in DISTLOCK_HELD, as those held further out do.
    """
    child = without_own(environ)
    # Keys as bytes, independent of the locale.
    held = [(os.fsdecode(holder.key), holder.token) for holder in holders]
    (first, token), *others = held
    own_keys = {key for key, _ in held}
    around = [(os.fsdecode(key), number) for key, number in held_around(environ).items()]
    outer = [(key, number) for key, number in around if key not in own_keys]
    child[TOKEN] = str(token)
    if lease is not None:
        child[LEASE] = f"{lease:x}"
    child[HELD] = "\n".join([first, *(f"{number} {key}" for key, number in (*others, *outer))])
    return child
