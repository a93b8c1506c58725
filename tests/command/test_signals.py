"""Signals sent to distlock, at every stage of its life: what they reach, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Callable

import pytest

from distlock_core.testing import Cluster, Held, Proxy
from tests.support.etcd_view import Etcd
from tests.support.processes import (
    BOUND,
    Output,
    Process,
    is_running,
    python,
    signals_in,
    status_of,
    wait_until,
    wait_until_taken,
    witness,
)

TXN = "/v3/kv/txn"
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
LONG = ("--lock-name=x", "--", "sh", "-c", "echo pid $$; exec sleep 300")
TICKET_TTL = 10  # seconds
Spawn = Callable[..., "Process"]
each_ending = pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)

HANDLES_TERM = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
print("cleaning up", flush=True)
sys.stdin.read()
sys.exit(3)
"""
# Becomes distlock, with SIGCHLD ignored.
IGNORING_SIGCHLD = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
# distlock, where the name of one host is never resolved.
SLOW_RESOLVER = """
import _socket as socket, sys, threading
resolve = socket.getaddrinfo
def slow(host, *rest, **more):
    if b"slow" in host:
        if more.get("flags"):
            raise socket.gaierror
        threading.Event().wait()
    return resolve(host, *rest, **more)
socket.getaddrinfo = slow
from distlock_core.cli.distlock import main
sys.exit(main())
"""


def claims(body: bytes) -> bool:
    return b"request_put" in body


def releases(body: bytes) -> bool:
    return b"request_delete_range" in body


@pytest.fixture
def through_proxy(proxy: Proxy) -> dict[str, str]:
    return {"DISTLOCK_ENDPOINTS": proxy.url}


# Before the command runs.


@each_ending
def test_a_signal_at_the_very_start_leaves_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, number: signal.Signals
) -> None:
    process = spawn_distlock(*LONG)
    process.send_signal(number)
    assert process.wait(BOUND) != 0
    assert process.stdout is not None
    started = process.stdout.read().split()  # nothing, unless this test was stopped for as long as all of that takes
    assert not started or not is_running(int(started[1]))
    in_etcd.assert_nothing_left()


@each_ending
def test_a_signal_while_connecting_ends_it_at_once(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, through_proxy: dict[str, str], number: signal.Signals
) -> None:
    proxy.blackhole()
    process = spawn_distlock("--connect-timeout=300", *LONG, env=through_proxy)
    wait_until(lambda: proxy.requests, "a request")
    process.send_signal(number)
    assert process.wait(BOUND) == 128 + number
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("number", [*ENDING, signal.SIGUSR1, signal.SIGALRM], ids=lambda number: number.name)
def test_a_signal_in_the_queue_gives_up_the_place(spawn_distlock: Spawn, in_etcd: Etcd, number: signal.Signals) -> None:
    in_etcd.lock("x")
    process = spawn_distlock(*LONG)
    err = Output(process.stderr)
    err.until("waiting:")
    assert len(in_etcd.keys()) == 2
    process.send_signal(number)
    assert process.wait(BOUND) == 128 + number
    assert number.name in err.all()
    assert in_etcd.keys() == ["x"]
    assert in_etcd.new_leases() == set()


@each_ending
@pytest.mark.parametrize("applied", [False, True], ids=["request under way", "reply under way"])
def test_a_signal_while_the_claim_is_in_flight_leaves_no_lock(
    spawn_distlock: Spawn,
    in_etcd: Etcd,
    proxy: Proxy,
    through_proxy: dict[str, str],
    number: signal.Signals,
    applied: bool,
) -> None:
    held = (proxy.hold_reply if applied else proxy.hold_request)(TXN, claims)
    process = spawn_distlock(*LONG, env=through_proxy)
    held.wait(BOUND)
    assert in_etcd.keys() == (["x"] if applied else [])
    process.send_signal(number)
    assert process.wait(BOUND) == 128 + number
    held.release()
    in_etcd.assert_nothing_left()


@each_ending
def test_a_signal_while_the_command_is_being_started_ends_both(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, through_proxy: dict[str, str], number: signal.Signals
) -> None:
    for _ in range(3):
        held = proxy.hold_reply(TXN, claims)
        process = spawn_distlock(*LONG, env=through_proxy)
        held.wait(BOUND)
        held.release()  # from here on, it and the signal race
        process.send_signal(number)
        assert process.wait(BOUND) == 128 + number
        assert process.stdout is not None
        started = process.stdout.read().split()
        assert not started or not is_running(int(started[1]))
        in_etcd.assert_nothing_left()


# While it runs.


@each_ending
def test_a_signal_ends_the_command_and_then_the_lock(
    spawn_distlock: Spawn, in_etcd: Etcd, number: signal.Signals
) -> None:
    process = spawn_distlock(*LONG)
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    assert in_etcd.keys() == ["x"]
    process.send_signal(number)
    assert process.wait(BOUND) == 128 + number
    assert not is_running(command)
    in_etcd.assert_nothing_left()


