"""The story of a wait, for a tool's own report: behind whom, for how long, from which place in the line."""

from __future__ import annotations

from distlock_core.patience import now
from distlock_core.values import Value
from distlock_core.wording import duration, held_by, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from distlock_core.acquisition import Waiting


class Waited(Value):
    """A wait that has ended with the lock. `position` is the first place in the line, from 1."""

    waited_for: str  # node-3 since 12:03 (4m12s): "Upgrade RPMs"; "" where nobody held it
    waited: float  # seconds
    position: int

    def __str__(self) -> str:
        behind = f", behind {self.waited_for}" if self.waited_for else ""
        return f"after {duration(self.waited)} in line from place {self.position}{behind}"

    def fields(self) -> dict[str, Any]:
        """The three fields, as every report has them."""
        return {"waited_for": self.waited_for, "waited": round(self.waited, 1), "position": self.position}


class Watcher:
    """Listens to the progress of an acquisition and passes it on."""

    def __init__(self, progress: Callable[[Waiting], None] | None = None) -> None:
        self._progress = progress
        self._first: Waiting | None = None
        self._behind = ""

    def __call__(self, waiting: Waiting) -> None:
        if self._first is None:
            self._first = waiting
            self._behind = " and ".join(held_by(holder) for holder in waiting.state.holders)
            if not self._behind and waiting.state.frozen is not None:
                self._behind = f"a freeze by {printable(waiting.state.frozen.owner or 'an unknown owner')}"
        if self._progress is not None:
            self._progress(waiting)

    def story(self) -> Waited | None:
        """The wait until now, None where there was none."""
        if self._first is None:
            return None
        return Waited(self._behind, max(0.0, now() - self._first.since), max(1, self._first.place))
