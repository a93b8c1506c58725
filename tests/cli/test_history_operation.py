"""`--history`: a table for people, or one JSON object a line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.processes import Process
from tests.support.realm_view import BOUND, eventually, one_line

Spawn = Callable[..., Process]
Run = Callable[..., subprocess.CompletedProcess[str]]
TIME = r"\d\d:\d\d:\d\d"


@pytest.fixture
def locks(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    assert done.returncode == 0, done.stderr
    return [re.split(r"  +", line) for line in done.stdout.splitlines()]


def test_the_table_has_a_row_for_each_hold_wait_and_freeze(run_distlock: Run, locks: Realm) -> None:
    with locks.lock("db", "node-1", "Upgrade"):
        assert run_distlock("--lock-name=db", "--id=node-2", "--timeout=0.5", "--", "true").returncode == 1
    locks.lock("db", "node-3").acquire()
    locks.unlock("db", "admin", force=True)
    locks.freeze(owner="admin", reason="Look first")
    done = run_distlock("--history")
    heading, waited, held, broken, frozen = rows(done)
    assert heading == ["LOCK", "OWNER", "WAITED", "SINCE", "HELD", "ENDED", "REASON"]
    assert (waited[:2], waited[4:]) == (["db", "node-2"], ["-", "left the queue"])
    assert (held[:3], held[5:]) == (["db", "node-1", "0s"], ["released", "Upgrade"])
    assert re.fullmatch(TIME, held[3])
    assert re.fullmatch(r"\d+s", held[4])
    assert (broken[:2], broken[5:]) == (["db", "node-3"], ["broken by admin"])
    assert (frozen[:3], frozen[5:]) == (["(all locks)", "admin", "-"], ["frozen", "Look first"])
    assert re.fullmatch(r"distlock: the history (is whole|reaches back to revision \d+).*", one_line(done.stderr))


def test_shared_holds_are_marked(run_distlock: Run, locks: Realm) -> None:
    with locks.lock("db", "a", shared=True), locks.lock("db", "b", shared=True):
        pass
    locks.lock("db", "c").acquire(0).release()
    found = lines(run_distlock("--history", "--json"))
    holds = [(one["owner"], one["shared"], one["slot"], one["ended"]["how"]) for one in found if one["kind"] == "hold"]
    assert sorted(holds) == [("a", True, None, "released"), ("b", True, None, "released"), ("c", False, 0, "released")]
    assert run_distlock("--history").stdout.count("db (shared)") == 2


def test_a_failure_that_is_kept_says_since_when_and_why(run_distlock: Run) -> None:
    failing = ("--lock-name=db", "--id=a", "--on-failure=keep", "--reason=Upgrade", "--", "false")
    assert run_distlock(*failing).returncode == 1
    _, kept = rows(run_distlock("--history"))
    assert kept[5].startswith("kept: ")
    assert kept[6] == "Upgrade"
    assert run_distlock("--lock-name=db", "--id=admin", "--unlock", "--force").returncode == 0
    _, broken = rows(run_distlock("--history"))
    assert re.fullmatch(rf"kept at {TIME}: .*; broken by admin", broken[5])


def test_a_failure_that_freezes_says_so(run_distlock: Run) -> None:
    assert run_distlock("--lock-name=db", "--id=a", "--on-failure=freeze", "--", "false").returncode == 1
    _, hold, freeze = rows(run_distlock("--history"))
    assert hold[5] == "released, and froze the lock"
    assert freeze[:2] == ["db", "a"]


def test_json_is_one_object_a_line_and_the_reach_is_the_first(run_distlock: Run, locks: Realm) -> None:
    for name in ("a", "b", "c"):
        with locks.lock(name, "me"):
            pass
    done = run_distlock("--history", "--json", "--lock-name=a", "--lock-name=c")
    reach, *holds = lines(done)
    assert reach["kind"] == "reach"
    assert [(hold["kind"], hold["lock"], hold["ended"]["how"]) for hold in holds] == [
        ("hold", "a", "released"),
        ("hold", "c", "released"),
    ]
    assert done.stderr == ""


def test_since_takes_a_time_with_a_unit(run_distlock: Run, locks: Realm) -> None:
    with locks.lock("a", "me"):
        pass
    assert len(lines(run_distlock("--history", "--json", "--since=2h"))) == 2
    done = run_distlock("--history", "--since=soon")
    assert one_line(done.stderr) == "distlock: option --since: expected a number of seconds, found 'soon'"


def test_nothing_is_said_in_one_line(run_distlock: Run, realm_prefix: str) -> None:
    done = run_distlock("--history", "--lock-name=db")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"distlock: nothing is known of db under {realm_prefix}\n" in done.stderr
    assert run_distlock("--history", "--lock-name=db", "--quiet").stderr == ""


def test_a_lock_of_file_or_environment_does_not_narrow_it(run_distlock: Run, locks: Realm) -> None:
    with locks.lock("a", "me"):
        pass
    assert len(lines(run_distlock("--history", "--json", env={"DISTLOCK_LOCKNAME": "other"}))) == 2


def test_texts_of_others_cannot_control_the_terminal_and_wide_characters_count_two(
    run_distlock: Run, locks: Realm
) -> None:
    with locks.lock("a", "節点", "\x1b[31m"):
        pass
    with locks.lock("a", "node-long"):
        pass
    done = run_distlock("--history")
    _, wide, plain = done.stdout.splitlines()
    assert "\\x1b[31m" in wide
    assert wide.index("0s") + 2 == plain.index("0s")  # two characters take four columns


def test_follow_prints_the_past_and_goes_on(spawn_distlock: Spawn, locks: Realm) -> None:
    with locks.lock("db", "past"):
        pass
    process = spawn_distlock("--history", "--follow", "--json")
    assert [json.loads(process.stdout.readline())["kind"] for _ in range(2)] == ["reach", "hold"]
    with locks.lock("db", "now"):
        begun = json.loads(process.stdout.readline())
    ended = json.loads(process.stdout.readline())
    assert (begun["owner"], begun["ended"]) == ("now", None)
    assert (ended["token"], ended["ended"]["how"]) == (begun["token"], "released")
    process.send_signal(signal.SIGTERM)
    assert (process.wait(BOUND), process.stderr.read()) == (128 + signal.SIGTERM, "")


def test_follow_ends_with_its_reader(spawn_distlock: Spawn, locks: Realm) -> None:
    with locks.lock("db", "past"):
        pass
    process = spawn_distlock("--history", "--follow", "--json")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(BOUND) == 0
    assert process.stderr.read() == ""


def test_follow_for_people_says_at_once_how_far_back_it_reaches(spawn_distlock: Spawn, locks: Realm) -> None:
    process = spawn_distlock("--history", "--follow")
    assert process.stderr.readline().startswith("distlock: the history ")
    with locks.lock("db", "now"):
        assert process.stdout.readline().startswith("LOCK ")
        assert re.search(r"db +now +0s .* held", process.stdout.readline())
    eventually(lambda: "released" in process.stdout.readline(), "the end")


def test_a_full_disk_is_reported_in_one_line(spawn_distlock: Spawn, locks: Realm) -> None:
    with locks.lock("db"):
        pass
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = spawn_distlock("--history", stdout=full)
        assert process.wait(BOUND) == 1
    assert one_line(process.stderr.read()) == "distlock: cannot write to stdout: No space left on device"


def test_an_etcd_that_is_away_is_an_error(run_distlock: Run) -> None:
    done = run_distlock("--history", "--json", env={"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1"})
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "unreachable"


def test_a_break_names_who_broke_it_and_why(run_distlock: Run, locks: Realm) -> None:
    locks.lock("db", "node-1", "Upgrade").acquire()
    broken = ("--lock-name=db", "--break", "--yes", "--id=admin", "--reason=its node is gone")
    assert run_distlock(*broken).returncode == 0
    _, hold = rows(run_distlock("--history"))
    assert hold[5:] == ["broken by admin: its node is gone", "Upgrade"]
    _, told = lines(run_distlock("--history", "--json"))
    assert told["ended"] == {"how": "broken", "by": "admin", "why": "its node is gone", "sure": True}
