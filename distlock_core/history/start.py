"""The revision from which a history has to be read, if only the newest part of a long one is asked for."""

from __future__ import annotations

from distlock_core.history.pages import TooOld
from distlock_core.model.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Patience
    from distlock_core.history.pages import Pages

SHORT = 20_000  # revisions, which etcd delivers in a few seconds
CLOSE = 1000  # revisions: near enough
SAMPLE = 20  # notes: one that was written again unchanged has an old time
MARGIN = 60.0  # seconds by which clocks may differ


def start_for(pages: Pages, since: float, newest: int, patience: Patience) -> int | None:
    """A revision before which nothing happened that matters `since` this Unix time, None if all is to be read.

    Revisions have no time, but the newest notes at a revision do: a binary search over past revisions.
    """
    if newest <= SHORT:
        return None
    found, low, high = None, 1, newest
    while high - low > CLOSE:
        middle = (low + high) // 2
        try:
            written = _written(pages, middle, patience)
        except TooOld:
            low = middle
            continue
        if written is None:  # no hold had ended by then
            low = middle
        elif written < since - MARGIN:
            found = low = middle
        else:
            high = middle
    return found


def _written(pages: Pages, revision: int, patience: Patience) -> int | None:
    """The newest time that a note has at this revision, None if there is no note."""
    times = (Record.parse(kv.value).since for kv in pages.newest_notes(revision, SAMPLE, patience))
    return max((time for time in times if time is not None), default=None)
