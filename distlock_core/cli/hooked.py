"""An operation with its hooks, which are prepared before it and waited for after it."""

from __future__ import annotations

import select

from distlock_core.base.deadline import ready_within
from distlock_core.cli.command_line import Request
from distlock_core.cli.hooks import Hooks
from distlock_core.cli.outcome import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STDERR = 2
READ_WITHIN = 1.0  # seconds


def with_hooks(request: Request, events: Sequence[str], operation: Callable[[Request], int]) -> int:
    """Return the exit code of the operation, which finds its hooks in the request. Raises as that, `DistlockError`."""
    settings = request.settings

    def tell(line: str) -> None:
        # A hook may have filled a pipe that nobody reads.
        if not settings.quiet and ready_within(READ_WITHIN, {STDERR: select.POLLOUT}):
            warn([line], json=settings.json)

    hooks = Hooks(settings, events, tell)  # before any thread is started
    try:
        return operation(request._replace(hooks=hooks))
    finally:
        hooks.finish()
