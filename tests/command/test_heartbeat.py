"""Signs of life over systemd's protocol: a command that stops sending them is ended, even if it resists."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests.support.lease_view import BOUND, Seen, line_of, lives, one_line, python
from tests.support.processes import Output, Process

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
HUNG = 4

# sd_notify, as in any program: `tell("WATCHDOG=1")`.
NOTIFY = """
import os, signal, socket, sys, time
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = os.environ["NOTIFY_SOCKET"]
manager.connect("\\0" + name[1:] if name.startswith("@") else name)
def tell(*lines):
    manager.send("\\n".join(lines).encode())
"""
BEATING = """
for _ in range(int(sys.argv[1])):
    tell("WATCHDOG=1")
    time.sleep(0.1)
sys.exit(7)
"""
# Says its pid, and one more time that it lives; then it hangs, and so does a child of its, outside of its group.
HANGING = """
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setsid()
else:
    print(os.getpid(), child, flush=True)
    tell("WATCHDOG=1")
while True:
    time.sleep(60)
"""


def program(code: str, *arguments: str) -> list[str]:
    return ["--", *python(NOTIFY + code, *arguments)]


@pytest.fixture(params=[[], ["--ttl=20"]], ids=["persistent", "leased"])
def lifetime(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    return words


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager around distlock: its NOTIFY_SOCKET, and what comes out of it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@distlock-test/{os.urandom(6).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(BOUND)
        yield name, listener


# Alive.


def test_a_command_that_shows_life_in_time_lives_as_long_as_it_likes(
    run_distlock: Run, seen: Seen, lifetime: list[str]
) -> None:
    done = run_distlock("--lock-name=x", "--heartbeat=3", *lifetime, *program(BEATING, "40"))
    assert (done.returncode, done.stderr) == (7, "")
    seen.assert_nothing_left()


def test_the_command_finds_what_sd_notify_needs_in_its_environment(run_distlock: Run) -> None:
    show = "for name in ('NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'): print(os.environ.get(name))"
    # Those that a service manager has set are about distlock: sd_watchdog_enabled() is off under another's pid.
    outer = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    done = run_distlock("--lock-name=x", "--heartbeat=2.5", *program(show), env=outer)
    name, period, pid = done.stdout.splitlines()
    folder = os.path.dirname(name)
    assert os.path.isabs(folder)
    assert not os.path.exists(folder)  # and nothing is left of it
    assert (period, pid) == ("2500000", "None")


def test_without_a_heartbeat_the_managers_variables_are_left_alone(run_distlock: Run) -> None:
    outer = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    done = run_distlock("--lock-name=x", "--", "printenv", *outer, env=outer)
    assert done.stdout.split() == list(outer.values())


def test_all_but_the_watchdog_is_passed_on_to_the_manager_around_distlock(
    run_distlock: Run, manager: tuple[str, socket.socket]
) -> None:
    name, listener = manager
    code = """
tell("READY=1", "STATUS=at work: \\u00fc")
tell("WATCHDOG=1")
tell("BARRIER=1")
tell("STATUS=done", "WATCHDOG=1", "X_MINE=a=b")
"""
    done = run_distlock("--lock-name=x", "--heartbeat=20", *program(code), env={"NOTIFY_SOCKET": name})
    assert (done.returncode, done.stderr) == (0, "")
    assert listener.recv(4096).decode() == "READY=1\nSTATUS=at work: \u00fc"
    assert listener.recv(4096).decode() == "STATUS=done\nX_MINE=a=b"
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)


def test_a_manager_that_does_not_listen_does_not_disturb_the_command(run_distlock: Run) -> None:
    gone = {"NOTIFY_SOCKET": "/nonexistent/notify"}
    done = run_distlock("--lock-name=x", "--heartbeat=20", *program("tell('READY=1')"), env=gone)
    assert (done.returncode, done.stderr) == (0, "")


def test_many_messages_do_not_block_the_sender(run_distlock: Run) -> None:
    code = "manager.settimeout(20)\nfor n in range(5000): tell('WATCHDOG=1')\nprint('all')"
    done = run_distlock("--lock-name=x", "--heartbeat=20", *program(code))
    assert (done.returncode, done.stdout) == (0, "all\n")


def test_a_flood_of_messages_keeps_distlock_from_nothing(spawn_distlock: Spawn, seen: Seen) -> None:
    flood = """
for _ in range(3):
    os.fork()
print("flooding", flush=True)
while True:
    tell("WATCHDOG=1")
