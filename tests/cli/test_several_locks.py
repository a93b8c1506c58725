"""Several --lock-name: one command under several locks, all or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any, Callable

import pytest

from tests.support.scene import BOUND, Scene, until

BOTH = ("--lock-name=rack", "--lock-name=web")
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_command_runs_under_all_of_them(run_distlock: Run, scene: Scene) -> None:
    done = run_distlock(*BOTH, "--verbose", "--", "sh", "-c", 'echo "$DISTLOCK_TOKEN"; echo "$DISTLOCK_HELD"; $0 $@')
    token = done.stdout.split("\n")[0]
    assert done.stdout == f"{token}\n{scene.prefix}rack\n{token} {scene.prefix}web\n"
    assert f"got rack, token {token}; web, token {token}" in done.stderr
    assert "released rack and web" in done.stderr
    assert done.returncode == 0
    scene.assert_clean()


def test_inside_it_verify_finds_the_token_of_each(run_distlock: Run, scene: Scene) -> None:
    inside = f"{DISTLOCK} --verify --verbose --lock-name=web --lock-name=rack && {DISTLOCK} --verify --lock-name=web"
    done = run_distlock(*BOTH, "--", "sh", "-c", inside)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" holds ") == 2
    again = run_distlock("--verify", *BOTH)
    assert "--verify needs the token of rack: give --token=N" in again.stderr
    scene.put("rack")
    lost = run_distlock("--verify", *BOTH, f"--token={scene.get('rack').create_revision}")  # type: ignore[union-attr]
    assert lost.returncode == 2
    assert "does not hold web" in lost.stderr


def test_they_come_from_a_list_in_the_file_and_from_lines_in_the_variable(
    run_distlock: Run, scene: Scene, config_file: Callable[[str], str]
) -> None:
    path = config_file("lockname:\n  - rack\n  - 'with, a comma'\n")
    held = 'echo "$DISTLOCK_HELD"'
    env = {"DISTLOCK_CONFIG": path, "DISTLOCK_LOCKNAME": None}
    assert "with, a comma" in run_distlock("--", "sh", "-c", held, env=env).stdout
    assert run_distlock("--lock-name=one", "--", "sh", "-c", held, env=env).stdout == f"{scene.prefix}one\n"
    lines = run_distlock("--", "sh", "-c", held, env={"DISTLOCK_LOCKNAME": "rack\nweb"}).stdout
    assert lines.startswith(f"{scene.prefix}rack\n")
    assert lines.endswith(f" {scene.prefix}web\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*BOTH, "--lock-name=rack", "--", "true"], "the lock 'rack' is named twice: name it once"),
        ([*BOTH, "--lock-name=", "--", "true"], "the lock's name is empty"),
        (["--lock-name=a\nb", "--", "true"], "it must not contain control characters"),
        ([f"--lock-name=n{number}" for number in range(15)] + ["--lock"], "15 locks are named: at most 14"),
        (["--get", *BOTH], "--get is about one lock, but rack and web are named"),
        (["--watch", *BOTH], "--watch is about one lock, but rack and web are named"),
        (["--freeze", *BOTH], "--freeze is about one lock, but rack and web are named"),
        (["--update", "--value=x", *BOTH], "--update is about one lock, but rack and web are named"),
        (["--unlock", "--gate=true", *BOTH], "--unlock --gate is about one lock, but rack and web are named"),
    ],
)
def test_bad_input_is_refused_in_one_line(run_distlock: Run, scene: Scene, arguments: list[str], said: str) -> None:
    done = run_distlock(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    scene.assert_clean()


def test_a_busy_one_is_named_with_the_state_of_all(run_distlock: Run, scene: Scene) -> None:
    scene.put("web")
    done = run_distlock(*BOTH, "--nowait", "--json", "--", "true")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["kind"]) == (1, "busy")
    assert error["message"].startswith("web is held by someone")
    assert [(lock["lock"], lock["owner"]) for lock in error["locks"]] == [("rack", None), ("web", "someone")]


def test_a_waiter_tells_the_place_in_each_queue(run_distlock: Run, scene: Scene) -> None:
    scene.put("web")
    done = run_distlock(*BOTH, "--timeout=1", "--", "true")
    first, last = done.stderr.splitlines()
    assert "waiting: web is held by someone" in first
    assert "rack: position 1 of 1 in the queue; web: position 1 of 1 in the queue" in first
    assert "gave up after" in last
    said = run_distlock(*BOTH, "--timeout=1", "--json", "--", "true").stderr.splitlines()
    waiting = json.loads(said[0])["waiting"]
    assert waiting["positions"] == {"rack": 1, "web": 1}
    assert [lock["lock"] for lock in waiting["locks"]] == ["rack", "web"]
    scene.assert_clean("web")


def test_lock_show_list_and_unlock_take_several(run_distlock: Run, scene: Scene) -> None:
    def locks(*arguments: str) -> list[Any]:
        return [lock["lock"] for lock in json.loads(run_distlock(*arguments, "--json").stdout)["locks"]]

    assert locks("--lock", *BOTH) == ["rack", "web"]
    assert locks("--show", *BOTH, "--lock-name=other") == ["rack", "web", "other"]
    assert locks("--list", *BOTH, "--lock-name=other") == ["rack", "web"]
    cards = run_distlock("--show", *BOTH).stdout.split("\n\n")
    assert [card.split("\n")[0] for card in cards] == ["rack", "web"]
    refused = run_distlock("--unlock", *BOTH, "--lock-name=other")
    assert refused.returncode == 1
    assert "other is not locked; none of the locks was unlocked" in refused.stderr
    unlocked = json.loads(run_distlock("--unlock", *BOTH, "--json").stdout)["unlocked"]
    assert [hold["lock"] for hold in unlocked] == ["rack", "web"]
    scene.assert_clean()


@pytest.mark.parametrize("lost", ["rack", "web"])
def test_the_loss_of_one_ends_the_command_and_releases_the_rest(
    spawn_distlock: Callable[..., Any], run_distlock: Run, scene: Scene, lost: str
) -> None:
    process = spawn_distlock(*BOTH, "--ttl=20", "--id=me", "--", "sleep", "60")
    until(lambda: scene.get("web"))
    time.sleep(0.5)  # until it is looked after
    assert run_distlock("--unlock", f"--lock-name={lost}", "--force", "--id=admin").returncode == 0
    _, said = process.communicate(timeout=BOUND)
    assert process.returncode == 2
    assert f"{lost} was broken by admin" in said
    scene.assert_clean()


@pytest.mark.parametrize(("option", "state"), [("--on-failure=keep", "kept"), ("--on-failure=freeze", None)])
def test_a_failure_keeps_or_freezes_all(run_distlock: Run, scene: Scene, option: str, state: str | None) -> None:
    assert run_distlock(*BOTH, option, "--", "sh", "-c", "exit 7").returncode == 7
    if state is None:
        assert all(scene.get(f"{name}/freeze") for name in ("rack", "web"))
        assert scene.get("rack") is scene.get("web") is None
    else:
        assert [scene.record(name).state for name in ("rack", "web")] == [state] * 2


def test_a_success_cools_all(run_distlock: Run, scene: Scene) -> None:
    assert run_distlock(*BOTH, "--cooldown=60", "--", "true").returncode == 0
    assert [scene.record(name).state for name in ("rack", "web")] == ["cooling"] * 2
    assert len({scene.get(name).lease for name in ("rack", "web")}) == 1  # type: ignore[union-attr]


def test_a_gate_goes_with_several(run_distlock: Run, scene: Scene) -> None:
    assert run_distlock(*BOTH, "--gate=true", "--", "true").returncode == 0
    scene.assert_clean()
    done = run_distlock(*BOTH, "--gate=false", "--gate-at=after", "--gate-timeout=1", "--", "true")
    assert done.returncode != 0
    assert [scene.record(name).state for name in ("rack", "web")] == ["kept"] * 2


def test_while_a_process_lives_a_keeper_holds_all(run_distlock: Run, scene: Scene) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            assert run_distlock("--lock", *BOTH, f"--while-pid={process.pid}").returncode == 0
            keepers = {scene.record(name).number("keeper") for name in ("rack", "web")}
            assert len(keepers) == 1
            assert None not in keepers
            assert len(scene.new_leases()) == 1
        finally:
            process.kill()
    until(lambda: not scene.new_leases())
    scene.assert_clean()


def test_inside_a_subset_enters_and_a_superset_is_refused(run_distlock: Run, scene: Scene) -> None:
    me = f"{DISTLOCK} --id=me --lock-name=web"
    inside = f"{me} -- echo one; {me} --lock-name=rack -- echo both; {me} --lock-name=other -- echo more"
    done = run_distlock("--id=me", *BOTH, "--", "sh", "-c", inside)
    assert done.stdout == "one\nboth\n"
    assert "web is held by the command around this one, which does not hold all of these locks" in done.stderr
    waits = run_distlock(*BOTH, "--", "sh", "-c", f"{DISTLOCK} --lock-name=web --lock-name=other -- echo more")
    assert "web is held by the command around this one, so waiting would never end" in waits.stderr
    assert waits.stdout == ""
    scene.assert_clean()


def test_a_run_that_was_killed_is_continued_with_all_its_locks(
    spawn_distlock: Callable[..., Any], run_distlock: Run, scene: Scene
) -> None:
    process = spawn_distlock("--id=me", *BOTH, "--", "sleep", "60")
    until(lambda: scene.get("web") and scene.record("web").details.get("command"))
    command = scene.record("web").details["command"]["pid"]
    process.kill()
    process.wait()
    os.kill(command, 9)
    until(lambda: run_distlock("--id=me", *BOTH, "--nowait", "--", "true").returncode == 0)
    scene.assert_clean()
