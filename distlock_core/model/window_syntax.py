"""The text of windows: `Mon-Fri 22:00-04:00 Europe/Berlin, !Sat`.

Parts are separated by commas. Days without a time share that of the next part, and a time without days is of the last
days before it; both rules read a doubtful text in the narrower way. Excluded parts (`!`) come last. One time zone
applies to all of them: UTC if none is named.
"""

from __future__ import annotations

from datetime import date

from distlock_core.base.text import printable
from distlock_core.errors import ConfigError
from distlock_core.model.windows import DAY, LOCAL, UTC, Span, Windows, zone_of

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EVERY_DAY = frozenset(range(7))
EXAMPLE = "windows such as 'Mon-Fri 22:00-04:00 Europe/Berlin, !Sat'"
LONGEST = 1000  # characters


def parse_windows(text: str) -> Windows:
    """Parse the text. Raises `ConfigError`, which says what was expected."""
    parsed = _Parser(text).parse()
    zone_of(parsed.zone)
    return parsed


class _Parser:
    """Parser of one text."""

    def __init__(self, text: str) -> None:
        self._text = " ".join(text.split())
        self._open: list[Span] = []
        self._shut: list[Span] = []
        self._days: frozenset[int] = frozenset()  # read, and still without a time
        self._last_days = EVERY_DAY
        self._zone = ""

    def parse(self) -> Windows:
        if not self._text or len(self._text) > LONGEST:
            raise ConfigError(f"{EXAMPLE}, at most {LONGEST} characters")
        for part in self._text.split(","):
            words = part.split()
            if not words:
                raise ConfigError(f"{EXAMPLE} (a comma without a window)")
            if words[0].startswith("!"):
                self._exclude(words)
            elif self._shut:
                raise ConfigError(
                    f"{EXAMPLE} (put {printable(part.strip())} before the excluded days, or exclude it with a '!' too)"
                )
            else:
                self._include(words)
        if self._days:
            self._open.append(Span(self._days, "", 0, DAY))
        spans = tuple(self._open) or (Span(EVERY_DAY, "", 0, DAY),)
        if self._shut and not _minutes(spans) - _minutes(self._shut):
            raise ConfigError(f"{EXAMPLE} (these exclude all that they include)")
        return Windows(self._text, spans, tuple(self._shut), self._zone or UTC)

    def _include(self, words: list[str]) -> None:
        days = _days(words[0])
        if days is not None:
            self._days |= days
            del words[0]
        if words and ":" in words[0]:
            start, end = _times(words.pop(0))
            self._last_days = self._days or self._last_days
            self._open.append(Span(self._last_days, "", start, end))
            self._days = frozenset()
        elif days is None:
            raise ConfigError(f"{EXAMPLE} ({printable(words[0])} is neither a day nor a time)")
        self._take_zone(words)

    def _exclude(self, words: list[str]) -> None:
        words[0] = words[0][1:]
        if not words[0]:
            del words[0]
        one_day = words[0] if words and _is_date(words[0]) else ""
        days = frozenset() if one_day or not words else _days(words[0])
        if days is None and ":" not in words[0]:
            raise ConfigError(f"{EXAMPLE} ({printable(words[0])} is neither a day nor a date such as 2026-12-24)")
        if not words:
            raise ConfigError(f"{EXAMPLE} ('!' without a day)")
        if days is not None:
            del words[0]
        start, end = _times(words.pop(0)) if words and ":" in words[0] else (0, DAY)
        self._shut.append(Span(EVERY_DAY if days is None else days, one_day, start, end))
        self._take_zone(words)

    def _take_zone(self, words: list[str]) -> None:
        if not words:
            return
        zone, rest = words[0], words[1:]
        zone = {"utc": UTC, "local": LOCAL}.get(zone.lower(), zone)
        if rest or _days(zone) is not None or zone[:1].isdigit():
            raise ConfigError(f"{EXAMPLE} (separate windows by commas: {printable(' '.join(words))})")
        if self._zone not in ("", zone):
            raise ConfigError(f"{EXAMPLE} (one time zone for all, not {self._zone} and {printable(zone)})")
        self._zone = zone


def _days(word: str) -> frozenset[int] | None:
    """The days of `Sat`, `saturday` or `Mon-Fri`; None for another word."""
    first, dash, last = word.lower().partition("-")
    begin, end = _day(first), _day(last) if dash else _day(first)
    if begin is None or end is None:
        return None
    return frozenset((begin + number) % 7 for number in range((end - begin) % 7 + 1))


def _day(word: str) -> int | None:
    return next((number for number, day in enumerate(DAYS) if word in (day, day[:3])), None)


def _times(word: str) -> tuple[int, int]:
    """Start and end in minutes since midnight; an end that is not after the start is on the next day."""
    first, _, last = word.partition("-")
    if not first or not last:
        missing = "end" if first else "start"
        raise ConfigError(f"{EXAMPLE} ({printable(word)} has no {missing}: write a span such as 22:00-04:00)")
    start, end = _minute(first), _minute(last)
    if start is None or end is None:
        wrong = first if start is None else last
        raise ConfigError(f"{EXAMPLE} ({printable(wrong)} is not a time: write one from 00:00 to 24:00)")
    if start == DAY:
        raise ConfigError(f"{EXAMPLE} (24:00 can only be an end: start at 00:00 of the next day)")
    if start == end:
        raise ConfigError(f"{EXAMPLE} ({printable(word)} has no length; a whole day is 00:00-24:00)")
    return start, end if end > start else end + DAY


def _minute(word: str) -> int | None:
    hours, _, minutes = word.partition(":")
    if not (word.isascii() and hours.isdigit() and minutes.isdigit() and len(hours) <= 2 and len(minutes) == 2):
        return None
    found = int(hours) * 60 + int(minutes)
    return found if int(minutes) < 60 and found <= DAY else None


def _is_date(word: str) -> bool:
    if len(word) != 10:
        return False
    try:
        return date.fromisoformat(word).isoformat() == word
    except ValueError:
        return False


def _minutes(spans: tuple[Span, ...] | list[Span]) -> set[int]:
    """The minutes of the week that the spans cover, without those of single dates."""
    week = 7 * DAY
    return {
        (day * DAY + minute) % week for span in spans for day in span.days for minute in range(span.start, span.end)
    }
