"""The table in docs/salt.md: ways in which a run of Salt ends, and the state of the lock afterwards, by salt-call."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Holder, Realm, connect
from distlock_core.process.while_alive import LOOK
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.processes import Process, is_running, present, wait_until
from tests.support.salt_minions import CALL_TIMEOUT, Minion, age, clean_environment

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things

UPGRADE = """
until unlocked:
  distlock.locked:
    - name: y

one at a time:
  distlock.locked:
    - name: x
    - until: run_end
    - ttl: {ttl}

upgrade:
  cmd.run:
    - name: {command}
    - require:
      - distlock: one at a time
"""


@pytest.fixture
def holder(etcd: Cluster, realm_prefix: str) -> Callable[[], Holder | None]:
    realm: Realm = connect(etcd.endpoints, realm_prefix)
    return lambda: next(iter(realm.show("x").holders), None)


class Work:
    """A command that ignores SIGTERM and ends when its gate is opened: below a shell that does not ignore it."""

    def __init__(self, folder: Path) -> None:
        self.gate, self._pid = folder / "gate", folder / "pid"
        script = folder / "work"
        script.write_text(
            "#!/bin/sh\ntrap '' TERM INT HUP\n"
            f"echo $$ > {self._pid}.new; mv {self._pid}.new {self._pid}\n"
            f"while ! test -e {self.gate}; do sleep 0.05; done\n"
        )
        script.chmod(0o755)
        self.command = f"{script}; echo after"

    @property
    def pid(self) -> int | None:
        return int(self._pid.read_text()) if self._pid.exists() else None


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    work = Work(tmp_path)
    yield work
    work.gate.touch()  # nothing that a failed test has left waits for ever


@pytest.fixture
def at_work(minion: Minion, work: Work) -> Iterator[Callable[..., Process]]:
    """at_work(ttl=60) -> a state run that holds x until its end, and y; the keeper has surely seen its command."""
    started: list[Process] = []

    def start(ttl: int = 60) -> Process:
        (minion.sls / "upgrade.sls").write_text(UPGRADE.format(ttl=ttl, command=work.command))
        started.append(minion.start("state.apply", "upgrade"))
        pid = wait_until(lambda: work.pid, "the run at its command", CALL_TIMEOUT)
        wait_until(lambda: age(pid) > 2 * LOOK, "a command that is not quite new")
        return started[-1]

    yield start
    for run in started:
        run.kill()
        run.communicate()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name
)
def test_a_lock_until_the_runs_end_stays_while_the_command_of_a_run_that_was_ended_works(
    at_work: Callable[..., Process],
    work: Work,
    keys: Etcd,
    holder: Callable[[], Holder | None],
    number: signal.Signals,
) -> None:
    run = at_work()
    held = holder()
    assert held is not None
    run.send_signal(number)
    run.wait(CALL_TIMEOUT)
    # The shell in between may be gone, too. The work itself continues: no other may begin.
    assert is_running(present(work.pid))
    since = age(present(work.pid))
    wait_until(lambda: age(present(work.pid)) > since + 4 * LOOK, "time in which a keeper that does not wait lets go")
    assert [held.token] == [found.token for found in [holder()] if found is not None]
    work.gate.touch()
    wait_until(lambda: not is_running(present(work.pid)), "the end of the command")
    # A lock that is to stay until it is unlocked stays.
    wait_until(lambda: keys.keys() == ["y"] and keys.new_leases() == set(), "x free, long before its ttl is over")
    wait_until(lambda: not is_running(present(held.keeper)), "the end of the keeper")


def test_a_lock_whose_run_and_keeper_are_both_killed_expires_by_its_ttl(
    at_work: Callable[..., Process], work: Work, keys: Etcd, holder: Callable[[], Holder | None]
) -> None:
    # As when the machine dies, or a container's first process.
    run = at_work(ttl=5)
    held = holder()
    assert held is not None
    for pid in (present(held.keeper), run.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: keys.keys() == ["y"], "x free by its ttl, y still there")
    assert is_running(present(work.pid))


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a pid namespace")
def test_in_a_container_whose_first_process_is_the_run_the_lock_is_free_with_its_end(
    minion: Minion, keys: Etcd, need: Callable[..., str]
) -> None:
    text = "take:\n  distlock.locked: [{name: x}, {until: run_end}, {ttl: 300}]\nwork:\n  cmd.run: [{name: 'true'}]\n"
    (minion.sls / "contained.sls").write_text(text)
    command = [need("unshare"), "--pid", "--fork", "--mount-proc", *minion.command("state.apply", "contained")]
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=CALL_TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "until this run ends" in done.stdout
    # All of its processes are gone, including the keeper: none is left to release later.
    assert keys.keys() == []
    wait_until(lambda: keys.new_leases() == set(), "its lease gone")
