"""Fixtures for all tests: real etcd of each version, plain, with TLS and with auth, shared by the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster, Proxy, Tls, etcd_version
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
    """start_etcd(members=1, version=None, **options) -> Cluster, small timeouts, no fsync; ended with the session."""
    started: list[Cluster] = []

    def start(members: int = 1, version: str | None = None, **options: Any) -> Cluster:
        etcd = need_tool("etcd" if version is None else f"etcd {version}")
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
    """One member, shared by the tests of an xdist worker: leave it running, and stay under `realm_prefix`."""
    return start_etcd()


@pytest.fixture(scope="session")
def etcd34(request: pytest.FixtureRequest) -> Cluster:
    """As `etcd`, but 3.4."""
    return _of_version("3.4", request)


@pytest.fixture(scope="session")
def etcd35(request: pytest.FixtureRequest) -> Cluster:
    """As `etcd`, but 3.5."""
    return _of_version("3.5", request)


def _of_version(version: str, request: pytest.FixtureRequest) -> Cluster:
    """`etcd` itself where it has this version, otherwise another one: an idle etcd takes time, too."""
    if need_tool(f"etcd {version}") == need_tool("etcd"):
        cluster: Cluster = request.getfixturevalue("etcd")
    else:
        cluster = request.getfixturevalue("start_etcd")(version=version)
    return cluster


@pytest.fixture(params=["3.4", "3.5"])
def each_etcd(request: pytest.FixtureRequest) -> Cluster:
    """The test runs twice: on `etcd34` and on `etcd35`."""
    cluster: Cluster = request.getfixturevalue("etcd" + request.param.replace(".", ""))
    return cluster


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """An authority, a server's certificate for 127.0.0.1 and localhost, and a client's without a common name."""
    need_tool("openssl")
    return Tls.make(str(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="session")
def etcd_cell(start_etcd: Callable[..., Cluster], request: pytest.FixtureRequest) -> Callable[[str, str], Cluster]:
    """etcd_cell("3.4" or "3.5", "plain", "tls" or "auth" (TLS with auth on)) -> Cluster, one of each for a worker.

    `cluster.settings` are the settings of a client that may do everything.
    """
    cells: dict[tuple[str, str], Cluster] = {}

    def cell(version: str, security: str) -> Cluster:
        if security == "plain":
            plain: Cluster = request.getfixturevalue("etcd" + version.replace(".", ""))
            return plain
        if (version, security) not in cells:
            # Otherwise a login takes 60 ms, and tests log in often.
            cheap = ["--bcrypt-cost=4"]
            cluster = start_etcd(version=version, tls=request.getfixturevalue("tls"), extra_args=cheap)
            if security == "auth":
                cluster.enable_auth()
            cells[version, security] = cluster
        return cells[version, security]

    return cell


@pytest.fixture
def user_of_realm(etcd_cell: Callable[[str, str], Cluster], realm_prefix: str) -> Callable[[str], dict[str, Any]]:
    """user_of_realm(password) -> the settings of a user with rights only below the realm's prefix."""

    def add(password: str) -> dict[str, Any]:
        cluster = etcd_cell("3.5", "auth")
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
    with start_etcd(version="3.5") as cluster:
        yield cluster


def commits(cluster: Cluster) -> float:
    """The writes that an etcd of one member has agreed on so far, including those that failed."""
    return cluster.members[0].metric("etcd_server_proposals_committed_total")


@pytest.fixture
def proxy(etcd: Cluster) -> Iterator[Proxy]:
    """A Proxy in front of `etcd`."""
    with Proxy(etcd.endpoints[0]) as proxy:
        yield proxy
