"""Judgement of a realm, from its keys."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from distlock_core.doctor.finding import Finding
from distlock_core.doctor.locks import RealmFacts, judge_realm
from distlock_core.etcd.values import KeyValue
from distlock_core.lock.holder_life import HolderLife
from distlock_core.lock.status import all_states
from distlock_core.process.identity import trace_of

PREFIX, MUTEX, NOW = "/distlock/", "__internal_lock", 1_500_001_000.0


def judged(keys: dict[str, Any], leases: dict[int, int] | None = None, gone: frozenset[int] = frozenset()) -> Any:
    """The findings by check. `keys`: records by name; one with `lease` in it is on that lease."""
    found = []
    for number, (name, record) in enumerate(keys.items(), 1):
        lease = record.pop("lease", 0) if isinstance(record, dict) else 0
        value = record if isinstance(record, str) else f"1500000000;node-{number};{json.dumps(record)}"
        found.append(KeyValue((PREFIX + name).encode(), value.encode(), number, number, lease))
    states = all_states(found, PREFIX, MUTEX)
    facts = RealmFacts(tuple(states), tuple(found), leases or {}, gone)
    by_check: dict[str, list[Finding]] = {}
    for one in judge_realm(PREFIX, MUTEX, facts, NOW):
        by_check.setdefault(one.check, []).append(one)
    return by_check


def statuses(found: dict[str, list[Finding]]) -> dict[str, list[str]]:
    return {check: [one.status for one in some] for check, some in found.items()}


def test_an_ordinary_realm_is_ok() -> None:
    found = judged(
        {
            "db": {"reason": "Upgrade", "run": "r", "expect": 5000, "lease": 7},
            "db/queue/50/exclusive/0001": {"host": "h", "lease": 8},
            "__policy/db": {"slots": 2, "reason": "three nodes"},
        },
        leases={8: 9},
    )
    assert {status for some in statuses(found).values() for status in some} == {"ok"}
    assert found["locks"][0].facts == {"held": 1, "waiting": 1}


@pytest.mark.parametrize(
    ("record", "check"),
    [
        ({"state": "kept"}, "kept"),
        ({"expect": 999}, "overdue"),
        ("what", "record"),
        ("1500000000;go;plain", "go_clients"),
        ({"quorum": 3}, "versions"),
    ],
)
def test_what_a_hold_tells(record: Any, check: str) -> None:
    found = judged({"db": record})
    assert {name for name, some in statuses(found).items() if "warn" in some} == {check}
    if check in ("kept", "overdue", "record"):
        (one,) = found[check]
        assert (one.about, [hint.code for hint in one.hints]) == ("db", ["show", "break"])


def test_a_kept_hold_is_not_overdue_too() -> None:
    assert statuses(judged({"db": {"state": "kept", "expect": 1}}))["overdue"] == ["ok"]


@pytest.mark.parametrize(("lease", "left", "grade"), [(0, 0, "bad"), (5, 0, "bad"), (5, 9, "ok"), (6, None, "ok")])
def test_a_ticket_without_a_life(lease: int, left: int | None, grade: str) -> None:
    """A lease that was not asked for counts as alive."""
    found = judged({"db/queue/50/exclusive/0001": {"lease": lease}}, {} if left is None else {lease: left})
    assert statuses(found)["ticket"] == [grade]


def test_the_mutex_of_the_go_original_ends_with_its_lease_or_stops_everything() -> None:
    assert statuses(judged({f"{MUTEX}/1": {"lease": 5}}, {5: 60}))["go_clients"] == ["warn"]
    assert "go_mutex" not in judged({f"{MUTEX}/1": {"lease": 5}}, {5: 60})
    assert statuses(judged({f"{MUTEX}/1": {}}))["go_mutex"] == ["bad"]


def test_each_freeze_has_the_command_that_ends_it() -> None:
    found = judged({"__freeze": {"reason": "network"}, "db/freeze": {"reason": "audit"}})
    realm, lock = found["frozen"]
    assert [hint.code for hint in (*realm.hints, *lock.hints)] == ["thaw_realm", "thaw"]
    assert '"network"' in realm.message
    assert "db is frozen; by node-2, 16m40s ago" in lock.message


def test_a_policy_that_cannot_be_followed_is_bad_and_no_sign_of_another_version() -> None:
    found = statuses(judged({"__policy/db": {"quorum": 3}}))
    assert (found["policy"], found["versions"]) == (["bad"], ["ok"])


def test_only_a_persistent_hold_of_a_process_that_is_gone_is_abandoned() -> None:
    keys = {"db": {"run": "r"}, "web": {"run": "s", "lease": 5}, "kept": {"state": "kept"}}
    found = judged(keys, gone=frozenset({1, 2, 3}))
    assert [one.about for one in found["abandoned"]] == ["db"]


def test_a_process_of_this_machine_that_has_ended_is_seen_as_gone() -> None:
    process = subprocess.Popen(["sleep", "60"])
    trace = trace_of(process.pid)
    process.kill()
    process.wait()
    (state,) = all_states(
        [KeyValue(b"/distlock/db", f"1;me;{json.dumps({'run': 'r', 'kind': 'run', **trace})}".encode(), 1, 1, 0)],
        PREFIX,
        MUTEX,
    )
    assert HolderLife.of(state.holders[0], os.devnull).process == "gone"
