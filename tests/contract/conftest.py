"""The cells of the contract: every driver, on every etcd, secured in every way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import pytest
from cell import SECURITY, TRANSPORTS, VERSIONS, Cell
from chains import chains_walked

from distlock_core.testing import Cluster

CELLS = [(version, security, driver) for version in VERSIONS for security in SECURITY for driver in TRANSPORTS]


@pytest.fixture(autouse=True)
def walked() -> Iterator[None]:
    """No error of these tests has a circle in its chain."""
    with chains_walked():
        yield


@pytest.fixture(params=CELLS, ids="-".join)
def cell(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs in every cell."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[1] == "plain"], ids="-".join)
def plain(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers on both etcds, unsecured: where it takes its time, and security plays no part."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[0] == "3.5"], ids="-".join)
def newer(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers, secured in every way, on one etcd: what goes wrong on the way there.

    What 3.4 answers otherwise than 3.5 is found out in every cell; here the fault comes before there is an answer.
    """
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[:2] == ("3.5", "plain")], ids="-".join)
def driver(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers: where neither security nor etcd's version plays a part."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[1] == "auth"], ids="-".join)
def secured(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers on both etcds, with TLS and auth on."""
    yield from _opened(request.param, etcd_cell)


def _opened(names: tuple[str, str, str], etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    version, security, driver = names
    cell = Cell(driver, version, security, etcd_cell(version, security))
    yield cell
    cell.close()
