"""Only where there is work: a run without any takes no lock, and writes nothing to etcd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

import distlock_core
from distlock_core import CheckFailed, Interrupt, LockLost, acquire_if_needed
from distlock_core.errors import AcquireTimeout, Cancelled
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, Process, is_running, one_line, wait_until
from tests.support.scene import Scene

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., Process]
CALL = ("--lock-name=x", "--")
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
IGNORES = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
LIFETIMES = pytest.mark.parametrize("lifetime", [[], ["--ttl=3"]], ids=["persistent", "leased"])


@pytest.fixture
def scene(etcd: Cluster, realm_prefix: str) -> Iterator[Scene]:
    scene = Scene(etcd, realm_prefix)
    yield scene
    scene.close()


def pid_in(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), f"a pid in {path}"))


@pytest.mark.parametrize("check", ["--unless=true", "--only-if=exit 1", "--only-if=exit 125"])
def test_without_work_nothing_runs_and_etcd_is_not_asked(run_distlock: Run, check: str) -> None:
    nowhere = {"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1"}
    done = run_distlock(check, *CALL, "echo", "ran", env=nowhere)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_nightly_run_without_work_is_no_commit(
    start_etcd: Callable[..., Cluster], realm_prefix: str, run_distlock: Run
) -> None:
    with start_etcd() as cluster:
        there = {"DISTLOCK_ENDPOINTS": cluster.endpoints[0]}

        def commits() -> float:
            return cluster.members[0].metric("etcd_server_proposals_committed_total")

        before = commits()
        for _ in range(3):
            assert run_distlock("--unless=true", *CALL, "false", env=there).returncode == 0
        assert commits() == before
        # With work, the check costs nothing: the lock and its release are two commits, as without it.
        assert run_distlock("--unless=false", *CALL, "true", env=there).returncode == 0
        assert commits() - before == 2


@pytest.mark.parametrize("checks", [["--unless=exit 1"], ["--only-if=true"], ["--only-if=true", "--unless=exit 125"]])
def test_with_work_the_command_runs_under_the_lock(run_distlock: Run, in_etcd: Etcd, checks: list[str]) -> None:
    done = run_distlock(*checks, *CALL, "sh", "-c", f"{DISTLOCK} --verify --lock-name=x && echo held; exit 7")
    assert (done.returncode, done.stdout) == (7, "held\n")
    in_etcd.assert_nothing_left()


@LIFETIMES
def test_work_that_another_has_done_during_the_wait_is_not_done_again(
    run_distlock: Run, spawn_distlock: Spawn, scene: Scene, in_etcd: Etcd, tmp_path: Path, lifetime: list[str]
) -> None:
    """Without the second check, the command would run."""
    done, log = tmp_path / "done", tmp_path / "log"
    scene.put("x")
    unless = f"test -e {done}"
    waiter = spawn_distlock(f"--unless={unless}", "--verbose", *lifetime, *CALL, "sh", "-c", f"echo ran >> {log}")
    scene.until_in_line("x", 1)
    done.touch()
    scene.delete("x")
    assert waiter.wait(BOUND) == 0
    assert "x: nothing to do: unless is true\n" in waiter.stderr.read()
    assert not log.exists()
    in_etcd.assert_nothing_left()


def test_the_second_check_knows_the_lock_and_the_first_does_not(run_distlock: Run, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    asks = f'echo "${{DISTLOCK_TOKEN:-none}} ${{DISTLOCK_ONLY_IF:-none}} ${{DISTLOCK_TTL:-none}}" >> {seen}'
    env = {"DISTLOCK_ONLY_IF": asks, "DISTLOCK_TTL": "9"}
    done = run_distlock(*CALL, "sh", "-c", "echo $DISTLOCK_TOKEN $DISTLOCK_ONLY_IF", env=env)
    token = done.stdout.strip()
    assert token.isdigit()
    assert seen.read_text() == f"none none none\n{token} none none\n"


def test_what_a_check_says_goes_to_stderr_and_it_has_no_input(run_distlock: Run) -> None:
    done = run_distlock("--only-if=echo out; echo err >&2; cat", *CALL, "cat", input="mine")
    assert done.stdout == "mine"
    assert done.stderr == "out\nerr\n" * 2


@pytest.mark.parametrize("option", ["only-if", "unless"])
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/no/such/program", "exit code 127: a program that it names is not there, or cannot be executed"),
        ("/etc/passwd", "exit code 126: a program that it names is not there, or cannot be executed"),
        ("exit 255", "exit code 255, and only 0 (true) and 1 to 125 (false) are answers"),
        ("kill -9 $$", "signal 9 has ended it"),
        ("sh -c 'kill -9 $$'; exit $?", "exit code 137, and only 0 (true) and 1 to 125 (false) are answers"),
    ],
)
def test_a_check_that_gives_no_answer_is_an_error_and_takes_nothing(
    run_distlock: Run, in_etcd: Etcd, option: str, line: str, why: str
) -> None:
    done = run_distlock(f"--{option}={line}", "--json", *CALL, "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    name = option.replace("-", "_")
    message = f"x: the command was not started: the check {name} gave no answer: {why}"
    assert error == {"kind": "check", "message": message}
    assert in_etcd.found() == {}


@LIFETIMES
def test_a_second_check_that_gives_no_answer_releases_the_lock(
    run_distlock: Run, in_etcd: Etcd, lifetime: list[str]
) -> None:
    line = 'test -z "$DISTLOCK_TOKEN" || exit 126'
    done = run_distlock(f"--only-if={line}", *lifetime, *CALL, "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "gave no answer: exit code 126" in one_line(done.stderr)
    in_etcd.assert_nothing_left()


def test_json_says_why_nothing_was_done(run_distlock: Run) -> None:
    done = run_distlock("--unless=true", "--json", *CALL, "false")
    assert json.loads(done.stderr) == {"skipped": {"lock": "x", "why": "unless is true"}}


@pytest.mark.parametrize("operation", ["--lock", "--unlock", "--show", "--list"])
def test_a_check_goes_with_a_command_only(run_distlock: Run, in_etcd: Etcd, operation: str) -> None:
    done = run_distlock("--lock-name=x", operation, "--unless=true")
    assert done.returncode == 1
    assert "--unless goes with -- COMMAND" in one_line(done.stderr)
    assert in_etcd.found() == {}


@pytest.mark.parametrize("option", ["--unless=", "--unless= ", "--only-if="])
def test_an_empty_check_is_refused(run_distlock: Run, option: str) -> None:
    done = run_distlock(option, *CALL, "true")
    assert done.returncode == 1
    assert f"option {option.partition('=')[0]}: expected a line of shell" in one_line(done.stderr)


def test_a_check_can_come_from_the_config_file(run_distlock: Run, tmp_path: Path) -> None:
    file = tmp_path / "distlock.yaml"
    file.write_text("lockname: x\nunless: 'test -d /'\n")
    file.chmod(0o600)
    done = run_distlock(f"--config={file}", "--verbose", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "")
    assert one_line(done.stderr) == "distlock: x: nothing to do: unless is true"


# A check that hangs, at the first time or under the lock, with a grandchild, an orphan in its group, and one that
# ignores SIGTERM.
HANGS = """
{when}
sh -c 'trap "" TERM; echo $$ > {folder}/deaf; while :; do sleep 1; done' &
(sleep 300 & echo $! > {folder}/orphan)
echo $$ > {folder}/check
sleep 300
"""
WHEN = {"first": "", "second": 'test -n "$DISTLOCK_TOKEN" || exit 0'}


def hanging(when: str, folder: Path) -> str:
    return HANGS.format(when=WHEN[when], folder=folder)


def pids_of(folder: Path) -> list[int]:
    return [pid_in(folder / name) for name in ("check", "orphan", "deaf")]


@LIFETIMES
@pytest.mark.parametrize("when", ["first", "second"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_check_with_all_that_it_started(
    spawn_distlock: Spawn, in_etcd: Etcd, tmp_path: Path, when: str, number: signal.Signals, lifetime: list[str]
) -> None:
    process = spawn_distlock(f"--only-if={hanging(when, tmp_path)}", *lifetime, *CALL, "echo", "ran")
    pids = pids_of(tmp_path)
    process.send_signal(number)
    assert process.wait(BOUND) in (128 + number, -number)
    assert [pid for pid in pids if is_running(pid)] == []
    assert process.stdout.read() == ""
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("when", ["first", "second"])
def test_a_check_ends_with_a_distlock_that_is_killed(spawn_distlock: Spawn, tmp_path: Path, when: str) -> None:
    process = spawn_distlock(f"--only-if={hanging(when, tmp_path)}", *CALL, "echo", "ran")
    pids = pids_of(tmp_path)
    process.kill()
    process.wait(BOUND)
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the check has ended")


def test_the_timeout_ends_the_first_check(run_distlock: Run, in_etcd: Etcd, tmp_path: Path) -> None:
    line = f"--only-if={hanging('first', tmp_path)}"
    done = run_distlock(line, "--timeout=1", "--busy-exit-code=75", *CALL, "echo", "ran")
    assert (done.returncode, done.stdout) == (75, "")
    assert "the check only_if gave no answer in time" in one_line(done.stderr)
    assert [pid for pid in pids_of(tmp_path) if is_running(pid)] == []
    assert in_etcd.found() == {}


def test_a_lease_is_renewed_during_the_second_check(run_distlock: Run, in_etcd: Etcd) -> None:
    """Without renewals, it would expire after 2 s."""
    line = 'test -z "$DISTLOCK_TOKEN" || sleep 5'
    done = run_distlock(f"--only-if={line}", "--ttl=2", *CALL, DISTLOCK, "--verify", "--lock-name=x")
    assert (done.returncode, done.stderr) == (0, "")
    in_etcd.assert_nothing_left()


def test_a_lock_lost_during_the_second_check_is_a_loss_and_the_check_is_ended(
    spawn_distlock: Spawn, scene: Scene, tmp_path: Path
) -> None:
    process = spawn_distlock(f"--only-if={hanging('second', tmp_path)}", "--ttl=3", *CALL, "echo", "ran")
    pids = pids_of(tmp_path)
    (lease,) = scene.new_leases()
    scene.revoke(lease)
    assert process.wait(BOUND) == 2
    assert "x was lost" in one_line(process.stderr.read())
    assert process.stdout.read() == ""
    assert [pid for pid in pids if is_running(pid)] == []


def test_a_caller_that_ignores_sigchld_gets_an_answer_all_the_same(distlock_env: dict[str, str]) -> None:
    command = [sys.executable, "-c", IGNORES, DISTLOCK, "--unless=exit 3", *CALL, "echo", "ran"]
    done = subprocess.run(command, env=distlock_env, capture_output=True, text=True, timeout=BOUND, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


# The library.


def test_a_callable_says_whether_there_is_work(scene: Scene, in_etcd: Etcd) -> None:
    lock = scene.realm().lock("x")
    seen: list[bool] = []

    def is_done() -> bool:
        seen.append(lock.held)
        return len(seen) > 3

    assert acquire_if_needed(lock, unless=is_done) is lock
    assert seen == [False, True]
    with lock:
        assert lock.verify()
    assert acquire_if_needed(lock, unless=is_done) is None  # done between the two checks
    assert seen == [False, True, False, True]
    assert not lock.held
    assert acquire_if_needed(lock, unless=is_done) is None
    assert seen[4:] == [False]
    in_etcd.assert_nothing_left()


def test_the_example_of_the_page_runs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distlock_core, "connect", scene.realm)
    seen: list[str] = []

    def is_upgraded() -> bool:
        seen.append("looked")
        return "upgraded" in seen

    def upgrade() -> None:
        assert scene.get("percona_prod") is not None
        seen.append("upgraded")

    for _ in range(2):
        exec(recipe("only if needed"), {"is_upgraded": is_upgraded, "upgrade": upgrade})
    assert seen == ["looked", "looked", "upgraded", "looked"]


def test_a_callable_that_raises_leaves_nothing_behind(scene: Scene, in_etcd: Etcd) -> None:
    lock = scene.realm().lock("x", ttl=60)

    def broken() -> bool:
        if lock.held:
            raise ValueError("no idea")
        return False

    with pytest.raises(ValueError, match="no idea"):
        acquire_if_needed(lock, unless=broken)
    assert not lock.held
    in_etcd.assert_nothing_left()


def test_a_line_of_shell_works_in_the_library_too(scene: Scene, in_etcd: Etcd) -> None:
    lock = scene.realm().lock("x")
    assert acquire_if_needed(lock, only_if="exit 4") is None
    with pytest.raises(CheckFailed, match="the check only_if gave no answer: exit code 126"):
        acquire_if_needed(lock, only_if="exit 126")
    with pytest.raises(AcquireTimeout):
        acquire_if_needed(lock, only_if="sleep 60", timeout=0.2)
    assert in_etcd.found() == {}


def test_a_cancel_ends_a_check(scene: Scene, in_etcd: Etcd, tmp_path: Path) -> None:
    cancel = Interrupt()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(Cancelled):
        acquire_if_needed(scene.realm().lock("x"), only_if=hanging("first", tmp_path), cancel=cancel)
    assert [pid for pid in pids_of(tmp_path) if is_running(pid)] == []
    assert in_etcd.found() == {}


def test_a_lock_that_is_lost_during_the_second_check_raises(scene: Scene) -> None:
    lock = scene.realm().lock("x", ttl=60)

    def lose() -> bool:
        if lock.held:
            scene.delete("x")
            lock.lost.wait(BOUND)
        return True

    with pytest.raises(LockLost):
        acquire_if_needed(lock, only_if=lose)
    assert not lock.held
