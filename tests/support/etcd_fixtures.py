"""Fixtures for all tests: real etcd of each version, plain, with TLS and with auth, shared by the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster, Proxy, Tls, etcd_version
from tests.support.etcd_servers import ENDS, NEWEST, OLDEST
from tests.support.needs import need as need_tool

# Of an etcd that syncs no file: an idle one takes half of the time with threads for one core, and there are dozens.
ONE_CORE = {"GOMAXPROCS": "1"}
LESS_GARBAGE = {"GOGC": "400"}  # for 15 MB of memory


@pytest.fixture(scope="session")
def need() -> Callable[..., str]:
    """need("etcd 3.4") -> its path, or the test is skipped (fails under CI=true)."""
    return need_tool


@pytest.fixture(scope="session")
def start_etcd() -> Iterator[Callable[..., Cluster]]:
    """start_etcd(members=1, version=NEWEST, **options) -> Cluster, small timeouts, no fsync; ended with the session."""
    started: list[Cluster] = []

    def start(members: int = 1, version: str = NEWEST, **options: Any) -> Cluster:
        etcd = need_tool(f"etcd {version}")
        # A lease's TTL floor is 1 s with these.
        fast = {"heartbeat_ms": 100, "election_ms": 600, "fsync": False}
        started.append(Cluster.start(members, etcd=etcd, **{**fast, "env": thrifty(etcd), **options}))
        return started[-1]

    yield start
    for cluster in started:
        cluster.stop()


def thrifty(etcd: str) -> dict[str, str]:
    """The environment in which this etcd takes the least time of a machine that runs many of them.

    3.4 cannot do without syncs. Each would hold up an etcd that has threads for one core.
    """
    return LESS_GARBAGE if etcd_version(etcd).startswith("3.4.") else {**ONE_CORE, **LESS_GARBAGE}


@pytest.fixture(scope="session")
def etcd(start_etcd: Callable[..., Cluster]) -> Cluster:
    """One member of the newest version, shared by the tests of an xdist worker: leave it running, and stay under
    `realm_prefix`.
    """
    return start_etcd()


@pytest.fixture(scope="session")
def oldest_etcd(start_etcd: Callable[..., Cluster]) -> Cluster:
    """As `etcd`, of the oldest version."""
    return start_etcd(version=OLDEST)


@pytest.fixture(params=ENDS)
def each_etcd(request: pytest.FixtureRequest) -> Cluster:
    """The test runs twice: on the oldest and on the newest version."""
    cluster: Cluster = request.getfixturevalue("oldest_etcd" if request.param == OLDEST else "etcd")
    return cluster


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """An authority, a server's certificate for 127.0.0.1 and localhost, and a client's without a common name."""
    need_tool("openssl")
    return Tls.make(str(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="session")
def etcd_cell(start_etcd: Callable[..., Cluster], request: pytest.FixtureRequest) -> Callable[[str, str], Cluster]:
    """etcd_cell(version, "plain", "tls" or "auth" (TLS with auth on)) -> Cluster, one of each for a worker.

    `cluster.settings` are the settings of a client that may do everything.
    """
    cells: dict[tuple[str, str], Cluster] = {}

    def cell(version: str, security: str) -> Cluster:
        if security == "plain" and version in ENDS:
            plain: Cluster = request.getfixturevalue("oldest_etcd" if version == OLDEST else "etcd")
            return plain
        if (version, security) not in cells:
            options: dict[str, Any] = {}
            if security != "plain":
                # Otherwise a login takes 60 ms, and tests log in often.
                options = {"tls": request.getfixturevalue("tls"), "extra_args": ["--bcrypt-cost=4"]}
            cluster = start_etcd(version=version, **options)
            if security == "auth":
                cluster.enable_auth()
            cells[version, security] = cluster
        return cells[version, security]

    return cell


@pytest.fixture
def user_of_realm(etcd_cell: Callable[[str, str], Cluster], realm_prefix: str) -> Callable[[str], dict[str, Any]]:
    """user_of_realm(password) -> the settings of a user with rights only below the realm's prefix."""

    def add(password: str) -> dict[str, Any]:
        cluster = etcd_cell(NEWEST, "auth")
        access = cluster.add_user(f"user-{realm_prefix[3:9]}", password, [("readwrite", realm_prefix)])
        return {**access, "endpoints": cluster.endpoints, "prefix": realm_prefix}

    return add


@pytest.fixture
def cluster3(start_etcd: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Three members for one test, to stop, kill and pause."""
    with start_etcd(3) as cluster:
        yield cluster


@pytest.fixture
def quiet_etcd(start_etcd: Callable[..., Cluster]) -> Iterator[Cluster]:
    """One member for one test, whose `commits()` are those of the test alone."""
    with start_etcd() as cluster:
        yield cluster


def commits(cluster: Cluster) -> float:
    """The writes that an etcd of one member has agreed on so far, including those that failed."""
    return cluster.members[0].metric("etcd_server_proposals_committed_total")


@pytest.fixture
def proxy(etcd: Cluster) -> Iterator[Proxy]:
    """A Proxy in front of `etcd`."""
    with Proxy(etcd.endpoints[0]) as proxy:
        yield proxy
