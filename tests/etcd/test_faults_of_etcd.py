"""Faults of etcd itself: shown on the versions that have them, and shown gone where they were mended."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.parse
from typing import Any, Callable

import pytest

from distlock_core.errors import NoSpace
from distlock_core.etcd.http.messages import op_json
from distlock_core.etcd.transport import dial
from distlock_core.etcd.values import Delete, Get, Put, prefix_end
from distlock_core.testing import Cluster, Member
from tests.support.contract_cell import BOUND, new_lease, patience
from tests.support.etcd_servers import OLDEST, VERSIONS, WHEEL

Start = Callable[..., Cluster]
TTL = 3  # seconds
REQUEST_TIMEOUT = 6.2  # seconds, of etcd: 5 and two election timeouts
MENDED = "3.5"  # the newest of this series, where the wheel's 3.5.1 has most of the faults


def with_and_without(*faulty: str) -> pytest.MarkDecorator:
    """Each version, and whether it has the fault."""
    cases = [(version, version in faulty) for version in VERSIONS]
    return pytest.mark.parametrize(("version", "has_it"), cases, ids=[version for version, _ in cases])


@with_and_without(OLDEST, WHEEL)
def test_a_watch_misses_a_deletion_at_a_compacted_revision(start_etcd: Start, version: str, has_it: bool) -> None:
    with start_etcd(version=version) as cluster:
        etcd = dial(cluster.endpoints)
        etcd.txn([], [Put(b"x", b"1")], [], patience())
        deleted = etcd.txn([], [Delete(b"x")], [], patience()).revision
        put_again = etcd.txn([], [Put(b"x", b"2")], [], patience()).revision
        cluster.etcdctl("compact", "--physical", str(deleted))  # which waits until it is done
        watch = etcd.watch([(b"x", None)], deleted, patience())
        seen: list[int] = []
        while put_again not in seen:
            came = watch.wait(patience())
            assert came, "the last event never came"
            seen += [event.kv.mod_revision for event in came]
        assert seen == ([put_again] if has_it else [deleted, put_again])
        watch.close()
        etcd.close()


@pytest.mark.parametrize(("version", "has_it"), [(WHEEL, True), (MENDED, False)])
def test_a_client_that_leaves_during_a_read_ends_etcd(start_etcd: Start, version: str, has_it: bool) -> None:
    """A transaction that only reads, long enough to be left while it is executed."""
    with start_etcd(version=version) as cluster:
        (member,) = cluster.members
        etcd = dial(cluster.endpoints)
        for number in range(20):
            puts = [Put(b"/many/%d/%d" % (number, other), b"x" * 50) for other in range(100)]
            etcd.txn([], puts, [], patience())
        reads = [op_json(Get(b"/many/", prefix_end(b"/many/")))] * 100
        for attempt in range(20):
            leave_after(member, "/v3/kv/txn", {"success": reads}, 0.02 * (attempt % 5))
            if has_it and gone(member, 0.5):
                break
        assert (member.pid is None) == has_it
        assert has_it or member.is_healthy()


def leave_after(member: Member, path: str, message: Any, seconds: float) -> None:
    """Send a request, and hang up without reading the answer."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(member.client_url).netloc, timeout=BOUND)
    connection.request("POST", path, json.dumps(message))
    time.sleep(seconds)
    connection.close()


def gone(member: Member, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while member.pid is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return member.pid is None


@pytest.mark.parametrize(("version", "has_it"), [(WHEEL, True), (MENDED, False)])
def test_beyond_its_quota_etcd_refuses_transactions_of_deletes(start_etcd: Start, version: str, has_it: bool) -> None:
    with start_etcd(version=version, extra_args=["--quota-backend-bytes=1000000"]) as cluster:
        etcd = dial(cluster.endpoints)
        with pytest.raises(NoSpace):
            fill(etcd)
        time.sleep(0.5)  # the size of its file is written every 0.1 s
        with pytest.raises(NoSpace) if has_it else contextlib.nullcontext():
            etcd.txn([], [Delete(b"/fill/0")], [], patience())
        etcd.close()


def fill(etcd: Any) -> None:
    for number in range(100):
        etcd.txn([], [Put(b"/fill/%d" % number, bytes(100_000))], [], patience())


def test_a_leader_that_was_stopped_revokes_leases_that_were_renewed_elsewhere(start_etcd: Start) -> None:
    """On waking it finds them expired, before it learns of its successor, and then asks that one to revoke them.

    3.5.13 and later make sure first that they lead, except right after a tick: there it happens at times.
    """
    with start_etcd(3, version=WHEEL) as cluster:
        old = cluster.leader()
        etcd = dial([member.client_url for member in cluster.members if member is not old])
        # It asks for 16 at a time, and waits for those that it has proposed as a leader until they time out.
        leases = [new_lease() for _ in range(20)]
        for lease in leases:
            etcd.grant(lease, TTL, patience())
        old.pause()
        cluster.leader()
        assert not lost_of(etcd, leases, 1.5 * TTL), "the new leader keeps them"
        old.resume()
        assert lost_of(etcd, leases, REQUEST_TIMEOUT + 2 * TTL)
        etcd.close()


def lost_of(etcd: Any, leases: list[int], seconds: float) -> list[int]:
    """Renew them for a while; those that are gone, as soon as there is one."""
    deadline = time.monotonic() + seconds
    lost: list[int] = []
    while not lost and time.monotonic() < deadline:
        lost = [lease for lease in leases if not etcd.keep_alive(lease, patience())]
        time.sleep(TTL / 10)
    return lost