"""
    flooded = spawn_distlock("--lock-name=x", "--heartbeat=20", *program(flood))
    assert line_of(flooded) == "flooding"
    flooded.terminate()
    try:
        assert flooded.wait(BOUND) == 128 + signal.SIGTERM
    finally:
        # distlock leaves the others alone. Those that find its socket gone end by themselves, all of them on some days.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(flooded.pid, signal.SIGKILL)
    assert seen.keys() == []


def test_a_last_sign_of_life_right_before_the_end_does_no_harm(run_distlock: Run, seen: Seen) -> None:
    code = "for _ in range(9): tell('WATCHDOG=1')\nos._exit(7)"
    for _ in range(8):
        assert run_distlock("--lock-name=x", "--heartbeat=20", *program(code)).returncode == 7
    seen.assert_nothing_left()


def test_systemd_notify_is_understood(run_distlock: Run, need: Callable[..., str]) -> None:
    notify = need("systemd-notify", install="apt-get install systemd")
    script = f"for n in 1 2 3 4 5 6 7 8; do {notify} WATCHDOG=1 && sleep 0.5; done; exit 7"
    done = run_distlock("--lock-name=x", "--heartbeat=3", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (7, "")


# Who is heard.

# Waits until it may end, and prints how it is reached.
OPEN = """
print(os.environ["NOTIFY_SOCKET"], flush=True)
sys.stdin.readline()
"""
AS_STRANGER = """
import os, socket, sys
os.setgid(60123)
os.setuid(60123)
stranger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
try:
    stranger.sendto(b"WATCHDOG=trigger", sys.argv[1])
except OSError as error:
    print(type(error).__name__)
