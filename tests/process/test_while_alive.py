"""Cancels at the end of a process with all its children, and of a reader of the output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distlock_core.adapters import acquire
from distlock_core.adapters.settings import read_settings
from distlock_core.connection import realm_of
from distlock_core.process import table
from distlock_core.process.identity import start_time
from distlock_core.process.table import Process, children, parent_of
from distlock_core.process.while_alive import WhileAlive, WhileChildrenAlive
from distlock_core.process.while_read import WhileRead
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.polling import is_readable
from tests.support.processes import BOUND, python, wait_until

# Forks a child; both have the write end of a pipe, whose number is the argument. Prints the child, closes it on a line.
FAMILY = """
import os, signal, sys
child = os.fork()
if child == 0:
    signal.pause()
print(child, flush=True)
sys.stdin.readline()
os.close(int(sys.argv[1]))
print("closed", flush=True)
signal.pause()
"""


class Parent:
    """A process that has forked another. `family` is the reading end of the pipe that both can write to."""

    def __init__(self) -> None:
        self.family, writer = os.pipe()
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            python(FAMILY, str(writer)), stdin=pipe, stdout=pipe, pass_fds=[writer], text=True
        )
        os.close(writer)
        self.pid = self._process.pid
        self.child = int(self._hear())

    def close_its_end(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._hear() == "closed\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def kill_child(self) -> None:
        if start_time(self.child) is not None:
            os.kill(self.child, signal.SIGKILL)
        wait_until(lambda: start_time(self.child) is None, "the child's end")

    def close(self) -> None:
        self.kill_child()
        self._process.kill()
        self._process.communicate()
        os.close(self.family)

    def _hear(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent()
    yield parent
    parent.close()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def is_ready(cancel: Any, seconds: float = 0) -> bool:
    return is_readable(cancel, seconds)


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_family_is_gone_when_its_last_process_is(parent: Parent, first: str) -> None:
    alive = WhileAlive(parent.pid, start_time(parent.pid) or 0, parent.family)
    assert not alive.is_set()
    for kill in (parent.kill, parent.kill_child) if first == "parent" else (parent.kill_child, parent.kill):
        assert not alive.ended
        kill()
        # Whoever waits is woken at most once for nothing, and does not spin.
        assert alive.ended or not alive.is_set()
        assert alive.ended or not is_ready(alive)
    assert alive.is_set()


def test_a_process_that_has_closed_its_pipe_is_still_waited_for(parent: Parent) -> None:
    alive = WhileAlive(parent.pid, start_time(parent.pid) or 0, parent.family)
    parent.kill_child()
    parent.close_its_end()
    assert not alive.is_set()
    assert not is_ready(alive)
    parent.kill()
    assert is_ready(alive, BOUND)
    assert alive.is_set()


RUN = """
import os, signal, subprocess, sys
daemon = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(300)"
plain = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
for code in (daemon, plain):
    # A shell between, which is gone while the run lives: as one of those that a signal ends first.
    shell = subprocess.Popen(["/bin/sh", "-c", '"$@" & wait', "sh", sys.executable, "-I", "-S", "-c", code])
    print(shell.pid, flush=True)
signal.pause()
"""


def test_a_new_orphan_is_waited_for_and_a_daemon_is_not() -> None:
    _assert_that_an_orphan_is_waited_for_and_a_daemon_is_not()


def test_in_a_container_that_was_entered_an_orphan_is_waited_for_too() -> None:
    """There the session is one of outside, which the kernel shows as 0."""
    if os.geteuid() != 0:
        pytest.skip("namespaces of its own take root")
    named = _assert_that_an_orphan_is_waited_for_and_a_daemon_is_not.__name__
    inside = f"import os, tests.process.test_while_alive as t; assert os.getsid(0) == 0; t.{named}()"
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        (*unshare, sys.executable, "-c", inside), capture_output=True, text=True, timeout=60, check=False, env=here
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _assert_that_an_orphan_is_waited_for_and_a_daemon_is_not() -> None:
    run = subprocess.Popen(python(RUN), stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    started = start_time(run.pid)
    assert started is not None
    until = WhileChildrenAlive(run.pid, started)
    pids: list[int] = []
    try:
        pids = sorted(int(run.stdout.readline()) for _ in range(4))
        shells = {pid for pid, _ in children(run.pid)}
        daemon, plain = sorted((pid for pid in pids if pid not in shells), key=lambda pid: os.getsid(pid) != pid)
        assert not until.ended  # a look at the whole of it
        for shell in shells:
            os.kill(shell, signal.SIGKILL)
        wait_until(lambda: {parent_of(pid) for pid in (daemon, plain)} & shells == set(), "both without their parents")
        assert not until.ended  # a look in the middle: nothing of it is below the run any more
        run.kill()
        run.wait()
        assert not until.ended
        os.kill(plain, signal.SIGKILL)
        wait_until(lambda: until.ended, "its end, with the daemon alive")
        assert start_time(daemon) is not None
    finally:
        until.close()
        for pid in pids:  # first, since they hold the pipe
            if start_time(pid) is not None:
                os.kill(pid, signal.SIGKILL)
        run.kill()
        run.communicate()


def test_orphans_are_known_even_where_the_parent_ends_during_a_scan(
    parent: Parent, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = WhileChildrenAlive(parent.pid, start_time(parent.pid) or 0)
    try:
        assert not alive.ended

        def ends_first(pid: int) -> set[Process]:
            parent.kill()
            return children(pid)

        monkeypatch.setattr(table, "children", ends_first)
        assert not alive.ended
        assert not alive.ended
        parent.kill_child()
        assert alive.ended
    finally:
        alive.close()


def test_a_lock_bound_to_a_family_stays_until_its_last_process_is_gone(
    parent: Parent, etcd: Cluster, realm_prefix: str
) -> None:
    keys = Etcd(etcd, realm_prefix)
    settings = read_settings({"lockname": "x", "endpoints": etcd.endpoints, "prefix": realm_prefix}, "us")
    taken = acquire.take(settings, run=parent.pid, bound=True, family=parent.family)
    assert taken.holder is not None
    keeper = taken.holder.keeper or 0
    assert len(os.listdir(f"/proc/{keeper}/fd")) < 12
    parent.kill()
    again = realm_of(settings).show("x")
    assert again.holders
    assert start_time(keeper) is not None
    parent.kill_child()
    wait_until(lambda: keys.keys() == [], "the lock released")
    wait_until(lambda: start_time(keeper) is None, "the keeper's end")
    keys.assert_nothing_left()


def test_a_caller_is_gone_when_its_end_of_the_pipe_is_closed() -> None:
    reader, writer = os.pipe()
    heard = WhileRead(writer)
    assert not heard.is_set()
    assert not is_ready(heard)
    os.close(reader)
    assert is_ready(heard, BOUND)
    assert heard.is_set()
    os.close(writer)


def test_a_file_is_always_read_and_a_signal_ends_it(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as file:
        heard = WhileRead(file.fileno())
        assert not heard.is_set()
        os.kill(os.getpid(), signal.SIGHUP)
        assert is_ready(heard, BOUND)
        assert heard.is_set()
        assert heard.signal == signal.SIGHUP
