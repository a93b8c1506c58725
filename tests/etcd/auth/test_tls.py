"""TLS: the server is always verified, faults are reported in one line; deadlines, waits and holds work as without."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import distlock_core
from distlock_core import Cancelled, ConfigError, DistlockError, EtcdUnavailable, Interrupt
from distlock_core.base.deadline import Patience
from distlock_core.etcd.address import parse_endpoint
from distlock_core.etcd.auth.access import Access
from distlock_core.etcd.auth.secure_connection import SecureConnection
from distlock_core.etcd.auth.tls import Tls as SharedTls
from distlock_core.etcd.auth.tls import make_context
from distlock_core.etcd.http.http1 import ConnectFailed
from distlock_core.etcd.transport import dial
from distlock_core.etcd.values import Get, Put
from distlock_core.testing import Authority, Certificate, Cluster, Proxy, Tls
from tests.support.needs import missing
from tests.support.secured_site import BOUND, Run, Site, Spawn, line_of, one_line, queued, wait_until


def refused(site: Site, *endpoints: str, **changes: Any) -> str:
    """The one line with the reason why no lock can be acquired."""
    with pytest.raises(DistlockError) as caught:
        site.realm(*endpoints, connect_timeout=1.0, **changes).list()
    assert "\n" not in caught.value.message
    assert caught.value.kind in ("unreachable", "config")
    return caught.value.message


def test_a_ca_without_a_client_certificate_works(tls_site: Site) -> None:
    assert set(tls_site.settings) == {"cacert"}
    with tls_site.realm().lock("web") as lock:
        assert lock.verify()


def test_a_client_certificate_is_shown_where_it_is_wanted(picky_both: Site) -> None:
    with picky_both.realm().lock("web", ttl=30) as lock:
        assert lock.verify()


def test_an_endpoint_without_a_scheme_is_tls_where_a_ca_is_set(tls_newest: Site) -> None:
    assert tls_newest.realm(tls_newest.cluster.endpoints[0].removeprefix("https://")).list() == []


def test_the_name_on_the_certificate_may_differ_from_the_endpoints(tls_both: Site) -> None:
    assert tls_both.realm(tls_server_name="localhost").list() == []


def test_without_a_ca_the_systems_authorities_count(tls_both: Site, run_distlock: Run) -> None:
    env = {**tls_both.env, "DISTLOCK_CACERT": None}
    done = run_distlock("--list", "--quiet", env={**env, "SSL_CERT_FILE": tls_both.settings["cacert"]})
    assert (done.returncode, done.stderr) == (0, "")
    done = run_distlock("--list", "--connect-timeout=5", env=env)  # to load all of those takes a while
    assert done.returncode == 1
    assert "not signed by an authority that this machine knows: set cacert)" in one_line(done.stderr)


# Faults of certificates.


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An untrusted authority."""
    return Authority(tmp_path_factory.mktemp("stranger"))


class TlsServer:
    """A server that does the TLS handshake with this certificate, and then stays silent."""

    def __init__(self, certificate: Certificate) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                client.settimeout(5)
                with self._context.wrap_socket(client, server_side=True) as secure:
                    secure.recv(1)
            except OSError:
                client.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Callable[[Certificate], TlsServer]]:
    servers: list[TlsServer] = []

    def start(certificate: Certificate) -> TlsServer:
        servers.append(TlsServer(certificate))
        return servers[-1]

    yield start
    for one in servers:
        one.close()


