"""An etcd that cannot serve, another etcd, and servers that are no etcd: each is reported in one clear line."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import ConfigError, DistlockError, EtcdUnavailable, LockManager, connect
from distlock_core.base.deadline import Patience
from distlock_core.errors import AnotherCluster
from distlock_core.etcd.transport import dial
from distlock_core.etcd.values import Get, Put, WatchEnded
from distlock_core.testing import Cluster, Member, Proxy
from tests.support.etcd_servers import ENDS
from tests.support.secured_site import BOUND, Run, Spawn, line_of, one_line, wait_until

Start = Callable[..., Cluster]


@pytest.mark.parametrize("version", ENDS)
def test_a_full_database_is_named_with_its_remedy(start_etcd: Start, run_distlock: Run, version: str) -> None:
    with start_etcd(version=version, extra_args=["--quota-backend-bytes=100000"]) as cluster:
        env: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": cluster.endpoints[0]}
        assert run_distlock("--lock-name=held", "--lock", env=env).returncode == 0
        etcd = dial(cluster.endpoints)
        with pytest.raises(DistlockError, match="NOSPACE"):
            fill(etcd)
        for options in (["--lock-name=x", "--lock"], ["--lock-name=x", "--ttl=30", "--", "true"]):
            done = run_distlock(*options, env=env)
            assert done.returncode == 1
            assert one_line(done.stderr) == (
                "distlock: etcd's database is full (alarm NOSPACE): it takes no writes until somebody has compacted "
                "and defragmented it, and then disarmed the alarm. See: etcdctl alarm list"
            )
        # Reads are still possible, and the remedy in the line is right.
        for transport in ("http", "grpc"):
            done = run_distlock("--list", f"--transport={transport}", env=env)
            assert "held" in done.stdout, done.stderr
        assert run_distlock("--lock-name=held", "--verify", "--token=2", env=env).returncode in (0, 2)
        cluster.etcdctl("del", "--prefix", "/fill/")
        cluster.etcdctl("compact", str(etcd.read([Get(b"x")], Patience.lasting(BOUND)).revision))
        cluster.etcdctl("defrag")
        cluster.etcdctl("alarm", "disarm")
        assert run_distlock("--lock-name=x", "--lock", env=env).returncode == 0


def fill(etcd: Any) -> None:
    for number in range(100):
        etcd.txn([], [Put(b"/fill/%d" % number, b"x" * 50_000)], [], Patience.lasting(BOUND))


def test_a_hold_survives_a_full_database(start_etcd: Start, realm_prefix: str) -> None:
    with start_etcd(extra_args=["--quota-backend-bytes=100000"]) as cluster:
        lost: list[object] = []
        lock = connect(cluster.endpoints, realm_prefix).lock("x", ttl=8, refresh=0.5, on_lost=lost.append).acquire(0)
        with pytest.raises(DistlockError, match="NOSPACE"):
            fill(dial(cluster.endpoints))
        renewed = cluster.members[0].metric("etcd_debugging_lease_renewed_total")
        wait_until(lambda: cluster.members[0].metric("etcd_debugging_lease_renewed_total") > renewed + 6, "renewals")
        assert lock.verify()
        assert not lost


def test_a_request_too_large_is_named(etcd_cell: Callable[[str, str], Cluster], realm_prefix: str) -> None:
    for version in ENDS:
        for size in (1_600_000, 6_000_000):  # above etcd's own limit, and above gRPC's
            etcd = dial(etcd_cell(version, "plain").endpoints)
            with pytest.raises(ConfigError, match="shorten the reason or the value"):
                etcd.txn([], [Put(realm_prefix.encode(), b"x" * size)], [], Patience.lasting(BOUND))


@pytest.mark.parametrize("version", ENDS)
def test_a_member_without_quorum_is_named_and_replaced(start_etcd: Start, realm_prefix: str, version: str) -> None:
    with start_etcd(3, version=version) as cluster:
        alone, *others = cluster.members
        for member in others:
            member.kill()
        wait_until(lambda: "no leader" in said(alone, realm_prefix), "it says that it has no leader")
        # A new cluster of one, after it in the list: the working one is used at once.
        for member in others:
            member.start()
        cluster.wait_ready()
        assert connect(cluster.endpoints, realm_prefix).list() == []


def said(member: Member, prefix: str) -> str:
    try:
        connect(member.client_url, prefix, connect_timeout=1.0).list()
    except EtcdUnavailable as error:
        return error.message
    return ""


@pytest.mark.parametrize("version", ENDS)
def test_a_member_cut_off_from_its_cluster_is_replaced_by_the_others(
    start_etcd: Start, realm_prefix: str, version: str
) -> None:
    """It answers, and would let a caller wait for seconds; it is asked to refuse at once where it has no leader."""
    with start_etcd(1, version=version) as cluster, start_etcd(3, version=version) as broken:
        for member in broken.members[1:]:
            member.kill()
        alone = broken.members[0].client_url
        wait_until(lambda: "no leader" in said(broken.members[0], realm_prefix), "it has no leader")
        etcd = dial([alone, *cluster.endpoints])
        since = time.monotonic()
        assert etcd.txn([], [Put(f"{realm_prefix}x".encode(), b"")], [], Patience.lasting(BOUND)).succeeded
        assert time.monotonic() - since < 5
        assert etcd.endpoint == cluster.endpoints[0]


# Another cluster.


@pytest.fixture
def balancer(oldest_etcd: Cluster) -> Iterator[Proxy]:
    """A load balancer: one address, with clusters behind it that may change."""
    with Proxy(oldest_etcd.endpoints[0]) as proxy:
        yield proxy


def lead_to(balancer: Proxy, cluster: Cluster) -> None:
    port = int(cluster.endpoints[0].rpartition(":")[2])
    balancer.target = ("127.0.0.1", port)
    balancer.cut()
    balancer.heal()


def wait_until_noticed(etcd: Any) -> None:
    """gRPC notices a connection's end in a separate thread; requests sent before that are in doubt."""
    for channel in getattr(etcd, "_channels", ()):
        wait_until_not_connected(channel)


