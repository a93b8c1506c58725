"""The layout of a picture, and its form in the terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from distlock_core.base.columns import columns_of
from distlock_core.cli import plot_terminal
from distlock_core.cli.timeline import Bar, ticks, timeline
from distlock_core.history.entries import End, Gap, Moment, PastFreeze, PastHold, PastWait, Phase

NOON = 1795262400  # 2026-11-21 12:00 UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def exact(at: int) -> Moment:
    return Moment(NOON + at, NOON + at)


def hold(owner: str, since: int, until: int | None, waited: int = 0, lock: str = "db", **more: Any) -> PastHold:
    ended = None if until is None else End("released", exact(until), owner)
    phases = (Phase("held", exact(since)), *more.pop("phases", ()))
    return PastHold(
        lock, 0, owner, "", 1, "r", "", exact(since), waited, phases, more.pop("ended", ended), more.pop("froze", False)
    )


def kinds(bars: tuple[Bar, ...]) -> list[tuple[str, int, int]]:
    return [(bar.kind, int(bar.start - NOON), int(bar.end - NOON)) for bar in bars]


def text(*entries: Any, now: int = 600, width: int = 60, **options: Any) -> list[str]:
    options = {"colour": False, "ascii_only": True, **options}
    return plot_terminal.draw(timeline(entries, NOON + now), width, **options).splitlines()


# Layout.


def test_a_row_has_the_wait_the_hold_and_its_states() -> None:
    settling = (Phase("settling", exact(200)), Phase("kept", exact(250), "its gate is red"))
    (row,) = timeline([hold("n1", 100, 300, 40, phases=settling)], NOON + 400).rows
    assert row.label == "n1"
    assert kinds(row.bars) == [
        ("waiting", 60, 100),
        ("held", 100, 200),
        ("settling", 200, 250),
        ("kept", 250, 300),
    ]
    assert "its gate is red" in row.bars[-1].title


def test_rows_are_in_the_order_of_the_holds_not_of_the_waits() -> None:
    entries = [hold("n10", 200, 300, 200), hold("n2", 100, 200, 100), hold("n1", 0, 100)]
    assert [row.label for row in timeline(entries, NOON + 400).rows] == ["n1", "n2", "n10"]


def test_several_locks_have_a_heading_each() -> None:
    entries = [hold("n1", 0, 100), hold("n2", 100, 200), hold("n1", 50, 60, lock="web")]
    assert [row.label for row in timeline(entries, NOON + 400).rows] == ["db", "  n1", "  n2", "web", "  n1"]


def test_an_owner_that_holds_twice_has_one_row() -> None:
    (row,) = timeline([hold("n1", 0, 100), hold("n1", 200, 300)], NOON + 400).rows
    assert kinds(row.bars) == [("held", 0, 100), ("held", 200, 300)]


def test_an_end_that_is_not_exactly_known_is_a_bar_of_its_own_and_a_loss() -> None:
    ended = End("expired", Moment(NOON + 150, NOON + 250), is_sure=False)
    (row,) = timeline([hold("n1", 100, None, ended=ended)], NOON + 400).rows
    assert kinds(row.bars) == [("held", 100, 150), ("unsure", 150, 250)]
    assert [(mark.kind, mark.at - NOON) for mark in row.marks] == [("lost", 250)]


def test_breaks_and_failures_that_froze_are_marked_with_who_and_why() -> None:
    broken = End("broken", exact(200), "admin", "its rack is off")
    (row,) = timeline([hold("n1", 100, None, ended=broken)], NOON + 400).rows
    assert [(mark.kind, mark.title) for mark in row.marks] == [("broken", "broken by admin: its rack is off")]
    (row,) = timeline([hold("n1", 100, 200, froze=True)], NOON + 400).rows
    assert [mark.kind for mark in row.marks] == ["froze"]


def test_what_lasts_reaches_to_the_present() -> None:
    wait = PastWait("db", "n2", "", "", exact(150))
    picture = timeline([hold("n1", 100, None), wait], NOON + 400)
    assert [kinds(row.bars) for row in picture.rows] == [[("held", 100, 400)], [("waiting", 150, 400)]]
    assert picture.end == NOON + 400


def test_since_cuts_off_what_was_before() -> None:
    picture = timeline([hold("n1", 100, 300, 90)], NOON + 400, since=NOON + 200)
    assert picture.start == NOON + 200
    assert kinds(picture.rows[0].bars) == [("held", 200, 300)]


def test_freezes_and_gaps_are_spans() -> None:
    freeze = PastFreeze(None, "admin", "audit", exact(100), None, End("thawed", Moment(NOON + 150, NOON + 160)))
    gap = Gap(1, 2, exact(50), Moment(NOON + 50, NOON + 80))
    picture = timeline([hold("n1", 0, 200), freeze, gap], NOON + 400)
    assert kinds(picture.freezes) == [("frozen", 100, 160)]
    assert picture.freezes[0].title == 'the realm frozen by admin: "audit"'
    assert kinds(picture.gaps) == [("unsure", 50, 80)]


@pytest.mark.parametrize("span", [1, 59, 600, 7200, 86400, 10 * 86400, 400 * 86400])
def test_ticks_are_round_times_and_not_too_many(span: int) -> None:
    found = ticks(NOON + 7, NOON + 7 + span, 8)
    assert len(found) <= 8
    assert all(NOON + 7 <= tick.at <= NOON + 7 + span for tick in found)
    assert span < 60 or found
    if 7200 <= span < 86400:
        assert all(re.fullmatch(r"\d\d:\d[05]", tick.label) for tick in found)


def test_ticks_are_local_times_and_name_a_new_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")  # UTC+05:45
    time.tzset()
    labels = [tick.label for tick in ticks(NOON, NOON + 12 * 3600, 9)]
    assert labels[0] == "18:00"
    assert "11-22 00:00" in labels


# The terminal.


def test_a_line_for_each_row_and_an_axis_and_a_legend() -> None:
    lines = text(hold("n1", 0, 300), hold("n2", 300, 600, 300))
    assert lines[0] == "n1  " + "#" * 28
    assert lines[1] == "n2  " + "." * 28 + "#" * 28
    assert set(lines[2].strip()) == {"-", "+"}
    assert lines[3].split() == ["12:00", "12:05"]
    assert lines[4].strip() == ". waiting  # held"


def test_a_hold_of_two_seconds_is_seen_beside_one_of_two_hours() -> None:
    first, second, *_ = text(hold("n1", 0, 7200), hold("n2", 7200, 7202, 7000), now=7300)
    assert first.count("#") > 50
    assert second.count("#") == 1


def test_no_line_is_wider_than_the_terminal() -> None:
    names = ["n", "節点" * 30, "a" * 300, "e\u0301" * 60]
    entries = [hold(name, 100 * at, 100 * at + 100, 100 * at) for at, name in enumerate(names)]
    for width in (40, 61, 80, 200):
        lines = text(*entries, width=width, ascii_only=False)
        assert max(map(columns_of, lines)) <= width
        waits = lines[1:4]
        assert len({columns_of(line.partition("░")[0]) for line in waits}) == 1  # they begin together


def test_marks_win_over_bars_and_each_sign_is_explained() -> None:
    broken = End("broken", exact(300), "admin")
    lost = End("expired", Moment(NOON + 400, NOON + 600))
    freeze = PastFreeze(None, "admin", "", exact(500))
    lines = text(hold("n1", 0, None, ended=broken), hold("n2", 300, None, ended=lost), freeze)
    assert lines[0].startswith("frozen  ")
    assert lines[0].endswith("*")
    assert lines[1].endswith("x")
    assert lines[2].endswith("!")
    assert lines[-1].strip() == "* frozen  ? ended in here  # held  ! lost  x broken"


def test_colours_are_only_used_on_request_and_end_with_the_line() -> None:
    assert not any("\x1b" in line for line in text(hold("n1", 0, 300)))
    coloured = text(hold("n1", 0, 300), colour=True)
    assert coloured[0].count("\x1b[0m") == 1
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured[0]) == text(hold("n1", 0, 300))[0]


def test_two_hundred_rows_are_two_hundred_lines() -> None:
    entries = [hold(f"n{number}", 10 * number, 10 * number + 10, 10 * number) for number in range(200)]
    assert len(text(*entries, now=2000)) == 203
