"""Judgement of the ttl against etcd's election timeout."""

from __future__ import annotations

import pytest

from distlock_core.doctor.lease_times import judge_ttl
from distlock_core.etcd.facts import EndpointFacts
from distlock_core.settings.options import Settings


@pytest.mark.parametrize(
    ("election_ms", "ttl", "grade", "words"),
    [
        (1000, None, "ok", "no ttl is set"),
        (1000, 60, "ok", "leaves 30s"),
        (1000, 4, "ok", "leaves 2s"),
        (1000, 3, "warn", "which can take 2s"),
        (5000, 10, "warn", "which can take 10s"),
        (5000, 7, "warn", "below the least that etcd grants"),
        (None, 60, "ok", "1s by default"),
        (None, 2, "warn", "1s by default"),
    ],
)
def test_the_ttl_must_outlast_a_change_of_leader(
    election_ms: int | None, ttl: int | None, grade: str, words: str
) -> None:
    one = judge_ttl(Settings(ttl=ttl), [EndpointFacts("http://n1:2379", election_ms=election_ms)])
    assert one.status == grade
    assert words in one.message
    assert bool(one.advice) == (grade == "warn")
    assert one.facts["ttl"] == ttl


def test_a_ttl_that_the_advice_names_is_fine() -> None:
    for election in (100, 1000, 2500, 5000, 50_000):
        facts = [EndpointFacts("http://n1:2379", election_ms=election)]
        advised = judge_ttl(Settings(ttl=max(1, election // 1000)), facts).advice
        ttl = int("".join(filter(str.isdigit, advised.partition("s or more")[0]))) if advised else 60
        assert judge_ttl(Settings(ttl=ttl), facts).status == "ok"


def test_refresh_and_kill_after_count() -> None:
    facts = [EndpointFacts("http://n1:2379", election_ms=1000)]
    assert judge_ttl(Settings(ttl=60, refresh=50.0, kill_after=9.0), facts).status == "warn"
