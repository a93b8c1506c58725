"""Leases, over both drivers on both etcds."""

from __future__ import annotations

import time

import pytest

from distlock_core.etcd.values import LeaseGone
from tests.support.contract_cell import Cell, events_of, new_lease, patience, until


def test_a_lease_is_granted_under_the_chosen_id(cell: Cell) -> None:
    lease = new_lease()
    assert cell.etcd.grant(lease, 30, patience()) == 30
    assert 0 < cell.etcd.time_to_live(lease, patience()) <= 30
    assert cell.other().time_to_live(lease, patience()) > 0
    cell.etcd.revoke(lease, patience())


@pytest.mark.parametrize("lease", [(1 << 63) - 1, (1 << 62) + 7, 9007199254740993], ids=hex)
def test_a_lease_has_64_bits(cell: Cell, lease: int) -> None:
    """The last one is the first that a JSON number would not carry."""
    assert cell.etcd.grant(lease, 30, patience()) == 30
    cell.put("x", b"", lease)
    found = cell.get("x")
    assert found is not None
    assert found.lease == lease
    cell.etcd.revoke(lease, patience())
    assert cell.get("x") is None


def test_granting_a_lease_twice_is_harmless(cell: Cell) -> None:
    lease = cell.lease(30)
    assert cell.etcd.grant(lease, 30, patience()) == 30
    assert cell.other().grant(lease, 60, patience()) == 30
    cell.etcd.revoke(lease, patience())


def test_the_ttl_has_a_minimum_and_the_granted_one_is_returned(cell: Cell) -> None:
    """1.5 election timeouts, in whole seconds: 600 ms are set for these tests."""
    lease = new_lease()
    assert cell.etcd.grant(lease, 1, patience()) == 1
    assert cell.etcd.keep_alive(lease, patience()) == 1
    long = new_lease()
    assert cell.etcd.grant(long, 9_000_000_000, patience()) == 9_000_000_000
    for one in (lease, long):
        cell.etcd.revoke(one, patience())


def test_a_ttl_beyond_the_limit_is_refused(cell: Cell) -> None:
    with pytest.raises(Exception, match="etcd refuses: etcdserver: too large lease TTL"):
        cell.etcd.grant(new_lease(), 9_000_000_001, patience())


def test_a_renewal_returns_the_ttl_and_restarts_it(cell: Cell) -> None:
    lease = cell.lease(30)
    until(lambda: cell.etcd.time_to_live(lease, patience()) < 30)
    since = time.monotonic()
    assert cell.etcd.keep_alive(lease, patience()) == 30
    assert cell.etcd.time_to_live(lease, patience()) >= 29 - (time.monotonic() - since)
    cell.etcd.revoke(lease, patience())


def test_a_missing_lease_has_a_ttl_of_0(cell: Cell) -> None:
    lease = new_lease()
    assert cell.etcd.keep_alive(lease, patience()) == 0
    assert cell.etcd.time_to_live(lease, patience()) == 0


def test_revoking_deletes_the_keys_and_twice_is_no_error(everywhere: Cell) -> None:
    lease = everywhere.lease()
    everywhere.put("x", b"", lease)
    everywhere.put("y", b"", lease)
    everywhere.put("z")
    everywhere.etcd.revoke(lease, patience())
    everywhere.etcd.revoke(lease, patience())
    assert [everywhere.get(name) is None for name in "xyz"] == [True, True, False]
    with pytest.raises(LeaseGone):
        everywhere.put("x", b"", lease)


def test_a_lease_that_is_not_renewed_expires_with_its_keys(plain: Cell) -> None:
    lease = plain.lease(1)
    revision = plain.put("x", b"", lease)
    watch = plain.watch((plain.key("x"), None), revision=revision + 1)
    (event,) = events_of(watch, 1)
    assert event.deleted
    assert plain.etcd.keep_alive(lease, patience()) == 0
    assert plain.get("x") is None


def test_a_lease_that_is_renewed_in_time_lives_on(plain: Cell) -> None:
    lease = plain.lease(2)
    revision = plain.put("x", b"", lease)
    watch = plain.watch((plain.key("x"), None), revision=revision + 1)
    for _ in range(9):
        assert plain.etcd.keep_alive(lease, patience()) == 2
        assert watch.wait(patience(0.3)) == []
    assert plain.get("x") is not None
    plain.etcd.revoke(lease, patience())
    assert events_of(watch, 1)[0].deleted
