"""CommandEnd: how and why a command under a lock has ended."""

from __future__ import annotations

from distlock_core.base.value import Value

LOST, HUNG, OVERDUE, BROKEN = "lost", "hung", "overdue", "broken"
REFUSED = "refused"  # a signal that could not be passed on: no cause of an end, but reported like one


class ExitedBySignal(int):
    """The exit code 128+n of a command that signal n has ended, as distinct from a program's own exit code 128+n."""


class CommandEnd(Value):
    """The end of a command: its exit code, or a signal. `cause` is "" if it ended by itself.

    `unkillable` has the pids of surviving processes: 0 for one that changes its pid too fast to be seen.
    """

    code: int
    signal: int | None = None
    cause: str = ""
    unkillable: tuple[int, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code as in a shell: the command's own, or 128 plus the signal's number."""
        return self.code if self.signal is None else ExitedBySignal(128 + self.signal)
