"""etcd with TLS, users and certificates, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import pytest
from chains import chains_walked
from secured_site import Site

from distlock_core.testing import Cluster, Tls


@pytest.fixture(autouse=True)
def walked() -> Iterator[None]:
    """No error of these tests has a circle in its chain."""
    with chains_walked():
        yield


@pytest.fixture(params=["3.4", "3.5"])
def tls_site(request: pytest.FixtureRequest, etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """TLS without users; the test runs on etcd 3.4 and on 3.5."""
    return Site(etcd_cell(request.param, "tls"), realm_prefix)


@pytest.fixture(params=["3.4", "3.5"])
def auth_site(request: pytest.FixtureRequest, etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """TLS with authentication, seen by root; the test runs on etcd 3.4 and on 3.5."""
    return Site(etcd_cell(request.param, "auth"), realm_prefix)


@pytest.fixture
def tls35(etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """As `tls_site`, on etcd 3.5 alone."""
    return Site(etcd_cell("3.5", "tls"), realm_prefix)


@pytest.fixture(params=["http", "grpc"])
def tls_both(request: pytest.FixtureRequest, etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """As `tls35`; the test runs over both drivers."""
    return Site(etcd_cell("3.5", "tls"), realm_prefix, transport=request.param)


@pytest.fixture
def auth35(etcd_cell: Callable[..., Cluster], realm_prefix: str) -> Site:
    """As `auth_site`, on etcd 3.5 alone."""
    return Site(etcd_cell("3.5", "auth"), realm_prefix)


@pytest.fixture(scope="session")
def picky(start_etcd: Callable[..., Cluster], tls: Tls) -> Cluster:
    """An etcd that wants a client certificate of its own authority."""
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
