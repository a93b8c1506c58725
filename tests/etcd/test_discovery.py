"""Members found by DNS: selection, order, verification, and the error if there are none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.resolver
import pytest

from distlock_core import ConfigError, EtcdUnavailable, connect
from distlock_core.base.deadline import Patience
from distlock_core.etcd import discovery
from distlock_core.etcd.discovery import Discovery
from distlock_core.testing import Cluster, Proxy
from tests.support.name_server import NameServer, Record
from tests.support.secured_site import Site, one_line

DOMAIN = "example.test"
SECURE, PLAIN = f"_etcd-client-ssl._tcp.{DOMAIN}.", f"_etcd-client._tcp.{DOMAIN}."


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(dns.resolver, "default_resolver", server.resolver())
    yield server
    server.close()


@pytest.fixture
def plain_member(etcd: Cluster) -> Iterator[Proxy]:
    """A member that speaks plain HTTP, and notes what it is asked."""
    with Proxy(etcd.endpoints[0]) as member:
        yield member


def srv(url: str, host: str = "localhost.", priority: int = 0, weight: int = 1) -> Record:
    return priority, weight, int(url.rpartition(":")[2]), host


def test_plain_members_are_found(names: NameServer, each_etcd: Cluster, realm_prefix: str) -> None:
    names.records[PLAIN] = [srv(each_etcd.endpoints[0])]
    realm = connect(discovery_srv=DOMAIN, prefix=realm_prefix)
    with realm.lock("x") as lock:
        assert lock.verify()
    assert names.asked == [SECURE, PLAIN]  # once, and not for every call


def test_members_that_speak_tls_are_found_and_verified_by_their_own_names(
    names: NameServer, tls_site: Site, each_etcd: Cluster
) -> None:
    names.records[SECURE] = [srv(tls_site.cluster.endpoints[0])]
    names.records[PLAIN] = [srv(each_etcd.endpoints[0])]
    realm = connect(discovery_srv=f"{DOMAIN}.", prefix=tls_site.prefix, **tls_site.settings)
    with realm.lock("x") as lock:
        assert lock.verify()
    assert realm._etcd.endpoint.startswith("https://localhost:")
    assert names.asked == [SECURE]


def test_a_member_whose_certificate_is_for_another_name_is_refused(names: NameServer, tls_newest: Site) -> None:
    """DNS may lie: what it names must have a certificate for that name."""
    names.records[SECURE] = [srv(tls_newest.cluster.endpoints[0], "localhost.localdomain.")]
    realm = connect(discovery_srv=DOMAIN, connect_timeout=1.0, **tls_newest.settings)
    with pytest.raises(EtcdUnavailable, match=r"is not one for localhost\.localdomain|does not resolve"):
        realm.list()
    named = connect(
        discovery_srv=DOMAIN, connect_timeout=1.0, **tls_newest.settings, tls_server_name="etcd.example.test"
    )
    names.records[SECURE] = [srv(tls_newest.cluster.endpoints[0])]
    with pytest.raises(EtcdUnavailable, match=r"is not one for etcd\.example\.test"):
        named.list()


def test_no_plain_members_are_discovered_where_tls_is_configured(
    names: NameServer, tls_newest: Site, each_etcd: Cluster
) -> None:
    """Who can answer for DNS could else switch TLS off by leaving out the records for it."""
    names.records[PLAIN] = [srv(each_etcd.endpoints[0])]
    with pytest.raises(EtcdUnavailable) as caught:
        connect(discovery_srv=DOMAIN, connect_timeout=0.5, **tls_newest.settings).list()
    assert f"SRV records of {DOMAIN} (there are none: no _etcd-client-ssl._tcp)" in caught.value.message
    assert PLAIN not in names.asked


@pytest.mark.parametrize("missing", ["no such domain", "no records"])
@pytest.mark.parametrize(
    "set_",
    [
        {"user": "node", "password": "secret-word"},
        {"user": "node", "password_file": "FILE"},
        {"password": "secret-word"},
        {"cert": "FILE", "key": "FILE"},
        {"key": "FILE"},
        {"tls_server_name": "etcd.example.test"},
        {"endpoints": ["https://127.0.0.1:9"]},
        {"endpoints": ["127.0.0.1:9", "https://127.0.0.1:9"], "user": "node", "password": "secret-word"},
        {"endpoints": ["http://127.0.0.1:9"], "user": "node", "password": "secret-word"},
    ],
    ids="-".join,
)
def test_no_plain_request_where_a_secret_is_set_or_tls_is_spoken(
    names: NameServer, plain_member: Proxy, tmp_path: Path, set_: dict[str, Any], missing: str
) -> None:
    """Whoever can answer for DNS would else get the password by leaving out the records for TLS."""
    (tmp_path / "file").write_text("secret-word\n")
    options: dict[str, Any] = {key: str(tmp_path / "file") if value == "FILE" else value for key, value in set_.items()}
    names.records = {PLAIN: [srv(plain_member.url)], **({SECURE: []} if missing == "no records" else {})}
    with pytest.raises(EtcdUnavailable) as caught:
        connect(discovery_srv=DOMAIN, connect_timeout=2, **options).list()
    assert f"SRV records of {DOMAIN} (there are none: no _etcd-client-ssl._tcp)" in caught.value.message
    assert "secret-word" not in caught.value.message
    assert PLAIN not in names.asked
    assert plain_member.requests == []


@pytest.mark.parametrize(
    ("endpoints", "options", "asked"),
    [
        ("127.0.0.1:9", {"user": "node", "password": "secret-word"}, "https://127.0.0.1:9"),
        ("127.0.0.1:9", {"key": "/nowhere/key.pem", "cert": "/nowhere/cert.pem"}, "https://127.0.0.1:9"),
        ("127.0.0.1:9,https://127.0.0.1:8", {}, "https://127.0.0.1:9"),
        ("127.0.0.1:9", {}, "http://127.0.0.1:9"),
        ("http://127.0.0.1:9", {"user": "node", "password": "secret-word"}, "http://127.0.0.1:9"),
    ],
    ids=["password", "key", "another is https", "nothing", "said in as many words"],
)
def test_an_endpoint_without_a_scheme_is_tls_where_a_secret_is_set(
    endpoints: str, options: dict[str, Any], asked: str
) -> None:
    assert connect(endpoints, **options)._etcd.endpoint == asked


def test_members_of_a_lower_priority_number_come_first(names: NameServer) -> None:
    names.records[PLAIN] = [(20, 1, 1, "c."), (10, 1, 2, "b."), (0, 1, 3, "a.")]
    for _ in range(5):
        found = Discovery(DOMAIN)(Patience.lasting(5))
        assert [address.url for address in found] == ["http://a:3", "http://b:2", "http://c:1"]


def test_among_equal_priorities_the_weight_decides_how_often_one_comes_first(names: NameServer) -> None:
    names.records[PLAIN] = [(0, 99, 1, "heavy."), (0, 1, 2, "light."), (0, 0, 3, "never.")]
    firsts = [Discovery(DOMAIN)(Patience.lasting(5))[0].host for _ in range(30)]
    assert firsts.count("heavy") > 20


def test_a_dead_member_is_replaced_by_another(names: NameServer, etcd: Cluster, realm_prefix: str) -> None:
    with Proxy("http://127.0.0.1:9") as dead:
        dead.cut()
        names.records[PLAIN] = [srv(dead.url), srv(etcd.endpoints[0], priority=5)]
        assert connect(discovery_srv=DOMAIN, prefix=realm_prefix).list() == []


def test_members_that_have_moved_are_found_again(names: NameServer, etcd: Cluster, realm_prefix: str) -> None:
    with Proxy(etcd.endpoints[0]) as old, Proxy(etcd.endpoints[0]) as new:
        names.records[PLAIN] = [srv(old.url)]
        realm = connect(discovery_srv=DOMAIN, prefix=realm_prefix)
        lock = realm.lock("x").acquire(0)
        names.records[PLAIN] = [srv(new.url)]
        old.cut()
        assert lock.verify()
        lock.release()


def test_endpoints_come_first_and_dns_is_asked_when_none_answers(
    names: NameServer, etcd: Cluster, realm_prefix: str
) -> None:
    names.records[PLAIN] = [srv(etcd.endpoints[0])]
    with Proxy(etcd.endpoints[0]) as given:
        realm = connect(given.url, realm_prefix, discovery_srv=DOMAIN)
        assert realm.list() == []
        assert names.asked == []
        given.cut()
        assert realm.list() == []
        assert names.asked


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("no such domain", "there are none: no _etcd-client-ssl._tcp and no _etcd-client._tcp"),
        ("no records", "there are none"),
        ("silent", "timed out waiting for DNS"),
        ("broken", "DNS: All nameservers failed to answer"),
    ],
)
def test_a_fault_of_dns_is_reported_in_time(names: NameServer, state: str, said: str) -> None:
    names.records = {SECURE: [], PLAIN: []} if state == "no records" else {}
    names.silent, names.broken = state == "silent", state == "broken"
    since = time.monotonic()
    with pytest.raises(EtcdUnavailable) as caught:
        connect(discovery_srv=DOMAIN, connect_timeout=0.8).list()
    assert time.monotonic() - since < 10
    assert type(caught.value) is EtcdUnavailable
    assert "no etcd answered within " in caught.value.message
    assert f"SRV records of {DOMAIN} ({said}" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_silent_dns_leaves_the_endpoints_their_share(names: NameServer, etcd: Cluster, realm_prefix: str) -> None:
    names.silent = True
    with Proxy(etcd.endpoints[0]) as given:
        given.cut()
        realm = connect(given.url, realm_prefix, discovery_srv=DOMAIN, connect_timeout=4.0)
        given_back = Patience.lasting(1.0)
        with pytest.raises(EtcdUnavailable):
            realm._etcd.read([], given_back)
        given.heal()
        assert realm.list() == []


def test_the_error_for_a_missing_dnspython_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "dns"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install dnspython"):
        connect(discovery_srv=DOMAIN).list()
    assert "pip install dnspython" in discovery.MISSING


PROGRAM = """
import sys, dns.resolver
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(sys.argv.pop(1))
dns.resolver.default_resolver = resolver
from distlock_core.cli.distlock import main
main()
"""


@pytest.mark.parametrize("form", ["option", "variable", "file"])
def test_the_command_finds_members(
    names: NameServer, etcd: Cluster, distlock_env: dict[str, str], tmp_path: object, form: str
) -> None:
    names.records[PLAIN] = [srv(etcd.endpoints[0])]
    env = {key: value for key, value in distlock_env.items() if key != "DISTLOCK_ENDPOINTS"}
    options = [f"--discovery-srv={DOMAIN}"] if form == "option" else []
    if form == "variable":
        env["DISTLOCK_DISCOVERY_SRV"] = DOMAIN
    if form == "file":
        path = f"{tmp_path}/distlock.yaml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"discovery_srv: {DOMAIN}\n")
        env["DISTLOCK_CONFIG"] = path
    command = [sys.executable, "-c", PROGRAM, str(names.port)]
    done = subprocess.run(
        [*command, "--lock-name=x", *options, "--", "echo", "in"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")
    names.records.clear()
    done = subprocess.run(
        [*command, "--list", *options, "--connect-timeout=1.5"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"SRV records of {DOMAIN} (there are none" in one_line(done.stderr)