def wait_until_not_connected(channel: Any) -> None:
    wait_until(lambda: not channel.is_connected(), "it is noticed")


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_another_cluster_behind_a_load_balancer_is_refused(
    balancer: Proxy, oldest_etcd: Cluster, etcd: Cluster, realm_prefix: str, transport: str
) -> None:
    realm = connect(balancer.url, realm_prefix, connect_timeout=1.0, release_timeout=1.0, transport=transport)
    lock = realm.lock("x").acquire(0)
    lead_to(balancer, etcd)
    with pytest.raises(AnotherCluster) as caught:
        lock.verify()
    assert f"{balancer.url} (another etcd cluster (" in caught.value.message
    assert ") than the one that answered first (" in caught.value.message
    assert caught.value.message.count("(") == 3  # the endpoint's, and both clusters
    # Nothing was written there, though a lock is taken on a new connection.
    with pytest.raises(EtcdUnavailable, match="another etcd cluster"):
        realm._etcd.txn([], [Put(f"{realm_prefix}y".encode(), b"")], [], Patience.lasting(1.0))
    assert etcd.etcdctl("get", "--prefix", realm_prefix) == ""
    lead_to(balancer, oldest_etcd)
    lock.release()
    assert realm.list() == []
    # Nor where the write itself is the first to meet the other cluster.
    lead_to(balancer, etcd)
    wait_until_noticed(realm._etcd)
    with pytest.raises(EtcdUnavailable, match="another etcd cluster"):
        realm._etcd.txn([], [Put(f"{realm_prefix}y".encode(), b"")], [], Patience.lasting(1.0))
    assert etcd.etcdctl("get", "--prefix", realm_prefix) == ""


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_watch_that_leads_to_another_cluster_ends(
    balancer: Proxy, etcd: Cluster, realm_prefix: str, transport: str
) -> None:
    """Even if the calls, on an open connection, still reach the right cluster. The watch would be silent forever."""
    client = dial(balancer.url, transport=transport)
    client.read([], Patience.lasting(BOUND))
    balancer.target = ("127.0.0.1", int(etcd.endpoints[0].rpartition(":")[2]))
    with pytest.raises((WatchEnded, AnotherCluster), match="another etcd cluster"):
        client.watch([(f"{realm_prefix}x".encode(), None)], 1, Patience.lasting(1.0)).wait(Patience.lasting(BOUND))
    assert client.read([], Patience.lasting(BOUND)).succeeded
    client.close()


