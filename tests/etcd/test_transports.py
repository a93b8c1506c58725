"""Selection of the driver: by the setting, or automatically without a usable gateway; and both drivers together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import EtcdUnavailable, connect
from distlock_core.etcd.values import Get, Put
from distlock_core.testing import Cluster, Tls
from tests.support.contract_cell import BOUND, Cell, Started, patience, until
from tests.support.etcd_servers import ENDS


@pytest.fixture(scope="module", params=ENDS)
def without_gateway(request: pytest.FixtureRequest, start_etcd: Callable[..., Cluster]) -> Iterator[Cluster]:
    """An etcd with its JSON gateway disabled."""
    with start_etcd(version=request.param, extra_args=["--enable-grpc-gateway=false"]) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=ENDS)
def named(
    request: pytest.FixtureRequest, start_etcd: Callable[..., Cluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, dict[str, Any]]]:
    """An etcd with auth and client certificates, and the settings of a client whose common name is its user."""
    tls = Tls.make(str(tmp_path_factory.mktemp("named")), wants_client_cert=True)
    with start_etcd(version=request.param, tls=tls, extra_args=["--bcrypt-cost=4"]) as cluster:
        cluster.enable_auth()
        certificate = tls.authority.issue("root", names=())
        yield cluster, {**tls.settings, "cert": certificate.cert, "key": certificate.key}


# By itself.


def test_auto_speaks_grpc_where_the_gateway_is_switched_off(without_gateway: Cluster, realm_prefix: str) -> None:
    realm = connect(without_gateway.endpoints, realm_prefix, connect_timeout=BOUND)
    with realm.lock("web", "me", ttl=5) as lock:
        assert lock.verify()
        assert [state.name for state in realm.list()] == ["web"]
    realm.close()


@pytest.mark.parametrize("version", ENDS)
def test_auto_speaks_grpc_where_the_gateway_does_not_answer_to_the_host_name(
    start_etcd: Callable[..., Cluster], realm_prefix: str, version: str
) -> None:
    with start_etcd(version=version, extra_args=["--host-whitelist=127.0.0.1"]) as cluster:
        url = cluster.endpoints[0].replace("127.0.0.1", "localhost")
        with connect(url, realm_prefix, connect_timeout=BOUND) as realm, realm.lock("web", "me") as lock:
            assert lock.verify()
        with pytest.raises(EtcdUnavailable, match=r"421.*over gRPC"):
            connect(url, realm_prefix, connect_timeout=1.0, transport="http").list()


def test_auto_speaks_grpc_where_the_gateway_refuses_a_certificate_with_a_name(
    named: tuple[Cluster, dict[str, Any]], realm_prefix: str
) -> None:
    cluster, settings = named
    realm = connect(cluster.endpoints, realm_prefix, connect_timeout=BOUND, **settings)
    with realm.lock("web", "me", ttl=5) as lock:
        assert lock.verify()
    realm.close()


def test_auto_stays_with_the_gateway_where_there_is_one(etcd: Cluster, realm_prefix: str) -> None:
    program = (
        "import sys; from distlock_core import connect\n"
        f"with connect({etcd.endpoints!r}, {realm_prefix!r}).lock('web', 'me', ttl=5): pass\n"
        "assert 'grpc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("transport", ["http", "grpc", "auto"])
def test_a_client_obeys_its_settings(without_gateway: Cluster, realm_prefix: str, transport: str) -> None:
    limit = 1.0 if transport == "http" else BOUND
    realm = connect(without_gateway.endpoints, realm_prefix, transport=transport, connect_timeout=limit)
    if transport == "http":
        with pytest.raises(EtcdUnavailable, match=r"it has no JSON gateway \(404\).*over gRPC"):
            realm.list()
    else:
        assert realm.list() == []
    realm.close()


def test_http_explains_why_the_gateway_refuses_the_certificate(
    named: tuple[Cluster, dict[str, Any]], realm_prefix: str
) -> None:
    cluster, settings = named
    realm = connect(cluster.endpoints, realm_prefix, transport="http", connect_timeout=1.0, **settings)
    with pytest.raises(EtcdUnavailable, match=r"no client certificate with a common name.*over gRPC"):
        realm.list()


WITHOUT_ETCD3 = """
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv[0] = "distlock"
from distlock_core.cli.distlock import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "transport"), [("etcd3", "auto"), ("etcd3", "grpc"), ("grpc", "auto"), ("google", "grpc")]
)
def test_the_error_for_a_missing_etcd3_names_what_to_install(
    without_gateway: Cluster, realm_prefix: str, missing: str, transport: str
) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    options = [f"--endpoints={without_gateway.endpoints[0]}", f"--prefix={realm_prefix}", f"--transport={transport}"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ETCD3.format(missing=missing), *options, "--connect-timeout=2", "--list"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{missing} is missing. To install it: pip install etcd3" in done.stderr
    assert ("404" in done.stderr) is (transport == "auto")


# Together.


def test_one_waits_over_the_other_driver_than_the_holders(cell: Cell) -> None:
    """In the cells of gRPC it is held over gRPC and waited for over the gateway; in the others the other way round."""
    other = cell.other()
    lock = cell.realm().lock("web", "holder").acquire(BOUND)
    waiting = Started(lambda: cell.realm(other).lock("web", "waiter").acquire(BOUND))
    queue = Get(cell.key("web/queue/"), cell.key("web/queue0"))
    until(lambda: cell.read(queue)[0].total)
    assert not waiting.done
    lock.release()
    second = waiting.result()
    assert second.token > lock_token(cell)
    second.release()


def lock_token(cell: Cell) -> int:
    """The token of the hold before."""
    last = cell.get("__last/web")
    assert last is not None
    return last.create_revision - 1


def test_a_hold_passes_from_one_driver_to_the_other(cell: Cell) -> None:
    """Leases, tokens and records are the same: one drivers' hold is verified, and unlocked, over the other."""
    lock = cell.realm().lock("web", "me", ttl=5).acquire(BOUND)
    other = cell.realm(cell.other())
    assert other.verify("web", lock.token)
    assert other.show("web").holders[0].token == lock.token
    assert other.unlock("web").token == lock.token
    until(lambda: lock.session.loss is not None)


def test_drivers_write_the_same_bytes(cell: Cell) -> None:
    for rest, etcd in (("one", cell.etcd), ("two", cell.other())):
        etcd.txn([], [Put(cell.key(rest), "naïve 🔒\x00".encode())], [], patience())
    one, two = cell.get("one"), cell.get("two")
    assert one is not None
    assert two is not None
    assert one.value == two.value
