"""Timeline: a history laid out for a picture, with a row for each owner of a lock, bars, and marks. Pure."""

from __future__ import annotations

import time

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.history.entries import (
    BROKEN,
    DELETED,
    EXPIRED,
    UNKNOWN,
    Gap,
    Moment,
    PastFreeze,
    PastHold,
    PastWait,
)
from distlock_core.model.record import COOLING, HELD, KEPT, SETTLING
from distlock_core.model.wording import duration, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from distlock_core.history.entries import Entry

# Kinds of bars beside the states of a hold, and of marks.
WAITING, UNSURE = "waiting", "unsure"
STATES = (HELD, SETTLING, COOLING, KEPT)
FROZEN = "frozen"  # of bars
BREAK, LOSS, FROZE = "broken", "lost", "froze"  # of marks
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)  # seconds
LEAST = 1.0  # seconds that a picture spans
EARLIEST = 946684800  # Unix time of the year 2000


class Bar(Value):
    """A span of Unix time in a row."""

    kind: str
    start: float
    end: float
    title: str = ""


class Mark(Value):
    """A point in a row."""

    kind: str
    at: float
    title: str = ""


class Row(Value):
    """What one owner did with one lock. A row without bars is the heading of a lock, where there are several."""

    label: str
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]


class Timeline(Value):
    """Rows in the order of their beginnings, and spans in which all or some locks were frozen, or nothing is known."""

    rows: tuple[Row, ...]
    start: float
    end: float
    freezes: tuple[Bar, ...] = ()
    gaps: tuple[Bar, ...] = ()


class Tick(Value):
    at: float
    label: str


def timeline(entries: Iterable[Entry], now: float, since: float | None = None) -> Timeline:
    """Lay out a history as seen at the time `now`, without what was before `since`."""
    bars: dict[tuple[str, str], list[Bar]] = {}
    marks: dict[tuple[str, str], list[Mark]] = {}
    freezes, gaps = [], []
    for entry in entries:
        if isinstance(entry, (PastHold, PastWait)):
            key = (entry.lock, owner_of(entry.owner))
            bars.setdefault(key, []).extend(_bars(entry, now))
            marks.setdefault(key, []).extend(_marks(entry, now))
        elif isinstance(entry, PastFreeze):
            what = "the realm" if entry.lock is None else printable(entry.lock)
            because = f': "{printable(entry.reason)}"' if entry.reason else ""
            title = f"{what} frozen by {owner_of(entry.owner)}{because}"
            freezes.append(Bar(FROZEN, _first(entry.since, now), _last(entry, now), title))
        elif isinstance(entry, Gap):
            gaps.append(Bar(UNSURE, _first(entry.since, now), _latest(entry.until, now), "not known"))
    everything = [bar for some in bars.values() for bar in some]
    start = min((bar.start for bar in (*everything, *freezes)), default=now - LEAST)
    start = start if since is None else max(start, since)
    end = max((bar.end for bar in (*everything, *freezes)), default=now)
    end = max(end, start + LEAST)
    several = len({lock for lock, _ in bars}) > 1
    rows: list[Row] = []
    heading = None
    for (lock, owner), found in sorted(bars.items(), key=lambda item: (item[0][0], _turn(item[1]), item[0][1])):
        if several and lock != heading:
            rows.append(Row(printable(lock), (), ()))
            heading = lock
        inside = tuple(mark for mark in marks[lock, owner] if start <= mark.at <= end)
        rows.append(Row(f"  {owner}" if several else owner, _clipped(found, start, end), inside))
    return Timeline(tuple(rows), start, end, _clipped(freezes, start, end), _clipped(gaps, start, end))


def _turn(bars: Iterable[Bar]) -> float:
    """When the turn of a row was: its first hold, or without one its first wait."""
    return min((bar.kind == WAITING, bar.start) for bar in bars)[1]


def _clipped(bars: Iterable[Bar], start: float, end: float) -> tuple[Bar, ...]:
    inside = (bar for bar in bars if bar.end >= start and bar.start <= end)
    return tuple(bar._replace(start=max(bar.start, start), end=min(bar.end, end)) for bar in inside)


