"""Hooks: run beside what they tell of, bounded in time, and never in the way of a release or a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.base.deadline import now
from distlock_core.command.kill import end_tree
from distlock_core.process.nesting import FOR_THIS_CALL, HELD, HOOK_FACTS, LEASE, TOKEN
from distlock_core.testing import Proxy
from tests.support.doc_blocks import with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.process_trees import LOST, Next, growing_tree
from tests.support.processes import BOUND, Process, is_running, one_line, wait_until
from tests.support.scene import TXN

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., Process]
CALL = ("--lock-name=x", "--id=me", "--reason=why")
# Hangs, ignores SIGTERM, and has a child that does too.
HANGS = """
trap '' TERM
sh -c 'echo $$ > {0}/deaf; while :; do sleep 1; done' &
echo $$ > {0}/hook
while :; do sleep 1; done
"""
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")


def pid_in(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), f"a pid in {path}"))


def hangs(folder: Path) -> str:
    return HANGS.format(folder)


def pids_of_hook(folder: Path) -> list[int]:
    return [pid_in(folder / name) for name in ("hook", "deaf")]


def noting(folder: Path) -> list[str]:
    """Options: each hook notes its variables, in a file named for its event."""
    note = f"env -0 > {folder}/$DISTLOCK_EVENT.part; mv {folder}/$DISTLOCK_EVENT.part {folder}/$DISTLOCK_EVENT"
    return [f"--on-{event}={note}" for event in ("acquired", "lost", "released")]


def noted(folder: Path, event: str) -> dict[str, str]:
    text = (folder / event).read_text().rstrip("\0")
    pairs = (pair.partition("=") for pair in text.split("\0"))
    return {name: value for name, _, value in pairs if name.startswith("DISTLOCK_")}


def events(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_left(mark: str) -> bool:
    """True if a process lives whose environment has this."""
    return any(_has(path, mark) for path in Path("/proc").glob("[0-9]*/environ"))


def _has(environ: Path, mark: str) -> bool:
    return mark.encode() in _read(environ)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # of a process that has ended


@pytest.fixture
def mark(distlock_env: dict[str, str], realm_prefix: str) -> Iterator[str]:
    """What is in the environment of all that the test has started. Nothing of that is left afterwards."""
    yield realm_prefix
    wait_until(lambda: not is_left(realm_prefix), "the end of all that was started")


# What is told.


def test_each_hook_finds_the_facts_in_its_environment(run_distlock: Run, tmp_path: Path, in_etcd: Etcd) -> None:
    began = int(time.time())
    mine = {"DISTLOCK_REASON": "of another call", "DISTLOCK_HOOK_TIMEOUT": "9", "DISTLOCK_SLOTS": "1"}
    done = run_distlock(*CALL, *noting(tmp_path), "--", "sh", "-c", 'echo "$DISTLOCK_TOKEN"; exit 7', env=mine)
    assert (done.returncode, done.stderr) == (7, "")
    assert events(tmp_path) == ["acquired", "released"]
    acquired, released = noted(tmp_path, "acquired"), noted(tmp_path, "released")
    since = acquired["DISTLOCK_SINCE"]
    assert began <= int(since) <= time.time()
    facts = {
        "DISTLOCK_LOCK_NAME": "x",
        "DISTLOCK_TOKEN": done.stdout.strip(),
        "DISTLOCK_OWNER": "me",
        "DISTLOCK_LOCK_REASON": "why",
        "DISTLOCK_SINCE": since,
    }
    around = {name: acquired[name] for name in ("DISTLOCK_ENDPOINTS", "DISTLOCK_PREFIX", "DISTLOCK_STATE_DIR")}
    held = {"DISTLOCK_HELD": f"{in_etcd.prefix}x"}
    assert acquired == {**around, **facts, **held, "DISTLOCK_EVENT": "acquired"}
    end = {"DISTLOCK_EVENT": "released", "DISTLOCK_OUTCOME": "released", "DISTLOCK_EXIT_CODE": "7"}
    assert released == {**around, **facts, **end}
    in_etcd.assert_nothing_left()


def test_a_hook_may_call_distlock_and_several_locks_are_one_event(run_distlock: Run, tmp_path: Path) -> None:
    inside = f"{DISTLOCK} --verify --lock-name=b && {DISTLOCK} --lock-name=c -- echo inside; touch {tmp_path}/done"
    names, until = ("--lock-name=a", "--lock-name=b"), f"until test -e {tmp_path}/done; do sleep 0.05; done"
    done = run_distlock(*names, f"--on-acquired={inside}", noting(tmp_path)[2], "--", "sh", "-c", until)
    assert (done.returncode, done.stderr) == (0, "inside\n")  # and no warning of an unknown variable
    released = noted(tmp_path, "released")
    assert released["DISTLOCK_LOCK_NAME"] == "a\nb"
    assert released["DISTLOCK_TOKEN"].isdigit()


def test_a_broken_hold_has_its_own_hook_and_is_not_released(
    spawn_distlock: Spawn, run_distlock: Run, tmp_path: Path, in_etcd: Etcd
) -> None:
    process = spawn_distlock(*CALL, *noting(tmp_path), "--ttl=30", "--", "sleep", "60")
    wait_until((tmp_path / "acquired").exists, "the hook")
    wait_until(in_etcd.keys, "the lock")
    done = run_distlock("--break", "--lock-name=x", "--id=ops", "--reason=look", "--yes")
    assert done.returncode == 0
    assert process.wait(BOUND) == LOST
    assert events(tmp_path) == ["acquired", "lost"]
    assert re.match(r"it was broken by ops at .*", noted(tmp_path, "lost")["DISTLOCK_LOSS"])
    assert "DISTLOCK_HELD" not in noted(tmp_path, "lost")


def test_a_loss_that_only_the_release_notices_has_its_hook(run_distlock: Run, tmp_path: Path) -> None:
    unlock = f"{DISTLOCK} --unlock --lock-name=x"
    done = run_distlock("--lock-name=x", *noting(tmp_path), "--", "sh", "-c", unlock)
    assert done.returncode == LOST
    assert events(tmp_path) == ["acquired", "lost"]
    assert (
        "lost" in noted(tmp_path, "lost")["DISTLOCK_LOSS"] or "released by" in noted(tmp_path, "lost")["DISTLOCK_LOSS"]
    )


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        (["--on-failure=freeze"], "frozen"),
        (["--cooldown=60", "--", "true"], "cooling"),
        (["--on-failure=keep"], None),
        (["--only-if=test -e {0}/never"], None),
        (["--only-if=test ! -e {0}/once && touch {0}/once"], None),  # there is work before it is held, and none then
        (["--nowait", "--shared", "--", "true"], "released"),
    ],
    ids=str,
)
def test_the_hook_says_how_it_was_released_if_it_was(
    run_distlock: Run, tmp_path: Path, options: list[str], outcome: str | None
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    words = [option.format(tmp_path) for option in options]
    run_distlock("--lock-name=x", *noting(notes), *words, *([] if "--" in words else ["--", "false"]))
    assert "lost" not in events(notes)
    if outcome is None:
        assert "released" not in events(notes)
    else:
        assert noted(notes, "released")["DISTLOCK_OUTCOME"] == outcome
    assert ("acquired" in events(notes)) == ("--only-if" not in words[0])


def test_a_hold_that_is_entered_again_is_neither_acquired_nor_released(run_distlock: Run, tmp_path: Path) -> None:
    run_distlock(*CALL, "--lock")
    done = run_distlock(*CALL, *noting(tmp_path), "--", "true")
    assert done.returncode == 0
    done = run_distlock(*CALL, noting(tmp_path)[0], "--lock")
    assert (done.returncode, events(tmp_path)) == (0, [])


def test_a_lock_that_is_not_acquired_has_no_event_and_leaves_no_process(
    run_distlock: Run, in_etcd: Etcd, tmp_path: Path, mark: str
) -> None:
    in_etcd.lock("x")
    assert run_distlock("--lock-name=x", *noting(tmp_path), "--nowait", "--", "true").returncode == 1
    done = run_distlock("--lock-name=y", *noting(tmp_path), "--", "/no/such")
    assert done.returncode == 3
    assert events(tmp_path) == ["acquired", "released"]  # of y
    assert noted(tmp_path, "released")["DISTLOCK_EXIT_CODE"] == "3"


def test_steps_have_their_hooks(run_distlock: Run, tmp_path: Path) -> None:
    acquired, _, released = noting(tmp_path)
    done = run_distlock(*CALL, "--lock", acquired, "--json")
    token = json.loads(one_line(done.stdout))["locks"][0]["token"]
    assert noted(tmp_path, "acquired")["DISTLOCK_TOKEN"] == str(token)
    assert run_distlock(*CALL, "--unlock", released).returncode == 0
    found = noted(tmp_path, "released")
    assert (found["DISTLOCK_OUTCOME"], found["DISTLOCK_OWNER"], found["DISTLOCK_TOKEN"]) == (
        "released",
        "me",
        str(token),
    )
    assert "DISTLOCK_EXIT_CODE" not in found
    # Of another's hold too, if asked to; but what file and environment have is for locks to be acquired.
    run_distlock(*CALL, "--lock")
    (tmp_path / "released").unlink()
    assert run_distlock("--lock-name=x", "--unlock", env={"DISTLOCK_ON_RELEASED": released[14:]}).returncode == 0
    assert not (tmp_path / "released").exists()
    run_distlock(*CALL, "--lock")
    assert run_distlock("--lock-name=x", "--unlock", "--cooldown=60", released).returncode == 0
    assert noted(tmp_path, "released")["DISTLOCK_OUTCOME"] == "cooling"


def test_hooks_come_from_file_and_environment_too(run_distlock: Run, tmp_path: Path) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("on_acquired: echo from the file\nhook_timeout: 5\n")
    env = {"DISTLOCK_ON_RELEASED": "echo from the environment", "DISTLOCK_CONFIG": str(config)}
    done = run_distlock("--lock-name=x", "--", "sh", "-c", "env | grep -c DISTLOCK_ON_; env | grep -c HOOK", env=env)
    assert (done.stdout, done.stderr) == ("0\n0\n", "from the file\nfrom the environment\n")


def test_no_setting_of_this_call_reaches_a_distlock_in_the_command() -> None:
    assert {"ON_ACQUIRED", "ON_LOST", "ON_RELEASED", "HOOK_TIMEOUT"} < set(FOR_THIS_CALL)
    assert len(set(HOOK_FACTS)) == len(HOOK_FACTS)


def test_the_page_names_every_variable_and_its_example_runs(distlock_env: dict[str, str], tmp_path: Path) -> None:
    page = (ROOT / "docs/cli.md").read_text()
    section = page.partition("\n## Hooks\n")[2].partition("\n## ")[0]
    rows = [
        name for row in re.findall(r"^\| (`DISTLOCK_.*?) \|", section, re.MULTILINE) for name in re.findall(r"\w+", row)
    ]
    assert sorted(rows) == sorted((*HOOK_FACTS, TOKEN, HELD, LEASE))
    (example,) = re.findall(r"```sh\n(export .*?)```", section, re.DOTALL)
    for name in ("logger", "upgrade"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@" >&2\n')
        (tmp_path / name).chmod(0o755)
    line = with_stand_ins(example, ("/usr/local/sbin/upgrade", f"{tmp_path}/upgrade"))
    env = {**distlock_env, "PATH": f"{tmp_path}:{os.path.dirname(DISTLOCK)}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=BOUND, check=True)
    owner = socket.gethostname()
    assert sorted(done.stderr.split("\n")[:-1]) == [
        "",
        f"-t rollout {owner} is done: 0",
        f"-t rollout {owner} upgrades web",
    ]


# What goes wrong in a hook.


def test_a_hook_that_fails_is_a_warning_and_changes_nothing_else(run_distlock: Run, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    words = [f"--on-acquired={tmp_path}/program", "--on-released=kill -9 $$"]
    done = run_distlock("--lock-name=x", *words, "--", "sh", "-c", "exit 5")
    assert done.returncode == 5
    said = [line for line in done.stderr.splitlines() if line.startswith("distlock: ")]
    assert said == [
        "distlock: warning: x: on_acquired: exit code 126: a program that it names is not there, or cannot be executed",
        "distlock: warning: x: on_released: signal 9 has ended it",
    ]
    done = run_distlock("--lock-name=x", "--on-acquired=exit 3", "--on-released=/no/such 2>&-", "--json", "--", "true")
    warnings = [json.loads(line)["warning"]["message"] for line in done.stderr.splitlines()]
    assert (done.returncode, warnings[0]) == (0, "x: on_acquired: exit code 3")
    assert warnings[1].startswith("x: on_released: exit code 127: a program that it names is not there")
    done = run_distlock("--lock-name=x", "--on-acquired=exit 3", "--quiet", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_hook_that_hangs_delays_no_release_and_is_ended_at_its_time(
    spawn_distlock: Spawn, in_etcd: Etcd, tmp_path: Path, mark: str
) -> None:
    words = [f"--on-acquired={hangs(tmp_path)}", "--hook-timeout=3", "--on-released=echo released"]
    process = spawn_distlock("--lock-name=x", *words, "--", "echo", "ran")
    hook, deaf = pids_of_hook(tmp_path)
    wait_until(lambda: in_etcd.keys() == [], "the release")
    assert is_running(hook)  # so the release has not waited
    assert process.stdout.read() == "ran\n"
    began = time.monotonic()
    assert process.wait(BOUND) == 0
    assert time.monotonic() - began < 3 + 4
    assert not is_running(hook)
    assert not is_running(deaf)
    said = process.stderr.read()
    assert "x: on_acquired: it has not ended within 3s, and was ended" in said
    assert said.endswith("released\n")  # the hook of the release comes after that of the acquisition


def test_what_a_hook_leaves_in_its_group_is_ended_with_it(run_distlock: Run, tmp_path: Path, mark: str) -> None:
    left = f"sleep 60 & echo $! > {tmp_path}/left; (setsid sleep 0.2 && echo later > {tmp_path}/daemon) & sleep 0.1"
    done = run_distlock("--lock-name=x", f"--on-released={left}", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: not is_running(pid_in(tmp_path / "left")), "the end of the rest of its group")


def test_a_hook_that_writes_without_a_reader_delays_no_release(
    spawn_distlock: Spawn, run_distlock: Run, in_etcd: Etcd, mark: str
) -> None:
    done = run_distlock("--lock-name=x", "--on-acquired=head -c 300000 /dev/zero | tr '\\0' x", "--", "true")
    assert (done.returncode, len(done.stderr)) == (0, 300_000)
    process = spawn_distlock("--lock-name=x", "--on-acquired=yes", "--hook-timeout=1", "--", "true")
    wait_until(lambda: process.poll() is not None, "the end of distlock")  # nobody has read its stderr
    assert process.returncode == 0
    in_etcd.assert_nothing_left()


def test_a_hook_has_no_descriptor_of_distlock_or_of_its_caller(spawn_distlock: Spawn, tmp_path: Path) -> None:
    """It has neither a connection to etcd nor the pipe of another program, which it would keep open."""
    reader, writer = os.pipe()
    look = "for n in /proc/self/fd/*; do echo ${n##*/}; done"
    process = spawn_distlock(
        "--lock-name=x", "--ttl=30", f"--on-acquired={look}", f"--on-released={look}; ps -o pgid=,sid= -p $$",
        "--", "sh", "-c", look, pass_fds=[writer],
    )  # fmt: skip
    os.close(writer)
    assert process.wait(BOUND) == 0
    os.close(reader)
    assert str(writer) in process.stdout.read().split()
    *shown, group, session = process.stderr.read().split()
    assert set(shown) <= {"0", "1", "2", "3"}  # 3: that of the listing itself
    assert str(process.pid) not in (group, session)  # so Ctrl-C does not reach it


def test_a_signal_to_all_of_a_service_ends_no_hook_that_is_still_to_run(
    spawn_distlock: Spawn, tmp_path: Path, mark: str
) -> None:
    """As systemd's KillMode=control-group sends it, to the processes that wait to run a hook, too."""
    process = spawn_distlock(
        "--lock-name=x", "--on-acquired=echo $PPID", "--on-released=echo released", "--", "sleep", "60"
    )
    served = int(process.stderr.readline())

    def waiting() -> set[int]:
        """Whatever is around but distlock, its command, and the process of the hook that has run."""
        around = {path.parent for path in Path("/proc").glob("[0-9]*/environ") if _has(path, mark)}
        names = {int(folder.name): _read(folder / "cmdline") for folder in around}
        return {pid for pid, name in names.items() if not name.startswith(b"sleep")} - {process.pid, served}

    (pid,) = wait_until(lambda: found if len(found := waiting()) == 1 else None, "the start of the command")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    assert process.stderr.read() == "released\n"


