"""The table of locks that `--list` prints. Control characters in texts from etcd are escaped."""

from __future__ import annotations

import time

from distlock_core.base.columns import columns_of, padded
from distlock_core.base.text import printable
from distlock_core.model.record import HELD
from distlock_core.model.state import LockState
from distlock_core.model.wording import clock, duration, owner_of, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("LOCK", "OWNER", "SINCE", "HELD", "WAITING", "REASON")


def table(states: Sequence[LockState]) -> str:
    """A table with a heading and one line per holder."""
    return aligned([COLUMNS, *(row for state in states for row in _rows(state))])


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length as a table."""
    widths = [max(map(columns_of, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(padded, row, widths)).rstrip() for row in rows)


def _rows(state: LockState) -> list[tuple[str, ...]]:
    name = printable(state.name)
    frozen = ("frozen",) if state.is_frozen_itself else ()
    if not state.holders:
        return [(_labelled(name, *frozen), "-", "-", "-", str(state.waiting), "")]
    rows: list[tuple[str, ...]] = []
    for holder in state.holders:
        since = "-" if holder.since is None else clock(holder.since)
        held = "-" if holder.since is None else duration(time.time() - holder.since)
        if holder.is_overdue(time.time()):
            held += " OVERDUE"
        if holder.alive is False:
            held += " SILENT"
        beside = [place_of(holder)] if holder.slot or holder.is_shared else []
        label = _labelled(name, *beside, *frozen)
        owner = owner_of(holder.owner) + ("" if holder.record.state == HELD else f" ({printable(holder.record.state)})")
        rows.append((label, owner, since, held, str(state.waiting), printable(holder.reason)))
    return rows


def _labelled(name: str, *labels: str) -> str:
    return f"{name} ({', '.join(labels)})" if labels else name
