"""Description of a wait, for a tool's report: the holders, the duration, the initial position in the queue."""

from __future__ import annotations

from distlock_core.base.deadline import now
from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.model.wording import duration, held_by, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from distlock_core.lock.acquire import Waiting
    from distlock_core.model.state import LockState


WAITED = ("waited_for", "waited", "position")  # the fields of every report


class Waited(Value):
    """A wait that ended with the lock. `position` is the initial place in the queue, from 1."""

    waited_for: str  # node-3 since 12:03 (4m12s): "Upgrade RPMs"; "" if nobody held it
    waited: float  # seconds
    position: int

    @classmethod
    def read(cls, found: object) -> Waited | None:
        """Parse the fields that `fields()` has written into a record; None for anything else."""
        fields = found if isinstance(found, dict) else {}
        waited_for, waited, position = (fields.get(field) for field in WAITED)
        if isinstance(waited_for, str) and isinstance(waited, (int, float)) and isinstance(position, int):
            return cls(waited_for, waited, position)
        return None

    def __str__(self) -> str:
        behind = f", behind {self.waited_for}" if self.waited_for else ""
        return f"after {duration(self.waited)} in the queue from position {self.position}{behind}"

    def fields(self) -> dict[str, Any]:
        """The three fields for a report."""
        return {"waited_for": self.waited_for, "waited": round(self.waited, 1), "position": self.position}


class Watcher:
    """Records the progress of an acquisition and passes it on. `busy`: the lock's state just before the wait."""

    def __init__(self, progress: Callable[[Waiting], None] | None = None, busy: LockState | None = None) -> None:
        self._progress = progress
        self._since = now()
        self._position = 0 if busy is None else busy.position or busy.waiting + 1
        self._behind = "" if busy is None else _behind(busy)

    def __call__(self, waiting: Waiting) -> None:
        if not self._position:
            self._since, self._position = waiting.since, max(1, waiting.position)
            places = waiting.places or ((waiting.state, waiting.position),)
            behind = ((state, _behind(state)) for state, _ in places)
            named = (f"{printable(state.name)}: {who}" if len(places) > 1 else who for state, who in behind if who)
            self._behind = "; ".join(named)
        if self._progress is not None:
            self._progress(waiting)

    def story(self) -> Waited | None:
        """The wait until now, None if there was none."""
        return Waited(self._behind, max(0.0, now() - self._since), self._position) if self._position else None


def _behind(state: LockState) -> str:
    """Who holds the lock, or has frozen it; "" if nobody does."""
    if not state.holders and state.frozen is not None:
        return f"a freeze by {owner_of(state.frozen.by)}"
    return " and ".join(held_by(holder) for holder in state.holders)
