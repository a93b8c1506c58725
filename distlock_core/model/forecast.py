"""Forecast: when the turn of a waiter is likely, from how long the last holds of the lock took. Pure."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.model.record import HELD
from distlock_core.model.state import LockState


class Forecast(Value):
    """The likely turn of a waiter. `each`: the seconds of one hold, `at`: the Unix time of the turn."""

    each: int
    at: float

    @property
    def each_in_words(self) -> str:
        """Rounded, as it is a guess: `20s`, `4m`, `2h05m`."""
        if self.each < 60:
            return f"{self.each}s"
        minutes = (self.each + 30) // 60
        return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def forecast(state: LockState, position: int, at: float) -> Forecast | None:
    """The likely turn of the waiter at this position (from 1); None if nothing is known about it.

    Each hold is assumed to take the median of those before it, and the policy's cooldown. Nothing is known about a lock
    that is kept, cooling, frozen or overdue, nor about shared holds, whose length is not remembered.
    """
    took = state.last.took if state.last is not None else ()
    if not took or state.frozen is not None or not state.holders:
        return None
    cooldown = state.policy.cooldown or 0 if state.policy is not None else 0
    each = sorted(took)[len(took) // 2] + cooldown
    before = max(0, position - 1)
    # More free slots than waiters make no difference, and another program's record may have any number.
    slots = min(state.slots, len(state.holders) + before + 1)
    left = []
    for holder in state.holders:
        if holder.since is None or holder.record.state != HELD or holder.is_shared or holder.is_overdue(at):
            return None
        left.append(max(0.0, each - (at - holder.since)))
    # When each slot is free. Holders above the number of slots, from before it was reduced, make no room.
    free = sorted([*[0.0] * (slots - len(left)), *left])[-slots:]
    return Forecast(each, at + free[before % slots] + before // slots * each)
