"""Windows: their text, and when they open and close. The oracle goes through the time minute by minute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distlock_core.errors import ConfigError
from distlock_core.model.window_syntax import DAYS, parse_windows
from distlock_core.model.windows import DAY, Span, Windows

MINUTE = 60
# Moments at which a clock was or will be changed, or a day was left out (Apia), by zone.
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "America/Sao_Paulo": ("2018-11-04T03:00", "2018-02-18T02:00"),
    "Australia/Lord_Howe": ("2026-10-03T15:30", "2026-04-04T15:00"),
    "Antarctica/Troll": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "Pacific/Apia": ("2011-12-30T10:00",),
    "Asia/Kolkata": ("2026-01-01T00:00",),
    "UTC": ("2026-01-01T00:00",),
}


def at(zone: str, text: str, fold: int = 0) -> float:
    """The Unix time of a reading of a zone's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def closes(windows: Windows, start: float, end: float) -> bool:
    """True if they are open from `start` until `end`, and closed then."""
    moments = [*range(int(start), int(end), 10 * MINUTE), int(end) - 1]
    return all(windows.is_open(moment) for moment in moments) and not windows.is_open(end)


def readings(zone: str, start: int, minutes: int) -> Iterator[tuple[int, datetime]]:
    """Each minute, with the latest time that the zone's clock has shown until then."""
    latest = datetime.min  # noqa: DTZ901 - what a clock on the wall shows
    for moment in range(start, start + minutes * MINUTE, MINUTE):
        latest = max(latest, datetime.fromtimestamp(moment, ZoneInfo(zone)).replace(tzinfo=None, fold=0))
        yield moment, latest


def is_within(span: Span, wall: datetime) -> bool:
    minute = wall.hour * 60 + wall.minute
    today, yesterday = wall.weekday(), (wall.weekday() - 1) % 7
    in_time = today in span.days and span.start <= minute < span.end
    return in_time or (yesterday in span.days and span.start <= minute + DAY < span.end)


def oracle(windows: Windows, start: int, minutes: int) -> dict[int, bool]:
    """Whether they are open, for each minute. It begins two days early, to know what the clock has shown."""
    early = 2 * DAY
    return {
        moment: any(is_within(span, wall) for span in windows.open)
        and not any(is_within(span, wall) for span in windows.shut)
        for moment, wall in readings(windows.zone, start - early * MINUTE, minutes + early)
        if moment >= start
    }


times = st.integers(0, DAY - 1)
days = st.one_of(
    st.sampled_from(DAYS).map(lambda day: day[:3].title()),
    st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map(lambda two: f"{two[0][:3]}-{two[1]}"),
)