@pytest.mark.parametrize("event", ["acquired", "released"])
def test_a_signal_ends_the_wait_for_a_hook(
    spawn_distlock: Spawn, in_etcd: Etcd, tmp_path: Path, mark: str, event: str
) -> None:
    process = spawn_distlock(
        "--lock-name=x", f"--on-{event}={hangs(tmp_path)}", "--hook-timeout=60", "--", "sh", "-c", "exit 6"
    )
    pids = pids_of_hook(tmp_path)
    wait_until(lambda: in_etcd.keys() == [], "the release")
    while process.poll() is None:  # one that comes while distlock still releases is not meant for the hook
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert process.wait(BOUND) == 6
    assert f"x: on_{event}: SIGINT has ended it" in one_line(process.stderr.read())
    assert not any(map(is_running, pids))


def test_a_hook_ends_with_a_distlock_that_is_killed(spawn_distlock: Spawn, tmp_path: Path, mark: str) -> None:
    process = spawn_distlock("--lock-name=x", "--ttl=2", f"--on-acquired={hangs(tmp_path)}", "--", "sleep", "60")
    pids = pids_of_hook(tmp_path)
    process.kill()
    process.wait(BOUND)
    wait_until(lambda: not any(map(is_running, pids)), "the end of the hook")


# A loss.