def test_a_signal_reaches_the_command_exactly_once(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    numbers = [*ENDING, signal.SIGUSR1, signal.SIGALRM, signal.SIGTSTP, signal.SIGCONT]
    process = spawn_distlock("--lock-name=x", "--", *witness(*(number.name for number in numbers)))
    out = Output(process.stdout)
    out.until("ready\n")
    for number in numbers:
        process.send_signal(number)
        out.until(f"got {number.name}\n")
    process.send_signal(signal.SIGUSR2)
    assert process.wait(BOUND) == 0
    assert out.all().split("\n") == ["ready", *(f"got {number.name}" for number in numbers), "got SIGUSR2", ""]
    in_etcd.assert_nothing_left()


# Signals between processes, without those that cannot be caught, and those reserved by the C library.
EVERY = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33})

# Says the number of each signal that reaches it, and ends at the last one.
HEARS_ALL = """
import signal
numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
number = 0
while number != signal.SIGRTMAX:
    number = signal.sigwaitinfo(numbers).si_signo
    print("got", int(number), flush=True)
"""


@pytest.mark.parametrize("lifetime", [[], ["--ttl=60"], ["--heartbeat=60"]], ids=["persistent", "leased", "heartbeat"])
def test_every_signal_that_can_be_caught_reaches_the_command(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: list[str]
) -> None:
    process = spawn_distlock("--lock-name=x", *lifetime, "--", *python(HEARS_ALL))
    out = Output(process.stdout)
    out.until("ready\n")
    for number in EVERY:
        process.send_signal(number)
        out.until(f"got {int(number)}\n")
    assert process.wait(BOUND) == 0
    in_etcd.assert_nothing_left()


