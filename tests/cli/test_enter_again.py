"""Entering a lock again: only for the same named owner, and never two live runs together."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster, find_etcdctl
from tests.support.processes import Process
from tests.support.realm_view import BOUND, Holding, RealmView, eventually, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]
Hold = Callable[..., Holding]

PATH = {"PATH": f"{sys.executable.rpartition('/')[0]}:/usr/bin:/bin"}
ME = "--lock-name=x", "--id=node-1"


# (ii) After a step.


def test_a_run_enters_what_its_owner_has_locked_in_a_step_and_leaves_it_locked(
    run_distlock: Run, realm: RealmView
) -> None:
    run_distlock(*ME, "--lock", "--reason=the step")
    token, before = realm.token("x"), realm.entries()
    done = run_distlock(*ME, "--nowait", "--reason=the run", "--", "sh", "-c", "echo $DISTLOCK_TOKEN")
    assert (done.returncode, done.stdout) == (0, f"{token}\n")
    assert realm.entries() == before
    assert realm.token("x") == token


def test_while_a_run_is_inside_a_locked_step_the_record_is_the_runs(
    hold: Hold, run_distlock: Run, realm: RealmView
) -> None:
    run_distlock(*ME, "--lock", "--reason=the step")
    inside = hold(*ME, "--reason=the run")
    assert inside.token == realm.token("x")
    _, details = realm.record("x")
    assert (details["kind"], details["reason"], details["pid"]) == ("run", "the run", inside.process.pid)
    # A second run of the same owner stays out, now that one is inside.
    assert run_distlock(*ME, "--nowait", "--", "true").returncode == 1
    assert inside.let_go() == 0
    assert realm.record("x")[1]["kind"] == "lock"


def test_locking_in_a_step_again_succeeds(run_distlock: Run, realm: RealmView) -> None:
    run_distlock(*ME, "--lock")
    token = realm.token("x")
    assert run_distlock(*ME, "--lock", "--nowait", "--reason=again").returncode == 0
    assert realm.token("x") == token
    assert run_distlock(*ME, "--unlock").returncode == 0
    assert realm.entries() == {}


@pytest.mark.parametrize("again", [["--id=node-2"], [], ["--id=NODE-1"]])
def test_no_other_owner_enters_a_locked_step(run_distlock: Run, realm: RealmView, again: list[str]) -> None:
    run_distlock(*ME, "--lock")
    before = realm.entries()
    done = run_distlock("--lock-name=x", *again, "--nowait", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert realm.entries() == before


def test_an_owner_that_was_not_named_never_enters_again(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--lock")
    owner = realm.record("x")[0]
    assert run_distlock("--lock-name=x", "--lock", "--nowait").returncode == 1
    # Nor one that sets the host's name as owner, nor the reverse.
    assert run_distlock("--lock-name=x", "--lock", "--nowait", f"--id={owner}").returncode == 1
    run_distlock("--lock-name=x", "--unlock")
    run_distlock("--lock-name=x", "--lock", f"--id={owner}")
    assert run_distlock("--lock-name=x", "--lock", "--nowait").returncode == 1


def test_the_variable_names_an_owner_as_well_as_the_option(run_distlock: Run) -> None:
    run_distlock("--lock-name=x", "--lock", env={"DISTLOCK_ID": "node-1"})
    assert run_distlock("--lock-name=x", "--nowait", "--", "true", env={"DISTLOCK_ID": "node-1"}).returncode == 0


@pytest.mark.parametrize("state", ["kept", "cooling", "settling", "hold"])
def test_a_lock_in_another_state_than_held_is_not_entered_and_is_shown(
    run_distlock: Run, realm: RealmView, state: str
) -> None:
    realm.put("x", '1500000000;node-1;{"explicit":true,"kind":"lock","run":"a1","state":"' + state + '"}')
    refused = run_distlock(*ME, "--nowait", "--", "true")
    assert refused.returncode == 1
    assert f"node-1 ({state})" in one_line(refused.stderr)
    assert f"node-1 ({state})" in run_distlock("--list").stdout
    assert json.loads(run_distlock("--show", "--lock-name=x", "--json").stdout)["locks"][0]["state"] == state
    assert run_distlock("--unlock", "--lock-name=x").returncode == 0
    assert run_distlock(*ME, "--nowait", "--", "true").returncode == 0


# (i) Nested.


def test_a_nested_run_of_the_same_owner_enters_and_the_outer_one_releases(run_distlock: Run, realm: RealmView) -> None:
    inner = "distlock --lock-name=x --id=node-1 --timeout=20 -- sh -c 'echo inner $DISTLOCK_TOKEN'"
    script = f"{inner}; distlock --verify --lock-name=x && echo still outer $DISTLOCK_TOKEN"
    done = run_distlock(*ME, "--", "sh", "-c", script, env=PATH)
    first, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert first.startswith("inner ")
    assert second == first.replace("inner", "still outer")
    assert realm.entries() == {}


def test_a_nested_run_that_loses_the_lock_reports_it_however_short_it_is(
    run_distlock: Run, realm: RealmView, etcd: Cluster
) -> None:
    remove = [find_etcdctl(), f"--endpoints={etcd.endpoints[0]}", "del", f"{realm.prefix}x"]
    inner = shlex.join(["distlock", *ME, "--nowait", "--on-loss=continue", "--", *remove])
    done = run_distlock(*ME, "--on-loss=continue", "--", "sh", "-c", f"{inner}; echo inner $?; exit 0", env=PATH)
    assert done.stdout == "1\ninner 2\n"  # the first line is etcdctl's
    assert done.returncode == 2
    assert realm.entries() == {}


@pytest.mark.parametrize(("outer", "inner"), [([], []), (["--id=a"], []), ([], ["--id=a"]), (["--id=a"], ["--id=b"])])
def test_a_nested_run_that_may_not_enter_fails_at_once_instead_of_waiting_for_itself(
    run_distlock: Run, realm: RealmView, outer: list[str], inner: list[str]
) -> None:
    nested = ["distlock", "--lock-name=x", *inner, "--busy-exit-code=75", "--", "echo", "ran"]
    done = run_distlock("--lock-name=x", *outer, "--", *nested, env=PATH)
    assert (done.returncode, done.stdout) == (75, "")
    assert "is held by the command around this one" in one_line(done.stderr)
    assert realm.entries() == {}


def test_a_lock_in_between_does_not_hide_the_outer_one(run_distlock: Run, realm: RealmView) -> None:
    innermost = ["distlock", *ME, "--nowait", "--", "echo", "ran"]
    done = run_distlock(*ME, "--", "distlock", "--lock-name=y", "--", *innermost, env=PATH)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert realm.entries() == {}


def test_being_nested_requires_the_right_token(hold: Hold, run_distlock: Run, realm: RealmView) -> None:
    holder = hold(*ME)
    env = {"DISTLOCK_HELD": f"{realm.prefix}x", "DISTLOCK_TOKEN": str(holder.token - 1)}
    assert run_distlock(*ME, "--nowait", "--", "true", env=env).returncode == 1


def test_a_nested_lock_step_leaves_the_lock_to_the_run_around_it(run_distlock: Run, realm: RealmView) -> None:
    done = run_distlock(*ME, "--", "distlock", *ME, "--nowait", "--lock", env=PATH)
    assert (done.returncode, done.stderr) == (0, "")
    assert realm.entries() == {}


# (iii) A dead run.


def end(dead: Holding, realm: RealmView) -> None:
    """Both distlock and its command have ended, and the lock was not released."""
    command = realm.record("x")[1]["command"]["pid"]
    dead.process.kill()
    dead.process.wait(BOUND)
    dead.process.stdin.close()
    eventually(lambda: not os.path.exists(f"/proc/{command}"), "the command's end")


def test_the_lock_of_a_killed_run_is_taken_over_by_its_owner_and_released(
    hold: Hold, run_distlock: Run, realm: RealmView
) -> None:
    dead = hold(*ME)
    end(dead, realm)
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 1
    assert run_distlock("--lock-name=x", "--id=node-2", "--nowait", "--", "true").returncode == 1
    script = "echo $DISTLOCK_TOKEN; distlock --verify --lock-name=x && distlock --show --json --lock-name=x"
    done = run_distlock(*ME, "--nowait", "--", "sh", "-c", script, env=PATH)
    token, shown = done.stdout.splitlines()
    assert done.returncode == 0
    # Whatever the dead run's token may still change by way of others is older.
    assert int(token) > dead.token
    assert json.loads(shown)["locks"][0]["token"] == int(token)
    assert realm.entries() == {}


def test_a_run_whose_command_still_runs_is_not_taken_over(
    spawn_distlock: Spawn, run_distlock: Run, realm: RealmView
) -> None:
    # Only the record names it, not its environment.
    silent = ["env", "-i", "/bin/sh", "-c", "echo $$; exec /bin/cat"]
    dead = spawn_distlock(*ME, "--", *silent, stdin=subprocess.PIPE)
    command = int(dead.stdout.readline())
    assert realm.record("x")[1]["command"]["pid"] == command
    dead.kill()
    dead.wait(BOUND)
    busy = run_distlock(*ME, "--nowait", "--", "echo", "ran")
    assert (busy.returncode, busy.stdout) == (1, "")
    assert f"its command, process {command}, is running" in one_line(busy.stderr)
    assert f"(its command, process {command}, is running)" in run_distlock("--lock-name=x", "--show").stdout
    dead.stdin.close()
    eventually(lambda: not os.path.exists(f"/proc/{command}"), "the command's end")
    assert run_distlock(*ME, "--nowait", "--", "true").returncode == 0


def test_a_run_with_a_living_descendant_is_not_taken_over(
    spawn_distlock: Spawn, run_distlock: Run, realm: RealmView
) -> None:
    """Its command has ended; the environment of a descendant names the hold under which it runs."""
    script = "setsid sh -c 'echo $$; exec sleep 60' & exec cat"
    dead = spawn_distlock(*ME, "--", "sh", "-c", script, stdin=subprocess.PIPE)
    left = int(dead.stdout.readline())
    command = realm.record("x")[1]["command"]["pid"]
    dead.kill()
    dead.wait(BOUND)
    dead.stdin.close()
    eventually(lambda: not os.path.exists(f"/proc/{command}"), "the command's end")
    busy = run_distlock(*ME, "--nowait", "--", "echo", "ran")
    assert (busy.returncode, busy.stdout) == (1, "")
    assert f"process {left}, which runs under it, is running" in one_line(busy.stderr)
    os.kill(left, signal.SIGKILL)
    eventually(lambda: run_distlock(*ME, "--nowait", "--", "true").returncode == 0, "the take-over")


@pytest.mark.parametrize("remembered", [True, False])
def test_a_run_from_before_a_reboot_is_dead_where_this_machine_remembers_it(
    hold: Hold, run_distlock: Run, realm: RealmView, state_dir: str, *, remembered: bool
) -> None:
    holder = hold(*ME)
    value = realm.entries()["x"].decode()
    details = realm.record("x")[1]
    assert holder.let_go() == 0
    if remembered and "machine" not in details:
        pytest.skip("this system tells no machine")
    before = "00000000-0000-0000-0000-000000000000"
    # This process, which lives, but in another life of the machine: or on another machine of that name.
    realm.put("x", value.replace(details["boot"], before))
    note = Path(state_dir, details["run"])
    assert not note.exists()
    if remembered:
        note.write_text(json.dumps({"boot": before, "machine": []}))
    done = run_distlock(*ME, "--nowait", "--", "true")
    assert done.returncode == (0 if remembered else 1)
    assert ("this machine has no note that it was here" in done.stderr) is not remembered
    assert (realm.entries() == {}) is remembered


@pytest.mark.parametrize("field", ["host", "boot", "machine", "pid", "start", "ns", "time_ns"])
def test_without_proof_of_death_the_lock_is_left_alone(
    hold: Hold, run_distlock: Run, realm: RealmView, field: str
) -> None:
    dead = hold(*ME)
    owner, details = realm.record("x")
    end(dead, realm)
    if field not in details:
        pytest.skip(f"this system tells no {field}")
    if field in ("host", "machine"):
        details[field] = "another"
    else:
        del details[field]
    realm.put("x", f"1500000000;{owner};{json.dumps(details)}")
    assert run_distlock(*ME, "--nowait", "--", "true").returncode == 1
    assert "x" in realm.entries()


def test_two_live_runs_of_one_owner_never_enter_together(hold: Hold, spawn_distlock: Spawn, run_distlock: Run) -> None:
    first = hold(*ME)
    busy = run_distlock(*ME, "--nowait", "--", "echo", "ran")
    assert (busy.returncode, busy.stdout) == (1, "")
    second = spawn_distlock(*ME, "--", "sh", "-c", "echo $DISTLOCK_TOKEN")
    assert second.stderr.readline().startswith("distlock: waiting: x is held by node-1")
    assert first.let_go() == 0
    assert int(second.communicate(timeout=BOUND)[0]) > first.token
    assert second.returncode == 0


def test_of_many_that_find_a_dead_run_only_one_at_a_time_is_inside(
    hold: Hold, spawn_distlock: Spawn, realm: RealmView, tmp_path: object
) -> None:
    dead = hold(*ME)
    end(dead, realm)
    # mkdir fails if another process is inside.
    script = f"mkdir {tmp_path}/inside && echo alone && rmdir {tmp_path}/inside"
    runs = [spawn_distlock(*ME, "--quiet", "--", "sh", "-c", script) for _ in range(6)]
    assert [run.communicate(timeout=BOUND)[0] for run in runs] == ["alone\n"] * 6
    assert [run.returncode for run in runs] == [0] * 6
    assert realm.entries() == {}