@pytest.mark.parametrize(
    ("issue", "said"),
    [
        ({"days": -1}, "its certificate has expired"),
        ({"names": ["DNS:etcd.example.com"]}, "its certificate is not one for 127.0.0.1: name it as the certificate"),
        ({"names": ["IP:10.0.0.1"]}, "its certificate is not one for 127.0.0.1: name it as the certificate"),
    ],
    ids=["expired", "another host", "another address"],
)
def test_a_wrong_server_certificate_is_named(
    tls_both: Site, tls: Tls, server: Callable[..., TlsServer], issue: dict[str, Any], said: str
) -> None:
    wrong = server(tls.authority.issue(**issue))
    message = refused(tls_both, wrong.url)
    assert message.startswith("no etcd answered within ")
    assert f"{wrong.url} ({said}" in message
    # It is replaced by a correct one.
    assert tls_both.realm(wrong.url, *tls_both.cluster.endpoints).list() == []


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_common_name_alone_does_not_name_a_server(
    start_etcd: Callable[..., Cluster], tls: Tls, realm_prefix: str, transport: str
) -> None:
    with start_etcd(tls=tls._replace(server=tls.authority.issue("localhost", names=()))) as cluster:
        site = Site(cluster, realm_prefix, transport=transport)
        assert "(its certificate is not one for localhost)" in refused(site, tls_server_name="localhost")


def test_an_unknown_authority_is_named(tls_both: Site, stranger: Authority) -> None:
    said = f"(its certificate is not signed by the authority in {stranger.cacert})"
    assert said in refused(tls_both, cacert=stranger.cacert)


def test_a_requested_name_that_is_missing_is_named(tls_both: Site) -> None:
    assert "(its certificate is not one for etcd.example.com)" in refused(tls_both, tls_server_name="etcd.example.com")


def test_a_server_that_requires_a_client_certificate_is_named(picky_both: Site) -> None:
    said = refused(picky_both, cert=None, key=None)
    assert said.endswith(f"{picky_both.cluster.endpoints[0]} (it wants a client certificate: set cert and key)")


@pytest.mark.parametrize("what", ["stranger", "expired"])
def test_a_client_certificate_that_is_refused_is_named(
    picky_both: Site, tls: Tls, stranger: Authority, what: str
) -> None:
    cert, key = stranger.issue() if what == "stranger" else tls.authority.issue(days=-1)
    assert f"(it refuses the client certificate {cert}: " in refused(picky_both, cert=cert, key=key)


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_write_that_a_client_certificate_kept_out_is_not_in_doubt(
    picky: Cluster, realm_prefix: str, transport: str
) -> None:
    """With TLS 1.3 the refusal comes when the request is on its way already: nothing of it was read."""
    etcd = dial(picky.endpoints, Access(cacert=picky.settings["cacert"]), transport=transport)
    with pytest.raises(EtcdUnavailable, match="it wants a client certificate"):
        etcd.txn([], [Put(f"{realm_prefix}x".encode(), b"")], [], Patience.lasting(1.0))


