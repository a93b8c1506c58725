from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.embedded.binary import etcd_version
from distlock_core.embedded.ports import free_ports
from tests.support.processes import Process

Spawn = Callable[..., "Process"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
ENDED = 30.0


@pytest.fixture
def spawn_etcd(spawn_distlock: Spawn, need: Callable[..., str], tmp_path: Path) -> Spawn:
    need("etcd")

    def spawn(*args: str) -> Process:
        return spawn_distlock(*args, command="distlock-etcd", env={"TMPDIR": str(tmp_path)}, cwd=tmp_path)

    return spawn


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal_and_leaves_nothing(spawn_etcd: Spawn, tmp_path: Path, number: int) -> None:
    process = spawn_etcd()
    (endpoint,) = _endpoints(process)
    assert _healthy(endpoint)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=ENDED)
    assert process.returncode == 0
    assert "not for production" in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):  # noqa: PT011 - urllib's wrapping of a refused connection
        _healthy(endpoint)


def test_three_members_keep_their_data_and_endpoints(spawn_etcd: Spawn, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    seen = []
    # Not the default port, which another process may have the second time.
    for port in (["--port", str(free_ports(1)[0])], []):
        process = spawn_etcd("--members", "3", "--data-dir", folder, *port)
        seen.append(_endpoints(process))
        assert all(_healthy(endpoint) for endpoint in seen[-1])
        process.terminate()
        process.communicate(timeout=ENDED)
        assert process.returncode == 0
    assert len(seen[0]) == 3
    assert seen[0] == seen[1]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_port_is_used_and_a_taken_one_refused_in_one_line(spawn_etcd: Spawn, run_distlock: Run) -> None:
    (port,) = free_ports(1)
    process = spawn_etcd("--port", str(port))
    assert _endpoints(process) == [f"http://127.0.0.1:{port}"]
    second = run_distlock("--port", str(port), command="distlock-etcd")
    _assert_one_line(second, f"port {port} on 127.0.0.1 is in use")


def test_the_binary_that_is_named_is_run_and_a_killed_member_ends_it_with_a_message(
    spawn_etcd: Spawn, need: Callable[..., str]
) -> None:
    binary = need("etcd")
    process = spawn_etcd("--binary", binary)
    _endpoints(process)
    (child,) = _children(process.pid)
    assert os.readlink(f"/proc/{child}/exe") == os.path.realpath(binary)
    os.kill(child, signal.SIGKILL)
    _, stderr = process.communicate(timeout=ENDED)
    assert process.returncode == 1
    assert f"etcd {etcd_version(binary)} with 1 member" in stderr
    assert "has ended by itself" in stderr


def test_sigkill_ends_etcd_too(spawn_etcd: Spawn) -> None:
    process = spawn_etcd()
    _endpoints(process)
    (child,) = _children(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + ENDED
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--members", "0"], "whole number from 1 to 9"),
        (["--members", "two"], "whole number"),
        (["--port", "65536"], "whole number from 1 to 65535"),
        (["--port", "9" * 5000], "whole number"),
        (["--data-dir", ""], "empty"),
        (["--data-dir", "/etc/passwd"], "/etc/passwd"),
        (["--etcd-version", "2.9"], "To install it"),
        (["--binary", "/no/such/etcd"], "there is no file /no/such/etcd"),
        (["--binary", "/etc/passwd"], "/etc/passwd cannot be run"),
        (["--binary", "/bin/true"], "/bin/true does not say its version"),
        (["--binary", "/bin/true", "--etcd-version", "3.5"], "not allowed with argument --binary"),
        (["--no-such-option"], "--no-such-option"),
        (["extra"], "extra"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(run_distlock: Run, args: list[str], said: str) -> None:
    _assert_one_line(run_distlock(*args, command="distlock-etcd"), said)


def test_help_has_examples(run_distlock: Run) -> None:
    done = run_distlock("--help", command="distlock-etcd")
    assert done.returncode == 0
    assert "--members 3 --data-dir" in done.stdout


def _assert_one_line(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.startswith("distlock-etcd: ")
    assert done.stderr.count("\n") == 1


def _endpoints(process: Process) -> list[str]:
    assert process.stdout is not None
    line = process.stdout.readline()  # pytest's timeout bounds it
    found = re.fullmatch(r"export DISTLOCK_ENDPOINTS=(\S+)\n", line)
    assert found is not None, (line, process.poll())
    return found.group(1).split(",")


def _healthy(endpoint: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{endpoint}/health", timeout=ENDED) as answer:
        return b'"true"' in answer.read()


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("twice", [["--members=1", "--members", "3"], ["--data-dir=a", "--data-dir=b"]])
def test_an_option_given_twice_is_an_error(run_distlock: Callable[..., Any], tmp_path: Path, twice: list[str]) -> None:
    done = run_distlock(*twice, command="distlock-etcd")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"distlock-etcd: option --[a-z-]+ is given twice: use it once\. See: .*\n", done.stderr)
