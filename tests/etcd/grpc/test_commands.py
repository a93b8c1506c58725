"""The command over gRPC, end to end: output, exit codes, signals, a lost lease, the keeper."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import connect
from distlock_core.testing import Cluster, Proxy
from tests.support.contract_cell import BOUND, until
from tests.support.needs import need
from tests.support.processes import Process

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
GRPC = "--transport=grpc"


def test_a_command_runs_under_its_lock_and_inherits_nothing_of_grpc(run_distlock: Run) -> None:
    env = {"GRPC_VERBOSITY": None, "GRPC_TRACE": None}
    done = run_distlock(GRPC, "--lock-name=web", "--ttl=10", "--", "env", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert {"DISTLOCK_TOKEN", "DISTLOCK_LEASE"} <= names
    assert "GRPC_VERBOSITY" not in names


@pytest.mark.parametrize("ttl", [(), ("--ttl=600",)], ids=["persistent", "leased"])
def test_codes_and_operations_are_those_of_the_gateway(run_distlock: Run, ttl: tuple[str, ...]) -> None:
    assert run_distlock(GRPC, *ttl, "--lock-name=web", "--", "sh", "-c", "exit 7").returncode == 7
    assert run_distlock(GRPC, "--lock-name=web", "--lock", "--reason=why", *ttl).returncode == 0
    listed = [
        json.loads(run_distlock(one, "--json", "--list").stdout)["locks"][0] for one in (GRPC, "--transport=http")
    ]
    for one in listed:
        one.pop("held_seconds")
        one.pop("ttl_left", None)
    assert listed[0] == listed[1]
    busy = run_distlock(GRPC, "--lock-name=web", "--nowait", "--", "true")
    assert busy.returncode == 1
    assert "web is held by" in busy.stderr
    assert run_distlock(GRPC, "--lock-name=web", "--unlock").returncode == 0
    assert run_distlock(GRPC, "--lock-name=web", "--unlock").returncode == 1


def started(process: Process) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("ttl", [(), ("--ttl=10",)], ids=["persistent", "leased"])
def test_a_signal_reaches_the_command_and_the_lock_is_released(
    run_distlock: Run, spawn_distlock: Spawn, number: signal.Signals, ttl: tuple[str, ...]
) -> None:
    process = spawn_distlock(GRPC, "--lock-name=web", *ttl, "--", "sh", "-c", "echo started; exec sleep 60")
    started(process)
    process.send_signal(number)
    assert process.wait(BOUND) == 128 + number
    assert process.stderr.read() == ""
    assert run_distlock("--json", "--list").stdout == '{"locks": [], "frozen": null}\n'


def test_a_signal_to_a_waiter_leaves_no_ticket(
    run_distlock: Run, spawn_distlock: Spawn, etcd: Cluster, realm_prefix: str
) -> None:
    run_distlock("--lock-name=web", "--lock")
    process = spawn_distlock(GRPC, "--lock-name=web", "--", "true")
    realm = connect(etcd.endpoints, realm_prefix)
    until(lambda: realm.show("web").waiting)
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    assert realm.show("web").waiting == 0


def test_a_waiter_over_grpc_is_served_when_a_holder_over_the_gateway_releases(
    run_distlock: Run, spawn_distlock: Spawn, etcd: Cluster, realm_prefix: str
) -> None:
    run_distlock("--transport=http", "--lock-name=web", "--lock")
    process = spawn_distlock(GRPC, "--lock-name=web", "--", "echo", "served")
    realm = connect(etcd.endpoints, realm_prefix)
    until(lambda: realm.show("web").waiting)
    assert run_distlock("--transport=http", "--lock-name=web", "--unlock").returncode == 0
    assert process.communicate(timeout=BOUND)[0] == "served\n"


def test_a_lock_that_is_taken_away_ends_the_command(run_distlock: Run, spawn_distlock: Spawn) -> None:
    process = spawn_distlock(GRPC, "--lock-name=web", "--ttl=10", "--", "sh", "-c", "echo started; exec sleep 60")
    started(process)
    run_distlock("--lock-name=web", "--unlock")
    assert process.wait(BOUND) == 2
    assert "the lock was lost" in process.stderr.read()


@pytest.mark.parametrize("fault", ["cut", "blackhole"])
def test_a_lease_that_cannot_be_renewed_ends_the_command_in_time(
    spawn_distlock: Spawn, etcd: Cluster, fault: str
) -> None:
    with Proxy(etcd.endpoints[0]) as proxy:
        env = {"DISTLOCK_ENDPOINTS": proxy.url}
        command = ("sh", "-c", "echo started; exec sleep 60")
        process = spawn_distlock(GRPC, "--lock-name=web", "--ttl=6", "--release-timeout=1", "--", *command, env=env)
        started(process)
        getattr(proxy, fault)()
        assert process.wait(BOUND) == 2
        assert "etcd has confirmed no renewal" in process.stderr.read()


def test_a_short_outage_kills_no_command(spawn_distlock: Spawn, etcd: Cluster, tmp_path: Path) -> None:
    end = tmp_path / "end"
    with Proxy(etcd.endpoints[0]) as proxy:
        env = {"DISTLOCK_ENDPOINTS": proxy.url}
        command = ("sh", "-c", f"echo started; until test -e {end}; do sleep 0.1; done")
        process = spawn_distlock(GRPC, "--lock-name=web", "--ttl=10", "--", *command, env=env)
        started(process)
        proxy.cut()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        proxy.heal()
        end.touch()
        assert process.wait(BOUND) == 0


def test_a_keeper_speaks_as_its_starter_does(run_distlock: Run, etcd: Cluster, realm_prefix: str) -> None:
    bound = subprocess.Popen(["sleep", "60"])
    try:
        done = run_distlock(GRPC, "--lock-name=web", "--lock", f"--while-pid={bound.pid}", "--ttl=60", "--json")
        assert done.returncode == 0, done.stderr
        realm = connect(etcd.endpoints, realm_prefix)
        keeper = realm.show("web").holders[0].keeper
        assert keeper is not None
        with open(f"/proc/{keeper}/maps", encoding="utf-8") as maps:
            assert "cygrpc" in maps.read()
        with open(f"/proc/{keeper}/cmdline", encoding="utf-8") as words:
            assert urllib.parse.urlsplit(etcd.endpoints[0]).netloc not in words.read()
    finally:
        bound.kill()
        bound.wait()
    until(lambda: not realm.show("web").holders)


@pytest.mark.timeout(240)
def test_salt_locks_over_grpc_beside_its_own_protobuf(etcd: Cluster, realm_prefix: str, tmp_path: Path) -> None:
    """In a real salt-call, whose opentelemetry has loaded protobuf, compiled, before any of our modules."""
    salt_call = need("salt-call") if not os.access(_beside("salt-call"), os.X_OK) else _beside("salt-call")
    (tmp_path / "minion").write_text(
        f"root_dir: {tmp_path}\nfile_client: local\nid: m0\n"
        f"distlock:\n  endpoints: {etcd.endpoints[0]}\n  prefix: {realm_prefix}\n  transport: grpc\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("DISTLOCK_", "PROTOCOL_"))}
    done = subprocess.run(
        [salt_call, "--local", f"--config-dir={tmp_path}", "--retcode-passthrough", "distlock.lock", "web"],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [state.name for state in connect(etcd.endpoints, realm_prefix).list()] == ["web"]


def _beside(command: str) -> str:
    return os.path.join(os.path.dirname(sys.executable), command)
