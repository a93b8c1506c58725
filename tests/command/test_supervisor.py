"""Processes that a leased command leaves behind, and processes that cannot be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd_view import Etcd
from tests.support.lease_view import DISTLOCK, Run, as_user
from tests.support.process_trees import Spawn, finish
from tests.support.processes import BOUND, Output, is_running, python, status_of, wait_until

LEASED = ("--lock-name=x", "--ttl=30")
NOBODY = 65534
NOT_KILLABLE = 3
AS_NOBODY = as_user(NOBODY)

# Leaves a number of orphans that end at once, then reports that and waits for a line.
_LEAVES_ORPHANS = """
import os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print("left", os.getppid(), flush=True)
sys.stdin.readline()
"""
# On SIGTERM each process hands over to a new one and ends, until it is killed.
_HYDRA = """
import os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", os.getpid(), flush=True)
while True:
    signal.sigwait([signal.SIGTERM])
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
"""


@pytest.fixture
def root_shell() -> Iterator[list[str]]:
    """The beginning of a command that becomes root, so that no other user may signal it."""
    if os.getuid() != 0:
        pytest.skip("only root can make a set-uid program for the test, and become nobody")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is missing. To install it: apt-get install util-linux")
    folder = Path(tempfile.mkdtemp(prefix="distlock-setuid-"))
    try:
        folder.chmod(0o755)
        copy = folder / "become-root"
        shutil.copy(setpriv, copy)
        copy.chmod(0o4755)
        become_root = [str(copy), "--reuid=0", "--regid=0", "--clear-groups"]
        for words, wanted in (([*become_root, "id", "-ru"], "0"), ([DISTLOCK, "--version"], "distlock")):
            probe = subprocess.run([setpriv, *AS_NOBODY, *words], capture_output=True, text=True, check=False)
            if not probe.stdout.startswith(wanted):
                pytest.skip(f"nobody cannot do this here: {words[0]}: {(probe.stderr or probe.stdout).strip()[-200:]}")
        yield become_root
    finally:
        shutil.rmtree(folder)


def children_of(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if int(status_of(int(entry))["PPid"]) == pid:
                    found.append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


# At a normal end.


@pytest.mark.parametrize("ending", ["0", "7"], ids=["success", "failure"])
def test_a_daemon_that_a_leased_command_leaves_is_neither_waited_for_nor_killed(
    spawn_distlock: Spawn, in_etcd: Etcd, ending: str
) -> None:
    script = f"setsid sleep 300 <&- >&- 2>&- & echo pid $!; exit {ending}"
    process = spawn_distlock(*LEASED, "--", "sh", "-c", script)
    daemon = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    try:
        assert process.wait(BOUND) == int(ending)
        assert is_running(daemon)
        in_etcd.assert_nothing_left()
    finally:
        os.kill(daemon, 9)


def test_orphans_that_end_while_the_command_runs_do_not_pile_up(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*LEASED, "--", *python(_LEAVES_ORPHANS, "50"), stdin=subprocess.PIPE)
    supervisor = int(Output(process.stdout).until(r"left (\d+)\n").group(1))
    assert supervisor == process.pid
    wait_until(lambda: len(children_of(supervisor)) == 1, "nothing but the command below distlock")
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(BOUND) == 0
    in_etcd.assert_nothing_left()


# When it is to be killed.


def test_a_tree_that_keeps_forking_is_dead_in_the_end(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*LEASED, "--kill-after=0.5", "--", *python(_HYDRA))
    Output(process.stdout).until("ready")
    session = process.pid
    in_etcd.unlock("x")
    code, said = finish(process)  # to the end of its stderr, which every head of the hydra has open
    assert code == 2
    assert "the command is ended" in said
    assert children_of(session) == []


def test_a_stopped_command_is_killed_too(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(*LEASED, "--kill-after=0.5", "--", "sh", "-c", "echo pid $$; kill -STOP $$; sleep 300")
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    wait_until(lambda: status_of(command)["State"].startswith("T"), "stopped")
    in_etcd.unlock("x")
    assert finish(process)[0] == 2
    assert not is_running(command)


def test_a_child_from_before_the_command_is_not_the_commands(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    script = 'sleep 300 >/dev/null 2>&1 & echo pid $!; exec "$0" "$@"'
    process = spawn_distlock("-c", script, DISTLOCK, *LEASED, "--", "sleep", "300", command="/bin/sh")
    stranger = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    try:
        wait_until(in_etcd.keys, "held")
        in_etcd.unlock("x")
        assert finish(process)[0] == 2
        assert is_running(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)


# Processes that cannot be killed.


def test_a_lock_over_a_child_that_cannot_be_killed_is_kept(
    spawn_distlock: Spawn, run_distlock: Run, in_etcd: Etcd, root_shell: list[str]
) -> None:
    # It shows no life, so it is to be killed while the lock is still distlock's.
    options = (*LEASED, "--heartbeat=1", "--kill-after=0.5")
    tell = ("sh", "-c", "echo pid $$; exec sleep 300")
    process = spawn_distlock(*AS_NOBODY, DISTLOCK, *options, "--", *root_shell, *tell, command="setpriv")
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    assert process.wait(BOUND) == NOT_KILLABLE
    assert is_running(command)
    said = Output(process.stderr).until("nobody else goes on").string
    assert f"cannot kill process {command}" in said
    (lock,) = json.loads(run_distlock("--show", "--lock-name=x", "--json").stdout)["locks"]
    assert lock["state"] == "kept"
    assert lock["lifetime"] == "persistent"
    assert f"process {command} of" in lock["reason"]
    assert "could not be killed" in lock["reason"]
    assert in_etcd.new_leases() == set()
    os.kill(command, 9)


def test_a_lost_lock_over_a_child_that_cannot_be_killed_exits_no_less_loudly(
    spawn_distlock: Spawn, in_etcd: Etcd, root_shell: list[str]
) -> None:
    tell = ("sh", "-c", "echo pid $$; exec sleep 300")
    options = (*LEASED, "--kill-after=0.5")
    process = spawn_distlock(*AS_NOBODY, DISTLOCK, *options, "--", *root_shell, *tell, command="setpriv")
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    in_etcd.unlock("x")
    in_etcd.lock("x", owner="next")
    assert process.wait(BOUND) == NOT_KILLABLE
    err = Output(process.stderr)
    err.until("the lock was lost")
    err.until(f"cannot kill process {command}")
    assert in_etcd.keys() == ["x"]
    os.kill(command, 9)


def test_a_signal_that_cannot_be_passed_on_is_reported(
    spawn_distlock: Spawn, in_etcd: Etcd, root_shell: list[str]
) -> None:
    tell = ("sh", "-c", "echo pid $$; exec sleep 300")
    options = ("--lock-name=x", "--")
    process = spawn_distlock(*AS_NOBODY, DISTLOCK, *options, *root_shell, *tell, command="setpriv")
    command = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    process.send_signal(signal.SIGUSR1)
    said = Output(process.stderr).until(".*\n").group()
    refused = f"SIGUSR1 could not be passed on: the command (process {command}) runs as another user"
    assert said == f"distlock: x: {refused}\n"
    os.kill(command, signal.SIGKILL)
    assert process.wait(BOUND) == 128 + signal.SIGKILL