def as_time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def spans(draw: st.DrawFn) -> str:
    """One part of the text. Times on the hour, and in the hours in which clocks are changed, are frequent."""
    minute = st.one_of(times, st.sampled_from([0, 60, 90, 120, 135, 150, 165, 180, 1380, 1410]))
    start, end = draw(minute), draw(minute)
    if start == end:
        return draw(days)
    with_days = draw(st.booleans())
    return f"{draw(days) + ' ' if with_days else ''}{as_time(start)}-{as_time(end)}"


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, int]:
    """The text of windows, and a moment near a change of its zone's clock."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    open_in = draw(st.lists(spans(), min_size=0, max_size=3))
    shut_in = draw(st.lists(spans(), min_size=0 if open_in else 1, max_size=2))
    parts = [*open_in, *("!" + one for one in shut_in)]
    change = datetime.fromisoformat(draw(st.sampled_from(CHANGES[zone]))).replace(tzinfo=timezone.utc)
    offset = draw(st.one_of(st.integers(-3 * DAY, 3 * DAY), st.integers(-180, 180)))
    return f"{', '.join(parts)} {zone}", int(change.timestamp()) + offset * MINUTE


@given(texts())
@settings(max_examples=60, deadline=None)
def test_they_are_open_as_a_clock_on_the_wall_says_that_is_never_set_back(drawn: tuple[str, int]) -> None:
    text, start = drawn
    try:
        windows = parse_windows(text)
    except ConfigError:
        return  # they exclude all that they include
    known = oracle(windows, start, 2 * DAY)
    assert {moment: windows.is_open(moment) for moment in list(known)[::13]} == dict(list(known.items())[::13])
    opens = windows.opens_at(start)
    opening = next((moment for moment, is_open in known.items() if is_open), None)
    assert opens == opening or (opening is None and opens is not None and opens >= start + 2 * DAY * MINUTE)


@given(texts(), st.integers(0, 59), st.floats(0, 0.99))
@settings(max_examples=50, deadline=None)
def test_nothing_changes_within_a_minute(drawn: tuple[str, int], seconds: int, fraction: float) -> None:
    text, start = drawn
    try:
        windows = parse_windows(text)
    except ConfigError:
        return
    assert windows.is_open(start + seconds + fraction) == windows.is_open(start)


BERLIN = "Europe/Berlin"


def test_a_window_over_midnight_is_of_the_day_on_which_it_begins() -> None:
    windows = parse_windows("Mon-Fri 22:00-04:00 Europe/Berlin")
    assert not windows.is_open(at(BERLIN, "2026-11-30 03:59"))  # Monday morning, after a Sunday
    assert windows.opens_at(at(BERLIN, "2026-11-30 03:59")) == at(BERLIN, "2026-11-30 22:00")
    assert windows.is_open(at(BERLIN, "2026-11-28 03:59"))  # Saturday morning, after a Friday
    assert closes(windows, at(BERLIN, "2026-11-27 23:00"), at(BERLIN, "2026-11-28 04:00"))
    assert windows.opens_at(at(BERLIN, "2026-11-28 04:00")) == at(BERLIN, "2026-11-30 22:00")
    assert windows.clock(at(BERLIN, "2026-11-30 22:00")) == "Mon 2026-11-30 22:00 Europe/Berlin"


def test_an_excluded_day_cuts_a_window_that_began_the_day_before() -> None:
    windows = parse_windows("22:00-04:00 Europe/Berlin, !Sat")
    assert closes(windows, at(BERLIN, "2026-11-27 23:00"), at(BERLIN, "2026-11-28 00:00"))
    assert windows.opens_at(at(BERLIN, "2026-11-28 00:00")) == at(BERLIN, "2026-11-29 00:00")  # began on Saturday


def test_an_excluded_date() -> None:
    windows = parse_windows("!2026-12-24, !2026-12-25 08:00-12:00")
    assert closes(windows, at("UTC", "2026-12-01 00:00"), at("UTC", "2026-12-24 00:00"))
    assert windows.opens_at(at("UTC", "2026-12-24 00:00")) == at("UTC", "2026-12-25 00:00")
    assert closes(windows, at("UTC", "2026-12-25 00:00"), at("UTC", "2026-12-25 08:00"))
    noon = at("UTC", "2026-12-25 12:00")
    assert all(windows.is_open(noon + day * DAY * MINUTE) for day in range(365))


def test_the_hour_that_exists_twice() -> None:
    night = "2026-10-25"
    short = parse_windows("02:00-02:30 Europe/Berlin")
    assert short.is_open(at(BERLIN, f"{night} 02:10"))
    assert not short.is_open(at(BERLIN, f"{night} 02:10", fold=1)), "open once"
    long = parse_windows("02:30-03:00 Europe/Berlin")
    assert closes(long, at(BERLIN, f"{night} 02:30"), at(BERLIN, f"{night} 03:00"))
    assert at(BERLIN, f"{night} 03:00") - at(BERLIN, f"{night} 02:30") == 90 * 60


def test_the_hour_that_does_not_exist() -> None:
    night = "2026-03-29"
    inside = parse_windows("Sun 02:10-02:50 Europe/Berlin")
    assert inside.opens_at(at(BERLIN, f"{night} 00:00")) == at(BERLIN, "2026-04-05 02:10"), "a week later"
    over = parse_windows("01:00-02:30 Europe/Berlin")
    assert closes(over, at(BERLIN, f"{night} 01:00"), at(BERLIN, f"{night} 03:00"))
    after = parse_windows("02:30-05:00 Europe/Berlin")
    assert after.opens_at(at(BERLIN, f"{night} 01:00")) == at(BERLIN, f"{night} 03:00")


def test_a_midnight_that_does_not_exist() -> None:
    windows = parse_windows("Sun America/Sao_Paulo")
    start = at("America/Sao_Paulo", "2018-11-04 01:00")
    assert windows.opens_at(start - 3 * 3600) == start
    assert closes(windows, start, start + 23 * 3600)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Mon,Wed 22:00-04:00", "Mon 22:00-04:00, Wed 22:00-04:00"),
        ("Mon-Fri 12:00-13:00, 22:00-04:00", "Mon-Fri 12:00-13:00, Mon-Fri 22:00-04:00"),
        ("Mon-Fri 22:00-04:00, Sat", "Mon-Fri 22:00-04:00, Sat 00:00-24:00"),
        ("Sat-Mon", "Sat, Sun, Mon"),
        ("saturday", "SAT 0:00-24:00 utc"),
        ("!Sat-Sun", "Mon-Sun 00:00-24:00, !Sat, !Sun"),
        ("!Mon-Fri 08:00-18:00", "!Mon-Thu 8:00-18:00, !Fri 08:00-18:00"),
        ("! Sat", "!Sat"),
        ("22:00-00:00", "22:00-24:00"),
        ("Mon 10:00-12:00, Tue", "Mon 10:00-12:00,Tue   00:00-24:00 UTC"),
    ],
)
def test_two_texts_for_the_same_times(text: str, same: str) -> None:
    one, other = parse_windows(text), parse_windows(same)
    start = at("UTC", "2026-11-30 00:00")
    week = [start + minute * 60 for minute in range(0, 7 * DAY, 15)]
    assert [one.is_open(moment) for moment in week] == [other.is_open(moment) for moment in week]
    assert any(one.is_open(moment) for moment in week)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "such as"),
        (" ", "such as"),
        ("Mo-Fri 22:00-04:00", "Mo-Fri is neither a day nor a time"),
        ("22-04", "22-04 is neither a day nor a time"),
        ("Mon 22:00", "22:00 has no end: write a span such as 22:00-04:00"),
        ("Mon 22:00-", "22:00- has no end"),
        ("Mon -04:00", "-04:00 has no start: write a span such as 22:00-04:00"),
        ("Mon 22:00-25:00", "25:00 is not a time: write one from 00:00 to 24:00"),
        ("Mon 22:00-23:60", "23:60 is not a time"),
        ("Mon 24:01-23:60", "24:01 is not a time"),
        ("Mon 10:00-11:00-12:00", "11:00-12:00 is not a time"),
        ("Mon 24:00-04:00", "24:00 can only be an end"),
        ("Mon 22:00-22:00", "22:00-22:00 has no length; a whole day is 00:00-24:00"),
        ("Mon 22:00-\u0662:00", "is not a time"),
        ("Mon 10:00-12:00 14:00-15:00", "separate windows by commas: 14:00-15:00"),
        ("Mon Tue 10:00-12:00", "separate windows by commas: Tue 10:00-12:00"),
        ("Mon,,Tue", "a comma without a window"),
        ("Mon,", "a comma without a window"),
        ("!Sat, Sun 10:00-12:00", "put Sun 10:00-12:00 before the excluded days"),
        ("!Sta", "Sta is neither a day nor a date"),
        ("!2026-13-24", "2026-13-24 is neither a day nor a date"),
        ("!", "without a day"),
        ("Sat, !Sat-Sun", "exclude all that they include"),
        ("!Mon-Sun", "exclude all that they include"),
        ("Mon Europe/Berlin, Tue Europe/Paris", "one time zone for all, not Europe/Berlin and Europe/Paris"),
        ("Mon Europe/Berlln", "it has no Europe/Berlln .if that is spelled right, install tzdata"),
        ("Mon Europe", "it has no Europe "),
        ("Mon ../../etc/passwd", "it has no ../../etc/passwd "),
        ("Mon /etc/localtime", "it has no /etc/localtime "),
        ("Mon \u202e/x", "it has no .u202e/x"),
        ("Mon, " * 400, "at most 1000 characters"),
    ],
)
def test_a_text_that_is_wrong_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_windows(text)
    assert caught.value.message.isprintable()


@given(st.text("MonFriSat0123456789:-,! Europe/BerlinUTC\n\u202e", max_size=40))
@settings(max_examples=300)
def test_any_other_text_is_refused_in_the_same_way(text: str) -> None:
    said = ""
    try:
        parse_windows(text)
    except ConfigError as error:
        said = error.message
    assert said.isprintable()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_local_is_the_zone_of_the_machine(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        local, named = parse_windows("22:00-04:00 local"), parse_windows(f"22:00-04:00 {zone}")
        for change in CHANGES[zone]:
            start = datetime.fromisoformat(change).replace(tzinfo=timezone.utc).timestamp() - 3600 * 24
            moments = [start + minute * 600 for minute in range(300)]
            assert [local.opens_at(one) for one in moments] == [named.opens_at(one) for one in moments]
            assert [local.is_open(one) for one in moments] == [named.is_open(one) for one in moments]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_machine_without_time_zones_says_so() -> None:
    script = (
        "import sys; sys.modules['tzdata'] = None\n"
        "from distlock_core.errors import ConfigError\n"
        "from distlock_core.model.window_syntax import parse_windows\n"
        "parse_windows('22:00-04:00'), parse_windows('22:00-04:00 local')\n"
        "try: parse_windows('22:00-04:00 Europe/Berlin')\n"
        "except ConfigError as error: print(error.message)\n"
    )
    env = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert "install tzdata" in done.stdout
