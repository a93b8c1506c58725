"""All that a command has started: found, ended in time, waited for, and still while its lock is not renewed."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distlock_core.testing import Proxy
from tests.support.etcd_view import Etcd
from tests.support.lease_view import DISTLOCK, Run
from tests.support.process_trees import LOST, STAMP, Next, Spawn, Tree, figure, finish, growing_tree
from tests.support.processes import (
    BOUND,
    Output,
    Process,
    is_running,
    is_stopped,
    pause,
    python,
    status_of,
    wait_until,
)

LEASED = ("--lock-name=x", "--ttl=30")
CUT_OFF = ("--lock-name=x", "--ttl=8", "--refresh=0.8", "--kill-after=3")
# The command is asked to end 3 s after the last renewal, which is at most 0.8 s before the cut.
CROWD_CUT_OFF = ("--lock-name=x", "--ttl=6", "--refresh=0.8", "--kill-after=3")
CALM = 1.5  # seconds after the cut until a crowd takes the cores from everybody
NOT_KILLABLE = 3

# N processes that note their last sign of life in shared memory, and ignore SIGTERM. Once the file "go" is there, some
# work without a pause, and a few more fork and exit without end, each in a new session. All of them end when the file
# "end" is there, and after a minute in any case.
CROWD = """
import mmap, os, signal, struct, sys, time
folder, many, hydras, busy = sys.argv[1], *map(int, sys.argv[2:])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
page = open(os.path.join(folder, "life"), "w+b")
page.truncate(8 * (many + hydras))
life = mmap.mmap(page.fileno(), 0)
stop, go, end = os.path.join(folder, "end"), os.path.join(folder, "go"), time.monotonic() + 60

def live(number):
    struct.pack_into("d", life, 8 * number, time.clock_gettime(time.CLOCK_BOOTTIME))
    if os.path.exists(stop) or time.monotonic() > end:
        os._exit(0)

for number in range(many):
    if os.fork() == 0:
        while True:
            live(number)
            if number >= busy or not os.path.exists(go):
                time.sleep(0.25)
for number in range(many, many + hydras):
    if os.fork() == 0:
        while not os.path.exists(go):
            live(number)
            time.sleep(0.25)
        while True:
            live(number)
            if os.fork():
                os._exit(0)
            os.setsid()
print("crowd", os.getpid(), flush=True)
while True:
    live(0)
    time.sleep(0.25)
"""
# Its first thread ends, another one goes on and ignores SIGTERM: to /proc it is a zombie.
HEADLESS = """
import ctypes, os, signal, sys, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def go_on():
    print("pid", os.getpid(), flush=True)
    time.sleep(300)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit, of this thread alone
"""
# Starts a child in a new session, prints both pids, and ends as set by the first argument.
LEAVES_A_CHILD = """
import os, signal, sys
child = os.fork()
if child == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
    while True:
        signal.pause()
if sys.argv[1] == "traps":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("pids", os.getpid(), child, flush=True)
while True:
    signal.pause()
