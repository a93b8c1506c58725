"""Judgement of clocks, from the bounds of their lead."""

from __future__ import annotations

import pytest

from distlock_core.doctor.clocks import judge_clocks
from distlock_core.doctor.finding import Finding
from distlock_core.etcd.facts import EndpointFacts
from distlock_core.etcd.http.probe import seconds_of


def judged(*leads: tuple[float, float] | None) -> list[Finding]:
    return list(judge_clocks([EndpointFacts(f"http://n{at}:2379", lead=lead) for at, lead in enumerate(leads)]))


@pytest.mark.parametrize(
    ("lead", "grade", "words"),
    [
        ((-0.4, 0.7), "ok", "agree within 0.7s"),
        ((1.5, 2.5), "ok", "agree within 2.5s"),
        ((2.5, 3.5), "warn", "2s ahead of this machine's"),
        ((-12.0, -11.0), "warn", "11s behind this machine's"),
        ((89.0, 90.1), "bad", "1m29s ahead of this machine's"),
        ((-90000.0, -89999.0), "bad", "1d00h behind this machine's"),
    ],
)
def test_the_clock_of_an_etcd_against_this_machines(lead: tuple[float, float], grade: str, words: str) -> None:
    (one,) = judged(lead)
    assert (one.check, one.status) == ("clock", grade)
    assert words in one.message
    assert bool(one.advice) == (grade != "ok")


@pytest.mark.parametrize(
    ("leads", "grade"),
    [
        ([(-0.4, 0.7), (-0.5, 0.5)], "ok"),
        ([(-3.0, -2.5), (2.5, 3.0)], "warn"),
        ([(0.0, 1.0), (-100.0, -99.0), None], "bad"),
    ],
)
def test_the_clocks_of_members_against_each_other(leads: list[tuple[float, float] | None], grade: str) -> None:
    *_, skew = judged(*leads)
    assert (skew.check, skew.status) == ("clock_skew", grade)


def test_members_that_are_both_late_agree_with_each_other() -> None:
    *clocks, skew = judged((-31.0, -30.0), (-31.2, -30.1))
    assert [one.status for one in clocks] == ["warn", "warn"]
    assert skew.status == "ok"


def test_without_a_date_the_clock_is_not_judged() -> None:
    assert [(one.check, one.status) for one in judged(None)] == [("clock", "skipped")]


def test_a_date_is_read_as_http_writes_it_and_anything_else_is_none() -> None:
    assert seconds_of("Sat, 28 Nov 2026 23:22:56 GMT") == 1795908176
    assert [seconds_of(said) for said in (None, "", "yesterday", "Sat, 28 Nov 2026 23:22:56")] == [None] * 4