@pytest.fixture(scope="session")
def files(tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """PEM files that are not what they should be."""
    folder = tmp_path_factory.mktemp("files")
    one, other = tls.authority.issue(), tls.authority.issue()
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    key = Path(one.key).read_text()
    texts = {
        "empty": "",
        "text": "hello\n",
        "broken": broken,
        "broken key": key.replace("\n", "\nAAAA", 1),
        "both": Path(one.cert).read_text() + key,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    paths = {name: str(folder / name) for name in texts}
    locked = str(folder / "locked")
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", one.key, "-out", locked, "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    absent = str(folder / "absent")
    return {**paths, "cert": one.cert, "key": one.key, "other": other.key, "locked": locked, "absent": absent}


WRONG_FILES = [
    ({"cacert": "absent"}, "cacert {absent}: cannot be read: No such file or directory"),
    ({"cacert": "empty"}, "cacert {empty}: no certificate in PEM form in it"),
    ({"cacert": "text"}, "cacert {text}: no certificate in PEM form in it"),
    ({"cacert": "broken"}, "cacert {broken}: not valid PEM, or damaged"),
    ({"cert": "absent", "key": "key"}, "cert {absent}: cannot be read"),
    ({"cert": "text", "key": "key"}, "cert {text}: no certificate in PEM form in it"),
    ({"cert": "cert"}, "cert {cert}: no private key in PEM form in it; set key, if it is in another file"),
    ({"cert": "cert", "key": "absent"}, "key {absent}: cannot be read"),
    ({"cert": "cert", "key": "cert"}, "key {cert}: no private key in PEM form in it"),
    ({"cert": "cert", "key": "other"}, "key {other} does not belong to the certificate {cert}"),
    ({"cert": "cert", "key": "broken key"}, "not valid PEM, or damaged"),
    ({"cert": "broken", "key": "key"}, "not valid PEM, or damaged"),
    ({"cert": "cert", "key": "locked"}, "key {locked}: it is encrypted, and distlock cannot ask for a passphrase"),
]


@pytest.mark.parametrize(("given", "said"), WRONG_FILES)
def test_a_file_that_cannot_be_used_is_named(
    tls_both: Site, files: dict[str, str], given: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        tls_both.realm(**{key: files[name] for key, name in given.items()}).list()
    assert said.format(**files) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_certificate_and_its_key_may_be_in_one_file(picky_both: Site, files: dict[str, str]) -> None:
    assert picky_both.realm(cert=files["both"], key=None).list() == []


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_http_spoken_to_a_tls_port_is_named(tls_site: Site, transport: str) -> None:
    plain = tls_site.cluster.endpoints[0].replace("https", "http")
    assert f"{plain} (it speaks TLS there: use https://)" in refused(tls_site, plain, transport=transport)


def test_tls_spoken_to_a_plain_port_is_named(tls_both: Site, each_etcd: Cluster) -> None:
    secure = each_etcd.endpoints[0].replace("http", "https")
    assert f"{secure} (hangs up in the TLS handshake: http:// there, or no etcd?)" in refused(tls_both, secure)


HANGS_UP = """
import sys
sys.path[:0] = sys.argv[2:]
from distlock_core import connect
try:
    connect(sys.argv[1], connect_timeout=1.0, cacert=sys.argv[3]).list()
except Exception as error:
    print(error)
"""


def test_the_systems_python_gives_the_same_errors(etcd: Cluster, tls: Tls) -> None:
    """Debian's, with OpenSSL 3.0, raises another error than most where the server hangs up."""
    python = "/usr/bin/python3"
    version = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 9))"]
    if not os.path.exists(python) or subprocess.run(version, check=False).returncode:
        missing("no Python of the system's that distlock runs on. To install it: apt-get install python3")
    secure = etcd.endpoints[0].replace("http", "https")
    root = str(Path(distlock_core.__file__).parents[1])
    words = [python, "-I", "-c", HANGS_UP, secure, root, tls.authority.cacert]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert f"{secure} (hangs up in the TLS handshake: http:// there, or no etcd?)" in said.stdout, said.stderr


def test_tls_spoken_to_a_plain_web_server_is_named(tls_both: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert f"{url} (it does not speak TLS there: an http:// endpoint, or no etcd)" in refused(tls_both, url)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("json_", [False, True])
def test_the_command_reports_it_in_one_line(
    tls_both: Site, run_distlock: Run, stranger: Authority, json_: bool
) -> None:
    options = ["--json"] if json_ else []
    env = {**tls_both.env, "DISTLOCK_CACERT": stranger.cacert}
    done = run_distlock("--lock-name=x", "--lock", "--connect-timeout=1", *options, env=env)
    assert done.returncode == 1
    said = json.loads(done.stdout)["error"]["message"] if json_ else one_line(done.stderr)
    assert f"(its certificate is not signed by the authority in {stranger.cacert})" in said


# Waits.


def test_a_server_that_is_silent_in_the_handshake_does_not_outlast_the_deadline(tls_both: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        since = time.monotonic()
        assert f"{url} (timed out in the TLS handshake)" in refused(tls_both, url)
        assert time.monotonic() - since < 10
        # Another one gets its share of the time.
        assert tls_both.realm(url, *tls_both.cluster.endpoints, connect_timeout=2.0).list() == []


def test_a_blackhole_behind_tls_does_not_outlast_the_deadline(tls_both: Site) -> None:
    with Proxy(tls_both.cluster.endpoints[0]) as proxy:
        url = proxy.url.replace("http", "https")
        realm = tls_both.realm(url, connect_timeout=1.0)
        assert realm.list() == []
        proxy.blackhole()
        since = time.monotonic()
        with pytest.raises(EtcdUnavailable, match="timed out"):
            realm.list()
        assert time.monotonic() - since < 10


def test_a_cancel_ends_a_handshake(tls_both: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        interrupt = Interrupt()
        threading.Timer(0.3, interrupt.set).start()
        lock = tls_both.realm(f"https://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=60.0).lock("web")
        since = time.monotonic()
        with pytest.raises(Cancelled):
            lock.acquire(60, interrupt)
        assert time.monotonic() - since < BOUND


def test_a_signal_ends_the_command_in_a_handshake(tls_newest: Site, spawn_distlock: Spawn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(BOUND)
        env = {**tls_newest.env, "DISTLOCK_ENDPOINTS": f"https://127.0.0.1:{silent.getsockname()[1]}"}
        process = spawn_distlock("--lock-name=x", "--connect-timeout=60", "--", "true", env=env)
        client, _ = silent.accept()
        client.settimeout(BOUND)
        assert client.recv(1) == b"\x16"  # it has begun
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 128 + signal.SIGTERM
        client.close()


def test_more_than_a_record_of_tls_is_read_at_once(tls_site: Site) -> None:
    """Decrypted data in TLS's buffer makes no descriptor readable: it must be read without waiting."""
    etcd = dial(tls_site.cluster.endpoints, Access(cacert=tls_site.settings["cacert"]))
    value = os.urandom(400_000)
    for name in ("a", "b"):
        etcd.txn([], [Put(f"{tls_site.prefix}{name}".encode(), value)], [], Patience.lasting(BOUND))
    since = time.monotonic()
    for _ in range(5):
        found = etcd.read([Get(f"{tls_site.prefix}{name}".encode()) for name in ("a", "b")], Patience.lasting(BOUND))
        assert [one.kvs[0].value for one in found.ranges()] == [value, value]
    assert time.monotonic() - since < BOUND / 2


def test_all_events_of_one_chunk_are_seen(tls_newest: Site) -> None:
    etcd = dial(tls_newest.cluster.endpoints, Access(cacert=tls_newest.settings["cacert"]))
    key = f"{tls_newest.prefix}x".encode()
    first = etcd.txn([], [Put(key, b"0")], [], Patience.lasting(BOUND)).revision
    for number in range(60):
        etcd.txn([], [Put(key, b"%d" % number * 300)], [], Patience.lasting(BOUND))
    watch = etcd.watch([(key, None)], first, Patience.lasting(BOUND))
    seen = 0
    while seen < 61:
        events = watch.wait(Patience.lasting(BOUND))
        assert events, f"{seen} of 61 events, then nothing"
        seen += len(events)
    watch.close()


def test_a_waiter_is_served_and_a_loss_is_noticed_at_once(
    tls_newest: Site, spawn_distlock: Spawn, run_distlock: Run
) -> None:
    command = ("--", "sh", "-c", "echo in; cat")
    holder = spawn_distlock("--lock-name=x", "--ttl=600", *command, env=tls_newest.env, stdin=subprocess.PIPE)
    assert line_of(holder) == "in"
    waiter = spawn_distlock("--lock-name=x", "--ttl=600", *command, env=tls_newest.env, stdin=subprocess.PIPE)
    queued(tls_newest, "x")
    holder.stdin.close()
    assert holder.wait(BOUND) == 0
    assert line_of(waiter) == "in"
    assert run_distlock("--lock-name=x", "--unlock", env=tls_newest.env).returncode == 0
    assert waiter.wait(BOUND) == 2


def test_an_idle_connection_is_used_again(tls_newest: Site) -> None:
    """TLS's own messages do not make an idle connection stale."""
    with Proxy(tls_newest.cluster.endpoints[0]) as proxy:
        realm = tls_newest.realm(proxy.url.replace("http", "https"))
        for _ in range(5):
            realm.list()
        with proxy.changed:
            assert len(proxy._connections) == 1


def test_a_running_client_uses_a_renewed_certificate(
    picky_both: Site, tls: Tls, tmp_path: Path, stranger: Authority
) -> None:
    cert, key = str(tmp_path / "node.pem"), str(tmp_path / "node.key")

    def install(certificate: Certificate) -> None:
        for source, target in zip(certificate, (cert, key)):
            shutil.copy(source, target + ".new")
            os.replace(target + ".new", target)

    install(stranger.issue())
    realm = picky_both.realm(cert=cert, key=key, connect_timeout=1.0)
    with pytest.raises(EtcdUnavailable, match="it refuses the client certificate"):
        realm.list()
    install(tls.authority.issue())
    assert realm.list() == []
    os.unlink(key)  # in the middle of the next renewal
    realm.close()
    assert realm.list() == []


def test_a_keeper_speaks_tls_too(tls_newest: Site, run_distlock: Run, tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "300"])
    try:
        # Relative: the keeper has another working directory.
        env = {**tls_newest.env, "DISTLOCK_CACERT": os.path.relpath(tls_newest.settings["cacert"])}
        options = ("--lock-name=x", "--lock", f"--while-pid={process.pid}", f"--log-file={tmp_path / 'log'}")
        done = run_distlock(*options, "--ttl=60", env=env)
        assert (done.returncode, done.stderr) == (0, "")
        state = tls_newest.realm().show("x")
        assert state.holders[0].keeper is not None
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not tls_newest.realm().show("x").holders, "the keeper lets go")
    # It writes that a moment after others can see it.
    wait_until(lambda: "released" in (tmp_path / "log").read_text(), "a word in its log")


@pytest.mark.parametrize("names_an_authority", [True, False])
def test_a_context_is_as_strict_as_one_of_the_module_ssl(tls: Tls, names_an_authority: bool) -> None:
    made = make_context(Access(cacert=tls.authority.cacert) if names_an_authority else Access())
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strict.minimum_version = ssl.TLSVersion.TLSv1_2
    strict.hostname_checks_common_name = False
    if names_an_authority:
        strict.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", ssl.VerifyFlags(0))
        strict.load_verify_locations(tls.authority.cacert)
    else:
        strict.load_default_certs()
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    same = "verify_mode verify_flags check_hostname _host_flags options minimum_version maximum_version security_level"
    for name in (*same.split(), "post_handshake_auth", "sni_callback"):
        assert getattr(made, name, None) == getattr(strict, name, None), name
    assert made.get_ciphers() == strict.get_ciphers()
    assert made.cert_store_stats() == strict.cert_store_stats()


@pytest.mark.parametrize("name", ["", ".", ".example.com", "b\u00fccher.example", "a" * 300])
def test_no_name_is_too_strange_to_be_verified(tls_site: Site, tls: Tls, name: str) -> None:
    """The C code verifies no name where it is given none: so it is always given one, and refuses what is none."""
    shared = SharedTls(Access(cacert=tls.authority.cacert, server_name=name))
    shared.expected_name = lambda address: name  # type: ignore[method-assign]
    with pytest.raises(ConnectFailed, match=r"TLS cannot begin|its certificate is not one for"):
        SecureConnection(parse_endpoint(tls_site.cluster.endpoints[0]), Patience.lasting(5.0), shared)


def test_a_plain_call_loads_nothing_of_this(distlock_env: dict[str, str]) -> None:
    code = (
        "import sys; from distlock_core.cli.distlock import run; run(['--list', '--quiet']);"
        "print([name for name in sys.modules if name.split('.')[0] in ('ssl', '_ssl', 'dns', 'grpc')"
        " or name.endswith(('.tls', '.login', '.access', '.discovery', '.rights', '.password_file'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=distlock_env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_call_over_tls_loads_no_more_than_it_needs(tls_newest: Site, distlock_env: dict[str, str]) -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from distlock_core.cli.distlock import run;"
        "run(['--list', '--quiet']);"
        "print(sorted({'_ssl', 'ssl', 'socket', 're', 'enum', 'encodings.idna'} & set(sys.modules)))"
    )
    env = {**distlock_env, **{name: value for name, value in tls_newest.env.items() if value is not None}}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("['_ssl']\n", "")