"""
# Leaves a daemon that ends when its stdin does, or at SIGTERM.
LEAVES_A_DAEMON = 'exec 3<&0; (setsid sh -c "echo pid \\$\\$; read line <&3") & sleep 0.3; exit 7'


class Crowd:
    def __init__(self, folder: Path, many: int, hydras: int, busy: int) -> None:
        folder.mkdir()
        self._folder = folder
        self.command = python(CROWD, str(folder), str(many), str(hydras), str(busy))

    def get_busy(self) -> None:
        (self._folder / "go").touch()

    def last_sign_of_life(self) -> float:
        data = (self._folder / "life").read_bytes()
        return max(map(float, struct.unpack(f"{len(data) // 8}d", data)))


@contextmanager
def crowd(folder: Path, many: int, hydras: int, busy: int) -> Iterator[Crowd]:
    try:
        yield Crowd(folder, many, hydras, busy)
    finally:
        (folder / "end").touch()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with growing_tree(tmp_path / "tree") as tree:
        yield tree


def pids_of(process: Process) -> list[int]:
    return [int(pid) for pid in Output(process.stdout).until(r"pids (\d+ \d+)\n").group(1).split()]


# Killed in time, however large, and however fast it changes.


@pytest.mark.parametrize(
    ("many", "hydras", "busy", "may_take_precedence"),
    [(2000, 0, 100, True), (20, 3, 0, True), (1000, 0, 100, False), (20, 3, 0, False)],
    ids=[
        "2000 processes, 100 of them busy",
        "some that fork and exit",
        "1000 of an ordinary user, 100 of them busy",
        "some of an ordinary user that fork and exit",
    ],
)
def test_a_large_or_restless_tree_is_dead_before_the_next_one_starts(
    spawn_distlock: Spawn,
    proxy: Proxy,
    in_etcd: Etcd,
    tmp_path: Path,
    many: int,
    hydras: int,
    busy: int,
    may_take_precedence: bool,
) -> None:
    if may_take_precedence and os.geteuid() != 0:
        pytest.skip("only root may raise its priority")
    with crowd(tmp_path / "crowd", many, hydras, busy) as all_of_it:
        command = (DISTLOCK, *CROWD_CUT_OFF, "--", *all_of_it.command)
        if os.geteuid() == 0 and not may_take_precedence:
            command = ("setpriv", "--bounding-set=-sys_nice", *command)
        process = spawn_distlock(*command[1:], command=command[0], env={"DISTLOCK_ENDPOINTS": proxy.url})
        Output(process.stdout).until("crowd")
        follower = Next(spawn_distlock(*Next.command("x")))
        proxy.blackhole()
        pause(CALM)
        all_of_it.get_busy()
        started = follower.started()
        last = all_of_it.last_sign_of_life()
        code, said = finish(process)
        user = "root" if may_take_precedence else "an ordinary user"
        figure(
            f"{many} processes, {hydras} restless, {user}: from the last sign of life to the next start", started - last
        )
        assert code == LOST, said
        assert last < started
        assert all_of_it.last_sign_of_life() == last  # no process has escaped


def test_a_process_whose_first_thread_has_ended_is_alive_and_is_killed(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(
        *LEASED, "--kill-after=0.5", "--", "sh", "-c", '"$@" & wait; sleep 300', "-", *python(HEADLESS)
    )
    headless = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    wait_until(lambda: status_of(headless)["State"].startswith("Z"), "the end of its first thread")
    in_etcd.unlock("x")
    code, said = finish(process)
    assert code == LOST, said
    wait_until(
        lambda: not os.path.exists(f"/proc/{headless}/task") or len(os.listdir(f"/proc/{headless}/task")) < 2, "dead"
    )


# Ended from outside.


@pytest.mark.parametrize("how", ["signal to distlock", "signal to the command", "deaf", "traps"])
def test_ending_a_leased_command_ends_its_descendants_before_the_release(
    spawn_distlock: Spawn, in_etcd: Etcd, how: str
) -> None:
    process = spawn_distlock(*LEASED, "--kill-after=0.5", "--", *python(LEAVES_A_CHILD, how))
    command, child = pids_of(process)
    if how == "signal to the command":
        os.kill(command, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM if how == "traps" else signal.SIGUSR1)
    wait_until(lambda: in_etcd.keys() == [], "let go")
    assert not is_running(child)  # and not before
    expected = {"traps": 0, "signal to the command": 128 + signal.SIGKILL}
    assert finish(process) == (expected.get(how, 128 + signal.SIGUSR1), "")
    in_etcd.assert_nothing_left()


def test_a_reload_by_a_signal_is_no_end_from_outside(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    script = "trap 'echo again' HUP; setsid sleep 300 <&- >&- 2>&- & echo pids $$ $!; read x; read x; exit 0"
    process = spawn_distlock(*LEASED, "--", "sh", "-c", script, stdin=subprocess.PIPE)
    out = Output(process.stdout)
    daemon = int(out.until(r"pids \d+ (\d+)\n").group(1))
    try:
        process.send_signal(signal.SIGHUP)
        out.until("again")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(BOUND) == 0
        assert is_running(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)


# --wait-for=tree.


@pytest.mark.parametrize("lifetime", [[], ["--ttl=30"]], ids=["persistent", "leased"])
def test_a_lock_can_be_held_until_the_last_descendant_has_ended(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: list[str]
) -> None:
    options = ("--lock-name=x", *lifetime, "--wait-for=tree")
    process = spawn_distlock(*options, "--", "sh", "-c", LEAVES_A_DAEMON, stdin=subprocess.PIPE)
    daemon = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    wait_until(lambda: status_of(daemon)["PPid"] == str(process.pid), "distlock has taken it over")
    assert process.poll() is None
    assert in_etcd.keys() == ["x"]
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(BOUND) == 7
    in_etcd.assert_nothing_left()


def test_a_signal_ends_descendants_that_are_waited_for(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    process = spawn_distlock(
        "--lock-name=x", "--wait-for=tree", "--", "sh", "-c", LEAVES_A_DAEMON, stdin=subprocess.PIPE
    )
    daemon = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    wait_until(lambda: status_of(daemon)["PPid"] == str(process.pid), "distlock has taken it over")
    process.terminate()
    assert process.wait(BOUND) == 7
    assert not is_running(daemon)
    in_etcd.assert_nothing_left()


def test_a_loss_ends_descendants_that_are_waited_for(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    options = (*LEASED, "--wait-for=tree", "--kill-after=0.5")
    process = spawn_distlock(*options, "--", "sh", "-c", LEAVES_A_DAEMON, stdin=subprocess.PIPE)
    daemon = int(Output(process.stdout).until(r"pid (\d+)\n").group(1))
    wait_until(lambda: status_of(daemon)["PPid"] == str(process.pid), "distlock has taken it over")
    in_etcd.unlock("x")
    code, said = finish(process)
    assert code == LOST
    assert "the lock was lost" in said
    assert not is_running(daemon)


# Stopped with the terminal's job.


def test_nothing_of_a_leased_tree_runs_while_distlock_is_stopped_with_its_command(
    spawn_distlock: Spawn, in_etcd: Etcd, tree: Tree
) -> None:
    # In a separate session a stopped job would never be continued, so SIGTSTP does nothing there: run it in a shell.
    script = 'set -m; "$@" & echo job $!; while read word; do kill -"$word" %1; done; wait'
    options = (*CUT_OFF, "--", *tree.command(kind=True))
    process = spawn_distlock("-c", script, "-", DISTLOCK, *options, command="/bin/bash", stdin=subprocess.PIPE)
    distlock = int(Output(process.stdout).until(r"job (\d+)\n").group(1))
    wait_until(lambda: len(tree.pids()) == 3, "three signs of life")
    assert process.stdin is not None
    os.kill(distlock, signal.SIGTSTP)
    wait_until(lambda: is_stopped(distlock), "distlock stopped")
    # A process that waits for a processor shows as running until it gets one: its first step then is to stop.
    wait_until(lambda: all(map(is_stopped, tree.pids())), "the tree stopped")
    os.kill(distlock, signal.SIGCONT)
    wait_until(lambda: not any(map(is_stopped, tree.pids())), "all of it goes on")
    assert in_etcd.keys() == ["x"]
    os.kill(distlock, signal.SIGTSTP)
    wait_until(lambda: is_stopped(distlock), "distlock stopped again")
    last = tree.last_sign_of_life()
    follower = spawn_distlock("--lock-name=x", "--", *STAMP)
    started = Next.stamp(follower)  # the lease has run out meanwhile
    assert tree.last_sign_of_life() == last < started
    os.kill(distlock, signal.SIGCONT)
    wait_until(lambda: not tree.living(), "killed on waking")
    process.stdin.close()


# Started in time.

STOPPED_BEFORE_EXEC = """
import os, signal, sys
from distlock_core.process import table
mark = table.die_with_parent
def stop_then_mark(parent):
    mark(parent)
    print("stopped", os.getpid(), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
table.die_with_parent = stop_then_mark
from distlock_core.cli.distlock import main
sys.exit(main())
"""


@pytest.mark.parametrize("both", [True, False], ids=["distlock too", "the child alone"])
def test_a_child_that_was_stopped_right_before_it_becomes_the_command_does_not_after_the_ttl(
    spawn_distlock: Spawn, in_etcd: Etcd, both: bool
) -> None:
    options = ("--lock-name=x", "--ttl=3")
    process = spawn_distlock("-c", STOPPED_BEFORE_EXEC, *options, "--", "echo", "ran", command=sys.executable)
    out = Output(process.stdout)
    child = int(out.until(r"stopped (\d+)\n").group(1))
    wait_until(lambda: is_stopped(child), "stopped")
    if both:
        process.send_signal(signal.SIGSTOP)
    follower = spawn_distlock("--lock-name=x", "--", *STAMP)
    Next.stamp(follower)  # the lease has run out
    if both:
        os.kill(child, signal.SIGCONT)
        process.send_signal(signal.SIGCONT)
    code, said = finish(process)
    assert code == LOST, said
    assert "nothing was started" in said
    assert "ran" not in out.all()


# A script that names no interpreter.


@pytest.mark.parametrize("lifetime", [[], ["--ttl=30"]], ids=["persistent", "leased"])
@pytest.mark.parametrize("by_path", [True, False], ids=["by its path", "found in PATH"])
def test_a_script_without_an_interpreter_is_run_by_the_shell(
    run_distlock: Run, tmp_path: Path, lifetime: list[str], by_path: bool
) -> None:
    script = tmp_path / "upgrade"
    script.write_text('echo "$0 $1"; exit 7\n')
    script.chmod(0o755)
    env = {"PATH": f"/nonexistent:{tmp_path}:{os.environ['PATH']}"}
    word = str(script) if by_path else "upgrade"
    done = run_distlock("--lock-name=x", *lifetime, "--", word, "a b", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{script} a b\n", "")


@pytest.mark.parametrize("lifetime", [[], ["--ttl=30"]], ids=["persistent", "leased"])
@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [(b"\x7fELF\0\0not for this machine", 0o755, "Exec format error"), (b"echo ran", 0o644, "Permission denied")],
    ids=["a strange binary", "not executable"],
)
def test_a_file_that_is_no_script_is_not_run_by_the_shell(
    run_distlock: Run, in_etcd: Etcd, tmp_path: Path, lifetime: list[str], content: bytes, mode: int, why: str
) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(mode)
    for env, word in (({}, str(program)), ({"PATH": f"{tmp_path}:/nonexistent"}, "program")):
        done = run_distlock("--lock-name=x", *lifetime, "--", word, env=env)
        assert (done.returncode, done.stdout) == (3, "")
        assert re.fullmatch(f"distlock: cannot start .*program: {why}\n", done.stderr)
        in_etcd.assert_nothing_left()
