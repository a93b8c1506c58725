"""The ways to lose a leased lock: the command's whole tree is dead before the next holder starts, or soon after."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.base.deadline import now
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.process_trees import (
    LOST,
    SLOW,
    STAMP,
    Key,
    Next,
    Spawn,
    Tree,
    figure,
    finish,
    growing_tree,
    until_after,
)
from tests.support.processes import BOUND, Output, is_asleep, is_running, is_stopped, python, wait_until

TTL = 5
KILL_AFTER = 2.5  # of which the longest half second is kept back: a machine that is slow needs it
TXN = "/v3/kv/txn"
KEEPALIVE = "/v3/lease/keepalive"
LEASED = ("--lock-name=x", f"--ttl={TTL}", "--refresh=0.8", f"--kill-after={KILL_AFTER}")
BY_HAND = ("--lock-name=x", "--ttl=60", "--kill-after=1")  # where nothing is to run out meanwhile
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Fills the pipe that is its stderr, and reports that.
_FILLS_STDERR = """
import os, time
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x")
except BlockingIOError:
    os.set_blocking(2, True)
    print("full", os.getpid(), flush=True)
time.sleep(300)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with growing_tree(tmp_path / "tree") as tree:
        yield tree


@pytest.fixture
def key(etcd: Cluster, realm_prefix: str) -> Key:
    return Key(etcd, realm_prefix)


@pytest.fixture
def own_etcd(start_etcd: Callable[..., Cluster]) -> Iterator[Cluster]:
    """One member of the test's own, to pause."""
    with start_etcd() as cluster:
        yield cluster


def claims(body: bytes) -> bool:
    return b"request_put" in body


def assert_says_when_and_why(said: str, why: str) -> None:
    lines = [line for line in said.splitlines() if "was lost" in line]
    assert len(lines) == 1, said
    assert re.search(rf"x: the lock was lost at \d\d:\d\d:\d\d: .*(?:{why}).*; the command is ended", lines[0]), said


# Removed by hand: the next one is let in at once.


@pytest.mark.parametrize("way", ["revoke", "delete", "unlock"])
def test_a_lock_removed_by_hand_ends_the_whole_tree_within_kill_after(
    spawn_distlock: Spawn, run_distlock: Run, key: Key, tree: Tree, way: str
) -> None:
    process = spawn_distlock(*BY_HAND, "--", *tree.command())
    tree.until_ready(process)
    follower = Next(spawn_distlock(*Next.command("x")))
    if way == "unlock":
        assert run_distlock("--unlock", "--lock-name=x", env={"DISTLOCK_ID": "admin"}).returncode == 1  # another's
        assert run_distlock("--unlock", "--lock-name=x", "--id=admin", "--force").returncode == 0
    else:
        getattr(key, way)()
    started = follower.started()
    code, said = finish(process)
    assert tree.living() == []
    assert code == LOST
    # When it is read, the next one may already hold it, or have released it.
    assert_says_when_and_why(said, "revoked|its key was deleted|broken by admin|held by")
    overlap = tree.last_sign_of_life() - started
    figure(f"overlap after {way}, kill_after {KILL_AFTER:g} s", overlap)
    assert overlap <= KILL_AFTER + SLOW
    assert follower.process.wait(BOUND) == 0  # and the end of the first has not touched the lock of the second


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("revoke", "its lease has expired or was revoked"),
        ("delete", "its key was deleted"),
        ("unlock", r"it was broken by admin at \d\d:\d\d"),
    ],
)
def test_the_time_and_cause_of_a_loss_are_reported(
    spawn_distlock: Spawn, run_distlock: Run, key: Key, way: str, why: str
) -> None:
    process = spawn_distlock("--lock-name=x", "--ttl=60", "--", "sh", "-c", "echo ready; exec sleep 300")
    Output(process.stdout).until("ready")
    if way == "unlock":
        assert run_distlock("--unlock", "--lock-name=x", "--id=admin", "--force").returncode == 0
    else:
        getattr(key, way)()
    code, said = finish(process)
    assert code == LOST
    assert_says_when_and_why(said, why)


def test_a_lock_replaced_by_another_ends_the_tree_and_stays_the_others(
    spawn_distlock: Spawn, key: Key, tree: Tree
) -> None:
    process = spawn_distlock(*BY_HAND, "--", *tree.command())
    tree.until_ready(process)
    key.replace()
    replaced = now()
    code, said = finish(process)
    assert tree.living() == []
    assert code == LOST
    assert_says_when_and_why(said, "held by another now")
    assert tree.last_sign_of_life() - replaced <= KILL_AFTER + SLOW
    assert key.token() is not None


