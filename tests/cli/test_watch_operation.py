"""`--watch`: a line for each event of a lock, as it happens."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster, Proxy
from tests.support.processes import Process
from tests.support.realm_view import BOUND, RealmView, eventually, one_line

Spawn = Callable[..., Process]
Run = Callable[..., subprocess.CompletedProcess[str]]
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
SINCE = r"since \d\d:\d\d \(\d+s\)"


@pytest.fixture
def locks(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def watch(spawn_distlock: Spawn) -> Spawn:
    return lambda *options, **how: spawn_distlock("--watch", *options, **how)


def event(process: Process) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def test_each_event_is_a_line_for_people(watch: Spawn, locks: Realm) -> None:
    lock = locks.lock("db", "me", reason="Upgrade", value="10.1.1.1").acquire()
    token = lock.token
    process = watch("--lock-name=db")
    line = process.stdout.readline()
    assert re.fullmatch(
        rf'{TIME} acquired: db is held by me {SINCE}: "Upgrade"; token {token}; value "10.1.1.1"\n', line
    )
    lock.update("\x1b[31m")
    assert "changed: db is held by me" in (line := process.stdout.readline())
    assert line.endswith('; value "\\x1b[31m"\n')
    locks.unlock("db", "admin", force=True)
    line = process.stdout.readline()
    assert " released: db was held by me " in line
    assert line.endswith("; broken by admin\n")


def test_json_has_the_fields_of_the_lock(watch: Spawn, locks: Realm, run_distlock: Run) -> None:
    process = watch("--lock-name=db", "--json")
    lock = locks.lock("db", "me", value="10.1.1.1").acquire()
    acquired = event(process)
    listed = json.loads(run_distlock("--list", "--json").stdout)["locks"][0]
    assert (acquired.pop("event"), acquired.pop("revision"), acquired.pop("ended")) == ("acquired", lock.token, None)
    assert {**acquired, "held_seconds": 0} == {**{key: listed[key] for key in acquired}, "held_seconds": 0}
    lock.release()
    released = event(process)
    assert (released["event"], released["token"], released["value"]) == ("released", acquired["token"], "10.1.1.1")
    assert (released["ended"]["how"], released["ended"]["by"]) == ("released", "me")


def test_without_a_name_every_lock_is_watched(watch: Spawn, locks: Realm) -> None:
    process = watch("--json")
    with locks.lock("a"), locks.lock("b"):
        assert [event(process)["lock"], event(process)["lock"]] == ["a", "b"]
    assert [event(process)["lock"], event(process)["lock"]] == ["b", "a"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_ends_it_quietly(watch: Spawn, locks: Realm, name: str) -> None:
    with locks.lock("db"):
        process = watch("--lock-name=db", "--json")
        event(process)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out, err) == (128 + getattr(signal, name), "", "")


def test_a_signal_ends_it_while_etcd_is_away(watch: Spawn, locks: Realm, proxy: Proxy) -> None:
    with locks.lock("db"):
        process = watch("--json", "--connect-timeout=100", env={"DISTLOCK_ENDPOINTS": proxy.url})
        event(process)
        proxy.blackhole()
        process.terminate()
        assert process.wait(BOUND) == 128 + signal.SIGTERM  # far below what a call may take
        assert process.stderr.read() == ""


@pytest.mark.parametrize("happens", [True, False])
def test_it_ends_with_its_reader_even_without_events(watch: Spawn, locks: Realm, *, happens: bool) -> None:
    lock = locks.lock("db").acquire()
    process = watch("--lock-name=db", "--json")
    event(process)
    process.stdout.close()
    if happens:
        lock.release()
    assert process.wait(BOUND) == 0
    assert process.stderr.read() == ""


def test_a_full_disk_is_reported_in_one_line(watch: Spawn, locks: Realm) -> None:
    with locks.lock("db"), open("/dev/full", "w", encoding="utf-8") as full:
        process = watch(stdout=full)
        assert process.wait(BOUND) == 1
    assert one_line(process.stderr.read()) == "distlock: cannot write to stdout: No space left on device"


def test_it_continues_into_a_file(watch: Spawn, locks: Realm, tmp_path: Path) -> None:
    path = tmp_path / "events"
    with open(path, "w", encoding="utf-8") as file, locks.lock("held"):
        process = watch("--json", stdout=file)
        eventually(lambda: path.read_text().count("\n") == 1, "the present state")
        for name in ("a", "b"):
            with locks.lock(name):
                pass
        eventually(lambda: path.read_text().count("\n") == 5, "what has happened since")
        assert process.poll() is None


def test_without_an_etcd_it_fails(run_distlock: Run, proxy: Proxy, realm: RealmView) -> None:
    proxy.cut()
    env = {"DISTLOCK_ENDPOINTS": proxy.url, "DISTLOCK_CONNECT_TIMEOUT": "0.3"}
    done = run_distlock("--watch", "--lock-name=db", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr).startswith("distlock: no etcd answered within ")
    assert realm.all_keys() == {}


def test_a_name_that_is_none_is_refused(run_distlock: Run) -> None:
    done = run_distlock("--watch", "--lock-name=a/b")
    assert done.returncode == 1
    assert "illegal lock name" in one_line(done.stderr)