def test_no_signal_ends_distlock_in_the_queue_without_a_message(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    for number in (signal.SIGABRT, signal.SIGPWR, signal.SIGSTKFLT, signal.SIGXCPU, signal.SIGRTMIN + 3):
        process = spawn_distlock(*LONG)
        Output(process.stderr).until("waiting:")
        process.send_signal(number)
        assert process.wait(BOUND) == 128 + number
        assert in_etcd.keys() == ["x"]
    assert in_etcd.new_leases() == set()


def test_the_lock_is_held_until_a_command_that_handles_the_signal_has_ended(
    spawn_distlock: Spawn, in_etcd: Etcd
) -> None:
    process = spawn_distlock("--lock-name=x", "--", *python(HANDLES_TERM), stdin=subprocess.PIPE)
    out = Output(process.stdout)
    out.until("ready")
    process.send_signal(signal.SIGTERM)
    out.until("cleaning up")
    assert process.poll() is None
    assert in_etcd.keys() == ["x"]
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(BOUND) == 3
    in_etcd.assert_nothing_left()


def test_a_killed_command_releases_the_lock(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*LONG)
    os.kill(int(Output(process.stdout).until(r"pid (\d+)\n").group(1)), signal.SIGKILL)
    assert process.wait(BOUND) == 128 + signal.SIGKILL
    in_etcd.assert_nothing_left()


def test_a_signal_reaches_a_command_in_a_separate_process_group(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock("--lock-name=x", "--", "timeout", "300", *LONG[2:])
    Output(process.stdout).until(r"pid (\d+)\n")
    process.send_signal(signal.SIGTERM)
    # timeout passes it on, and then ends by it as well.
    assert process.wait(BOUND) in (124, 128 + signal.SIGTERM)
    in_etcd.assert_nothing_left()


def test_a_resolver_that_hangs_does_not_swallow_a_signal(spawn_distlock: Spawn, in_etcd: Etcd, etcd: Cluster) -> None:
    endpoints = f"--endpoints=http://slow.example:2379,{etcd.endpoints[0]}"
    process = spawn_distlock("-c", SLOW_RESOLVER, endpoints, "--connect-timeout=10", *LONG, command=sys.executable)
    Output(process.stdout).until(r"pid \d+\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    in_etcd.assert_nothing_left()


# While it releases.


def _releasing(spawn_distlock: Spawn, proxy: Proxy, *command: str) -> tuple[Process, Held]:
    held = proxy.hold_request(TXN, releases)
    process = spawn_distlock("--lock-name=x", "--", *command, env={"DISTLOCK_ENDPOINTS": proxy.url})
    held.wait(BOUND)
    return process, held


@pytest.mark.parametrize("number", [*ENDING, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_while_it_releases_waits_until_that_is_finished(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, number: signal.Signals
) -> None:
    process, held = _releasing(spawn_distlock, proxy, "sh", "-c", "exit 7")
    process.send_signal(number)
    wait_until_taken(process.pid, number)
    assert process.poll() is None
    assert in_etcd.keys() == ["x"]
    held.release()
    assert process.wait(BOUND) == 7
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize(("command", "code"), [("true", 1), ("exit 7", 7)])
def test_a_second_signal_gives_up_on_an_etcd_that_is_away(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, command: str, code: int
) -> None:
    process, held = _releasing(spawn_distlock, proxy, "sh", "-c", command)
    proxy.blackhole()
    process.send_signal(signal.SIGTERM)
    wait_until_taken(process.pid, signal.SIGTERM)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == code  # the release alone would be tried for 30 s
    assert process.stderr is not None
    said = process.stderr.read()
    assert "may still be locked" in said
    assert "--unlock --lock-name=x --token=" in said
    held.drop()
    assert in_etcd.keys() == ["x"]


# SIGKILL: no process can clean up, so only what the lifetime allows remains.


def test_sigkill_while_connecting_leaves_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, through_proxy: dict[str, str]
) -> None:
    proxy.blackhole()
    process = spawn_distlock("--connect-timeout=300", *LONG, env=through_proxy)
    wait_until(lambda: proxy.requests, "a request")
    process.kill()
    process.wait(BOUND)
    proxy.heal()
    in_etcd.assert_nothing_left()


def test_sigkill_in_the_queue_leaves_a_ticket_that_expires(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    process = spawn_distlock(*LONG)
    Output(process.stderr).until("waiting:")
    assert len(in_etcd.new_leases()) == 1
    process.kill()
    process.wait(BOUND)
    wait_until(lambda: not in_etcd.new_leases(), "the ticket's lease has run out", TICKET_TTL + BOUND)
    assert in_etcd.keys() == ["x"]


def test_sigkill_while_the_claim_is_in_flight_leaves_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy, through_proxy: dict[str, str]
) -> None:
    held = proxy.hold_request(TXN, claims)
    process = spawn_distlock(*LONG, env=through_proxy)
    held.wait(BOUND)
    process.kill()
    process.wait(BOUND)
    held.drop()
    in_etcd.assert_nothing_left()


def test_sigkill_leaves_a_persistent_lock_over_the_command_that_runs_on(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*LONG)
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    process.kill()
    process.wait(BOUND)
    assert is_running(command)
    assert in_etcd.keys() == ["x"]


def test_sigkill_while_it_releases_leaves_the_persistent_lock(
    spawn_distlock: Spawn, in_etcd: Etcd, proxy: Proxy
) -> None:
    process, held = _releasing(spawn_distlock, proxy, "true")
    process.kill()
    process.wait(BOUND)
    held.drop()
    assert in_etcd.keys() == ["x"]


# The command's inheritance.


def test_the_command_has_the_signals_and_files_that_it_would_have_without_distlock(
    run_distlock: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    tell = ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd"]
    without = subprocess.run(tell, input="", capture_output=True, text=True, check=True)
    under = run_distlock("--lock-name=x", "--", *tell)
    assert _without_the_c_librarys(under.stdout) == _without_the_c_librarys(without.stdout)
    assert "SigBlk:\t0000000000000000" in under.stdout


def _without_the_c_librarys(told: str) -> str:
    """32 and 33 are the C library's own signals: it ignores them in some of what it spawns, which inherits that."""

    def clear(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2], 16) & ~(0b11 << 31):016x}"

    return re.sub(r"(SigIgn:\t)([0-9a-f]{16})", clear, told)


def test_the_command_ends_by_sigpipe(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock("--lock-name=x", "--", "yes")
    Output(process.stdout).until("y\n")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(BOUND) == 128 + signal.SIGPIPE
    in_etcd.assert_nothing_left()


def test_a_hangup_that_nohup_ignores_stays_ignored(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    process = spawn_distlock(DISTLOCK, *LONG, command="nohup")
    Output(process.stderr).until("waiting:")
    process.send_signal(signal.SIGHUP)
    in_etcd.unlock("x")
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    assert signal.SIGHUP in signals_in(status_of(command)["SigIgn"])
    process.send_signal(signal.SIGHUP)
    wait_until_taken(process.pid, signal.SIGHUP)
    assert is_running(command)
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    in_etcd.assert_nothing_left()


def test_a_caller_that_ignores_sigchld_does_not_hide_the_commands_end(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(
        *python(IGNORING_SIGCHLD)[1:], DISTLOCK, "--lock-name=x", "--", "sh", "-c", "exit 7", command=sys.executable
    )
    assert process.wait(BOUND) == 7
    in_etcd.assert_nothing_left()


# Processes that the command leaves behind.


@pytest.mark.parametrize("streams", ["", "<&- >&- 2>&-"], ids=["with its output open", "with its output closed"])
def test_a_daemon_that_the_command_leaves_is_neither_waited_for_nor_killed(
    spawn_distlock: Spawn, in_etcd: Etcd, streams: str
) -> None:
    process = spawn_distlock("--lock-name=x", "--", "sh", "-c", f"sleep 300 {streams} & echo pid $!")
    daemon = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    assert process.wait(BOUND) == 0
    assert is_running(daemon)
    in_etcd.assert_nothing_left()
