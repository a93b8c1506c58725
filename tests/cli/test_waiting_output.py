"""Stderr of a waiter: one live line on a terminal, elsewhere a line at the start and at each change."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import Callable

import pytest

from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, Output, Process, wait_until
from tests.support.pseudo_terminal import CTRL_C, Terminal

DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
CLEARED = "\r\x1b[K"
SEEN_WITHIN = 10.0  # seconds until a waiter further back sees a new holder
HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J\r\nnew line \u202e"
Spawn = Callable[..., "Process"]
OpenTerminal = Callable[..., Terminal]


@pytest.fixture
def at_terminal(distlock_env: dict[str, str]) -> Iterator[OpenTerminal]:
    """at_terminal(*args, columns=80) runs distlock on a new terminal."""
    terminals: list[Terminal] = []

    def start(*arguments: str, columns: int = 80, term: str = "xterm") -> Terminal:
        environ = {**distlock_env, "TERM": term}
        terminals.append(Terminal([DISTLOCK, "--lock-name=x", *arguments], environ, columns=columns))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def live_lines(text: str) -> list[str]:
    """The successive contents of the live line."""
    return text.split(CLEARED)[1:]


def cells(text: str) -> int:
    """The columns that a terminal needs for it."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


# At a terminal.


def test_the_whole_sentence_comes_once_then_a_short_line_with_duration_and_position(
    at_terminal: OpenTerminal, in_etcd: Etcd
) -> None:
    since = int(time.time()) - 4 * 3600 - 300
    in_etcd.lock(
        "x", "node-3", "Upgrade RPMs, and a reason that is longer than a line of a terminal has columns", since
    )
    terminal = at_terminal("--", "true", columns=80)
    clock = r"(\d{4}-\d\d-\d\d )?" + time.strftime("%H:%M", time.localtime(since))
    sentence = (
        rf'distlock: waiting: x is held by node-3 since {clock} \(4h05m\): "Upgrade RPMs, .* columns"; position 1 of 1'
    )
    terminal.until(
        rf"\r\x1b\[K{sentence} in the queue\n\r\x1b\[K0s waiting for x: position 1 of 1 in the queue, held by node-3"
    )
    terminal.until(r"\r\x1b\[K[1-9]s waiting for x: position 1 of 1 in the queue, held by node-3")
    terminal.until(r"\r\x1b\[K[2-9]s waiting for x")
    assert terminal.output.text.count("Upgrade RPMs") == 1


def test_a_dumb_terminal_gets_lines_and_no_escape_codes(at_terminal: OpenTerminal, in_etcd: Etcd) -> None:
    in_etcd.lock("x", "node-3")
    terminal = at_terminal("--timeout=3", "--", "true", term="dumb")
    assert terminal.process.wait(BOUND) == 1
    lines = terminal.output.all().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("distlock: waiting: x is held by node-3")
    assert lines[1].startswith("distlock: gave up after")
    assert "\x1b" not in terminal.output.text


def test_the_live_line_is_redrawn_in_place_and_gone_before_the_command_writes(
    at_terminal: OpenTerminal, in_etcd: Etcd
) -> None:
    in_etcd.lock("x")
    terminal = at_terminal("--", "echo", "output of the command")
    first = int(terminal.until(r"\r\x1b\[K(\d)s waiting"))
    assert int(terminal.until(r"\r\x1b\[K(\d+)s waiting")) > first
    in_etcd.unlock("x")
    terminal.until("output of the command")
    assert terminal.process.wait(BOUND) == 0
    before, _, _ = terminal.output.text.partition("output of the command")
    assert before.endswith(CLEARED)
    assert before.count("\n") == 1  # behind the sentence


def test_the_live_line_follows_the_queue_and_the_holder(
    at_terminal: OpenTerminal, spawn_distlock: Spawn, in_etcd: Etcd
) -> None:
    in_etcd.lock("x", "first")
    ahead = spawn_distlock("--lock-name=x", "--id=second", "--", "sh", "-c", "echo mine; read x", stdin=subprocess.PIPE)
    Output(ahead.stderr).until("waiting:")
    terminal = at_terminal("--", "true")
    terminal.until("held by first .*; position 2 of 2 in the queue\n")
    terminal.until("waiting for x: position 2 of 2 in the queue, held by first")
    in_etcd.unlock("x")
    terminal.until("held by second .*; position 1 of 1 in the queue\n")
    terminal.until("waiting for x: position 1 of 1 in the queue, held by second")


@pytest.mark.parametrize("owner", ["long " * 60, "升级 " * 60, "a" + "é" * 200], ids=["words", "wide", "accents"])
def test_the_live_line_never_wraps(at_terminal: OpenTerminal, in_etcd: Etcd, owner: str) -> None:
    in_etcd.lock("x", owner)
    terminal = at_terminal("--", "true", columns=60)
    terminal.until(r"\r\x1b\[K[1-9]\d*s waiting")
    in_etcd.unlock("x")
    assert terminal.process.wait(BOUND) == 0
    widths = [cells(line) for line in live_lines(terminal.output.all()) if "waiting for" in line]
    assert 55 <= max(widths) < 60
    assert "position 1 of 1 in the queue" in terminal.output.text


