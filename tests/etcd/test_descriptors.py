"""File descriptors: few are left, and each is given back as soon as it is not needed any more."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys

import pytest

from distlock_core.etcd.values import Get, Put
from distlock_core.testing import Cluster
from tests.support.contract_cell import Cell, new_lease, patience

# Its arguments: an endpoint, a transport, how many descriptors are free, and what has been done before that.
PROGRAM = """
import os, sys
from distlock_core import errors
from distlock_core.etcd.values import Get
from distlock_core.etcd.transport import dial
from distlock_core.base.deadline import Patience
url, transport, free, before = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
patience = lambda seconds: Patience.lasting(seconds)
etcd = dial([url], transport=transport)
etcd.load_all()
if before == "read":
    etcd.read([Get(b"x")], patience(20))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(free):
    os.close(taken.pop())
for ask in (
    lambda: etcd.read([Get(b"x")], patience(0.3)),
    lambda: etcd.keep_alive(7, patience(0.3)),
    lambda: etcd.keep_alive(7, patience(0.3), fresh=True),
    lambda: etcd.watch([(b"x", None)], 1, patience(0.3)).close(),
):
    try:
        ask()
    except errors.EtcdUnavailable as error:
        print(error)
for descriptor in taken:
    os.close(descriptor)
etcd.read([Get(b"x")], patience(20))
etcd.close()
print("alive")
"""


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_shortage_of_descriptors_counts_as_an_outage_and_passes(etcd: Cluster, transport: str) -> None:
    """No error but our own, nothing on stderr, and above all no end of the process: it goes on when they are back."""
    for before in ("nothing", "read"):
        for free in (0, 1, 2, 3, 4, 5, 6, 8, 12):
            words = [sys.executable, "-c", PROGRAM, etcd.endpoints[0], transport, str(free), before]
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=60, check=False, preexec_fn=_with_few_descriptors
            )
            assert (done.returncode, done.stderr) == (0, ""), (free, before, done)
            assert done.stdout.endswith("alive\n")


def _with_few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_a_call_closes_its_descriptors_without_the_garbage_collector(driver: Cell) -> None:
    lease = driver.lease()
    driver.etcd.read([Get(driver.key("x"))], patience())
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(20):
            revision = driver.etcd.txn([], [Put(driver.key("x"), b"v")], [], patience()).revision
            driver.etcd.keep_alive(lease, patience())
            driver.etcd.keep_alive(new_lease(), patience())
            driver.etcd.watch([(driver.key("x"), None)], revision + 1, patience()).close()
        assert len(os.listdir("/proc/self/fd")) <= before + 8  # some are closed in gRPC's own time
    finally:
        gc.enable()
    driver.etcd.revoke(lease, patience())
