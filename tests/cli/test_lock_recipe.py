"""The recipe of docs/cli.md that holds a lock over a whole script: as it is written there, in bash and in dash."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.support.paths import ROOT
from tests.support.processes import Process, line_of
from tests.support.realm_view import BOUND, RealmView, eventually

PAGE = ROOT / "docs" / "cli.md"
MARK = "<!-- tested as written: tests/cli/test_lock_recipe.py -->"
RECIPE = re.search(rf"{MARK}\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
NAME = "percona_prod"
WORK = "echo inside; cat >/dev/null; echo done"
ENDS = [None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

Start = Callable[..., Process]


@pytest.fixture(params=["bash", "dash"])
def start(request: pytest.FixtureRequest, distlock_env: dict[str, str]) -> Iterator[Start]:
    """start("web-1") -> the script on that node, in a new session. It works until its stdin ends."""
    shell = shutil.which(request.param)
    assert shell is not None, f"{request.param} is not installed"
    assert RECIPE is not None
    path = f"{os.path.dirname(sys.executable)}:{distlock_env['PATH']}"
    running: list[Process] = []

    def begin(node: str) -> Process:
        script = RECIPE[1].replace("web-1", node) + WORK
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        running.append(
            Process(
                [shell, "-c", script], env={**distlock_env, "PATH": path}, text=True, start_new_session=True, **pipes
            )
        )
        return running[-1]

    yield begin
    for process in running:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def end(script: Process, how: signal.Signals | None) -> None:
    """As a terminal, or a service manager, ends a script; None: its work is done."""
    # Between fork and exec a shell's child would lose the signal.
    eventually(lambda: "cat" in started_by(script.pid), "its work")
    if how is None:
        script.stdin.close()
    else:
        os.killpg(script.pid, how)
    assert script.wait(BOUND) == (0 if how is None else 128 + how)


def started_by(pid: int) -> list[str]:
    """The names of the processes that one has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children]


def holder(realm: RealmView) -> tuple[str, int]:
    owner, details = realm.record(NAME)
    return owner, details["taker"]["pid"]


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.name if how else "end")
def test_two_scripts_of_one_node_take_turns_and_then_the_next_node_does(
    start: Start, realm: RealmView, how: signal.Signals | None
) -> None:
    first = start("web-1")
    assert line_of(first) == "inside"
    second = start("web-1")
    said = second.stderr.readline()
    assert f"that is a step of the same owner, taken for process {first.pid} on " in said
    assert f"To enter it anyway: --token={realm.token(NAME)}" in said
    # Told to end while it waits, it does not run, and unlocks nothing of the first one's.
    called_off = start("web-1")
    assert "waiting: " in called_off.stderr.readline()
    os.kill(called_off.pid, signal.SIGTERM)  # the shell alone: its distlock waits on
    other = start("web-2")
    assert "waiting: " in other.stderr.readline()
    assert holder(realm) == ("web-1", first.pid)
    end(first, how)
    assert line_of(second) == "inside"
    assert holder(realm) == ("web-1", second.pid)
    end(second, how)
    assert line_of(other) == "inside"
    assert called_off.wait(BOUND) == 128 + signal.SIGTERM
    assert called_off.stdout.read() == ""
    assert holder(realm) == ("web-2", other.pid)
    end(other, how)
    assert realm.entries() == {}


def test_a_killed_script_leaves_the_lock_to_its_next_start(start: Start, realm: RealmView) -> None:
    killed = start("web-1")
    assert line_of(killed) == "inside"
    token = realm.token(NAME)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait(BOUND)
    other = start("web-2")
    assert "waiting: " in other.stderr.readline()
    again = start("web-1")
    assert line_of(again) == "inside"
    assert (holder(realm), realm.token(NAME)) == (("web-1", again.pid), token)
    # It is this one's by now: the next one waits.
    orphaned = start("web-1")
    assert "waiting: " in orphaned.stderr.readline()
    place = len(realm.keys())
    os.kill(orphaned.pid, signal.SIGKILL)  # only the shell: its distlock would acquire the lock for no one
    eventually(lambda: len(realm.keys()) < place, "the end of its place in the line")
    third = start("web-1")
    assert f"taken for process {again.pid} on " in third.stderr.readline()
    os.killpg(third.pid, signal.SIGINT)
    assert third.wait(BOUND) == 128 + signal.SIGINT
    end(again, None)
    assert line_of(other) == "inside"
    end(other, None)
    eventually(lambda: realm.entries() == {}, "nothing left")