def test_waiters_and_watchers_learn_of_another_cluster_and_a_manager_continues(
    balancer: Proxy, oldest_etcd: Cluster, etcd: Cluster, realm_prefix: str, spawn_distlock: Spawn
) -> None:
    """Not waited out like an outage: without a timeout the wait would be endless."""
    own = connect(oldest_etcd.endpoints, realm_prefix)
    held = own.lock("x").acquire(0)
    env = {"DISTLOCK_ENDPOINTS": balancer.url, "DISTLOCK_CONNECT_TIMEOUT": "1"}
    waiter = spawn_distlock("--lock-name=x", "--quiet", "--", "true", env=env)
    watcher = spawn_distlock("--watch", env=env)
    assert "acquired: x is held" in line_of(watcher)
    with LockManager(connect(balancer.url, realm_prefix, connect_timeout=1.0), "x", ttl=3) as manager:
        wait_until(lambda: own.show("x").waiting == 2, "both are in line")
        lead_to(balancer, etcd)
        for process in (waiter, watcher):
            assert process.wait(BOUND) == 1
            assert f"{balancer.url} (another etcd cluster (" in one_line(process.stderr.read())
        wait_until(lambda: "another etcd cluster" in (manager.trouble or ""), "the manager says it")
        lead_to(balancer, oldest_etcd)
        wait_until(lambda: own.show("x").waiting, "it is in line again")
        held.release()
        wait_until(manager.have_lock, "it is the manager's")
    assert etcd.etcdctl("get", "--prefix", realm_prefix) == ""


DEFAULTS = (
    "--initial-advertise-peer-urls=http://localhost:2380",
    "--initial-cluster=n1=http://localhost:2380",
    "--initial-cluster-token=etcd-cluster",
)


