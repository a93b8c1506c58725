"""Entries of a history as text for people: a row of a table, and the sentence on how far back it reaches."""

from __future__ import annotations

import time

from distlock_core.base.text import printable, shortened
from distlock_core.history.entries import (
    BROKEN,
    COOLED,
    DELETED,
    EXPIRED,
    LEFT,
    RELEASED,
    REPLACED,
    TAKEN_OVER,
    THAWED,
    Gap,
    PastFreeze,
    PastHold,
    PastWait,
    Reach,
)
from distlock_core.model.record import HELD, KEPT, SETTLING
from distlock_core.model.wording import duration, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.history.entries import End, Moment

HEADING = ("LOCK", "OWNER", "WAITED", "SINCE", "HELD", "ENDED", "REASON")
UNKNOWN = "?"
NEVER = "-"


def row(entry: PastHold | PastWait | PastFreeze, at: float) -> tuple[str, ...]:
    """The cells of an entry below `HEADING`, as seen at this Unix time."""
    lock = "(all locks)" if entry.lock is None else printable(entry.lock)
    held, ended = _span(entry.since, entry.ended, at), end_of(entry)
    waited, owner = NEVER, owner_of(entry.owner)
    if isinstance(entry, PastHold):
        lock += " (shared)" if entry.is_shared else f" (slot {entry.slot})" if entry.slot else ""
        waited = UNKNOWN if entry.waited is None else duration(entry.waited)
    elif isinstance(entry, PastWait):
        waited, held = held, NEVER
    return lock, owner, waited, moment(entry.since), held, ended, shortened(entry.reason)


def end_of(entry: PastHold | PastWait | PastFreeze) -> str:
    """How an entry ended, or what it is if it lasts."""
    ended = entry.ended
    if isinstance(entry, PastWait):
        return "waiting" if ended is None else "left the queue" if ended.how == LEFT else "unknown: not recorded"
    if isinstance(entry, PastFreeze):
        if ended is None:
            return "frozen"
        by = "" if ended.by is None else f" by {owner_of(ended.by)}"
        words = {THAWED: "thawed", REPLACED: f"replaced{by}", EXPIRED: "ended in time"}
        return "freeze: " + words.get(ended.how, "unknown: not recorded") + ("" if ended.is_sure else ", or thawed")
    return _story(entry) + (", and froze the lock" if entry.froze else "")


def _story(hold: PastHold) -> str:
    ended = hold.ended
    kept = next((phase for phase in hold.phases if phase.state == KEPT), None)
    if ended is None:
        return {HELD: "held", KEPT: "kept" + _colon(kept.reason if kept else ""), SETTLING: "settling"}.get(
            hold.state, printable(hold.state)
        )
    before = "" if kept is None else f"kept at {moment(kept.since)}{_colon(kept.reason)}; "
    by = "" if ended.by in (None, hold.owner) else f" by {owner_of(ended.by)}"
    if ended.how == EXPIRED:
        return before + ("expired" if ended.is_sure else "expired, or deleted by other means")
    words = {
        RELEASED: f"released{by}",
        BROKEN: f"broken by {owner_of(ended.by)}{_colon(ended.why)}",
        COOLED: f"released{by}, cooled down",
        DELETED: "deleted by other means",
        TAKEN_OVER: "taken over by the same owner's next run",
    }
    return before + words.get(ended.how, "unknown: not recorded")


def _colon(text: str) -> str:
    return f": {shortened(text)}" if text else ""


def moment(when: Moment) -> str:
    """A local time: `03:12:04`, with the date if it is not today's, `03:12:04..03:14:10` if it is between these."""
    if when.at is not None:
        return local(when.at)
    if when.earliest is None:
        return UNKNOWN if when.latest is None else f"..{local(when.latest)}"
    return f"{local(when.earliest)}.." + ("" if when.latest is None else local(when.latest))


def local(seconds: float) -> str:
    try:
        then, today = time.localtime(seconds), time.localtime()
        return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)
    except (OverflowError, ValueError, OSError):
        return "an impossible time"


def _span(since: Moment, ended: End | None, at: float) -> str:
    """How long an entry took: `4m12s`, or `4m12s..6m` if its times are not exactly known."""
    until_earliest, until_latest = (int(at), int(at)) if ended is None else (ended.at.earliest, ended.at.latest)
    least = None if until_earliest is None or since.latest is None else max(0, until_earliest - since.latest)
    most = None if until_latest is None or since.earliest is None else max(0, until_latest - since.earliest)
    if least is None and most is None:
        return UNKNOWN
    if least == most:
        return duration(least or 0)
    return f"{UNKNOWN if least is None else duration(least)}..{UNKNOWN if most is None else duration(most)}"


def reach_of(reach: Reach) -> str:
    """How far back the history reaches, in one sentence."""
    at = moment(reach.at)
    if reach.because == "first":
        return "the history is whole: etcd has compacted nothing"
    if reach.because == "asked":
        return f"the history was read from revision {reach.revision} on ({at}): nothing older was asked for"
    return (
        f"the history reaches back to revision {reach.revision} ({at}): etcd has compacted what was before. Of the "
        "holds that ended before, only the last of each lock is known"
    )


def gap_of(gap: Gap) -> str:
    return (
        f"the history has a gap from {moment(gap.since)} to {moment(gap.until)}: etcd had compacted the changes "
        f"between revisions {gap.after} and {gap.before} before they were read"
    )
