"""--window in processes whose clock on the wall is not that of this machine."""

from __future__ import annotations

import glob
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest

from tests.support.needs import missing
from tests.support.processes import Process, wait_until
from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]


@pytest.fixture
def at() -> Callable[[str], dict[str, str | None]]:
    """at(TIME) is the environment of a process whose clock starts at that time of 2026-11-30, a Monday, in UTC."""
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found or not sys.platform.startswith("linux"):
        missing("libfaketime is missing. To install it: apt-get install faketime")
    return lambda time: {
        "LD_PRELOAD": found[0],
        "FAKETIME": f"@2026-11-30 {time}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }


def test_a_run_waits_until_its_window_opens(run_distlock: Run, at: Callable[[str], dict[str, str | None]]) -> None:
    refused = run_distlock("--lock-name=x", "--window=22:00-04:00", "--nowait", "--", "true", env=at("12:00:00"))
    assert refused.returncode == 1
    assert "outside the window '22:00-04:00' until Mon 2026-11-30 22:00 UTC" in one_line(refused.stderr)
    done = run_distlock("--lock-name=x", "--window=22:00-04:00", "--", "echo", "inside", env=at("21:59:56"))
    assert (done.returncode, done.stdout) == (0, "inside\n")
    assert "; not in the queue" in one_line(done.stderr)


def test_a_policys_window_that_closes_while_a_process_waits(
    run_distlock: Run,
    spawn_distlock: Spawn,
    realm: RealmView,
    at: Callable[[str], dict[str, str | None]],
    tmp_path: Path,
) -> None:
    run_distlock("--policy", "--lock-name=x", "--window=22:00-04:00")
    realm.put("x", "1;other;for a while")
    started = time.monotonic()
    waiter = spawn_distlock("--lock-name=x", "--", "touch", str(tmp_path / "ran"), env=at("03:59:46"))
    wait_until(lambda: any("/queue/" in key for key in realm.all_keys()), "in the queue")
    wait_until(lambda: time.monotonic() > started + 15, "past four o'clock")
    realm.delete("x")
    assert waiter.stderr is not None
    said = [waiter.stderr.readline() for _ in range(2)]
    assert "x is free; outside its policy's window '22:00-04:00' until Mon 2026-11-30 22:00 UTC" in said[1]
    assert not (tmp_path / "ran").exists()
    run_distlock("--policy", "--lock-name=x", "--clear")
    waiter.communicate(timeout=60)
    assert (tmp_path / "ran").exists()