def test_a_removal_by_hand_is_noticed_long_before_the_next_renewal(spawn_distlock: Spawn, key: Key, tree: Tree) -> None:
    process = spawn_distlock("--lock-name=x", "--ttl=60", "--kill-after=0.5", "--", *tree.command(kind=True))
    tree.until_ready(process)
    follower = Next(spawn_distlock(*Next.command("x")))
    key.delete()
    started = follower.started()
    assert finish(process)[0] == LOST
    figure("from the next start to SIGTERM, lock deleted by hand", tree.told_to_end() - started)
    assert tree.told_to_end() - started <= SLOW


def test_a_command_that_ends_when_asked_is_not_waited_for_any_longer(spawn_distlock: Spawn, key: Key) -> None:
    process = spawn_distlock("--lock-name=x", "--ttl=60", "--kill-after=30", "--", "sh", "-c", "echo ready; sleep 300")
    Output(process.stdout).until("ready")
    key.delete()
    code, said = finish(process)
    assert code == LOST
    assert_says_when_and_why(said, "its key was deleted")


def test_no_shell_survives_to_start_its_next_command(spawn_distlock: Spawn, key: Key, tmp_path: Path) -> None:
    script = tmp_path / "deep.sh"
    script.write_text('[ $1 = 0 ] && { echo ready; sleep 300; } || sh "$0" $(($1 - 1))\necho $1 >> "$0.went-on"\n')
    process = spawn_distlock(*BY_HAND, "--", "sh", str(script), "6")
    Output(process.stdout).until("ready")
    key.delete()
    code, said = finish(process)
    assert code == LOST
    assert "Terminated" not in said  # printed by a shell that outlives its command
    assert not Path(f"{script}.went-on").exists()


def test_a_stderr_without_a_reader_does_not_delay_the_kill(spawn_distlock: Spawn, key: Key) -> None:
    process = spawn_distlock(*BY_HAND, "--", *python(_FILLS_STDERR))
    command = int(Output(process.stdout).until(r"full (\d+)\n").group(1))
    key.delete()
    wait_until(lambda: not is_running(command), "the command's end")
    assert process.poll() is None  # it has yet to say so
    code, said = finish(process)
    assert code == LOST
    assert "the lock was lost" in said


# Expired: no other is let in before the tree is dead. This is the promise, and has no margin.


def test_a_paused_etcd_lets_the_next_one_in_only_when_the_tree_is_dead(
    spawn_distlock: Spawn, own_etcd: Cluster, realm_prefix: str, tree: Tree
) -> None:
    env = {"DISTLOCK_ENDPOINTS": own_etcd.endpoints[0]}
    process = spawn_distlock(*LEASED, "--", *tree.command(), env=env)
    tree.until_ready(process)
    follower = Next(spawn_distlock(*Next.command("x"), env=env))
    own_etcd.members[0].pause()
    until_after(now() + TTL + 0.5)
    own_etcd.members[0].resume()
    started = follower.started()
    assert started > tree.last_sign_of_life()
    code, said = finish(process)
    assert tree.living() == []
    assert code == LOST
    assert_says_when_and_why(said, r"etcd has confirmed no renewal for \d\.\ds")
    figure("paused etcd: from the last sign of life to the next start", started - tree.last_sign_of_life())


def test_a_holder_cut_off_from_etcd_is_dead_before_the_next_one_starts(
    spawn_distlock: Spawn, proxy: Proxy, tree: Tree
) -> None:
    process = spawn_distlock(*LEASED, "--", *tree.command(), env={"DISTLOCK_ENDPOINTS": proxy.url})
    tree.until_ready(process)
    follower = Next(spawn_distlock(*Next.command("x")))
    proxy.blackhole()
    started = follower.started()
    assert started > tree.last_sign_of_life()
    code, said = finish(process)
    assert tree.living() == []
    assert code == LOST
    assert_says_when_and_why(said, r"etcd has confirmed no renewal for \d\.\ds")
    figure("cut off: from the last sign of life to the next start", started - tree.last_sign_of_life())