def test_a_hanging_hook_delays_no_kill(spawn_distlock: Spawn, proxy: Proxy, tmp_path: Path, mark: str) -> None:
    """Cut off from etcd: the whole tree is dead before the next holder starts, and the hook runs meanwhile."""
    with growing_tree(tmp_path / "tree") as tree:
        lost = f"--on-lost=echo $DISTLOCK_LOSS > {tmp_path}/loss; {hangs(tmp_path)}"
        words = ("--lock-name=x", "--ttl=5", "--refresh=0.8", "--kill-after=2.5", lost, "--hook-timeout=30")
        process = spawn_distlock(*words, "--", *tree.command(), env={"DISTLOCK_ENDPOINTS": proxy.url})
        tree.until_ready(process)
        follower = Next(spawn_distlock(*Next.command("x")))
        proxy.blackhole()
        hook, _ = pids_of_hook(tmp_path)
        assert tree.living() != []  # it is asked to end, and ignores that
        started = follower.started()
        assert started > tree.last_sign_of_life()
        assert tree.living() == []
        assert is_running(hook)
        assert (tmp_path / "loss").read_text().startswith("etcd has confirmed no renewal for ")
        wait_until(lambda: _ends(process), "the end of distlock")
        assert process.returncode == LOST
        assert not is_running(hook)


