"""Healthy before the next: a gate that is red keeps everybody from acquiring, and a lock from being released."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest

import distlock_core
from distlock_core import Gate, GateClosed, Interrupt, LockLost, LockManager, NotSettled
from distlock_core.errors import AcquireTimeout, Cancelled
from distlock_core.testing import Cluster, Proxy
from tests.rollout.test_needed import DISTLOCK, pid_in
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, Output, Process, is_running, one_line, pause, wait_until
from tests.support.scene import TXN, Scene, puts, until

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., Process]
CALL = ("--lock-name=x", "--gate-every=0.1")
LIFETIMES = pytest.mark.parametrize("lifetime", [[], ["--ttl=3"]], ids=["persistent", "leased"])
# A gate that hangs, with a child that ignores SIGTERM.
HANGS = "sh -c 'trap \"\" TERM; echo $$ > {folder}/deaf; while :; do sleep 1; done' & echo $$ > {folder}/gate; wait"


@pytest.fixture
def scene(etcd: Cluster, realm_prefix: str) -> Iterator[Scene]:
    scene = Scene(etcd, realm_prefix)
    yield scene
    scene.close()


class Health:
    """A gate that is green while a file is there. It notes each question, and says how things are."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "healthy"
        self._asked = folder / "asked"
        self.gate = f"--gate=echo asked >> {self._asked}; echo; echo lag 12; echo; test -e {self.file}"

    @property
    def asked(self) -> int:
        return len(self._asked.read_text().splitlines()) if self._asked.exists() else 0

    def turn_green(self) -> None:
        self.file.touch()

    def turn_red(self) -> None:
        self.file.unlink()


@pytest.fixture
def health(tmp_path: Path) -> Health:
    return Health(tmp_path)


def shown(run_distlock: Run) -> dict[str, Any]:
    done = run_distlock("--show", "--lock-name=x", "--json")
    lock: dict[str, Any] = json.loads(done.stdout)["locks"][0]
    return lock


def ends(process: Process, code: int) -> str:
    assert process.wait(BOUND) == code, process.stderr.read()
    return process.stderr.read()


# Before.


def test_a_red_gate_stops_everybody_and_nobody_holds(
    spawn_distlock: Spawn, run_distlock: Run, scene: Scene, health: Health, in_etcd: Etcd
) -> None:
    first = spawn_distlock(*CALL, health.gate, "--", "echo", "ran")
    told = Output(first.stderr).until(r"distlock: waiting: (.*)\n")[1]
    assert told == "x is free; its gate is red: lag 12; position 1 of 1 in the queue"
    second = spawn_distlock("--lock-name=x", "--", "echo", "ran")  # without a gate of its own, but behind the first
    scene.until_in_line("x", 2)
    asked = health.asked
    until(lambda: health.asked > asked + 3)
    assert shown(run_distlock)["owner"] is None
    assert first.poll() is None
    assert second.poll() is None
    health.turn_green()
    ends(first, 0)
    ends(second, 0)
    in_etcd.assert_nothing_left()


def test_a_red_gate_refuses_a_call_that_does_not_wait(
    start_etcd: Callable[..., Cluster], run_distlock: Run, health: Health
) -> None:
    with start_etcd() as cluster:
        there = {"DISTLOCK_ENDPOINTS": cluster.endpoints[0]}
        members = cluster.members

        def commits() -> float:
            return members[0].metric("etcd_server_proposals_committed_total")

        before = commits()
        done = run_distlock(*CALL, health.gate, "--nowait", "--busy-exit-code=75", "--json", "--", "false", env=there)
        assert done.returncode == 75
        error = json.loads(done.stderr)["error"]
        assert (error["kind"], error["message"]) == ("gate", "x is free; its gate is red: lag 12")
        assert commits() == before
        health.turn_green()
        # A green gate costs etcd nothing; one more commit says that the lock settles.
        done = run_distlock(*CALL, health.gate, "--nowait", "--gate-at=before", "--", "true", env=there)
        assert (done.returncode, commits() - before) == (0, 2)
        done = run_distlock(*CALL, health.gate, "--nowait", "--", "true", env=there)
        assert (done.returncode, commits() - before) == (0, 5)


