"""CommandEnd: how a command under a lock has ended, and why."""

from __future__ import annotations

from distlock_core.base.value import Value

LOST, HUNG, OVERDUE, BROKEN = "lost", "hung", "overdue", "broken"
REFUSED = "refused"  # a signal that could not be passed on: no cause of an end, but told as those are


class ExitedBySignal(int):
    """The exit code 128+n of what signal n has ended: to tell it from a program's own choice of that number."""


class CommandEnd(Value):
    """How a command ended: an exit code, or a signal; by itself, or as its lock was lost, it hung, or took too long.

    `unkillable` are the pids of what is left: 0 for one that changes its pid too fast to be seen.
    """

    code: int
    signal: int | None = None
    cause: str = ""
    unkillable: tuple[int, ...] = ()

    @property
    def exit_code(self) -> int:
        """As a shell has it: the command's own, or 128 and the signal's number."""
        return self.code if self.signal is None else ExitedBySignal(128 + self.signal)
