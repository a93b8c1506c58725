"""Call: a callable that answers a question, run in a thread, so that leases are renewed meanwhile."""

from __future__ import annotations

import os

from distlock_core.base.threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.base.deadline import Patience


class Call:
    """One call, with the interface of `Shell`. A thread cannot be ended: after `end()` its answer is ignored."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._status: int | None = None
        self.last_line = ""
        self._reader, self._writer = os.pipe()
        start_thread(self._call, "distlock-gate")

    def wait(self, patience: Patience) -> int | None:
        """Return 0 for a true value, 1 for a false one or an exception; None at the patience's end."""
        if self._status is None and not patience.wait(self._reader):
            return None
        self.end()
        return self._status

    def end(self) -> None:
        reader, self._reader = self._reader, -1
        if reader >= 0:
            os.close(reader)

    def _call(self) -> None:
        try:
            answer = bool(self._function())
            self.last_line = "" if answer else "it has returned a false value"
        except Exception as error:  # noqa: BLE001 - the answer is no, whatever the reason
            answer, self.last_line = False, f"{type(error).__name__}: {error}"
        self._status = 0 if answer else 1
        os.close(self._writer)  # which wakes the reader
