"""Through `etcd grpc-proxy`, which passes gRPC on by its own rules: it cancels a stream that its client half-closes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.embedded.ports import free_ports
from distlock_core.embedded.spawn import spawn
from distlock_core.etcd.transport import dial
from distlock_core.etcd.values import Delete, Get, Put
from distlock_core.testing import Cluster
from tests.support.contract_cell import BOUND, events_of, new_lease, patience, until
from tests.support.etcd_servers import ENDS
from tests.support.processes import Output, Process

Spawn = Callable[..., "Process"]


@pytest.fixture(params=ENDS)
def proxied(
    request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster], need: Callable[..., str], tmp_path: Path
) -> Iterator[tuple[Cluster, str]]:
    """An etcd, and the endpoint of a grpc-proxy of the same version in front of it."""
    cluster = etcd_cell(request.param, "plain")
    (port,) = free_ports(1)
    target = cluster.endpoints[0].partition("://")[2]
    words = [need(f"etcd {request.param}"), "grpc-proxy", "start", f"--endpoints={target}"]
    with (tmp_path / "log").open("wb") as log:
        process = spawn(
            [*words, f"--listen-addr=127.0.0.1:{port}", f"--data-dir={tmp_path}/proxy"],
            env=dict(os.environ),
            output=log,
        )
    try:
        yield cluster, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(BOUND)


@pytest.mark.parametrize("transport", ["grpc", "auto"])
def test_a_lease_is_renewed_through_a_grpc_proxy(
    proxied: tuple[Cluster, str], realm_prefix: str, transport: str
) -> None:
    _, url = proxied
    etcd = dial([url], transport=transport)
    key, lease = f"{realm_prefix}x".encode(), new_lease()
    try:
        assert etcd.grant(lease, 2, patience()) == 2
        revision = etcd.txn([], [Put(key, b"v", lease)], [], patience()).revision
        watch = etcd.watch([(key, None)], revision + 1, patience())
        for _ in range(9):
            assert etcd.keep_alive(lease, patience()) == 2
            assert watch.wait(patience(0.3)) == []
        assert etcd.read([Get(key)], patience()).ranges()[0].total == 1
        assert etcd.keep_alive(new_lease(), patience()) == 0
        etcd.txn([], [Delete(key)], [], patience())
        assert events_of(watch, 1)[0].deleted
        watch.close()
        etcd.revoke(lease, patience())
    finally:
        etcd.close()


def test_a_leased_command_outlives_its_ttl_behind_a_grpc_proxy(
    proxied: tuple[Cluster, str], realm_prefix: str, spawn_distlock: Spawn
) -> None:
    cluster, url = proxied
    process = spawn_distlock(
        "--lock-name=x",
        "--ttl=3",
        "--",
        "sh",
        "-c",
        "echo in; read end; echo out",
        stdin=subprocess.PIPE,
        env={"DISTLOCK_ENDPOINTS": url, "DISTLOCK_TRANSPORT": "grpc"},
    )
    Output(process.stdout).until("in\n")
    held = kv(cluster, f"{realm_prefix}x")
    since = time.monotonic()
    until(lambda: time.monotonic() > since + 5)  # what passes is what is tested: more than the ttl
    assert kv(cluster, f"{realm_prefix}x") == held
    out, said = process.communicate("\n", timeout=BOUND)
    assert (process.returncode, out, said) == (0, "out\n", "")


def kv(cluster: Cluster, key: str) -> Any:
    return json.loads(cluster.etcdctl("get", key, "-w", "json"))["kvs"][0]
