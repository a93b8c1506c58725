"""--rank in processes: the order in which they run, what is shown, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from tests.support.processes import Process, wait_until
from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]


def tickets(realm: RealmView) -> list[str]:
    return [key for key in realm.all_keys() if "/queue/" in key]


def test_replicas_go_before_the_primary_whichever_came_first(
    run_distlock: Run, spawn_distlock: Spawn, realm: RealmView, tmp_path: Path
) -> None:
    run_distlock("--lock", "--lock-name=x", "--id=admin")
    names = {"primary": "--rank=90", "any": "--verbose", "replica": "--rank=10", "second": "--rank=10"}
    waiters = []
    for number, (name, rank) in enumerate(names.items(), 1):
        command = ["sh", "-c", f"echo {name} >> {tmp_path}/ran"]
        waiters.append(spawn_distlock("--lock-name=x", f"--id={name}", rank, "--", *command))
        wait_until(lambda: len(tickets(realm)) == number, "in the queue")  # noqa: B023 - called at once
    assert sorted(key.split("/")[2] for key in tickets(realm)) == ["10", "10", "50", "90"]
    card = run_distlock("--show", "--lock-name=x").stdout
    order = [line.split(". ")[1].split(" on ")[0].split(" since ")[0] for line in card.splitlines() if ". " in line]
    assert order == ["replica (rank 10)", "second (rank 10)", "any", "primary (rank 90)"]
    for look in (["--show", "--lock-name=x"], ["--list"]):
        (lock,) = json.loads(run_distlock(*look, "--json").stdout)["locks"]
        assert [(waiter["owner"], waiter["rank"]) for waiter in lock["waiters"]] == [
            ("replica", 10),
            ("second", 10),
            ("any", 50),
            ("primary", 90),
        ]
    run_distlock("--unlock", "--lock-name=x", "--id=admin")
    for waiter in waiters:
        waiter.communicate(timeout=60)
        assert waiter.returncode == 0
    assert (tmp_path / "ran").read_text().split() == ["replica", "second", "any", "primary"]
    assert realm.entries() == {}


def test_a_waiter_reports_its_place_among_all_ranks(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", "1500000000;other;reason")
    for rank, count in ((10, 2), (50, 1), (90, 3)):
        for number in range(count):
            realm.put(f"x/queue/{rank}/exclusive/{number:016x}", "1500000000;someone;{}")
    for rank, place in ((0, 1), (10, 3), (50, 4), (70, 4), (90, 7)):
        done = run_distlock("--lock-name=x", f"--rank={rank}", "--timeout=0.5", "--", "true")
        assert f"; position {place} of 7 in the queue" in done.stderr.splitlines()[0]
        assert done.returncode == 1


@pytest.mark.parametrize("rank", ["100", "-1", "1.5", "first", "", "9" * 5000])
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_bad_rank_is_one_line_and_nothing_is_taken(run_distlock: Run, realm: RealmView, rank: str, way: str) -> None:
    options = [f"--rank={rank}"] if way == "option" else []
    env = {"DISTLOCK_RANK": rank} if way == "variable" else {}
    done = run_distlock("--lock-name=x", *options, "--", "true", env=env)
    if way == "variable" and not rank:
        assert done.returncode == 0  # an empty variable counts as unset
        return
    where = "option --rank" if way == "option" else "DISTLOCK_RANK"
    assert done.returncode == 1
    assert f"{where}: expected a whole number from 0 to 99, found" in one_line(done.stderr)
    assert realm.all_keys() == {}


def test_an_explanation_is_about_a_rank(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x/queue/50/exclusive/0000000000000001", "1500000000;someone;{}")
    realm.put("x/queue/90/exclusive/0000000000000002", "1500000000;someone;{}")
    for rank, code, said in (
        (49, 0, "2 are waiting, with higher ranks"),
        (50, 1, "2 are waiting, 1 of them with the same or a lower rank"),
        (90, 1, "2 are waiting"),
    ):
        done = run_distlock("--explain", "--lock-name=x", f"--rank={rank}")
        assert (done.returncode, said in done.stdout) == (code, True), done.stdout


def test_it_is_about_an_acquisition(run_distlock: Run) -> None:
    for operation in ("--unlock", "--show", "--policy", "--freeze"):
        done = run_distlock("--lock-name=x", operation, "--rank=10")
        assert done.returncode == 1
        assert "--rank goes with -- COMMAND, --lock, --explain or --wait" in one_line(done.stderr)