@pytest.fixture(scope="module", params=ENDS)
def twins(request: pytest.FixtureRequest, start_etcd: Start) -> Iterator[tuple[Cluster, Cluster]]:
    """Two etcds that have nothing to do with each other and, with etcd's default settings, the same cluster id.

    The second one is younger, by its revision.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "_answers_itself", lambda _: True)  # it looks for its own port among the members
        old, young = (start_etcd(version=request.param, extra_args=DEFAULTS) for _ in range(2))
    with old, young:
        assert cluster_id(old) == cluster_id(young), "they can be told by their ids"
        yield old, young


def cluster_id(cluster: Cluster) -> str:
    return str(json.loads(cluster.etcdctl("get", "x", "-w", "json"))["header"]["cluster_id"])


def age(cluster: Cluster, puts: int) -> None:
    etcd = dial(cluster.endpoints)
    for number in range(puts):
        etcd.txn([], [Put(b"/age/%d" % number, b"")], [], Patience.lasting(BOUND))


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_another_cluster_of_the_same_id_is_detected_by_a_lower_revision(
    twins: tuple[Cluster, Cluster], realm_prefix: str, transport: str
) -> None:
    old, young = twins
    age(old, 100)
    with Proxy(old.endpoints[0]) as balancer:
        realm = connect(balancer.url, realm_prefix, connect_timeout=1.0, release_timeout=1.0, transport=transport)
        lock = realm.lock("x").acquire(0)
        lead_to(balancer, young)
        # The first write over a new connection is not made there.
        wait_until_noticed(realm._etcd)
        with pytest.raises(EtcdUnavailable, match=r"another etcd cluster, or .* restored from a backup: its revision"):
            realm._etcd.txn([], [Put(f"{realm_prefix}y".encode(), b"")], [], Patience.lasting(1.0))
        with pytest.raises(AnotherCluster, match="its revision is"):
            lock.verify()
        assert young.etcdctl("get", "--prefix", realm_prefix) == ""
        lead_to(balancer, old)
        lock.release()
        assert realm.list() == []
        realm.close()


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_another_cluster_of_the_same_id_and_a_greater_revision_is_detected_by_its_members(
    twins: tuple[Cluster, Cluster], realm_prefix: str, transport: str
) -> None:
    """Whoever has waited or held for a while knows the members."""
    _, young = twins
    with Proxy(young.endpoints[0]) as balancer:
        realm = connect(balancer.url, realm_prefix, connect_timeout=1.0, release_timeout=1.0, transport=transport)
        watch = realm._etcd.watch([(b"x", None)], 1, Patience.lasting(BOUND))
        realm.list()
        watch.close()
        age(twins[0], 200)
        lead_to(balancer, twins[0])
        wait_until_noticed(realm._etcd)
        with pytest.raises(EtcdUnavailable, match=r"another etcd cluster: its members are .* n1 at http"):
            realm._etcd.txn([], [Put(f"{realm_prefix}y".encode(), b"")], [], Patience.lasting(1.0))
        assert twins[0].etcdctl("get", "--prefix", realm_prefix) == ""
        realm.close()


def test_a_member_that_lags_behind_is_no_other_cluster(start_etcd: Start, realm_prefix: str) -> None:
    """Its status may have an older revision, but a linearizable read never does."""
    with start_etcd(3) as cluster:
        realm = connect(cluster.endpoints, realm_prefix)
        for member in cluster.members:
            etcd = dial([member.client_url, *cluster.endpoints])
            for _ in range(20):
                age(cluster, 1)
                realm.list()
                assert etcd.txn([], [Put(f"{realm_prefix}x".encode(), b"")], [], Patience.lasting(BOUND)).succeeded
                etcd.close()  # the next write has a new connection


def test_members_of_two_clusters_in_one_list_are_named(oldest_etcd: Cluster, etcd: Cluster, realm_prefix: str) -> None:
    with Proxy(oldest_etcd.endpoints[0]) as proxy:
        realm = connect([proxy.url, *etcd.endpoints], realm_prefix, connect_timeout=1.0)
        assert realm.list() == []
        proxy.cut()
        with pytest.raises(EtcdUnavailable) as caught:
            realm.list()
        assert type(caught.value) is EtcdUnavailable  # the member that is away may come back: it is waited for
        assert f"{proxy.url} (connection refused)" in caught.value.message
        assert f"{etcd.endpoints[0]} (another etcd cluster (" in caught.value.message


def test_a_lease_is_not_lost_because_another_cluster_knows_nothing_of_it(
    balancer: Proxy, oldest_etcd: Cluster, etcd: Cluster, realm_prefix: str
) -> None:
    lost: list[object] = []
    realm = connect(balancer.url, realm_prefix)
    with realm.lock("x", ttl=30, refresh=0.3, on_lost=lost.append) as lock:
        lead_to(balancer, etcd)
        asked = len(balancer.wait_for_requests("*", 0))
        balancer.wait_for_requests("*", asked + 6, BOUND)
        assert not lost
        lead_to(balancer, oldest_etcd)
        assert lock.verify()


# No etcd.


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that has a page for everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        page = b"<!DOCTYPE html><html><body><h1>Welcome to nginx!</h1></body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


class Nothing(Page):
    """A web server that has nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_web_server_that_has_nothing_is_no_etcd_over_either_transport(run_distlock: Run) -> None:
    pytest.importorskip("etcd3")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = run_distlock("--list", "--connect-timeout=3", env={"DISTLOCK_ENDPOINTS": url})
        server.shutdown()
    assert done.returncode == 1
    assert one_line(done.stderr).endswith(f": {url} (it answers 404 over HTTP, and not over gRPC: no etcd v3)")


@pytest.mark.parametrize(
    ("handler", "status"), [(Page, 200), (http.server.SimpleHTTPRequestHandler, 501)], ids=["a page", "no POST"]
)
def test_a_web_server_is_no_etcd(
    run_distlock: Run, handler: type[http.server.BaseHTTPRequestHandler], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = run_distlock("--list", "--connect-timeout=1", env={"DISTLOCK_ENDPOINTS": url})
        server.shutdown()
    assert done.returncode == 1
    said = f": {url} (it answers, but not as etcd does (HTTP {status}))"
    assert re.fullmatch(rf"distlock: no etcd answered within [0-9.]+s{re.escape(said)}", one_line(done.stderr))
