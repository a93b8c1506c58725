"""Judgement of etcd's members, from facts: no etcd is asked here."""

from __future__ import annotations

from typing import Any

import pytest

from distlock_core.doctor.faults import FAULTS, GOOD, faults_of, parsed
from distlock_core.doctor.finding import Finding
from distlock_core.doctor.members import judge_members
from distlock_core.etcd.facts import Counters, EndpointFacts, ListedMember, MemberStatus
from tests.support.paths import ROOT

GIB = 2**30
LISTED = tuple(ListedMember(number, f"n{number}", (f"http://n{number}:2379",), False) for number in (1, 2, 3))


def status(member: int = 1, **changes: Any) -> MemberStatus:
    whole = MemberStatus("3.5.21", 0xC1, member, 1, 7, 5000, 5000, 10_000_000, 9_000_000, 0, False, ())
    return whole._replace(**changes)


def endpoint(member: int = 1, *, of_status: dict[str, Any] | None = None, **changes: Any) -> EndpointFacts:
    """An endpoint of a healthy cluster of three."""
    own = status(member, **(of_status or {}))
    whole = EndpointFacts(
        f"http://n{member}:2379",
        own,
        via="gateway",
        seconds=0.002,
        members=LISTED,
        reads="",
        counters=Counters(1, 1.0, 2 * GIB),
        up_seconds=86400.0,
        lead=(-0.1, 0.9),
        later=own,
    )
    return whole._replace(**changes)


def judged(*found: EndpointFacts, why_no_endpoint: str = "") -> dict[str, list[Finding]]:
    """The findings by check."""
    by_check: dict[str, list[Finding]] = {}
    for one in judge_members(found, why_no_endpoint):
        by_check.setdefault(one.check, []).append(one)
    return by_check


def worst(check: str, *found: EndpointFacts) -> Finding:
    order = ("bad", "warn", "ok", "skipped")
    return min(judged(*found)[check], key=lambda one: order.index(one.status))


def test_a_healthy_cluster_gives_nothing_but_ok() -> None:
    found = judged(endpoint(1), endpoint(2), endpoint(3))
    assert {one.status for some in found.values() for one in some} == {"ok"}
    assert not [one.advice for some in found.values() for one in some if one.advice]
    assert len(found["version"]) == len(found["database"]) == len(found["endpoint"]) == 3
    assert found["leader"][0].message == "n1 is the leader, in term 7"


AWAY = EndpointFacts("http://n3:2379", failure="connection refused")
STRANGE = EndpointFacts("http://n3:2379", failure="it answers, but not as etcd does (HTTP 200)", is_strange=True)
PLAIN = EndpointFacts("http://n3:2379", failure="it speaks TLS there: use https://", is_strange=True)


@pytest.mark.parametrize(
    ("found", "grade", "advice"),
    [
        ((endpoint(1), AWAY), "warn", "distlock goes on with the other endpoints"),
        ((AWAY,), "bad", "start etcd"),
        ((endpoint(1), STRANGE), "bad", "correct this endpoint"),
        ((endpoint(1), PLAIN), "bad", "write this endpoint as https://n3:2379"),
    ],
)
def test_an_endpoint_that_does_not_answer(found: tuple[EndpointFacts, ...], grade: str, advice: str) -> None:
    one = worst("endpoint", *found)
    assert (one.status, one.about) == (grade, "http://n3:2379")
    assert advice in one.advice
    assert found[-1].failure in one.message


def test_without_an_answer_there_is_no_quorum_and_nothing_is_said_about_versions() -> None:
    found = judged(AWAY)
    assert [one.status for one in found["version"]] == ["skipped"]
    assert [one.status for one in found["quorum"]] == ["bad"]
    assert "database" not in found


def test_a_domain_without_records_is_bad_where_no_other_endpoint_answers() -> None:
    why = "SRV records of example.com (there are none)"
    for found, grade in (((endpoint(1),), "warn"), ((AWAY,), "bad"), ((), "bad")):
        one = judged(*found, why_no_endpoint=why)["endpoint"][0]
        assert (one.status, one.message) == (grade, why)