def _bars(entry: PastHold | PastWait, now: float) -> list[Bar]:
    lock, who = printable(entry.lock), owner_of(entry.owner)
    because = f': "{printable(entry.reason)}"' if entry.reason else ""
    if isinstance(entry, PastWait):
        start, end = _first(entry.since, now), _last(entry, now)
        return [Bar(WAITING, start, end, f"{who} waited for {lock} for {duration(end - start)}{because}")]
    start = _first(entry.since, now)
    found = []
    if entry.waited and start - entry.waited >= EARLIEST:
        title = f"{who} waited for {lock} for {duration(entry.waited)}{because}"
        found.append(Bar(WAITING, start - entry.waited, start, title))
    sure = now if entry.ended is None else _earliest(entry.ended.at, now, start)
    end = _last(entry, now)
    phases = entry.phases or ()
    states = [(phase.state, _first(phase.since, now), phase.reason) for phase in phases] or [(HELD, start, "")]
    for (state, at, why), following in zip(states, [*(at for _, at, _ in states[1:]), max(sure, states[-1][1])]):
        kind = state if state in STATES else HELD
        told = f': "{printable(why)}"' if why else because
        found.append(Bar(kind, at, max(at, following), f"{lock} {state} by {who} for {duration(following - at)}{told}"))
    if end > found[-1].end:
        found.append(Bar(UNSURE, found[-1].end, end, f"{lock}: {who}'s hold ended at some time in here"))
    return found


def _marks(entry: PastHold | PastWait, now: float) -> list[Mark]:
    ended = entry.ended
    if ended is None or isinstance(entry, PastWait):
        return []
    found, at = [], _last(entry, now)
    if ended.how == BROKEN:
        why = f": {printable(ended.why)}" if ended.why else ""
        found.append(Mark(BREAK, at, f"broken by {owner_of(ended.by)}{why}"))
    elif ended.how in (EXPIRED, DELETED, UNKNOWN):
        found.append(Mark(LOSS, at, f"{ended.how}: nobody released it"))
    if entry.froze:
        found.append(Mark(FROZE, at, "its failure froze the lock"))
    return found


def _first(moment: Moment, now: float) -> float:
    return _sane(moment.earliest, now, _sane(moment.latest, now, now))


def _earliest(moment: Moment, now: float, otherwise: float) -> float:
    return _sane(moment.earliest, now, otherwise)


def _latest(moment: Moment, now: float) -> float:
    return _sane(moment.latest, now, now)


def _last(entry: PastHold | PastWait | PastFreeze, now: float) -> float:
    return now if entry.ended is None else _latest(entry.ended.at, now)


def _sane(at: int | None, now: float, otherwise: float) -> float:
    """A time of this century that is not after now: the number in another program's record may be anything."""
    return otherwise if at is None or at < EARLIEST else min(at, now)


def ticks(start: float, end: float, most: int) -> list[Tick]:
    """At most `most` round local times between two Unix times, with labels; the date where the day changes."""
    step = next((step for step in STEPS if (end - start) / step < most), STEPS[-1])
    while (end - start) / step >= most:
        step *= 2
    found, day = [], None
    at = start - _since_midnight(start) % step if step <= 86400 else start - _since_midnight(start)
    while at <= end:
        if at >= start:
            then = time.localtime(at)
            form = "%H:%M:%S" if step < 60 else "%H:%M"
            label = time.strftime(
                "%m-%d" if step >= 86400 else form if day in (None, then.tm_yday) else f"%m-%d {form}", then
            )
            found.append(Tick(at, label))
            day = then.tm_yday
        at += step
    return found


def _since_midnight(at: float) -> float:
    then = time.localtime(at)
    return then.tm_hour * 3600 + then.tm_min * 60 + then.tm_sec + at % 1


def span_of(start: float, end: float) -> str:
    """The dates and times of a picture's ends, in local time."""
    first, last = time.localtime(start), time.localtime(end)
    form = "%Y-%m-%d %H:%M:%S"
    zone = time.strftime("%Z", last)
    until = time.strftime("%H:%M:%S" if first[:3] == last[:3] else form, last)
    return f"{time.strftime(form, first)} to {until} {zone}".rstrip()
