"""--on-failure keep: a command that fails leaves its lock taken, until a person has looked."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd, text
from tests.support.process_trees import LOST, Key, Spawn, finish
from tests.support.processes import BOUND, Output

Run = Callable[..., "subprocess.CompletedProcess[str]"]
LIFETIMES = pytest.mark.parametrize("lifetime", [[], ["--ttl=30"]], ids=["persistent", "leased"])
KEEP = ("--lock-name=x", "--on-failure=keep")


@pytest.fixture
def key(etcd: Cluster, realm_prefix: str) -> Key:
    return Key(etcd, realm_prefix)


def shown(run_distlock: Run) -> dict[str, Any]:
    done = run_distlock("--show", "--lock-name=x", "--json")
    lock: dict[str, Any]
    (lock,) = json.loads(done.stdout)["locks"]
    return lock


@LIFETIMES
def test_a_failed_command_keeps_the_lock_and_records_what_failed_and_where(
    run_distlock: Run, in_etcd: Etcd, key: Key, lifetime: list[str]
) -> None:
    done = run_distlock(*KEEP, *lifetime, "--reason=Upgrade RPMs", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    lock = shown(run_distlock)
    assert lock["state"] == "kept"
    assert lock["lifetime"] == "persistent"
    assert lock["ttl_left"] is None
    assert lock["reason"] == f"sh ended with 7 on {socket.gethostname()} (Upgrade RPMs)"
    found = key.found()
    assert found is not None
    assert "lease" not in found
    assert in_etcd.new_leases() == set()
    for view in ("--list", "--show"):
        said = run_distlock(view, *(["--lock-name=x"] if view == "--show" else [])).stdout
        assert "kept" in said
        assert "ended with 7 on" in said


def test_with_several_slots_one_is_kept_and_a_waiter_gets_another(run_distlock: Run) -> None:
    two = (*KEEP, "--slots=2", "--nowait", "--")
    assert run_distlock(*two, "false").returncode == 1
    assert run_distlock(*two, "echo", "in").stdout == "in\n"
    assert run_distlock(*two, "false").returncode == 1
    assert run_distlock(*two, "echo", "in").stdout == ""


def test_no_argument_of_the_command_goes_to_etcd_unless_that_is_asked_for(run_distlock: Run, in_etcd: Etcd) -> None:
    secret = "--password=geheim"
    arguments = ("--", "/bin/sh", "-c", "exit 7", secret)
    assert run_distlock(*KEEP, "--ttl=30", "--verbose", *arguments).returncode == 7
    assert "geheim" not in json.dumps([text(kv["value"]) for kv in in_etcd.found().values()])
    assert run_distlock("--unlock", "--lock-name=x").returncode == 0
    assert "geheim" not in json.dumps([text(kv["value"]) for kv in in_etcd.found().values()])
    assert run_distlock(*KEEP, "--record-arguments", *arguments).returncode == 7
    assert shown(run_distlock)["reason"] == f"/bin/sh -c exit 7 {secret} ended with 7 on {socket.gethostname()}"
    failed = run_distlock("--lock-name=y", "--", "/no/such", secret)
    assert failed.returncode == 3
    assert "geheim" not in failed.stderr


def test_no_waiter_continues_before_a_person_has_unlocked_it(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock(*KEEP, "--ttl=3", "--id=me", "--", "false").returncode == 1
    for who in ("me", "another"):
        busy = run_distlock("--lock-name=x", "--nowait", f"--id={who}", "--", "echo", "ran")
        assert (busy.returncode, busy.stdout) == (1, "")
        assert "false ended with 1 on" in busy.stderr
    assert run_distlock("--unlock", "--lock-name=x").returncode == 0
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 0
    in_etcd.assert_nothing_left()


@LIFETIMES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_command_that_a_signal_ends_has_failed(
    spawn_distlock: Spawn, run_distlock: Run, lifetime: list[str], number: signal.Signals
) -> None:
    process = spawn_distlock(*KEEP, *lifetime, "--", "sh", "-c", "kill -$0 $$", str(int(number)))
    code, _ = finish(process)
    assert code == 128 + number
    assert shown(run_distlock)["state"] == "kept"
    assert f"ended with {128 + number} on" in shown(run_distlock)["reason"]


@LIFETIMES
def test_a_signal_to_distlock_that_ends_the_command_leaves_it_taken(
    spawn_distlock: Spawn, run_distlock: Run, lifetime: list[str]
) -> None:
    process = spawn_distlock(*KEEP, *lifetime, "--", "sh", "-c", "echo ready; exec sleep 300")
    Output(process.stdout).until("ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    assert shown(run_distlock)["state"] == "kept"


def test_a_success_releases(run_distlock: Run, in_etcd: Etcd) -> None:
    assert run_distlock(*KEEP, "--ttl=3", "--", "true").returncode == 0
    in_etcd.assert_nothing_left()


@LIFETIMES
def test_without_it_a_failure_releases(run_distlock: Run, in_etcd: Etcd, lifetime: list[str]) -> None:
    assert run_distlock("--lock-name=x", *lifetime, "--", "sh", "-c", "exit 7").returncode == 7
    in_etcd.assert_nothing_left()


@LIFETIMES
def test_a_lost_lock_is_not_taken_from_its_next_holder(
    spawn_distlock: Spawn, in_etcd: Etcd, key: Key, lifetime: list[str]
) -> None:
    process = spawn_distlock(
        *KEEP, *lifetime, "--on-loss=continue", "--", "sh", "-c", "echo ready; read line; exit 7", stdin=subprocess.PIPE
    )
    Output(process.stdout).until("ready")
    in_etcd.unlock("x")
    in_etcd.lock("x", owner="next")
    token = key.token()
    err = Output(process.stderr)
    err.until("RUNS ON WITHOUT ITS LOCK\n")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(BOUND) == LOST
    assert in_etcd.keys() == ["x"]
    assert key.token() == token
    assert in_etcd.new_leases() == set()
