"""Signals to a distlock with a lease, at every stage of its life: nothing is left that the lease does not allow."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from distlock_core.base.deadline import now
from distlock_core.testing import Cluster, Held, Proxy
from tests.support.etcd_view import Etcd
from tests.support.process_trees import Key, Spawn, figure, growing_tree
from tests.support.processes import BOUND, Output, Process, is_running, wait_until, wait_until_taken

TTL = 3
TICKET_TTL = 10
GRANT = "/v3/lease/grant"
TXN = "/v3/kv/txn"
LONG = ("--lock-name=x", "--ttl=60", "--", "sh", "-c", "echo pid $$; exec sleep 300")
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
each_ending = pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
each_signal = pytest.mark.parametrize("number", [*ENDING, signal.SIGKILL], ids=lambda number: number.name)
RUN_OUT = TTL + 8.0  # seconds; etcd looks for leases that have run out only now and then


def claims(body: bytes) -> bool:
    return b"request_put" in body


def releases(body: bytes) -> bool:
    return b"request_delete_range" in body


def long(number: signal.Signals) -> tuple[str, ...]:
    """The target of a signal. Where no process can clean up after it, its lease expires soon."""
    return tuple(f"--ttl={TTL}" if word == "--ttl=60" and number == signal.SIGKILL else word for word in LONG)


def hit(process: Process, number: signal.Signals) -> None:
    """Send it, and wait for the end by it."""
    process.send_signal(number)
    assert process.wait(BOUND) == (-number if number == signal.SIGKILL else 128 + number)


def assert_leaves_no_more_than_allowed(in_etcd: Etcd, number: signal.Signals) -> None:
    if number == signal.SIGKILL:
        # Nobody was there to tidy up: the lease ends it.
        wait_until(lambda: in_etcd.keys() == [] and not in_etcd.new_leases(), "the end of the lease", RUN_OUT)
    in_etcd.assert_nothing_left()


@each_signal
def test_a_signal_while_connecting_leaves_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, number: signal.Signals
) -> None:
    proxy.blackhole()
    process = spawn_distlock("--connect-timeout=300", *LONG, env={"DISTLOCK_ENDPOINTS": proxy.url})
    wait_until(lambda: proxy.requests, "a request")
    hit(process, number)
    in_etcd.assert_nothing_left()


@each_ending
def test_a_signal_in_the_queue_gives_up_the_place(spawn_distlock: Spawn, in_etcd: Etcd, number: signal.Signals) -> None:
    in_etcd.lock("x")
    process = spawn_distlock(*LONG)
    Output(process.stderr).until("waiting:")
    assert len(in_etcd.keys()) == 2
    hit(process, number)
    assert in_etcd.keys() == ["x"]
    assert in_etcd.new_leases() == set()


def test_sigkill_in_the_queue_leaves_a_ticket_and_a_lease_without_keys_and_both_expire(
    spawn_distlock: Spawn, in_etcd: Etcd, etcd: Cluster
) -> None:
    in_etcd.lock("x")
    process = spawn_distlock(*LONG)
    wait_until(lambda: len(in_etcd.new_leases()) == 2, "the lease of the next holder")
    hit(process, signal.SIGKILL)
    left = [etcd.etcdctl("lease", "timetolive", "--keys", f"{int(lease):x}") for lease in in_etcd.new_leases()]
    (ticket,) = [said for said in left if f"granted with TTL({TICKET_TTL}s)" in said]
    assert "/x/queue/" in ticket
    (ahead,) = [said for said in left if "granted with TTL(60s)" in said]  # the next holder's, granted ahead
    assert "attached keys([])" in ahead


@each_signal
@pytest.mark.parametrize("granted", [False, True], ids=["request under way", "reply under way"])
def test_a_signal_while_the_lease_is_being_granted_leaves_no_lease(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, number: signal.Signals, granted: bool
) -> None:
    held = (proxy.hold_reply if granted else proxy.hold_request)(GRANT)
    process = spawn_distlock(*long(number), env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    hit(process, number)
    held.drop()
    assert_leaves_no_more_than_allowed(in_etcd, number)


@each_signal
@pytest.mark.parametrize("applied", [False, True], ids=["request under way", "reply under way"])
def test_a_signal_while_the_claim_is_in_flight_leaves_no_lock(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, number: signal.Signals, applied: bool
) -> None:
    held = (proxy.hold_reply if applied else proxy.hold_request)(TXN, claims)
    process = spawn_distlock(*long(number), env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    assert in_etcd.keys() == (["x"] if applied else [])
    hit(process, number)
    held.drop()
    assert_leaves_no_more_than_allowed(in_etcd, number)


@each_signal
def test_a_signal_while_the_command_is_being_started_ends_both(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, number: signal.Signals
) -> None:
    held = proxy.hold_reply(TXN, claims)
    process = spawn_distlock(*long(number), env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    held.release()  # from here on, it and the signal race
    hit(process, number)
    started = Output(process.stdout).all().split()
    if started and number == signal.SIGKILL:
        # A process that the kernel kills closes its output a moment before it is dead.
        wait_until(lambda: not is_running(int(started[1])), "the command's end, by the kernel")
    assert not started or not is_running(int(started[1]))
    assert_leaves_no_more_than_allowed(in_etcd, number)


@each_signal
def test_a_signal_while_it_runs_ends_the_command_and_the_lock(
    spawn_distlock: Spawn, in_etcd: Etcd, number: signal.Signals
) -> None:
    process = spawn_distlock(*long(number))
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    assert in_etcd.keys() == ["x"]
    assert len(in_etcd.new_leases()) == 1
    hit(process, number)
    if number == signal.SIGKILL:
        wait_until(lambda: not is_running(command), "the command's end, by the kernel")
    assert not is_running(command)
    assert_leaves_no_more_than_allowed(in_etcd, number)


def releasing(spawn_distlock: Spawn, proxy: Proxy, ttl: int = 60) -> tuple[Process, Held]:
    held = proxy.hold_request(TXN, releases)
    command = ("--lock-name=x", f"--ttl={ttl}", "--", "sh", "-c", "exit 7")
    process = spawn_distlock(*command, env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    return process, held


@each_ending
def test_a_signal_while_it_releases_waits_until_that_is_finished(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, number: signal.Signals
) -> None:
    process, held = releasing(spawn_distlock, proxy)
    process.send_signal(number)
    wait_until_taken(process.pid, number)
    assert process.poll() is None
    held.release()
    assert process.wait(BOUND) == 7
    in_etcd.assert_nothing_left()


def test_sigkill_while_it_releases_leaves_a_lock_that_expires(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy
) -> None:
    process, held = releasing(spawn_distlock, proxy, ttl=5)
    hit(process, signal.SIGKILL)
    held.drop()
    assert in_etcd.keys() == ["x"]
    assert_leaves_no_more_than_allowed(in_etcd, signal.SIGKILL)


def test_sigkill_kills_the_command_at_once_and_the_lock_within_the_ttl(
    spawn_distlock: Spawn, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    with growing_tree(tmp_path / "tree") as tree:
        process = spawn_distlock("--lock-name=x", "--ttl=60", "--", *tree.command())
        command = tree.until_ready(process)
        killed = now()
        process.kill()
        wait_until(lambda: not is_running(command), "the command's end")
        figure("from SIGKILL of the supervisor to the command's end", now() - killed)
        # Deeper descendants have no parent that ends them: documented, and a reason for the fencing token.
        assert len(tree.living()) == 2
        key = Key(etcd, realm_prefix)
        assert key.token() is not None
        key.revoke()


def test_a_signal_to_the_whole_group_leaves_nothing(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*LONG)
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    assert not is_running(command)
    in_etcd.assert_nothing_left()
