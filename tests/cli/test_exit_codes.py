"""Exit codes: the command's own, 128+n, and those about the lock."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.support.needs import need
from tests.support.processes import Process
from tests.support.realm_view import BOUND, RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 7, 126, 255])
def test_the_commands_own_code_is_the_exit_code(run_distlock: Run, realm: RealmView, code: int) -> None:
    done = run_distlock("--lock-name=x", "--busy-exit-code=75", "--", "sh", "-c", f"exit {code}")
    assert (done.returncode, done.stderr) == (code, "")
    assert realm.entries() == {}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGINT", "SIGUSR1"])
def test_a_command_that_a_signal_ended_gives_128_and_its_number(run_distlock: Run, realm: RealmView, name: str) -> None:
    number = signal.Signals[name].value
    code = f"import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {number})"
    reset = f"import signal; {number} != 9 and signal.signal({number}, signal.SIG_DFL); {code}"
    done = run_distlock("--lock-name=x", "--", sys.executable, "-c", reset)
    # Ended by Ctrl-C, distlock ends in the same way, so that the shell's script ends too.
    assert done.returncode in (128 + number, -number if name == "SIGINT" else 128 + number)
    assert "Traceback" not in done.stderr
    assert realm.entries() == {}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_waiter_that_a_signal_ended_gives_128_and_its_number_and_leaves_nothing(
    spawn_distlock: Spawn, realm: RealmView, name: str
) -> None:
    realm.put("x", "1500000000;other;reason")
    waiter = spawn_distlock("--lock-name=x", "--busy-exit-code=75", "--", "true")
    assert waiter.stderr.readline().startswith("distlock: waiting: ")
    waiter.send_signal(signal.Signals[name])
    assert waiter.wait(BOUND) == 128 + signal.Signals[name]
    assert list(realm.entries()) == ["x"]
    assert name in one_line(waiter.stderr.read())


@pytest.mark.parametrize("how", ["absent", "a folder", "not executable", "no interpreter", "empty", "not on PATH"])
def test_a_command_that_cannot_be_started_is_3_and_the_lock_is_released(
    run_distlock: Run, realm: RealmView, tmp_path: Path, how: str
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755 if how == "no interpreter" else 0o644)
    command = {
        "absent": str(tmp_path / "absent"),
        "a folder": str(tmp_path),
        "not executable": str(script),
        "no interpreter": str(script),
        "empty": "",
        "not on PATH": "no-such-command-anywhere",
    }[how]
    done = run_distlock("--lock-name=x", "--busy-exit-code=75", "--", command)
    assert done.returncode == 3
    assert one_line(done.stderr).startswith(f"distlock: cannot start {command}: ")
    assert realm.entries() == {}


def test_arguments_too_long_for_the_system_are_3_and_the_lock_is_released(run_distlock: Run, realm: RealmView) -> None:
    # Together with what distlock adds to the environment they do not fit any more.
    big = {"DISTLOCK_HELD": "a" * 100_000, "DISTLOCK_TOKEN": "7"}
    done = run_distlock("--lock-name=" + "n" * 250, "--", "sh", "-c", "exit 3", env=big)
    assert done.returncode == 3
    assert realm.entries() == {}


def test_not_acquired_is_1_for_busy_timeout_and_no_etcd(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", "1500000000;other;reason")
    nowhere = {"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1"}
    for arguments, env in (
        (["--nowait"], {}),
        (["--timeout=0.1"], {}),
        (["--timeout=0.1", "--busy-exit-code=75"], nowhere),
        (["--nowait", "--connect-timeout=0.1", "--busy-exit-code=75"], nowhere),
    ):
        done = run_distlock("--lock-name=x", *arguments, "--", "echo", "ran", env=env)
        assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lock-name=x", "--", "true"],
        ["--lock-name=x", "--nowait", "--only-if=true", "--", "true"],
        *(["--lock-name=x", operation] for operation in ("--lock", "--unlock", "--show", "--explain", "--get")),
        ["--lock-name=x", "--verify", "--token=7"],
        ["--lock-name=x", "--break", "--yes", "--reason=why"],
        ["--list"],
        ["--freeze"],
        ["--thaw"],
        ["--policy"],
        ["--prune", "--older-than=1d"],
        ["--metrics"],
    ],
    ids=" ".join,
)
def test_an_etcd_that_is_away_has_its_exit_code(run_distlock: Run, arguments: list[str]) -> None:
    away = ["--endpoints=http://127.0.0.1:1", "--connect-timeout=0.1", "--busy-exit-code=75"]
    away = away if arguments[-1] in ("true", "--lock", "--explain") else away[:2]
    done = run_distlock(*away, "--unreachable-exit-code=69", *arguments)
    assert done.returncode == 69
    assert "no etcd answered" in one_line(done.stderr)
    done = run_distlock(*away, "--json", *arguments, env={"DISTLOCK_UNREACHABLE_EXIT_CODE": "70"})
    assert done.returncode == 70
    assert json.loads(done.stderr or done.stdout)["error"]["kind"] == "unreachable"


def test_its_exit_code_is_for_an_etcd_that_is_away_alone(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", "1500000000;node-1;{}")
    for arguments in (["--nowait", "--", "true"], ["--unlock", "--id=me"], ["--verify", "--token=1"], ["--bad"]):
        assert run_distlock("--lock-name=x", "--unreachable-exit-code=69", *arguments).returncode in (1, 2)
    assert run_distlock("--lock-name=y", "--unreachable-exit-code=69", "--", "sh", "-c", "exit 5").returncode == 5


def test_a_busy_exit_code_of_zero_is_no_failure_of_a_cron_job(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", "1500000000;other;reason")
    assert run_distlock("--lock-name=x", "--nowait", "--busy-exit-code=0", "--", "false").returncode == 0


def test_no_etcd_at_the_default_endpoint_names_distlock_etcd(run_distlock: Run, distlock_env: dict[str, str]) -> None:
    # In a network namespace, since an etcd of this machine may listen on the default port.
    alone = [need("unshare"), "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    need("ip")
    env = {key: value for key, value in distlock_env.items() if key != "DISTLOCK_ENDPOINTS"}
    command = [*alone, os.path.join(os.path.dirname(sys.executable), "distlock"), "--list", "--connect-timeout=0.5"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=BOUND, check=False)
    line = one_line(done.stderr)
    assert re.match(r"distlock: no etcd answered within \d+\.\ds: http://127.0.0.1:2379 \(connection refused\)", line)
    assert re.search("No endpoint is configured: .*DISTLOCK_ENDPOINTS.*distlock-etcd", line)
    named = run_distlock("--list", "--connect-timeout=0.1", "--endpoints=http://127.0.0.1:1")
    assert "distlock-etcd" not in named.stderr