@pytest.mark.parametrize(
    ("version", "grade", "words", "advice"),
    [
        ("3.3.27", "bad", "too old", "3.5.18"),
        ("3.4.23", "warn", "a watch can miss a deletion", "3.4.36"),
        ("3.4.31", "warn", "a watch can miss a deletion", "3.4.36"),
        ("3.4.36", "ok", "", ""),
        ("3.5.0", "bad", "can corrupt its data", "3.5.18"),
        ("3.5.2", "bad", "can corrupt its data", "3.5.18"),
        ("3.5.3", "warn", "crashes if a client disconnects", "3.5.18"),
        ("3.5.5", "warn", "a leader that was paused and resumed", "3.5.18"),
        ("3.5.13", "warn", "a watch can miss a deletion", "3.5.18"),
        ("3.5.18", "ok", "", ""),
        ("3.6.0", "ok", "", ""),
        ("3.7.0-rc.0", "ok", "", ""),
        ("4.0.0+git", "ok", "", ""),
        ("unknown", "warn", "unknown", ""),
    ],
)
def test_a_version_is_compared_with_the_known_faults(version: str, grade: str, words: str, advice: str) -> None:
    one = worst("version", endpoint(1, of_status={"version": version}))
    assert one.status == grade
    assert words in one.message
    assert (f"update it to {advice} or later" == one.advice) if advice else not one.advice
    assert one.facts["version"] == version


def test_one_old_member_among_new_ones_is_found() -> None:
    found = judged(endpoint(1), endpoint(2, of_status={"version": "3.5.1"}))
    assert [one.status for one in found["version"]] == ["ok", "bad"]


def test_a_fault_that_is_fixed_is_not_reported_and_each_series_has_a_version_without_any() -> None:
    for series, good in GOOD.items():
        number = parsed(good)
        assert number is not None
        assert number[:2] == series
        assert faults_of(number) == []
        assert faults_of((*number[:2], number[2] - 1))
    for fault in FAULTS:
        assert fault not in faults_of(fault.fixed)
        assert fault in faults_of(fault.first)


def test_the_table_of_faults_has_those_of_the_promises_and_the_versions_of_the_advice() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    for words in ("3.5.0 to 3.5.4 |", "before 3.4.36 and 3.5.18 |", "3.5.0 to 3.5.2 |", "before 3.4.31 and 3.5.13 |"):
        assert words in page
    running = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    assert f"Version {', '.join(GOOD.values())} or later" in running


def test_endpoints_of_two_clusters_are_bad() -> None:
    one = worst("cluster", endpoint(1), endpoint(2, of_status={"cluster": 0xC2}))
    assert one.status == "bad"
    assert one.facts["clusters"] == {"c1": ["http://n1:2379"], "c2": ["http://n2:2379"]}


def test_a_member_that_no_endpoint_leads_to_is_named() -> None:
    one = worst("cluster", endpoint(1), endpoint(2))
    assert one.status == "ok"
    assert one.facts["unseen"] == ["n3"]
    assert "not examined, as no endpoint leads there: n3" in one.message


def test_a_member_that_has_never_started_is_a_warning() -> None:
    listed = (*LISTED[:2], LISTED[2]._replace(name=""))
    assert worst("cluster", endpoint(1, members=listed)).status == "warn"


@pytest.mark.parametrize("lacks", [{"leader": 0}, {"errors": ("etcdserver: no leader",)}])
def test_a_member_without_a_leader(lacks: dict[str, Any]) -> None:
    alone = worst("leader", endpoint(1, of_status=lacks))
    assert alone.status == "bad"
    one = worst("leader", endpoint(1, of_status=lacks), endpoint(2))
    assert (one.status, "n1 (http://n1:2379)" in one.message) == ("warn", True)


