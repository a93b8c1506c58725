"""`--value`, `--get` and `--update`: what a lock carries, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Callable

import pytest

from tests.support.realm_view import Holding, RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Hold = Callable[..., Holding]
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
LOCK = ("--lock-name=db", "--lock")
GET = ("--lock-name=db", "--get")
UPDATE = ("--lock-name=db", "--update")


def test_get_prints_the_value_while_a_command_holds_the_lock(hold: Hold, run_distlock: Run) -> None:
    holder = hold("--lock-name=db", "--value=10.1.1.1")
    assert run_distlock(*GET).stdout == "10.1.1.1\n"
    assert holder.let_go() == 0
    free = run_distlock(*GET)
    assert (free.returncode, free.stdout, one_line(free.stderr)) == (1, "", "distlock: db is not locked")


@pytest.mark.parametrize("value", ["two\nlines", "\u00fc \u001b[31m", " spaces ", "-x=y", "$(id) `id` 'q' \"q\""])
def test_a_program_gets_the_value_unchanged(run_distlock: Run, value: str) -> None:
    assert run_distlock(*LOCK, f"--value={value}").returncode == 0
    assert run_distlock(*GET).stdout == value + "\n"
    assert json.loads(run_distlock(*GET, "--json").stdout) == {"got": {"lock": "db", "value": value}}


def test_a_lock_without_a_value_prints_an_empty_line(run_distlock: Run) -> None:
    assert run_distlock(*LOCK).returncode == 0
    got = run_distlock(*GET)
    assert (got.returncode, got.stdout) == (0, "\n")
    assert json.loads(run_distlock(*GET, "--json").stdout)["got"]["value"] is None


def test_show_and_list_have_the_value(run_distlock: Run) -> None:
    assert run_distlock(*LOCK, "--value=10.1.1.1\x1b[31m").returncode == 0
    assert "  value     10.1.1.1\\x1b[31m\n" in run_distlock("--lock-name=db", "--show").stdout
    assert json.loads(run_distlock("--list", "--json").stdout)["locks"][0]["value"] == "10.1.1.1\x1b[31m"


def test_update_changes_the_value_and_keeps_the_rest(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock(*LOCK, "--value=10.1.1.1", "--reason=why").returncode == 0
    token, before = realm.token("db"), realm.record("db")[1]
    done = run_distlock(*UPDATE, "--value=10.1.1.2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert realm.token("db") == token
    assert realm.record("db")[1] == {**before, "value": "10.1.1.2"}
    assert run_distlock(*UPDATE, "--reason=another", "--verbose").stderr == f"distlock: updated db, token {token}\n"
    assert realm.record("db")[1] == {**before, "value": "10.1.1.2", "reason": "another"}
    updated = json.loads(run_distlock(*UPDATE, "--value=", "--json").stdout)["updated"]
    assert (updated["value"], updated["reason"], updated["token"]) == ("", "another", token)


def test_update_takes_nothing_from_the_environment(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock(*LOCK, "--value=10.1.1.1", "--reason=why").returncode == 0
    env = {"DISTLOCK_REASON": "meant for another", "DISTLOCK_VALUE": "too"}
    assert run_distlock(*UPDATE, "--value=10.1.1.2", env=env).returncode == 0
    details = realm.record("db")[1]
    assert (details["value"], details["reason"]) == ("10.1.1.2", "why")
    refused = run_distlock(*UPDATE, env=env)
    assert (refused.returncode, one_line(refused.stderr)) == (
        1,
        "distlock: --update needs --value=TEXT or --reason=TEXT",
    )


def test_a_command_updates_the_lock_that_it_runs_under(run_distlock: Run) -> None:
    script = f"{DISTLOCK} --lock-name=db --update --value=10.1.1.2 && {DISTLOCK} --lock-name=db --get"
    done = run_distlock("--lock-name=db", "--id=me", "--value=10.1.1.1", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10.1.1.2\n", "")


def test_a_command_updates_another_lock_of_its_host(run_distlock: Run) -> None:
    assert run_distlock(*LOCK, "--value=10.1.1.1").returncode == 0
    script = f"{DISTLOCK} --lock-name=db --update --value=10.1.1.2 && {DISTLOCK} --lock-name=db --get"
    done = run_distlock("--lock-name=other", "--", "sh", "-c", script)
    assert (done.stdout, done.stderr) == ("10.1.1.2\n", "")


def test_the_value_is_not_inherited_by_a_lock_inside(run_distlock: Run) -> None:
    script = f"{DISTLOCK} --lock-name=inner --lock && {DISTLOCK} --lock-name=inner --get"
    done = run_distlock("--lock-name=db", "--", "sh", "-c", script, env={"DISTLOCK_VALUE": "10.1.1.1"})
    assert (done.returncode, done.stdout) == (0, "\n")


def test_another_owners_lock_is_left_alone_unless_its_token_is_named(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock(*LOCK, "--id=me", "--value=10.1.1.1").returncode == 0
    for owner in ((), ("--id=you",)):
        refused = run_distlock(*UPDATE, *owner, "--value=x", "--json")
        assert refused.returncode == 1
        error = json.loads(refused.stdout)["error"]
        assert error["kind"] == "not_holder"
        assert error["message"].endswith("left alone")
        assert error["hints"][0]["advice"].startswith("To change it anyway, name it with --token (")
    assert run_distlock(*UPDATE, "--token=1", "--value=x").returncode == 1
    assert realm.record("db")[1]["value"] == "10.1.1.1"
    for way in ("--id=me", f"--token={realm.token('db')}"):
        assert run_distlock(*UPDATE, way, f"--value={way}").returncode == 0
        assert realm.record("db")[1]["value"] == way


def test_a_lock_that_is_free_cannot_be_updated(run_distlock: Run, realm: RealmView) -> None:
    done = run_distlock(*UPDATE, "--value=x")
    assert (done.returncode, one_line(done.stderr)) == (1, "distlock: db is not locked")
    assert realm.all_keys() == {}


def test_an_update_leaves_a_running_commands_hold_intact(hold: Hold, run_distlock: Run, realm: RealmView) -> None:
    holder = hold("--lock-name=db", "--ttl=10", "--value=10.1.1.1")
    assert run_distlock(*UPDATE, "--value=10.1.1.2").returncode == 0
    assert run_distlock("--lock-name=db", "--verify", f"--token={holder.token}").returncode == 0
    assert holder.let_go() == 0
    assert realm.entries() == {}


@pytest.mark.parametrize("operation", ["--unlock", "--list", "--show", "--get", "--verify"])
def test_a_value_where_nothing_carries_it_is_refused(run_distlock: Run, operation: str) -> None:
    done: Any = run_distlock("--lock-name=db", operation, "--value=x")
    assert one_line(done.stderr) == "distlock: --value goes with -- COMMAND, --lock or --update"
