"""Hooks of a LockManager: told of each change, bounded, and in nobody's way."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import ConfigError, Hooks, LockManager, Realm, aio
from distlock_core.base.deadline import FOREVER, Patience
from distlock_core.lock.session import Session
from distlock_core.rollout.hooks import RunningHook
from distlock_core.testing import Proxy
from tests.support.etcd_view import Etcd
from tests.support.processes import is_running, wait_until

Stand = Callable[..., LockManager]
TTL = 60  # where an expiry would be far too late to be what has helped
HANGS = "trap '' TERM; echo $$ > {0}/hook; while :; do sleep 1; done"


def noting(folder: Path) -> Hooks:
    """Hooks that note their variables, each in a file named for the event and the token."""
    name = f"{folder}/$DISTLOCK_EVENT-$DISTLOCK_TOKEN"
    note = f"env > {name}.part; mv {name}.part {name}"
    return Hooks(note, note, note)


def noted(folder: Path, event: str, token: int | None) -> dict[str, str]:
    file = folder / f"{event}-{token}"
    wait_until(file.exists, f"the hook of {file.name}")
    pairs = (line.partition("=") for line in file.read_text().splitlines())
    return {name: value for name, _, value in pairs if name.startswith("DISTLOCK_")}


def test_it_tells_of_an_acquisition_a_loss_and_a_release(
    stand: Stand, realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTLOCK_REASON", "of the program around")
    manager = stand(ttl=TTL, hooks=noting(tmp_path), reason="why", owner="me")
    wait_until(manager.have_lock, "the lock")
    first = manager.token
    found = noted(tmp_path, "acquired", first)
    assert found["DISTLOCK_HELD"] == f"{realm.prefix}x"
    assert found["DISTLOCK_LEASE"] == f"{realm.show('x').holders[0].lease:x}"
    facts = {name: found[f"DISTLOCK_{name}"] for name in ("LOCK_NAME", "OWNER", "LOCK_REASON", "EVENT")}
    assert facts == {"LOCK_NAME": "x", "OWNER": "me", "LOCK_REASON": "why", "EVENT": "acquired"}
    assert abs(int(found["DISTLOCK_SINCE"]) - time.time()) < 60
    assert "DISTLOCK_REASON" not in found
    realm.unlock("x", "ops", force=True)
    lost = noted(tmp_path, "lost", first)
    assert lost["DISTLOCK_LOSS"].startswith("it was broken by ops")
    assert "DISTLOCK_HELD" not in lost
    wait_until(lambda: manager.have_lock() and manager.token != first, "the lock again")
    second = manager.token
    noted(tmp_path, "acquired", second)
    manager.shutdown()
    assert (tmp_path / f"released-{second}").exists()  # it was waited for
    assert noted(tmp_path, "released", second)["DISTLOCK_OUTCOME"] == "released"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_hook_that_hangs_delays_nothing_but_the_end_of_a_shutdown(
    stand: Stand, realm: Realm, in_etcd: Etcd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A short ttl: without renewals the lock would be gone. The hook of the loss waits for none before it."""
    caplog.set_level(logging.WARNING, "distlock")
    hooks = noting(tmp_path)._replace(on_acquired=HANGS.format(tmp_path), timeout=3.5)
    manager = stand(ttl=2, hooks=hooks)
    pid = int(wait_until(lambda: (tmp_path / "hook").exists() and (tmp_path / "hook").read_text().strip(), "the hook"))
    first = manager.token
    realm.unlock("x", "ops", force=True)
    noted(tmp_path, "lost", first)
    assert is_running(pid)
    wait_until(manager.have_lock, "the lock again")
    second = manager.token
    wait_until(lambda: not is_running(pid), "the end of the hook")
    assert (manager.have_lock(), manager.token) == (True, second)
    began = time.monotonic()
    manager._stop.set()
    wait_until(lambda: in_etcd.keys() == [], "the release")  # the second hook hangs now
    assert time.monotonic() - began < 3
    manager.shutdown()
    assert (tmp_path / f"released-{second}").exists()
    warnings = [record.getMessage() for record in caplog.records]
    assert "x: on_acquired: it has not ended within 3.5s, and was ended" in warnings


def test_a_hook_that_fails_is_a_warning(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "distlock")
    manager = stand(ttl=TTL, hooks=Hooks(on_acquired="exit 3", on_released="/no/such 2>&-"))
    wait_until(manager.have_lock, "the lock")
    manager.shutdown()
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "x: on_acquired: exit code 3"
    assert said[1].startswith("x: on_released: exit code 127: a program that it names is not there")


def test_an_unexpected_error_of_one_hook_is_a_warning_and_the_next_is_run(
    stand: Stand, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunningHook.wait

    def wait(hook: RunningHook) -> str:
        monkeypatch.setattr(RunningHook, "wait", whole)
        raise MemoryError("once")

    monkeypatch.setattr(RunningHook, "wait", wait)
    manager = stand(ttl=TTL, hooks=noting(tmp_path))
    wait_until(manager.have_lock, "the lock")
    token = manager.token
    manager.shutdown()
    assert noted(tmp_path, "released", token)["DISTLOCK_EVENT"] == "released"
    assert [record.getMessage() for record in caplog.records if "MemoryError: once" in record.getMessage()]


def test_a_release_that_is_not_confirmed_is_not_told(stand: Stand, tmp_path: Path, proxy: Proxy) -> None:
    manager = stand(ttl=TTL, hooks=noting(tmp_path))
    wait_until(manager.have_lock, "the lock")
    noted(tmp_path, "acquired", manager.token)
    proxy.cut()
    manager.shutdown(0.2)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_loss_that_only_the_release_notices_is_told(
    stand: Stand, realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shutdown comes between the loss and the event of the watch."""
    monkeypatch.setattr(Session, "run", lambda _, cancel: Patience(FOREVER, cancel).wait())
    manager = stand(ttl=TTL, hooks=noting(tmp_path))
    wait_until(manager.have_lock, "the lock")
    token = manager.token
    noted(tmp_path, "acquired", token)
    realm.unlock("x", "ops", force=True)
    manager.shutdown()
    assert noted(tmp_path, "lost", token)["DISTLOCK_LOSS"].startswith("x was lost: ")
    assert not (tmp_path / f"released-{token}").exists()


def test_a_wrong_limit_is_refused(realm: Realm) -> None:
    with pytest.raises(ConfigError):
        LockManager(realm, "x", hooks=Hooks("true", timeout=0))


def test_asyncio_has_them_too(realm: Realm, tmp_path: Path) -> None:
    import asyncio

    async def main() -> int | None:
        async with aio.AsyncRealm(realm).manager("x", TTL, hooks=noting(tmp_path)) as manager:
            async for held in manager.ownership():
                if held:
                    return manager.token
        return None

    token = asyncio.run(main())
    assert noted(tmp_path, "acquired", token)["DISTLOCK_TOKEN"] == str(token)
    noted(tmp_path, "released", token)
