"""A waiter without a reader of its output gives up its place, for example after Ctrl-C in `ssh HOST distlock ...`."""

from __future__ import annotations

import getpass
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, Output, Process, wait_until
from tests.support.sshd import Sshd

DISTLOCK = str(Path(sys.executable).parent / "distlock")
HANGUP = 128 + signal.SIGHUP
Spawn = Callable[..., "Process"]


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[list[str]]:
    """The arguments that run a command on this machine over ssh, without a terminal."""
    server = Sshd(tmp_path)
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    who = f"{getpass.getuser()}@127.0.0.1"
    words = [word for option in options for word in ("-o", option)]
    try:
        yield ["ssh", "-F", "none", *words, "-i", str(tmp_path / "user_key"), "-p", str(server.port), who]
    finally:
        server.stop()


@pytest.mark.parametrize("nohup", ["", "nohup "], ids=["distlock", "nohup"])
def test_the_end_of_an_ssh_ends_the_wait_at_its_other_end(
    spawn_distlock: Spawn, distlock_env: dict[str, str], in_etcd: Etcd, ssh: list[str], tmp_path: Path, nohup: str
) -> None:
    in_etcd.lock("x")
    ran = tmp_path / "ran"
    variables = " ".join(f"{name}={value}" for name, value in distlock_env.items() if name.startswith("DISTLOCK_"))
    line = f"{variables} {nohup}{DISTLOCK} --lock-name=x -- touch {ran}"
    process = spawn_distlock(*ssh[1:], line, command="ssh", stdin=subprocess.PIPE)
    Output(process.stderr).until("waiting:")
    assert len(in_etcd.keys()) == 2
    process.send_signal(signal.SIGINT)
    process.wait(BOUND)
    if not nohup:
        wait_until(lambda: in_etcd.keys() == ["x"], "its place given up")
        assert in_etcd.new_leases() == set()
    in_etcd.unlock("x")
    if nohup:
        wait_until(ran.exists, "the command of one that waits all the same")
    wait_until(lambda: in_etcd.keys() == [], "let go")
    assert ran.exists() == bool(nohup)


def test_a_waiter_whose_stderr_is_closed_by_its_reader_gives_up(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    process = spawn_distlock("--lock-name=x", "--", "echo", "ran")
    Output(process.stderr).until("waiting:")
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(BOUND) == HANGUP
    assert in_etcd.keys() == ["x"]
    assert in_etcd.new_leases() == set()


def test_where_stderr_is_a_file_the_reader_of_stdout_counts(
    spawn_distlock: Spawn, in_etcd: Etcd, tmp_path: Path
) -> None:
    in_etcd.lock("x")
    with open(tmp_path / "log", "w+") as log:
        process = spawn_distlock("--lock-name=x", "--lock", stderr=log)
        wait_until(lambda: "waiting:" in (tmp_path / "log").read_text(), "in line")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(BOUND) == HANGUP
    assert "nobody reads" in (tmp_path / "log").read_text()
    assert in_etcd.keys() == ["x"]


def test_without_a_wait_the_reader_of_the_output_does_not_matter(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock("--lock-name=x", "--", "sh", "-c", "echo ran; exec sleep 0.5")
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(BOUND) == 0
    in_etcd.assert_nothing_left()


def test_an_input_that_has_ended_is_no_reason_to_give_up(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    process = spawn_distlock("--lock-name=x", "--", "cat", stdin=subprocess.PIPE)
    Output(process.stderr).until("waiting:")
    assert process.stdin is not None
    process.stdin.write("input")
    process.stdin.close()
    in_etcd.unlock("x")
    assert Output(process.stdout).all() == "input"
    assert process.wait(BOUND) == 0
