"""The sentence for an option that means nothing for the operation: loaded only when there is one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_KEEPER = "as the log of the keeper, it needs --lock --while-pid"
_BREAK = "distlock --break --lock-name=NAME breaks another's hold first"
_WAIT = "this operation does not wait for a lock; --connect-timeout limits the contact with etcd"
_FREEZE_ENDS = "a freeze of anybody is thawed"
# What to do instead, by option and operation, or by option alone.
_INSTEAD = {
    ("force", "run"): _BREAK,
    ("force", "lock"): _BREAK,
    ("force", "thaw"): _FREEZE_ENDS,
    ("id", "thaw"): _FREEZE_ENDS,
    ("lock-name", "prune"): "--prune applies to all locks of a realm: leave out --lock-name",
    ("while-pid", "run"): "with a command, the lock is held while the command runs",
    ("cooldown", "lock"): "give it to the --unlock that ends this hold",
    "log-file": _KEEPER,
    "timeout": _WAIT,
    "nowait": _WAIT,
    "for": "it ends the freeze after that time",
}


def misplaced(option: str, operation: str, wanted: Sequence[str]) -> str:
    """`--ttl goes with -- COMMAND or --lock`, and what to do instead. `wanted`: the operations it goes with."""
    instead = _INSTEAD.get((option, operation)) or _INSTEAD.get(option)
    if option == "lock-name" and instead:
        return instead
    *most, last = ["-- COMMAND" if name == "run" else f"--{name}" for name in wanted]
    where = f"{', '.join(most)} or {last}" if most else last
    return f"--{option} goes with {where}" + (f": {instead}" if instead else "")
