"""The cells of the contract: every driver, on every etcd, secured in some way; and realms in secured etcds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster, Tls
from tests.support.contract_cell import SECURITY, TRANSPORTS, Cell
from tests.support.etcd_servers import ENDS, NEWEST, VERSIONS
from tests.support.exception_chains import chains_walked
from tests.support.secured_site import Site

BETWEEN = [version for version in VERSIONS if version not in ENDS]
# TLS is the same for all of them, a login is not.
CELLS = [
    (version, security, driver)
    for version in VERSIONS
    for security in SECURITY
    for driver in TRANSPORTS
    if security != "tls" or version in ENDS
]


def cells_of(test: str) -> list[tuple[str, str, str]]:
    """Each driver on each etcd; on the oldest and the newest one, each driver and etcd in the clear and through TLS.

    A driver reads, writes and watches by its own code, over a socket or over TLS, and each etcd answers in its own way.
    A login comes before, on the connection, and knows nothing of the request: one of the two with TLS has it. The name
    of the test decides which cells it gets, so each cell has its share of the tests.
    """
    odd, login = divmod(zlib.crc32(test.encode()) % 4, 2)
    through_tls = ("auth", "tls") if login else ("tls", "auth")
    return [
        (version, "plain" if (row + column + odd) % 2 else through_tls[row], driver)
        for row, driver in enumerate(TRANSPORTS)
        for column, version in enumerate(ENDS)
    ] + [(version, "plain", driver) for version in BETWEEN for driver in TRANSPORTS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = cells_of(metafunc.function.__name__)
        metafunc.parametrize("cell", cells, ids=["-".join(one) for one in cells], indirect=True)


@pytest.fixture(autouse=True)
def walked() -> Iterator[None]:
    """No error of these tests has a circle in its chain."""
    with chains_walked():
        yield


@pytest.fixture
def cell(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers, and on all etcds, secured in one way or another: see `cells_of`."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=CELLS, ids="-".join)
def everywhere(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs in every cell: a sample of what is tested in some."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[0] in ENDS and one[1] == "plain"], ids="-".join)
def plain(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """As `newer`, also on the oldest, and never secured: where it takes its time, and security plays no part."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[0] == NEWEST and one[1] != "tls"], ids="-".join)
def newer(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers, in the clear and through TLS (with a login), on one etcd: faults on the way.

    Where etcds answer differently, tests with `cell` show it; here the fault comes before there is an answer.
    """
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=[one for one in CELLS if one[:2] == (NEWEST, "plain")], ids="-".join)
def driver(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers: where neither security nor etcd's version plays a part."""
    yield from _opened(request.param, etcd_cell)


# Of those between the ends, one driver each.
SECURED = [(version, "auth", driver) for version in ENDS for driver in TRANSPORTS]
SECURED += [(version, "auth", list(TRANSPORTS)[place % 2]) for place, version in enumerate(BETWEEN)]


@pytest.fixture(params=SECURED, ids="-".join)
def secured(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    """The test runs over both drivers, and on all etcds, with TLS and auth on."""
    yield from _opened(request.param, etcd_cell)


@pytest.fixture(params=ENDS)
def tls_site(request: pytest.FixtureRequest, etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """TLS without users; the test runs on the oldest and the newest etcd."""
    return Site(etcd_cell(request.param, "tls"), realm_prefix)


@pytest.fixture(params=ENDS)
def auth_site(request: pytest.FixtureRequest, etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """TLS with authentication, seen by root; the test runs on the oldest and the newest etcd."""
    return Site(etcd_cell(request.param, "auth"), realm_prefix)


@pytest.fixture
def tls_newest(etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """As `tls_site`, on the newest etcd alone."""
    return Site(etcd_cell(NEWEST, "tls"), realm_prefix)


@pytest.fixture(params=["http", "grpc"])
def tls_both(request: pytest.FixtureRequest, etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """As `tls_newest`; the test runs over both drivers."""
    return Site(etcd_cell(NEWEST, "tls"), realm_prefix, transport=request.param)


@pytest.fixture
def auth_newest(etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """As `auth_site`, on the newest etcd alone."""
    return Site(etcd_cell(NEWEST, "auth"), realm_prefix)


@pytest.fixture(scope="session")
def picky(start_etcd: Callable[..., Cluster], tls: Tls) -> Cluster:
    """An etcd that requires a client certificate from its authority."""
    return start_etcd(tls=tls._replace(wants_client_cert=True))


@pytest.fixture(params=["http", "grpc"])
def picky_both(request: pytest.FixtureRequest, picky: Cluster, realm_prefix: str) -> Site:
    """A site in `picky`; the test runs over both drivers."""
    return Site(picky, realm_prefix, transport=request.param)


@pytest.fixture
def own_auth(start_etcd: Callable[..., Cluster], realm_prefix: str) -> Iterator[Callable[..., Site]]:
    """own_auth(members=1, **options of start_etcd) -> a Site with auth on, the test's own: to restart and to change."""
    started: list[Cluster] = []

    def start(members: int = 1, **options: Any) -> Site:
        started.append(start_etcd(members, **options))
        started[-1].enable_auth()
        return Site(started[-1], realm_prefix)

    yield start
    for cluster in started:
        cluster.stop()


def _opened(names: tuple[str, str, str], etcd_cell: Callable[[str, str], Cluster]) -> Iterator[Cell]:
    version, security, driver = names
    cell = Cell(driver, version, security, etcd_cell(version, security))
    yield cell
    cell.close()
