"""--cooldown: after a success the lock stays taken for a while, with no process behind it."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any, Callable

import pytest

from distlock_core.base.deadline import now
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.process_trees import STAMP, Key, Next, Spawn
from tests.support.processes import BOUND, wait_until

Run = Callable[..., "subprocess.CompletedProcess[str]"]
COOLDOWN = 3
each_lifetime = pytest.mark.parametrize("lifetime", [[], ["--ttl=30"]], ids=["persistent", "leased"])


def shown(run_distlock: Run) -> dict[str, Any]:
    lock: dict[str, Any]
    (lock,) = json.loads(run_distlock("--show", "--lock-name=x", "--json").stdout)["locks"]
    return lock


@each_lifetime
def test_no_other_acquires_before_the_end_of_the_cooldown(
    spawn_distlock: Spawn, run_distlock: Run, in_etcd: Etcd, lifetime: list[str]
) -> None:
    options = ("--lock-name=x", *lifetime, f"--cooldown={COOLDOWN}")
    first = spawn_distlock(*options, "--", "sh", "-c", "read line; exec " + shlex.join(STAMP), stdin=subprocess.PIPE)
    wait_until(in_etcd.keys, "the first one holds it")
    follower = Next(spawn_distlock(*Next.command("x")))  # in the queue before the cooldown begins, which may be short
    first.stdin.close()
    ended = Next.stamp(first)  # its command ended after that, so the cooldown began later
    assert first.wait(BOUND) == 0
    assert follower.started() >= ended + COOLDOWN
    assert follower.process.wait(BOUND) == 0
    wait_until(lambda: not in_etcd.new_leases(), "the cooldown's lease has ended")
    in_etcd.assert_nothing_left()


def test_a_cooling_lock_is_shown_as_such_and_no_process_is_behind_it(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock("--lock-name=x", "--ttl=3", "--cooldown=60", "--reason=restart", "--", "true").returncode == 0
    lock = shown(run_distlock)
    assert lock["state"] == "cooling"
    assert lock["reason"] == "restart"
    assert 0 < lock["ttl_left"] <= 60
    assert len(in_etcd.new_leases()) == 1  # the holder's own is gone
    assert "(cooling)" in run_distlock("--list").stdout
    assert "cooling" in run_distlock("--show", "--lock-name=x").stdout
    busy = run_distlock("--lock-name=x", "--nowait", "--", "true")
    assert busy.returncode == 1
    assert "(cooling)" in busy.stderr


def test_unlock_ends_it_early(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock("--lock-name=x", "--cooldown=60", "--", "true").returncode == 0
    assert run_distlock("--unlock", "--lock-name=x").returncode == 0
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 0
    assert in_etcd.keys() == []
    assert in_etcd.new_leases() == set()


def test_an_unlock_can_begin_one(spawn_distlock: Spawn, run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock("--lock", "--lock-name=x").returncode == 0
    follower = Next(spawn_distlock(*Next.command("x")))
    before = now()
    assert run_distlock("--unlock", "--lock-name=x", f"--cooldown={COOLDOWN}").returncode == 0
    assert follower.started() >= before + COOLDOWN - 0.01
    assert follower.process.wait(BOUND) == 0
    assert run_distlock("--lock", "--lock-name=x").returncode == 0
    assert run_distlock("--unlock", "--lock-name=x", "--cooldown=60").returncode == 0
    assert shown(run_distlock)["state"] == "cooling"


@each_lifetime
def test_a_failure_is_followed_by_no_cooldown(run_distlock: Run, in_etcd: Etcd, lifetime: list[str]) -> None:
    assert run_distlock("--lock-name=x", *lifetime, "--cooldown=60", "--", "sh", "-c", "exit 7").returncode == 7
    in_etcd.assert_nothing_left()


def test_a_kept_failure_is_not_cooled(run_distlock: Run, in_etcd: Etcd) -> None:
    done = run_distlock("--lock-name=x", "--ttl=3", "--cooldown=60", "--on-failure=keep", "--", "false")
    assert done.returncode == 1
    assert shown(run_distlock)["state"] == "kept"
    assert in_etcd.new_leases() == set()


def test_a_lost_lock_is_not_cooled(spawn_distlock: Spawn, in_etcd: Etcd, etcd: Cluster, realm_prefix: str) -> None:
    process = spawn_distlock(
        "--lock-name=x", "--cooldown=60", "--", "sh", "-c", "echo; read line", stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    in_etcd.unlock("x")
    in_etcd.lock("x", owner="next")
    token = Key(etcd, realm_prefix).token()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(BOUND) == 2
    assert Key(etcd, realm_prefix).token() == token
    assert in_etcd.new_leases() == set()


def test_unlock_leaves_no_lease_of_an_unattended_step(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock("--lock", "--lock-name=x", "--ttl=60").returncode == 0
    assert len(in_etcd.new_leases()) == 1
    assert run_distlock("--unlock", "--lock-name=x").returncode == 0
    assert in_etcd.new_leases() == set()


def test_a_step_that_a_run_has_entered_stays_held_and_does_not_cool(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock("--lock-name=x", "--id=me", "--lock").returncode == 0
    assert run_distlock("--lock-name=x", "--id=me", "--cooldown=60", "--", "true").returncode == 0
    assert (shown(run_distlock)["state"], shown(run_distlock)["lifetime"]) == ("held", "persistent")