def test_members_that_name_different_leaders() -> None:
    one = worst("leader", endpoint(1), endpoint(2, of_status={"leader": 2, "term": 8}))
    assert one.status == "warn"
    assert "n1 (http://n1:2379): n1; n2 (http://n2:2379): n2" in one.message
    assert one.facts["terms"] == [7, 8]


@pytest.mark.parametrize(
    ("changes", "up", "grade"),
    [(1, 60.0, "ok"), (3, 60.0, "ok"), (4, 60.0, "warn"), (25, 30 * 3600.0, "ok"), (40, 30 * 3600.0, "warn")],
)
def test_changes_of_the_leader_are_counted_against_the_time(changes: float, up: float, grade: str) -> None:
    one = worst("leader_changes", endpoint(1, counters=Counters(changes, 1.0, None), up_seconds=up))
    assert one.status == grade
    assert f"{changes - 1:.0f} changes" in one.message


def test_a_leader_that_changes_between_two_looks_is_a_warning() -> None:
    one = worst("leader_changes", endpoint(1), endpoint(2, later=status(2, term=8)))
    assert one.status == "warn"
    assert "n2" in one.message


def test_without_metrics_the_two_looks_count() -> None:
    one = worst("leader_changes", endpoint(1, counters=None, up_seconds=None))
    assert one.status == "ok"
    assert "metrics" in one.message


def test_quorum() -> None:
    assert worst("quorum", endpoint(1), endpoint(2, reads="etcdserver: no leader")).status == "warn"
    one = worst("quorum", endpoint(1, reads="timed out"), AWAY)
    assert one.status == "bad"
    assert "n1 (http://n1:2379): timed out" in one.message
    assert one.facts["serving"] == []


@pytest.mark.parametrize(
    ("error", "grade", "words"),
    [
        ("memberID:1 alarm:NOSPACE ", "bad", "etcdctl alarm disarm"),
        ("memberID:1 alarm:CORRUPT ", "bad", "replace that member"),
        ("something new", "warn", "log"),
    ],
)
def test_alarms(error: str, grade: str, words: str) -> None:
    one = worst("alarms", endpoint(1, of_status={"errors": (error,)}), endpoint(2, of_status={"errors": (error,)}))
    assert (one.status, one.facts["alarms"]) == (grade, [error])
    assert words in one.advice


@pytest.mark.parametrize(
    ("size", "in_use", "grade", "words"),
    [
        (1.5, 1.4, "ok", ""),
        (1.7, 1.6, "warn", "compact and defragment"),
        (1.7, 0.3, "warn", "etcdctl defrag"),
        (1.95, 1.9, "bad", "compact and defragment"),
        (2.1, 0.0, "bad", "compact and defragment"),
    ],
)
def test_the_database_is_compared_with_its_quota(size: float, in_use: float, grade: str, words: str) -> None:
    sizes = {"db_size": int(size * GIB), "db_in_use": int(in_use * GIB)}
    for one in (
        worst("database", endpoint(1, of_status=sizes)),
        worst("database", endpoint(1, of_status={**sizes, "quota": 2 * GIB}, counters=None)),
    ):
        assert one.status == grade
        assert words in one.advice
        assert one.facts["quota"] == 2 * GIB


def test_a_quota_that_nobody_tells_is_said() -> None:
    one = worst("database", endpoint(1, counters=None))
    assert (one.status, one.facts["quota"]) == ("ok", None)
    assert "its quota is unknown" in one.message


def test_a_member_that_lags_behind() -> None:
    one = worst("log", endpoint(1), endpoint(2, of_status={"applied": 3000}))
    assert (one.status, "n2 (http://n2:2379) by 2000 entries" in one.message) == ("warn", True)
    assert worst("log", endpoint(1, of_status={"applied": 0})).status == "skipped"


def test_a_member_over_grpc_says_why_not_over_its_gateway() -> None:
    one = worst("endpoint", endpoint(1, via="grpc", no_gateway="it has no JSON gateway (404)"))
    assert one.status == "ok"
    assert "over gRPC in 2 ms, and not over its gateway: it has no JSON gateway (404)" in one.message
