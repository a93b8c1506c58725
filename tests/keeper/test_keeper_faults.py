"""A keeper in trouble: what it cannot look at has not ended, what it cannot do it tries again; and what it inherits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.adapters.ansible_run_lock import start_run_keeper
from distlock_core.adapters.settings import read_settings
from distlock_core.testing import Cluster, Proxy
from tests.support.lease_view import BOUND, Seen, lives, wait_until
from tests.support.processes import pause

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TTL = 6
SECRETS = {
    "DISTLOCK_USER": "me",
    "DISTLOCK_PASSWORD": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter3",
    "VAULT_TOKEN": "hunter4",
}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def keeper(run_distlock: Run, seen: Seen, proxy: Proxy, process: Any, tmp_path: Path) -> Iterator[int]:
    """The keeper of a lock x that is bound to the process, and reaches etcd through the proxy."""
    done = run_distlock(
        *("--lock-name=x", "--lock", f"--while-pid={process.pid}", f"--ttl={TTL}", f"--log-file={tmp_path / 'log'}"),
        env={"DISTLOCK_ENDPOINTS": proxy.url, **SECRETS, "DISTLOCK_HELD": "/other/y", "DISTLOCK_TOKEN": "7"},
    )
    assert done.returncode == 0, done.stderr
    pid: int = seen.held("x").details["keeper"]
    wait_until(lambda: os.path.exists(f"/proc/{pid}/fd/1"), "its descriptors")
    yield pid
    with suppress(ProcessLookupError):  # it may end at this moment
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


def no_more_descriptors(pid: int, number: int = 3) -> tuple[int, int]:
    """From now on the process can open nothing, and with 0 not even wait. Returns the limit that it had."""
    return resource.prlimit(pid, resource.RLIMIT_NOFILE, (number, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize("number", [3, 0])
def test_a_keeper_without_descriptors_takes_no_living_process_for_ended(
    keeper: int, process: Any, proxy: Proxy, seen: Seen, tmp_path: Path, number: int
) -> None:
    token = seen.held("x").token
    before = no_more_descriptors(keeper, number)
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        assert seen.held("x").token == token
        pause(0.1)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, before)
    ends = time.monotonic() + TTL
    while time.monotonic() < ends:  # and it is renewed as before
        assert seen.held("x").token == token
        pause(0.2)
    assert lives(keeper)
    process.kill()
    process.wait()
    seen.wait_gone("x")
    wait_until(lambda: "has ended; released" in (tmp_path / "log").read_text(), "its last word")


def test_a_keeper_without_descriptors_still_releases_when_its_process_ends(
    keeper: int, process: Any, seen: Seen
) -> None:
    no_more_descriptors(keeper)
    process.kill()
    process.wait()
    seen.wait_gone("x")
    wait_until(lambda: not lives(keeper), "the keeper's end", 3 * BOUND)


def environment_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_text()
    return dict(entry.partition("=")[::2] for entry in text.split("\0") if entry)


def test_a_keeper_inherits_no_secret_and_no_lock(keeper: int, distlock_env: dict[str, str]) -> None:
    found = environment_of(keeper)
    assert not set(found) & {*SECRETS, "DISTLOCK_HELD", "DISTLOCK_TOKEN"}
    assert not any("hunter" in value for value in found.values())
    assert not any(name.startswith("DISTLOCK") for name in found)


def test_a_run_keeper_inherits_no_secret_and_knows_the_locks_around_it(
    etcd: Cluster, realm_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECRETS, "DISTLOCK_HELD": f"{realm_prefix}x", "DISTLOCK_TOKEN": "7"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TZ", "Antarctica/Troll")
    said = {"endpoints": list(etcd.endpoints), "prefix": realm_prefix, "lockname": "x", "ttl": 20}
    keeper = start_run_keeper(read_settings(said, "a"))
    try:
        found = environment_of(keeper.pid)
        assert found["TZ"] == "Antarctica/Troll"
        assert not any(name.startswith("DISTLOCK") or "hunter" in value for name, value in found.items())
    finally:
        os.kill(keeper.pid, signal.SIGKILL)
