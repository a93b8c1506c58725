"""Windows: the times of the week at which a lock may be acquired. `model/window_syntax.py` parses their text.

Each window lasts from the moment at which its zone's clock first shows the start, or a later time, to the moment at
which it first shows the end, or a later time. So a window is open once even if the clock is set back in it, and a time
that the clock skips is the moment of the skip.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 1440  # minutes
UTC, LOCAL = "UTC", "local"
# Days to search for a change. A weekly window can be missing in two weeks in a row at most: a clock that skips it.
FEW_DAYS, MANY_DAYS = 23, 800


class Span(Value):
    """From `start` to `end`, in minutes since midnight, on certain weekdays (Monday is 0), or on one date.

    The end is on the next day if it is above 1440.
    """

    days: frozenset[int]
    date: str  # 2026-12-24, "" for the weekdays
    start: int
    end: int

    def begins_on(self, day: datetime) -> bool:
        return day.date().isoformat() == self.date if self.date else day.weekday() in self.days


class Windows(Value):
    """The windows of a lock: they are open in any of the spans `open`, unless in one of `shut`.

    `zone` is UTC, local, or the name of a time zone.
    """

    text: str
    open: tuple[Span, ...]
    shut: tuple[Span, ...]
    zone: str

    def is_open(self, at: float) -> bool:
        """True if the windows are open at this Unix time."""
        return self._is_in(self.open, at) and not self._is_in(self.shut, at)

    def opens_at(self, at: float) -> float | None:
        """The first moment from `at` on at which they are open; None if there is none within two years."""
        if self.is_open(at):
            return at
        zone = zone_of(self.zone)
        today = _midnight(at, zone)
        has_dates = any(span.date for span in self.shut)
        best: float | None = None
        for number in range(-2, MANY_DAYS if has_dates else FEW_DAYS):
            day = today + timedelta(days=number)
            if best is not None and _instant(day, 0, zone) > best:
                break
            for minute in self._openings(day):
                moment = float(_instant(day, minute, zone))
                if moment > at and (best is None or moment < best) and self.is_open(moment):
                    best = moment
        return best

    def clock(self, at: float) -> str:
        """A Unix time in the windows' zone: `Mon 2026-11-30 22:00 Europe/Berlin`."""
        return f"{datetime.fromtimestamp(at, zone_of(self.zone)):%a %Y-%m-%d %H:%M} {self.zone}"

    def _is_in(self, spans: tuple[Span, ...], at: float) -> bool:
        zone = zone_of(self.zone)
        today = _midnight(at, zone)
        return any(
            _instant(day, span.start, zone) <= at < _instant(day, span.end, zone)
            for day in (today + timedelta(days=days) for days in (-2, -1, 0, 1))
            for span in spans
            if span.begins_on(day)
        )

    def _openings(self, day: datetime) -> Iterator[int]:
        """When the windows can open, in minutes since this day's midnight."""
        for span in self.open:
            if span.begins_on(day):
                yield span.start
        for span in self.shut:
            if span.begins_on(day):
                yield span.end


def zone_of(name: str) -> tzinfo | None:
    """The time zone; None for the machine's own. Raises `ConfigError` for one that this machine does not know."""
    if name == UTC:
        return timezone.utc
    if name == LOCAL:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder, such as Europe, or a file that cannot be read
        raise ConfigError(
            f"a time zone that this machine knows: it has no {printable(name)} "
            "(if that is spelled right, install tzdata: the system's package, or Python's)"
        ) from None


def _midnight(at: float, zone: tzinfo | None) -> datetime:
    """Midnight of the day in that zone, as its clock shows it: without a zone."""
    return datetime.fromtimestamp(at, zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)


def _instant(day: datetime, minutes: int, zone: tzinfo | None) -> int:
    """The first Unix time at which the zone's clock shows this time of the day, or a later one."""
    wall = day + timedelta(minutes=minutes)

    def shows(moment: int) -> datetime:
        return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)

    late = int(wall.replace(tzinfo=zone).timestamp())
    if shows(late) == wall:
        return late
    # The clock skips this time: the moment of the skip is between the two readings that Python has for it.
    early = int(wall.replace(tzinfo=zone, fold=1).timestamp())
    while late - early > 1:
        middle = (early + late) // 2
        early, late = (early, middle) if shows(middle) >= wall else (middle, late)
    return late
