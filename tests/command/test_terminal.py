"""distlock at a terminal, with an interactive shell and job control: as without it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distlock_core.process.table import parent_of
from tests.support.etcd_view import Etcd
from tests.support.needs import need
from tests.support.processes import BOUND, is_running, is_stopped, python, wait_until, witness
from tests.support.pseudo_terminal import CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, Shell, Terminal

UNDER = "distlock --lock-name=x -- "
LONG = "sh -c 'echo pid $$; exec sleep 300'"
PID = r"pid (\d+)\n"

# Says the size of its terminal, now and whenever it changes.
TELLS_SIZE = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
while True:
    size = os.get_terminal_size(0)
    print(f"size {size.lines}x{size.columns}.", flush=True)
    signal.sigwait([signal.SIGWINCH])
"""
# Prints a file's name when a hang-up has come, where no terminal is left to print on.
NOTES_HANGUP = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
print("ready", flush=True)
signal.sigwait([signal.SIGHUP])
open(sys.argv[1], "w").close()
"""


@pytest.fixture
def at_terminal(distlock_env: dict[str, str]) -> dict[str, str]:
    return {**distlock_env, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}


@pytest.fixture
def shell(at_terminal: dict[str, str]) -> Iterator[Shell]:
    need("bash")
    shell = Shell(at_terminal)
    yield shell
    shell.close()


# Ctrl-C.


def test_ctrl_c_ends_the_command_and_releases(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}{LONG}\n")
    command = int(shell.until(PID))
    assert in_etcd.keys() == ["x"]
    shell.type(CTRL_C)
    assert shell.prompt() == 128 + signal.SIGINT
    assert not is_running(command)
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize(
    ("key", "name"),
    [(CTRL_C, "SIGINT"), (CTRL_BACKSLASH, "SIGQUIT"), (CTRL_Z, "SIGTSTP")],
    ids=["Ctrl-C", "Ctrl-backslash", "Ctrl-Z"],
)
def test_a_terminal_signal_reaches_a_command_that_handles_it_once(
    shell: Shell, in_etcd: Etcd, key: str, name: str
) -> None:
    shell.type(f"{UNDER}{shlex.join(witness(name))}\n")
    shell.until("ready\n")
    shell.type(key)
    shell.until(f"got {name}\n")
    os.kill(shell.foreground(), signal.SIGUSR2)
    assert shell.prompt() == 0
    assert shell.output.text.count("got ") == 2
    in_etcd.assert_nothing_left()


def test_a_command_that_handles_ctrl_c_continues(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"TERM=dumb {UNDER}{sys.executable} -I -q -i\n")
    shell.until(">>> ")
    shell.type(CTRL_C + "\n")  # a Python that is not reading yet notices it at the next line
    shell.until("KeyboardInterrupt")
    shell.until(">>> ")
    assert in_etcd.keys() == ["x"]
    shell.type("print(6 * 7)\n")
    shell.until("42")
    shell.type(CTRL_D)
    assert shell.prompt() == 0
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("waits", [False, True], ids=["running", "in line"])
def test_ctrl_c_ends_a_loop_around_it(shell: Shell, in_etcd: Etcd, waits: bool) -> None:
    if waits:
        in_etcd.lock("x")
    shell.type(f"for i in 1 2 3; do {UNDER}{LONG}; done\n")
    shell.until("waiting: " if waits else PID)
    shell.type(CTRL_C)
    assert shell.prompt() == 128 + signal.SIGINT
    assert in_etcd.keys() == (["x"] if waits else [])
    assert in_etcd.new_leases() == set()


def test_a_script_around_it_continues_when_the_command_has_chosen_its_exit_code(shell: Shell) -> None:
    shell.type(f"bash -c \"{UNDER}sh -c 'exit 130'; echo went on\"\n")
    shell.until("went on")


def test_ctrl_c_reaches_a_command_in_a_separate_process_group(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}timeout 300 {LONG}\n")
    shell.until(PID)
    shell.type(CTRL_C)
    assert shell.prompt() != 0
    in_etcd.assert_nothing_left()


def test_ctrl_backslash_ends_the_command_and_releases(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}sh -c 'ulimit -c 0; echo pid $$; exec sleep 300'\n")
    shell.until(PID)
    shell.type(CTRL_BACKSLASH)
    assert shell.prompt() == 128 + signal.SIGQUIT
    in_etcd.assert_nothing_left()


# Ctrl-Z.


def test_ctrl_z_suspends_the_job_and_fg_and_bg_go_on_with_it_under_the_lock(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}{LONG}\n")
    command = int(shell.until(PID))
    job = shell.foreground()
    shell.type(CTRL_Z)
    assert shell.prompt() == 128 + signal.SIGTSTP
    assert is_stopped(command)
    assert is_stopped(job)
    assert in_etcd.keys() == ["x"]
    assert shell.run("bg") == 0
    wait_until(lambda: not is_stopped(command) and not is_stopped(job), "both run in the background")
    assert in_etcd.keys() == ["x"]
    shell.fg(job)
    shell.type(CTRL_Z)
    assert shell.prompt() == 128 + signal.SIGTSTP
    shell.fg(job)
    wait_until(lambda: not is_stopped(command), "the command runs again")
    shell.type(CTRL_C)
    assert shell.prompt() == 128 + signal.SIGINT
    in_etcd.assert_nothing_left()


def test_a_command_that_ignores_ctrl_z_keeps_the_terminal(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}sh -c 'trap \"\" TSTP; echo ready; read x; echo got $x'\n")
    shell.until("ready\n")
    shell.type(CTRL_Z)
    shell.type("it\n")
    shell.until("got it\n")
    assert shell.prompt() == 0
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("name", ["TSTP", "STOP"])
def test_a_command_that_stops_itself_gives_the_shell_its_prompt(shell: Shell, in_etcd: Etcd, name: str) -> None:
    shell.type(f"{UNDER}sh -c 'kill -{name} $$; read x; echo got $x'\n")
    assert shell.prompt() > 128
    assert in_etcd.keys() == ["x"]
    shell.type("fg\n")
    shell.type("it\n")
    shell.until("got it\n")
    assert shell.prompt() == 0
    in_etcd.assert_nothing_left()


def test_a_job_suspended_in_the_queue_takes_its_turn_after_fg(shell: Shell, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    shell.type(f"{UNDER}expr 40 + 2\n")
    shell.until("waiting: ")
    job = shell.foreground()
    shell.type(CTRL_Z)
    assert shell.prompt() == 128 + signal.SIGTSTP
    in_etcd.unlock("x")
    shell.type("fg\n")
    shell.until("42\n")
    assert shell.prompt() == 0
    assert not is_running(job)
    in_etcd.assert_nothing_left()


def test_distlock_does_not_stop_with_a_command_without_a_shell_to_continue_it(
    at_terminal: dict[str, str], in_etcd: Etcd
) -> None:
    terminal = Terminal(["distlock", "--lock-name=x", "--", "sh", "-c", "echo pid $$; kill -STOP $$"], at_terminal)
    try:
        command = int(terminal.until(PID))
        wait_until(lambda: is_stopped(command), "the command has stopped")
        os.kill(command, signal.SIGCONT)
        # A distlock that had stopped as well would never see the end.
        assert terminal.process.wait(BOUND) == 0
        in_etcd.assert_nothing_left()
    finally:
        terminal.close()


# Reading, writing, and the window.


def test_the_command_reads_its_answer_from_the_terminal(shell: Shell) -> None:
    shell.type(f"{UNDER}sh -c 'echo \"Is this ok [y/N]?\"; read x; echo got $x'\n")
    shell.until("ok")
    shell.type("yes\n")
    shell.until("got yes\n")
    assert shell.prompt() == 0


def test_a_command_in_the_background_stops_when_it_reads_and_reads_after_fg(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}sh -c 'echo pid $$; read x; echo got $x' &\n")
    command = int(shell.until(PID))
    distlock = parent_of(command)
    assert distlock is not None
    wait_until(lambda: is_stopped(command) and is_stopped(distlock), "both stopped by reading")
    assert in_etcd.keys() == ["x"]
    shell.type("fg\n")
    shell.type("it\n")
    shell.until("got it\n")
    shell.prompt()
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (f"{UNDER}seq 5 | head -2", "1\n2\n"),
        (f"{UNDER}seq 100000 | head -2", "1\n2\n"),
        (f"echo hi | {UNDER}cat", "hi\n"),
        (f"echo hi | {UNDER}cat | cat", "hi\n"),
    ],
)
def test_it_works_in_a_pipeline(shell: Shell, in_etcd: Etcd, line: str, answer: str) -> None:
    before = len(shell.output.text)
    assert shell.run(line) == 0
    assert shell.output.text[before:].startswith(answer + "[")
    wait_until(lambda: not in_etcd.keys(), "the lock is released")


def test_ctrl_z_and_ctrl_c_work_on_a_pipeline(shell: Shell, in_etcd: Etcd) -> None:
    shell.type(f"{UNDER}{LONG} | cat\n")
    command = int(shell.until(PID))
    job = shell.foreground()
    shell.type(CTRL_Z)
    assert shell.prompt() == 128 + signal.SIGTSTP
    assert is_stopped(command)
    shell.fg(job)
    wait_until(lambda: not is_stopped(command), "the command runs again")
    shell.type(CTRL_C)
    assert shell.prompt() == 128 + signal.SIGINT
    wait_until(lambda: not in_etcd.keys(), "the lock is released")


def test_a_full_screen_program_follows_the_size_of_the_window(shell: Shell) -> None:
    shell.type(f"{UNDER}{shlex.join(python(TELLS_SIZE))}\n")
    shell.until(r"size 24x80\.")
    shell.resize(30, 100)
    shell.until(r"size 30x100\.")
    shell.type(CTRL_C)
    shell.prompt()


# The end of the terminal.


def test_a_hang_up_reaches_the_command_of_a_distlock_that_leads_the_session(
    at_terminal: dict[str, str], in_etcd: Etcd, tmp_path: Path
) -> None:
    note = tmp_path / "hung-up"
    terminal = Terminal(["distlock", "--lock-name=x", "--", *python(NOTES_HANGUP, str(note))], at_terminal)
    try:
        terminal.until("ready\n")
        terminal.hang_up()
        assert terminal.process.wait(BOUND) == 0
        assert note.exists()
        in_etcd.assert_nothing_left()
    finally:
        terminal.close()


@pytest.mark.parametrize("waits", [False, True], ids=["running", "in line"])
def test_closing_the_terminal_ends_the_job_and_leaves_nothing(shell: Shell, in_etcd: Etcd, waits: bool) -> None:
    if waits:
        in_etcd.lock("x")
    shell.type(f"{UNDER}{LONG}\n")
    shell.until("waiting: " if waits else PID)
    job = shell.foreground()
    shell.hang_up()
    wait_until(lambda: not is_running(job), "distlock has ended")
    assert in_etcd.keys() == (["x"] if waits else [])
    assert in_etcd.new_leases() == set()