def test_a_timeout_ends_the_wait_for_a_gate(run_distlock: Run, health: Health, in_etcd: Etcd) -> None:
    done = run_distlock(*CALL, health.gate, "--timeout=1", "--json", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    waiting, error = [json.loads(line) for line in done.stderr.splitlines()]
    assert waiting["waiting"]["gate"] == "its gate is red: lag 12"
    assert error["error"]["kind"] == "timeout"
    assert error["error"]["message"].endswith(": x is free; its gate is red: lag 12")
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("queued", [True, False])
def test_a_signal_ends_a_gate_with_all_that_it_started(
    spawn_distlock: Spawn, in_etcd: Etcd, tmp_path: Path, queued: bool
) -> None:
    nowait = [] if queued else ["--nowait"]
    process = spawn_distlock(*CALL, f"--gate={HANGS.format(folder=tmp_path)}", *nowait, "--", "echo", "ran")
    pids = [pid_in(tmp_path / name) for name in ("gate", "deaf")]
    if queued:
        wait_until(in_etcd.keys, "a ticket")
    process.send_signal(signal.SIGTERM)
    ends(process, 128 + signal.SIGTERM)
    assert [pid for pid in pids if is_running(pid)] == []
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("at", ["queued", "nowait", "after"])
def test_a_gate_ends_with_a_distlock_that_is_killed(
    spawn_distlock: Spawn, in_etcd: Etcd, tmp_path: Path, at: str
) -> None:
    """With all that it has started: nothing else would end it."""
    words = {"queued": [], "nowait": ["--nowait"], "after": ["--gate-at=after"]}[at]
    process = spawn_distlock(*CALL, f"--gate={HANGS.format(folder=tmp_path)}", *words, "--", "echo", "ran")
    pids = [pid_in(tmp_path / name) for name in ("gate", "deaf")]
    process.kill()
    process.wait(BOUND)
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the gate has ended")


def test_a_gate_may_leave_processes_behind_and_kill_its_group(run_distlock: Run, tmp_path: Path) -> None:
    left = f"sleep 60 > /dev/null 2>&1 & echo $! > {tmp_path}/left"
    done = run_distlock(*CALL, f"--gate={left}", "--gate-at=before", "--nowait", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    pid = pid_in(tmp_path / "left")
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)
    done = run_distlock(*CALL, "--gate=kill -s KILL 0", "--gate-at=before", "--nowait", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "its gate is red: signal 9 has ended it" in one_line(done.stderr)


def test_a_gate_that_answers_slowly_loses_no_place(spawn_distlock: Spawn, scene: Scene, tmp_path: Path) -> None:
    """Without renewals of the ticket, the second would be first after 10 s."""
    go = tmp_path / "go"
    gate = (f"--gate=while ! test -e {go}; do sleep 0.2; done", "--gate-at=before")
    slow = spawn_distlock(*CALL, *gate, "--", "sh", "-c", f"echo slow >> {tmp_path}/ran")
    scene.until_in_line("x", 1)
    next_one = spawn_distlock("--lock-name=x", "--", "sh", "-c", f"echo next >> {tmp_path}/ran")
    scene.until_in_line("x", 2)
    pause(12)
    go.touch()
    ends(slow, 0)
    ends(next_one, 0)
    assert (tmp_path / "ran").read_text().split() == ["slow", "next"]


def test_a_gate_that_gives_no_answer_is_red(run_distlock: Run, in_etcd: Etcd, tmp_path: Path) -> None:
    gate = f"--gate={HANGS.format(folder=tmp_path)}"
    done = run_distlock(*CALL, gate, "--gate-timeout=0.5", "--nowait", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "x is free; its gate is red: no answer within 0.5s" in one_line(done.stderr)
    assert [pid for pid in (pid_in(tmp_path / "gate"), pid_in(tmp_path / "deaf")) if is_running(pid)] == []
    assert in_etcd.found() == {}


def test_an_answer_is_good_for_one_claim(scene: Scene) -> None:
    """The gate goes red between asking and claiming, and the claim is refused: it is asked again before the next."""
    answers: list[bool] = []
    go_red = threading.Event()

    def is_healthy() -> bool:
        if not answers:
            scene.put("x")  # another takes it, past the queue, after the question and before the claim
        answers.append(not go_red.is_set())
        return answers[-1]

    lock = scene.realm().lock("x", timeout=BOUND, gate=Gate(is_healthy, every=0.05, after=False))
    future = scene.start(partial(lock.acquire, BOUND))
    scene.until_in_line("x", 1)
    assert answers == [True]
    go_red.set()
    scene.delete("x")
    until(lambda: len(answers) > 3)
    assert not any(answers[1:])
    assert scene.get("x") is None
    go_red.clear()
    future.result(BOUND)
    assert answers[-1]
    lock.release()


def test_a_gate_that_goes_red_before_a_refused_claim_is_asked_again(scene: Scene, proxy: Proxy) -> None:
    """Another acquires and releases the lock between the answer and the claim, and leaves the cluster unhealthy."""
    answers: list[bool] = []
    unhealthy = threading.Event()

    def is_healthy() -> bool:
        answers.append(not unhealthy.is_set())
        return answers[-1]

    held = proxy.hold_request(TXN, puts(scene.key("x")))
    lock = scene.realm(proxy.url).lock("x", gate=Gate(is_healthy, every=0.05, after=False))
    future = scene.start(partial(lock.acquire, BOUND))
    held.wait()
    assert answers == [True]
    scene.put("__last/x", '1;other;{"how":"released"}')
    unhealthy.set()
    held.release()
    until(lambda: len(answers) > 3)
    assert not any(answers[1:])
    assert scene.get("x") is None
    unhealthy.clear()
    future.result(BOUND)
    lock.release()


def test_a_gate_must_stay_green(spawn_distlock: Spawn, scene: Scene, tmp_path: Path) -> None:
    """It is green, red once, and then green: only the second time counts."""
    count = tmp_path / "count"
    flaps = f"echo >> {count}; test $(wc -l < {count}) != 3"
    options = (f"--gate={flaps}", "--gate-for=1", "--gate-at=before")
    process = spawn_distlock(*CALL, *options, "--", "wc", "-l", str(count))
    ends(process, 0)
    assert int(process.stdout.read().split()[0]) >= 5  # answers go on after the red one


# After.


@LIFETIMES
def test_a_lock_settles_until_its_gate_is_green(
    spawn_distlock: Spawn, run_distlock: Run, health: Health, in_etcd: Etcd, lifetime: list[str]
) -> None:
    """A leased one for longer than its ttl."""
    process = spawn_distlock(*CALL, *lifetime, health.gate, "--gate-at=after", "--", "sh", "-c", "exit 7")
    until(lambda: shown(run_distlock)["state"] == "settling")
    assert "(settling)" in run_distlock("--list").stdout
    assert "settling" in run_distlock("--show", "--lock-name=x").stdout
    asked = health.asked
    until(lambda: health.asked > asked + 2)
    if lifetime:
        pause(5)
        assert shown(run_distlock)["state"] == "settling"
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 1
    health.turn_green()
    ends(process, 7)
    in_etcd.assert_nothing_left()


@LIFETIMES
@pytest.mark.parametrize(("command", "code"), [("true", 1), ("exit 7", 7)])
def test_a_gate_that_is_not_green_in_time_keeps_the_lock(
    run_distlock: Run, health: Health, lifetime: list[str], command: str, code: int
) -> None:
    options = (*lifetime, health.gate, "--gate-timeout=1", "--gate-at=after", "--reason=Upgrade")
    done = run_distlock(*CALL, *options, "--json", "--", "sh", "-c", command)
    assert done.returncode == code
    error = json.loads(done.stderr)["error"]
    assert error["kind"] == "gate"
    assert error["message"].startswith("x: not released: after 1s its gate is red: lag 12: the lock is left taken")
    lock = shown(run_distlock)
    assert (lock["state"], lock["lifetime"]) == ("kept", "persistent")
    assert lock["reason"].startswith("not healthy after sh on ")
    assert lock["reason"].endswith(": its gate is red: lag 12 (Upgrade)")


def test_a_command_that_failed_and_keeps_its_lock_asks_no_gate(run_distlock: Run, health: Health) -> None:
    done = run_distlock(*CALL, health.gate, "--gate-at=after", "--on-failure=keep", "--", "false")
    assert (done.returncode, health.asked) == (1, 0)
    assert shown(run_distlock)["state"] == "kept"


def test_a_crash_while_it_settles_leaves_the_lock_and_nobody_enters_it(
    spawn_distlock: Spawn, run_distlock: Run, health: Health
) -> None:
    mine = ("--id=me", "--lock-name=x")
    process = spawn_distlock(*CALL, "--id=me", health.gate, "--gate-at=after", "--", "true")
    until(lambda: shown(run_distlock)["state"] == "settling")
    process.kill()
    process.wait(BOUND)
    assert run_distlock(*mine, "--nowait", "--", "true").returncode == 1
    lock = shown(run_distlock)
    assert (lock["state"], lock["lifetime"]) == ("settling", "persistent")
    assert run_distlock("--unlock", *mine).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_settles_keeps_the_lock_and_ends_the_gate(
    spawn_distlock: Spawn, run_distlock: Run, tmp_path: Path, number: signal.Signals
) -> None:
    options = (f"--gate={HANGS.format(folder=tmp_path)}", "--gate-at=after")
    process = spawn_distlock(*CALL, *options, "--", "true")
    pids = [pid_in(tmp_path / name) for name in ("gate", "deaf")]
    process.send_signal(number)
    assert process.wait(BOUND) in (128 + number, -number)
    assert f"{number.name} has ended the wait for the gate: the lock is left taken" in one_line(process.stderr.read())
    assert [pid for pid in pids if is_running(pid)] == []
    lock = shown(run_distlock)
    assert lock["state"] == "kept"
    assert f"{number.name} has ended the wait" in lock["reason"]


@LIFETIMES
def test_a_loss_while_it_settles_is_a_loss_and_ends_the_gate(
    spawn_distlock: Spawn, scene: Scene, tmp_path: Path, lifetime: list[str]
) -> None:
    options = (*lifetime, f"--gate={HANGS.format(folder=tmp_path)}", "--gate-at=after")
    process = spawn_distlock(*CALL, *options, "--", "true")
    pids = [pid_in(tmp_path / name) for name in ("gate", "deaf")]
    scene.delete("x")
    assert "x was lost" in ends(process, 2)
    assert [pid for pid in pids if is_running(pid)] == []


def test_a_nested_run_asks_no_gate(run_distlock: Run, health: Health) -> None:
    script = f"{DISTLOCK} --id=me --lock-name=x '{health.gate}' -- echo inner"
    done = run_distlock("--id=me", "--lock-name=x", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, health.asked) == (0, "inner\n", 0)


def test_lock_asks_the_gate_before(run_distlock: Run, health: Health) -> None:
    assert run_distlock(*CALL, health.gate, "--nowait", "--lock").returncode == 1
    health.turn_green()
    assert run_distlock(*CALL, health.gate, "--nowait", "--lock").returncode == 0
    assert shown(run_distlock)["state"] == "held"


def test_unlock_asks_the_gate_before_it_releases(
    spawn_distlock: Spawn, run_distlock: Run, health: Health, in_etcd: Etcd
) -> None:
    mine = ("--id=me", "--lock-name=x")
    assert run_distlock(*mine, "--lock").returncode == 0
    unlock = spawn_distlock("--gate-every=0.1", *mine, health.gate, "--unlock")
    until(lambda: shown(run_distlock)["state"] == "settling")
    assert run_distlock(*mine, "--nowait", "--lock").returncode == 1  # nobody enters it
    health.turn_green()
    ends(unlock, 0)
    in_etcd.assert_nothing_left()


def test_an_unlock_whose_gate_stays_red_or_that_is_ended_keeps_the_lock(
    spawn_distlock: Spawn, run_distlock: Run, health: Health
) -> None:
    mine = ("--id=me", "--lock-name=x", "--reason=Upgrade")
    assert run_distlock(*mine, "--lock").returncode == 0
    unlock = ("--gate-every=0.1", *mine[:2], health.gate, "--unlock")
    done = run_distlock(*unlock, "--gate-timeout=1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "gate"
    lock = shown(run_distlock)
    assert (lock["state"], lock["reason"]) == ("kept", "not healthy after the work: its gate is red: lag 12 (Upgrade)")
    # What is kept is not asked about again: somebody has looked. Nor is it with a gate from the environment.
    assert run_distlock(*unlock).returncode == 0
    assert run_distlock(*mine, "--lock").returncode == 0
    assert run_distlock("--unlock", *mine[:2], env={"DISTLOCK_GATE": "false"}).returncode == 0
    assert run_distlock(*mine, "--lock").returncode == 0
    asked = health.asked
    process = spawn_distlock(*unlock)
    until(lambda: health.asked > asked + 1)
    process.send_signal(signal.SIGTERM)
    ends(process, 128 + signal.SIGTERM)
    assert shown(run_distlock)["state"] == "kept"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--gate=", "--", "true"], "option --gate: expected a line of shell"),
        (["--gate-every=0", "--", "true"], "option --gate-every: expected a number of seconds above 0"),
        (["--gate-for=-1", "--gate=x", "--", "true"], "option --gate-for: expected a number of seconds, 0 or more"),
        (["--gate-at=now", "--gate=x", "--", "true"], "option --gate-at: expected before,after or before or after"),
        (["--gate-timeout=9", "--", "true"], "--gate-timeout is about a gate: it goes with --gate=CMD"),
        (["--gate=x", "--gate-for=9", "--gate-timeout=9", "--", "true"], "--gate-for must be shorter"),
        (["--gate=x", "--gate-at=after", "--lock"], "--gate-at=after goes with -- COMMAND"),
        (["--gate=x", "--show"], "--gate goes with -- COMMAND, --lock or --unlock"),
        (["--gate=x", "--gate-at=before", "--unlock"], "--gate-at=before goes with -- COMMAND or --lock"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_taken(
    run_distlock: Run, in_etcd: Etcd, words: list[str], why: str
) -> None:
    done = run_distlock("--lock-name=x", *words)
    assert done.returncode == 1
    assert why in one_line(done.stderr)
    assert in_etcd.found() == {}


# The library.


def test_a_block_waits_for_the_gate_before_and_after(scene: Scene) -> None:
    seen: list[str] = []

    def is_healthy() -> bool:
        seen.append(scene.record("x").state if scene.get("x") else "free")
        return len(seen) not in (1, 4)

    with scene.realm().lock("x", gate=Gate(is_healthy, every=0.05)):
        seen.append("work")
    assert seen == ["free", "free", "work", "settling", "settling"]
    assert scene.get("x") is None


def test_the_example_of_the_page_runs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distlock_core, "connect", scene.realm)
    seen: list[str] = []

    def all_nodes_synced() -> bool:
        seen.append("asked")
        return True

    exec(recipe("Python gate"), {"all_nodes_synced": all_nodes_synced, "upgrade": lambda: seen.append("upgraded")})
    assert seen == ["asked", "upgraded", "asked"]


def test_a_block_whose_gate_stays_red_keeps_the_lock_and_raises(scene: Scene) -> None:
    def lags() -> bool:
        raise ValueError("lag 12")

    gate = Gate(lags, every=0.05, timeout=0.5, before=False)
    lock = scene.realm().lock("x", ttl=60, gate=gate)
    with pytest.raises(NotSettled, match=r"after 0.5s its gate is red: ValueError: lag 12"), lock:
        pass
    assert not lock.held
    record = scene.record("x")
    assert (record.state, record.text("reason")) == ("kept", "its gate is red: ValueError: lag 12 after the work")


def test_a_red_gate_of_the_library_refuses_and_times_out(scene: Scene) -> None:
    lock = scene.realm().lock("x", gate=Gate("echo no; exit 3", every=0.05))
    assert lock.try_acquire() is None
    with pytest.raises(GateClosed, match="its gate is red: no"):
        lock.acquire(timeout=0)
    with pytest.raises(AcquireTimeout, match="its gate is red: no"):
        lock.acquire(timeout=0.8)
    cancel = Interrupt()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(Cancelled):
        lock.acquire(cancel=cancel)
    assert scene.under("x") == ()


def test_a_lock_lost_while_it_settles_raises(scene: Scene) -> None:
    def lose() -> bool:
        scene.delete("x")
        return False

    gate = Gate(lose, every=0.05, before=False)
    lock = scene.realm().lock("x", ttl=60, gate=gate)
    lock.acquire()
    with pytest.raises(LockLost):
        lock.release()


def test_a_callable_that_hangs_delays_no_renewal(scene: Scene) -> None:
    """Without them, the lease would be gone after 2 s."""
    over = threading.Event()
    gate = Gate(lambda: over.wait(BOUND), every=0.05, before=False)
    lock = scene.realm().lock("x", ttl=2, gate=gate)
    lock.acquire()
    threading.Timer(5, over.set).start()
    lock.release()
    assert scene.get("x") is None


def test_a_manager_stands_for_a_lock_only_while_its_gate_is_green(scene: Scene) -> None:
    is_healthy = threading.Event()
    gate = Gate(is_healthy.is_set, every=0.05, timeout=BOUND)
    with LockManager(scene.realm(), "x", ttl=5, gate=gate) as manager:
        scene.until_in_line("x", 1)
        pause(1)
        assert not manager.have_lock()
        assert scene.get("x") is None
        is_healthy.set()
        until(manager.have_lock)
        is_healthy.clear()
    assert scene.get("x") is None  # it does not wait for a gate as it ends


def test_a_gate_of_several_locks_is_asked_once_and_keeps_all_of_them(run_distlock: Run, health: Health) -> None:
    both = ("--lock-name=x", "--lock-name=y", "--gate-every=0.1", health.gate)
    refused = run_distlock(*both, "--nowait", "--", "true")
    assert (refused.returncode, health.asked) == (1, 1)
    done = run_distlock(*both, "--gate-at=after", "--gate-timeout=1", "--", "true")
    assert done.returncode == 1
    assert "See: distlock --show --lock-name=x" in one_line(done.stderr)
    listed = json.loads(run_distlock("--list", "--json").stdout)["locks"]
    assert [(lock["lock"], lock["state"]) for lock in listed] == [("x", "kept"), ("y", "kept")]