def test_a_command_is_asked_to_end_at_the_deadline_less_kill_after(
    spawn_distlock: Spawn, proxy: Proxy, tree: Tree
) -> None:
    ttl = 6  # time enough for a busy machine to start the tree
    options = ("--lock-name=x", f"--ttl={ttl}", "--refresh=0.8", f"--kill-after={KILL_AFTER}")
    proxy.lose_request(KEEPALIVE, times=1000)  # so the lease counts from its grant
    before = now()
    process = spawn_distlock(*options, "--", *tree.command(kind=True), env={"DISTLOCK_ENDPOINTS": proxy.url})
    tree.until_ready(process)
    granted = now()  # or rather before
    code, _ = finish(process)
    assert code == LOST  # though the command itself ended with 0
    assert tree.living() == []
    asked = tree.told_to_end()
    figure("asked to end, after the lease was granted, at least", asked - granted)
    assert asked - before >= ttl - KILL_AFTER
    assert asked - granted <= ttl - KILL_AFTER + SLOW


def test_a_supervisor_that_was_stopped_past_its_ttl_kills_first_thing_on_waking(
    spawn_distlock: Spawn, tree: Tree
) -> None:
    process = spawn_distlock(*LEASED, "--", *tree.command())
    command = tree.until_ready(process)
    follower = Next(spawn_distlock(*Next.command("x")))
    process.send_signal(signal.SIGSTOP)
    started = follower.started()
    # SIGSTOP of the supervisor alone leaves the command running: this is the window that no client can close.
    assert is_running(command)
    wait_until(lambda: tree.last_sign_of_life() > started, "a sign of life beside the next holder's")
    woken = now()
    process.send_signal(signal.SIGCONT)
    code, said = finish(process)
    assert tree.living() == []
    assert code == LOST
    # Whichever it sees first: the clock, the lease, or what the watch has brought meanwhile.
    assert_says_when_and_why(said, "etcd has confirmed no renewal for|lease has expired|it is held by")
    late = tree.last_sign_of_life() - woken
    figure("stopped supervisor: from SIGCONT to the last sign of life", late)
    figure(
        "stopped supervisor: overlap, with a stop until the next one has started", tree.last_sign_of_life() - started
    )
    assert late < SLOW
    assert follower.process.wait(BOUND) == 0


# Between getting the lock and starting the command.


def test_a_claim_whose_reply_comes_after_the_ttl_starts_nothing(
    spawn_distlock: Spawn, proxy: Proxy, in_etcd: Etcd
) -> None:
    held = proxy.hold_reply(TXN, claims)
    # An answer is waited for as long as one attempt takes, five seconds: the ttl is to be over before that.
    options = ("--lock-name=x", "--ttl=2", "--connect-timeout=300")
    process = spawn_distlock(*options, "--", "echo", "ran", env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    wait_until(lambda: in_etcd.keys() == [], "the lease has run out")
    in_etcd.lock("x", owner="next")
    held.release()
    code, said = finish(process)
    assert code == LOST, said
    assert in_etcd.keys() == ["x"]  # the next one's
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert "x: the lock was lost" in said
    assert "nothing was started" in said


def test_a_supervisor_stopped_before_it_starts_the_command_starts_nothing(
    spawn_distlock: Spawn, proxy: Proxy, run_distlock: Run
) -> None:
    held = proxy.hold_reply(TXN, claims)
    process = spawn_distlock(
        *LEASED, "--connect-timeout=300", "--", "echo", "ran", env={"DISTLOCK_ENDPOINTS": proxy.url}
    )
    held.wait(BOUND)
    # Stopped on its way to the reply it would find its time for one attempt over, and claim again.
    wait_until(lambda: is_asleep(process.pid), "waiting for the reply")
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(process.pid), "stopped")
    held.release()
    assert run_distlock("--lock-name=x", "--timeout=50", "--", *STAMP).returncode == 0
    process.send_signal(signal.SIGCONT)
    code, said = finish(process)
    assert code == LOST, said
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert "nothing was started" in said


# Events that are no loss.


@pytest.mark.parametrize("first", ["leader first", "leader last"])
def test_a_command_survives_the_death_of_the_leader_of_three(
    spawn_distlock: Spawn, cluster3: Cluster, realm_prefix: str, tree: Tree, first: str
) -> None:
    leader = cluster3.leader()
    endpoints = sorted(cluster3.endpoints, key=lambda url: (url == leader.client_url) == (first == "leader last"))
    key = Key(cluster3, realm_prefix)
    process = spawn_distlock(
        "--lock-name=x", "--ttl=8", "--", *tree.command(), env={"DISTLOCK_ENDPOINTS": ",".join(endpoints)}
    )
    tree.until_ready(process)
    token = key.token()
    leader.kill()
    killed = now()
    until_after(killed + 10)  # longer than the ttl
    assert process.poll() is None
    assert len(tree.living()) == 3
    assert key.token() == token
    tree.end()
    assert process.wait(BOUND) == 0
    assert key.found() is None


