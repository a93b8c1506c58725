"""--policy: what it shows, sets and removes, what it refuses, and what a run does under it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Callable

import pytest

from tests.support.processes import Process, wait_until
from tests.support.realm_view import RealmView, one_line
from tests.support.time_windows import closed_now, open_now

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]
NIGHTS = "Mon-Fri 22:00-04:00 Europe/Berlin"


def policy(run: Run, *options: str, code: int = 0) -> str:
    """Change the policy of x, and return what was said."""
    done = run("--policy", "--lock-name=x", *options)
    assert (done.returncode, done.stdout) == (code, ""), done
    return str(one_line(done.stderr))


def test_it_is_set_changed_in_part_and_removed(run_distlock: Run, realm: RealmView) -> None:
    said = policy(run_distlock, "--slots=3", "--cooldown=2m", f"--window={NIGHTS}", "--expect=20m", "--reason=agreed")
    assert said == f"distlock: x: policy set: slots 3, cooldown 120s, window '{NIGHTS}', expect 1200s"
    _, details = realm.record("__policy/x")
    assert details == {"reason": "agreed", "slots": 3, "cooldown": 120, "window": NIGHTS, "expect": 1200}
    assert policy(run_distlock, "--slots=2") == "distlock: x: policy changed: slots 3 -> 2"
    assert policy(run_distlock, "--slots=2").startswith("distlock: x: its policy has this already: slots 2, cooldown")
    assert policy(run_distlock, "--clear", "--slots=2", "--dry-run") == (
        f"distlock: x: policy would be changed: cooldown removed (was 120s), window removed (was '{NIGHTS}'), "
        "expect removed (was 1200s)"
    )
    assert "window removed" in policy(run_distlock, "--clear", "--slots=2")
    assert policy(run_distlock, "--clear") == "distlock: x: policy removed: slots 2"
    assert policy(run_distlock, "--clear") == "distlock: x: it has no policy"
    assert not any(key.startswith("__policy") for key in realm.all_keys())


def test_it_shows_all_or_one(run_distlock: Run, realm: RealmView) -> None:
    assert one_line(run_distlock("--policy").stderr) == f"distlock: no policies under {realm.prefix}"
    assert policy(run_distlock) == f"distlock: x has no policy under {realm.prefix}"
    run_distlock("--policy", "--lock-name=web", "--slots=3", "--id=admin", "--reason=agreed\x1b[31m")
    run_distlock("--policy", "--lock-name=db", "--expect=90")
    shown = run_distlock("--policy").stdout.splitlines()
    assert shown[0].split() == ["LOCK", "SLOTS", "COOLDOWN", "WINDOW", "EXPECT", "SET", "BY", "SINCE", "REASON"]
    assert [line.split()[:5] for line in shown[1:]] == [["db", "-", "-", "-", "90s"], ["web", "3", "-", "-", "-"]]
    assert re.search(r"  admin  +\d\d:\d\d  agreed\\x1b\[31m$", shown[2])
    env = {"DISTLOCK_LOCKNAME": "db"}  # of a lock to be acquired
    assert run_distlock("--policy", env=env).stdout.splitlines() == shown
    assert len(run_distlock("--policy", "--lock-name=web").stdout.splitlines()) == 2


def test_as_json(run_distlock: Run) -> None:
    done = run_distlock("--policy", "--lock-name=x", "--slots=3", "--id=admin", "--json")
    change = json.loads(one_line(done.stdout))["policy"]
    after = change["after"]
    assert (change["lock"], change["changed"], change["dry_run"], change["before"]) == ("x", True, False, None)
    assert {**after, "since": 0} == {
        "lock": "x",
        "slots": 3,
        "cooldown": None,
        "window": None,
        "expect": None,
        "by": "admin",
        "since": 0,
        "reason": "",
        "trouble": None,
    }
    assert json.loads(run_distlock("--policy", "--json").stdout) == {"policies": [after]}
    (lock,) = json.loads(run_distlock("--show", "--lock-name=x", "--json").stdout)["locks"]
    assert lock["policy"] == {"slots": 3, "cooldown": None, "window": None, "expect": None}


def test_file_and_environment_do_not_get_into_a_policy(
    run_distlock: Run, realm: RealmView, config_file: Callable[[str], str]
) -> None:
    env = {"DISTLOCK_CONFIG": config_file("slots: 7\nreason: an upgrade\n"), "DISTLOCK_EXPECT": "5m"}
    run_distlock("--policy", "--lock-name=x", "--cooldown=5", env=env)
    assert realm.record("__policy/x")[1] == {"cooldown": 5}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "--slots=3"], "--policy --slots changes one lock: name it with --lock-name=NAME"),
        (["--policy", "--clear"], "--policy --clear changes one lock"),
        (["--policy", "--lock-name=x", "--reason=why"], "--reason goes with a policy to be set"),
        (["--policy", "--lock-name=x", "--id=me"], "--id goes with a policy to be set"),
        (["--policy", "--lock-name=x", "--clear", "--reason=y"], "--reason goes with a policy to be set"),
        (["--policy", "--lock-name=x", "--slots=0"], "--slots: expected a whole number from 1 to 1000"),
        (["--policy", "--lock-name=x", "--window=Mon local"], "window: expected a time zone with a name"),
        (["--policy", "--lock-name=x", "--window=Mo"], "Mo is neither a day nor a time"),
        (["--policy", "--lock-name=x", "--slots=2", "--ttl=5"], "--ttl goes with -- COMMAND"),
        (["--policy", "--list"], "mutually exclusive"),
        (["--show", "--lock-name=x", "--clear"], "--clear goes with --policy"),
        (
            ["--show", "--lock-name=x", "--dry-run"],
            "--dry-run goes with -- COMMAND, --lock, --unlock, --break, --freeze, --policy or --prune",
        ),
        (["--show", "--lock-name=x", "--window=Mon"], "--window goes with -- COMMAND"),
        (["--unlock", "--lock-name=x", "--expect=5"], "--expect goes with -- COMMAND"),
        (["--policy", "true"], "--policy runs no command"),
    ],
)
def test_what_is_refused_in_one_line(run_distlock: Run, realm: RealmView, arguments: list[str], said: str) -> None:
    done = run_distlock(*arguments)
    assert done.returncode == 1
    assert said in one_line(done.stderr)
    assert not any(key.startswith("__policy") for key in realm.all_keys())


# A run under a policy.


def test_a_run_goes_by_the_policy_and_says_so_once(run_distlock: Run, realm: RealmView) -> None:
    policy(run_distlock, "--slots=2", "--cooldown=60")
    first = run_distlock("--lock-name=x", "--lock", "--slots=1", "--id=one")
    assert one_line(first.stderr) == "distlock: warning: x has a policy with slots=2: 1 is not used"
    done = run_distlock("--lock-name=x", "--slots=3", "--cooldown=1", "--json", "--nowait", "--", "true")
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stderr.splitlines()] == [
        {"warning": {"message": "x has a policy with slots=2: 3 is not used"}},
        {"warning": {"message": "x has a policy with cooldown=60s: 1s is not used"}},
    ]
    assert run_distlock("--lock-name=x", "--slots=2", "--nowait", "--", "true").returncode == 1
    held = json.loads(run_distlock("--show", "--lock-name=x", "--json").stdout)["locks"]
    assert [(lock["state"], lock["slot"]) for lock in held] == [("held", 0), ("cooling", 1)]
    assert "policy    slots 2, cooldown 60s" in run_distlock("--show", "--lock-name=x").stdout


def test_after_a_failure_there_is_no_cooldown(run_distlock: Run, realm: RealmView) -> None:
    policy(run_distlock, "--cooldown=60")
    assert run_distlock("--lock-name=x", "--", "false").returncode == 1
    assert set(realm.entries()) == {"__policy/x"}


def test_an_unlock_of_ones_own_lock_cools_down_by_the_policy(run_distlock: Run, realm: RealmView) -> None:
    policy(run_distlock, "--cooldown=60")
    run_distlock("--lock-name=x", "--lock", "--id=me")
    assert run_distlock("--unlock", "--lock-name=x", "--id=me").returncode == 0
    assert realm.record("x")[1]["state"] == "cooling"


def test_outside_its_window_nobody_gets_in_and_the_message_says_until_when(run_distlock: Run) -> None:
    policy(run_distlock, f"--window={closed_now()}")
    done = run_distlock("--lock-name=x", "--nowait", "--json", f"--window={open_now()}", "--", "true")
    warning, error = (json.loads(line) for line in done.stderr.splitlines())
    assert "is not used" in warning["warning"]["message"]
    assert error["error"]["kind"] == "window"
    assert error["error"]["opens_at"] > 0
    assert "x is free; outside its policy's window" in error["error"]["message"]
    done = run_distlock("--lock-name=x", "--timeout=1", "--", "true")
    waiting, gave_up = done.stderr.splitlines()
    assert re.search(r"waiting: x is free; outside its policy's window '.*' until .*; position 1 of 1", waiting)
    assert re.search(r"gave up after 1\.\ds: x is free; outside its policy's window", gave_up)
    assert "; closed until " in run_distlock("--show", "--lock-name=x").stdout


def test_a_policy_that_cannot_be_followed_says_where_to_look(run_distlock: Run, realm: RealmView) -> None:
    realm.put("__policy/x", '1;admin;{"slots":2,"quorum":3}')
    done = run_distlock("--lock-name=x", "--", "true")
    assert done.returncode == 1
    said = one_line(done.stderr)
    assert "its policy cannot be followed: this version does not know its field quorum. See: distlock --policy" in said
    assert "cannot be followed: this version" in run_distlock("--policy").stdout
    assert "cannot be followed: this version" in run_distlock("--show", "--lock-name=x").stdout
    assert policy(run_distlock, "--slots=2", code=1).startswith("distlock: the policy of x is not changed in part")
    assert policy(run_distlock, "--clear", "--slots=2") == "distlock: x: policy set: slots 2"
    assert run_distlock("--lock-name=x", "--", "true").returncode == 0


def test_a_waiter_in_another_process_goes_on_when_the_policy_makes_room(
    run_distlock: Run, spawn_distlock: Spawn, realm: RealmView
) -> None:
    run_distlock("--lock-name=x", "--lock")
    waiter = spawn_distlock("--lock-name=x", "--", "echo", "inside")
    wait_until(lambda: any("/queue/" in key for key in realm.all_keys()), "in the queue")
    policy(run_distlock, "--slots=2")
    assert waiter.communicate(timeout=60)[0] == "inside\n"
