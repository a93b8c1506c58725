"""The soak, for as long as a test may take; and that its judge finds what it has to find."""

from __future__ import annotations

from tests.support.needs import need
from tests.support.soak.judge import gaps, two_at_once
from tests.support.soak.run import soak
from tests.support.soak.spans import Span

SECONDS = 30.0


def test_never_two_at_once_and_never_long_without_a_holder() -> None:
    summary = soak(SECONDS, seed=8, etcd=need("etcd"))
    assert summary.is_good, summary
    assert summary.acquisitions > 3, summary
    assert sum(summary.faults.values()) > 5, summary


def test_a_manager_that_believes_too_long_is_found() -> None:
    # Not every round of faults happens to show it.
    for seed in range(1, 7):
        summary = soak(6, seed=seed, ttl=2, managers=3, etcd=need("etcd"), kind="gullible")
        if summary.overlaps:
            break
    assert summary.overlaps, summary
    assert not summary.is_good


def test_the_judge_allows_inconclusive_histories() -> None:
    # One after the other; the same one twice; a call that began before the other's had returned.
    assert two_at_once([Span("a", 1, 0, 5), Span("b", 2, 5.1, 8), Span("a", 3, 8.1, 9)]) == []
    assert two_at_once([Span("a", 1, 0, 5), Span("a", 1, 6, 7), Span("a", 2, 6.5, 8)]) == []
    assert two_at_once([Span("a", 1, 0, 5), Span("b", 2, 5.0, 8)]) == []


def test_the_judge_finds_a_violation() -> None:
    assert len(two_at_once([Span("a", 1, 0, 5), Span("b", 2, 4.9, 8)])) == 1
    # Also when the older one came to itself long after, for a moment.
    late = [Span("a", 1, 0, 5), Span("b", 2, 6, 7), Span("c", 3, 8, 9), Span("a", 1, 8.5, 8.5)]
    assert len(two_at_once(late)) == 2
    assert len(two_at_once([Span("a", 1, 0, 5), Span("b", 1, 6, 7)])) == 1  # one token, two holders


def test_the_judge_measures_the_time_without_a_holder() -> None:
    spans = [Span("a", 1, 1, 5), Span("b", 2, 7, 8), Span("c", 3, 7.5, 9)]
    assert gaps(spans, 0, 10) == [(5, 2), (0, 1), (9, 1)]
    assert gaps([], 3, 10) == [(3, 7)]
    assert gaps(spans, 2, 4) == []