# --on-loss.


def test_without_a_ttl_the_command_runs_on_loudly_and_is_no_success(
    spawn_distlock: Spawn, in_etcd: Etcd, tree: Tree
) -> None:
    process = spawn_distlock("--lock-name=x", "--", *tree.command())
    tree.until_ready(process)
    err = Output(process.stderr)
    in_etcd.unlock("x")
    in_etcd.lock("x", owner="next")
    err.until(r"x: the lock was lost at \d\d:\d\d:\d\d: .*; the command RUNS ON WITHOUT ITS LOCK\n")
    assert process.poll() is None
    assert len(tree.living()) == 3
    tree.end()
    assert process.wait(BOUND) == LOST
    assert in_etcd.keys() == ["x"]  # the next holder's


def test_without_a_ttl_the_command_and_its_children_are_killed_where_that_is_wished(
    spawn_distlock: Spawn, in_etcd: Etcd
) -> None:
    stubborn = ["setsid", "sh", "-c", "trap '' TERM HUP; sleep 300 & echo pids $$ $!; wait"]
    process = spawn_distlock("--lock-name=x", "--on-loss=kill", "--kill-after=0.5", "--", *stubborn)
    pids = [int(pid) for pid in Output(process.stdout).until(r"pids (\d+ \d+)\n").group(1).split()]
    in_etcd.unlock("x")
    code, said = finish(process)
    assert code == LOST
    assert_says_when_and_why(said, "its key was deleted")
    assert [pid for pid in pids if is_running(pid)] == []


def test_under_a_ttl_the_command_runs_on_where_that_is_wished(spawn_distlock: Spawn, in_etcd: Etcd, tree: Tree) -> None:
    process = spawn_distlock(*BY_HAND, "--on-loss=continue", "--", *tree.command())
    tree.until_ready(process)
    err = Output(process.stderr)
    in_etcd.unlock("x")
    in_etcd.lock("x", owner="next")
    err.until("RUNS ON WITHOUT ITS LOCK\n")
    until_after(now() + KILL_AFTER)
    assert len(tree.living()) == 3
    tree.end()
    assert process.wait(BOUND) == LOST
    assert in_etcd.keys() == ["x"]
    assert in_etcd.new_leases() == set()


def test_a_command_that_runs_on_counts_as_lost_only_when_the_lease_may_have_run_out(
    spawn_distlock: Spawn, proxy: Proxy, tree: Tree
) -> None:
    options = ("--lock-name=x", "--ttl=9", "--refresh=0.5", "--kill-after=7.5", "--on-loss=continue")
    process = spawn_distlock(*options, "--", *tree.command(), env={"DISTLOCK_ENDPOINTS": proxy.url})
    tree.until_ready(process)
    proxy.cut()
    until_after(now() + 2.0)  # past the deadline - kill_after, where a command that is to be killed would get SIGTERM
    proxy.heal()
    seen = len(proxy.requests)
    wait_until(lambda: any(path == KEEPALIVE for path, _ in proxy.requests[seen:]), "a renewal")
    tree.end()
    code, said = finish(process)
    assert (code, said) == (0, "")


@pytest.mark.parametrize("command", [["true"], ["sh", "-c", "exit 7"]], ids=["success", "failure"])
def test_a_loss_that_only_the_release_notices_is_reported(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, command: list[str]
) -> None:
    held = proxy.hold_request(TXN, lambda body: b"request_delete_range" in body)
    process = spawn_distlock(*BY_HAND, "--", *command, env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    in_etcd.unlock("x")
    in_etcd.lock("x", owner="next")
    held.release()
    code, said = finish(process)
    assert code == LOST
    assert "was lost" in said
    assert in_etcd.keys() == ["x"]


def test_a_loss_is_reported_as_json_on_stderr(spawn_distlock: Spawn, key: Key) -> None:
    process = spawn_distlock("--json", "--lock-name=x", "--ttl=60", "--", "sh", "-c", "echo ready; exec sleep 300")
    Output(process.stdout).until("ready")
    key.delete()
    code, said = finish(process)
    assert code == LOST
    assert [json.loads(line)["error"]["kind"] for line in said.splitlines()] == ["lost"]