def _ends(process: Process) -> bool:
    process.send_signal(signal.SIGTERM)  # which ends the hook, once distlock waits for nothing else
    return process.poll() is not None


def test_no_release_is_told_of_while_etcd_is_away(spawn_distlock: Spawn, proxy: Proxy, tmp_path: Path) -> None:
    there = {"DISTLOCK_ENDPOINTS": proxy.url}
    words = [*noting(tmp_path), "--release-timeout=0.3"]
    process = spawn_distlock(
        "--lock-name=x", *words, "--", "sh", "-c", "echo in; read line", env=there, stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == "in\n"
    proxy.cut()
    process.stdin.close()
    assert process.wait(BOUND) == 1
    assert "may still be locked" in process.stderr.read()
    assert events(tmp_path) == ["acquired"]


def test_the_keeper_has_hooks(run_distlock: Run, tmp_path: Path, in_etcd: Etcd) -> None:
    """When its process ends, and when the lock of its process is lost."""
    acquired, lost, released = noting(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as first, subprocess.Popen(["sleep", "60"]) as second:
        words = ["--lock", "--ttl=30", lost, released, "--on-loss=kill"]
        done = run_distlock(*CALL, *words, acquired, f"--while-pid={first.pid}")
        assert (done.returncode, done.stderr) == (0, "")
        token = noted(tmp_path, "acquired")["DISTLOCK_TOKEN"]
        first.kill()
        first.wait()
        wait_until((tmp_path / "released").exists, "the hook of the release")
        assert events(tmp_path) == ["acquired", "released"]
        found = noted(tmp_path, "released")
        assert (found["DISTLOCK_OUTCOME"], found["DISTLOCK_TOKEN"]) == ("released", token)
        log = tmp_path / "log"
        failing = f"{lost[10:]}; echo trouble; exit 9"
        done = run_distlock(
            *CALL,
            *words[:2],
            f"--on-lost={failing}",
            "--on-loss=kill",
            f"--log-file={log}",
            f"--while-pid={second.pid}",
        )
        assert done.returncode == 0
        run_distlock("--break", "--lock-name=x", "--id=ops", "--reason=look", "--yes")
        second.wait(BOUND)
        wait_until(lambda: "on_lost" in log.read_text(), "the line in the log")
        assert noted(tmp_path, "lost")["DISTLOCK_LOSS"].startswith("it was broken by ops")
        assert "WARNING x: on_lost: exit code 9: trouble\n" in log.read_text()
    wait_until(lambda: in_etcd.keys() == [], "the end of the keeper's hold")


def test_a_keeper_starts_no_hook_before_it_has_asked_the_process_to_end() -> None:
    process = subprocess.Popen(["sleep", "60"])
    codes: list[int | None] = []

    def begun() -> None:
        codes.append(process.wait(BOUND))  # nothing but the SIGTERM before ends it

    assert end_tree(process.pid, 30, now() + 60, begun) == ()
    assert codes == [-signal.SIGTERM]


def test_facts_that_fit_no_pipe_are_told_of_at_once() -> None:
    """The process of the hook must not wait for the rest of them until the hook's time is over."""
    code = (
        "import time\n"
        "from distlock_core.command.hook_process import HookProcess\n"
        "hook, began = HookProcess('echo started', 60), time.monotonic()\n"
        "hook.start({'A': 'x' * 5_000_000})\n"
        "print(hook.wait(), time.monotonic() - began < 30)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert (done.stdout, done.stderr) == ("its process was ended True\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--hook-timeout=5", "--", "true"],
            "--hook-timeout is about a hook: it goes with --on-acquired, --on-lost or",
        ),
        (["--lock", "--on-lost=true"], "--on-lost goes with -- COMMAND or --while-pid: nothing looks after this lock"),
        (
            ["--lock", "--on-released=true"],
            "--on-released goes with -- COMMAND or --while-pid, or with the --unlock of",
        ),
        (["--break", "--on-released=true"], "--on-released goes with -- COMMAND, --lock or --unlock"),
        (["--on-lost= ", "--", "true"], "option --on-lost: expected a line of shell"),
    ],
)
def test_a_hook_that_could_not_run_is_refused(run_distlock: Run, words: list[str], said: str) -> None:
    done = run_distlock("--lock-name=x", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in one_line(done.stderr)


def test_hooks_cost_no_request(run_distlock: Run, proxy: Proxy) -> None:
    def asked(*words: str) -> int:
        before = len(proxy.wait_for_requests(TXN, 0))
        assert (
            run_distlock("--lock-name=x", *words, "--", "true", env={"DISTLOCK_ENDPOINTS": proxy.url}).returncode == 0
        )
        return len(proxy.wait_for_requests(TXN, 0)) - before

    plain = asked()
    assert asked("--on-acquired=true", "--on-lost=true", "--on-released=true") == plain > 0