def test_the_live_line_follows_the_width_of_the_window(at_terminal: OpenTerminal, in_etcd: Etcd) -> None:
    in_etcd.lock("x", "long " * 60)
    terminal = at_terminal("--", "true", columns=60)
    terminal.until(r"\ds waiting for")
    terminal.resize(24, 100)
    wait_until(lambda: terminal.until("waiting for") and len(live_lines(terminal.output.text)[-1]) > 60, "a wider line")


def test_a_terminal_that_does_not_know_its_width_counts_as_80_columns(at_terminal: OpenTerminal, in_etcd: Etcd) -> None:
    in_etcd.lock("x", "long " * 60)
    terminal = at_terminal("--", "true", columns=0)
    terminal.until(r"[1-9]\d*s waiting")
    assert len(live_lines(terminal.output.text)[1]) == 79


def test_the_live_line_gives_way_to_the_final_message(at_terminal: OpenTerminal, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    terminal = at_terminal("--timeout=2", "--", "true")
    terminal.until(r"\r\x1b\[K\ds waiting[^\n]*\r\x1b\[Kdistlock: gave up after")
    assert terminal.process.wait(BOUND) == 1


def test_the_live_line_gives_way_to_ctrl_c(at_terminal: OpenTerminal, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    terminal = at_terminal("--", "true")
    terminal.until(r"\ds waiting")
    terminal.type(CTRL_C)
    terminal.until(r"\r\x1b\[Kdistlock: ended by SIGINT")
    assert terminal.process.wait(BOUND) == -signal.SIGINT
    assert in_etcd.new_leases() == set()


# Not at a terminal.


def test_elsewhere_a_line_at_the_start_and_one_at_each_change_of_holder(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x", "first")
    ahead = spawn_distlock("--lock-name=x", "--id=second", "--", "sh", "-c", "echo mine; read x", stdin=subprocess.PIPE)
    Output(ahead.stderr).until("waiting:")
    waiter = spawn_distlock("--lock-name=x", "--", "true")
    err = Output(waiter.stderr)
    err.until(
        r'^distlock: waiting: x is held by first since \d\d:\d\d \(\d+s\): "upgrade"; position 2 of 2 in the queue\n'
    )
    behind = spawn_distlock("--lock-name=x", "--", "true")
    behind_err = Output(behind.stderr)
    behind_err.until(r"position 3 of 3 in the queue\n")
    in_etcd.unlock("x")
    Output(ahead.stdout).until("mine")
    # The first two waiters follow the lock by its events, which do not tell how many have joined behind them.
    err.until(
        r"^distlock: waiting: x is held by second since \d\d:\d\d \(\d+s\); position 1 of [12] in the queue\n",
        SEEN_WITHIN + BOUND,
    )
    behind_err.until(r"held by second .*; position 2 of [23] in the queue\n", SEEN_WITHIN + BOUND)
    assert ahead.stdin is not None
    ahead.stdin.close()
    assert waiter.wait(BOUND) == 0
    assert behind.wait(BOUND) == 0
    assert len(err.all().splitlines()) == 2
    in_etcd.assert_nothing_left()


def test_elsewhere_there_is_no_control_sequence(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    waiter = spawn_distlock("--lock-name=x", "--", "true")
    err = Output(waiter.stderr)
    err.until("waiting:.*\n")
    in_etcd.unlock("x")
    assert waiter.wait(BOUND) == 0
    assert re.search(r"[\x00-\x09\x0b-\x1f]", err.all()) is None


def test_json_reports_it_as_json_on_stderr(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x", "node-3", "Upgrade RPMs")
    waiter = spawn_distlock("--lock-name=x", "--json", "--", "true")
    said = json.loads(Output(waiter.stderr).until("(.*)\n").group(1))
    assert said["waiting"]["position"] == 1
    assert said["waiting"]["locks"][0]["owner"] == "node-3"
    assert said["waiting"]["locks"][0]["reason"] == "Upgrade RPMs"


# With any content of etcd, on any terminal.


@pytest.mark.parametrize("columns", [80, 400])
def test_a_reason_is_escaped_for_the_terminal(at_terminal: OpenTerminal, in_etcd: Etcd, columns: int) -> None:
    in_etcd.lock("x", f"owner\x1b[1m{HOSTILE}".replace("\n", " "), HOSTILE)
    terminal = at_terminal("--timeout=2", "--", "true", columns=columns)
    assert terminal.process.wait(BOUND) == 1
    lines = live_lines(terminal.output.all())
    assert r"\x1b[1m" in lines[0]
    for line in lines:
        assert all(character.isprintable() for character in line.rstrip("\n"))


def test_a_reason_is_escaped_in_logs(spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x", reason=HOSTILE)
    waiter = spawn_distlock("--lock-name=x", "--timeout=2", "--", "true")
    assert waiter.wait(BOUND) == 1
    lines = Output(waiter.stderr).all().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_quiet_prints_nothing_while_it_waits(at_terminal: OpenTerminal, spawn_distlock: Spawn, in_etcd: Etcd) -> None:
    in_etcd.lock("x")
    terminal = at_terminal("--quiet", "--", "true")
    waiter = spawn_distlock("--lock-name=x", "--quiet", "--", "true")
    wait_until(lambda: len(in_etcd.keys()) == 3, "both are in line")
    in_etcd.unlock("x")
    assert terminal.process.wait(BOUND) == 0
    assert waiter.wait(BOUND) == 0
    assert terminal.output.all() == ""
    assert Output(waiter.stderr).all() == ""