print(sys.argv[1] in open("/proc/net/unix").read())
"""


def test_a_stranger_can_neither_end_a_command_nor_block_its_messages(spawn_distlock: Spawn) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    process = spawn_distlock("--lock-name=x", "--heartbeat=60", *program(OPEN), stdin=subprocess.PIPE)
    path = line_of(process)
    found = os.stat(os.path.dirname(path))
    assert (found.st_mode & 0o777, found.st_uid) == (0o700, os.getuid())
    done = subprocess.run(python(AS_STRANGER, path), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["PermissionError", "True"]  # though everybody can see the name
    process.stdin.close()
    assert process.wait(BOUND) == 0


def test_a_message_from_a_stranger_is_ignored(spawn_distlock: Spawn) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    process = spawn_distlock("--lock-name=x", "--heartbeat=60", *program(OPEN), stdin=subprocess.PIPE)
    path = line_of(process)
    os.chmod(os.path.dirname(path), 0o711)
    os.chmod(path, 0o777)
    done = subprocess.run(python(AS_STRANGER, path), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]  # sent
    process.stdin.close()
    assert process.wait(BOUND) == 0


def test_the_manager_receives_only_messages_of_descendants_and_no_mainpid(
    spawn_distlock: Spawn, manager: tuple[str, socket.socket]
) -> None:
    name, listener = manager
    env = {"NOTIFY_SOCKET": name}
    code = OPEN + "tell('MAINPID=1', 'NOTIFYACCESS=all', 'FDSTORE=1', 'FDNAME=x', 'STATUS=mine')"
    process = spawn_distlock("--lock-name=x", "--heartbeat=60", *program(code), env=env, stdin=subprocess.PIPE)
    path = line_of(process)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.sendto(b"STATUS=another's\nSTOPPING=1\nMAINPID=%d" % os.getpid(), path)
    process.stdin.close()
    assert process.wait(BOUND) == 0
    assert listener.recv(4096).decode() == "STATUS=mine"
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)


def test_a_socket_that_a_killed_distlock_has_left_is_removed_by_the_next_one(
    spawn_distlock: Spawn, run_distlock: Run
) -> None:
    process = spawn_distlock("--lock-name=x", "--heartbeat=60", "--ttl=5", *program(OPEN), stdin=subprocess.PIPE)
    folder = os.path.dirname(line_of(process))
    process.kill()
    process.wait(BOUND)
    assert os.path.exists(folder)
    assert run_distlock("--lock-name=y", "--heartbeat=60", "--", "true").returncode == 0
    assert not os.path.exists(folder)


# Hung.


def test_a_command_that_stops_showing_life_is_ended_and_its_lock_released(
    spawn_distlock: Spawn, seen: Seen, lifetime: list[str]
) -> None:
    process = spawn_distlock("--lock-name=x", "--heartbeat=0.5", *lifetime, *program(HANGING))
    pids = [int(word) for word in line_of(process).split()]
    _, said = process.communicate(timeout=BOUND)
    assert process.returncode == HUNG
    assert one_line(said) == "distlock: x: the command shows no life: no WATCHDOG=1 for 0.5s; it is ended"
    assert not any(map(lives, pids))
    seen.assert_nothing_left()


def test_a_command_that_never_shows_life_is_hung_as_well(run_distlock: Run, seen: Seen, lifetime: list[str]) -> None:
    done = run_distlock("--lock-name=x", "--heartbeat=0.5", *lifetime, "--", "sleep", "60")
    assert done.returncode == HUNG
    one_line(done.stderr)
    seen.assert_nothing_left()


def test_a_tree_that_ignores_sigterm_is_killed(spawn_distlock: Spawn, seen: Seen, lifetime: list[str]) -> None:
    options = ("--lock-name=x", "--heartbeat=0.5", "--kill-after=0.3")
    process = spawn_distlock(*options, *lifetime, *program(HANGING, "deaf"))
    pids = [int(word) for word in line_of(process).split()]
    try:
        assert process.wait(BOUND) == HUNG
        assert not any(map(lives, pids))
    finally:
        for pid in filter(lives, pids):
            os.kill(pid, signal.SIGKILL)
    seen.assert_nothing_left()


def test_a_command_may_report_that_it_hangs(run_distlock: Run, seen: Seen) -> None:
    done = run_distlock("--lock-name=x", "--heartbeat=60", *program("tell('WATCHDOG=trigger'); time.sleep(60)"))
    assert done.returncode == HUNG
    assert "it says itself that it hangs (WATCHDOG=trigger)" in one_line(done.stderr)
    seen.assert_nothing_left()


def test_a_hung_commands_lock_is_kept_on_request(run_distlock: Run, seen: Seen, lifetime: list[str]) -> None:
    done = run_distlock(
        "--lock-name=x", "--heartbeat=0.5", "--on-failure=keep", "--reason=upgrade", *lifetime, "--", "sleep", "60"
    )
    assert done.returncode == HUNG
    held = seen.held("x")
    assert held.lease == 0
    assert held.details["state"] == "kept"
    assert held.details["reason"].startswith("sleep showed no life on ")
    assert held.details["reason"].endswith(" (upgrade)")
    assert seen.new_leases() == set()


def test_a_command_that_runs_on_without_its_lock_still_has_its_heartbeat_read(
    spawn_distlock: Spawn, seen: Seen, lifetime: list[str]
) -> None:
    code = "\nprint('ready', flush=True)\nfor _ in range(40):\n    tell('WATCHDOG=1')\n    time.sleep(0.05)\n"
    process = spawn_distlock("--lock-name=x", "--heartbeat=20", "--on-loss=continue", *lifetime, *program(code))
    assert line_of(process) == "ready"
    seen.delete("x")
    _, said = process.communicate(timeout=BOUND)  # far more messages than a socket takes that nobody reads
    assert process.returncode == 2
    assert "RUNS ON WITHOUT ITS LOCK" in one_line(said)


def test_a_command_that_hangs_without_its_lock_is_still_ended(spawn_distlock: Spawn, seen: Seen) -> None:
    options = ("--lock-name=x", "--heartbeat=60", "--on-loss=continue")
    # It reports that it hangs, but not before the loss was reported.
    code = "print(os.getpid(), flush=True)\nsys.stdin.readline()\ntell('WATCHDOG=trigger')\ntime.sleep(60)"
    process = spawn_distlock(*options, *program(code), stdin=subprocess.PIPE)
    pids = [int(line_of(process))]
    seen.delete("x")
    err = Output(process.stderr)
    err.until("RUNS ON WITHOUT ITS LOCK")
    process.stdin.close()
    said = err.all()
    assert process.wait(BOUND) == 2  # a lost lock goes before all else
    assert "shows no life" in said
    assert not any(map(lives, pids))


def test_a_command_that_cleans_up_may_go_on_sending(run_distlock: Run, seen: Seen) -> None:
    code = """
def clean_up(*_):
    for _ in range(100):
        tell("STATUS=cleaning up")
    print("clean", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, clean_up)
tell("WATCHDOG=trigger")
time.sleep(60)
"""
    done = run_distlock("--lock-name=x", "--heartbeat=60", "--kill-after=20", *program(code))
    assert (done.returncode, done.stdout) == (HUNG, "clean\n")
    seen.assert_nothing_left()
