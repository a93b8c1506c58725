"""A name with several addresses: a silent one does not block the others."""

from __future__ import annotations

import _socket  # what happy_eyeballs asks
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import EtcdUnavailable
from distlock_core.etcd import happy_eyeballs
from distlock_core.etcd.address import Address
from distlock_core.etcd.happy_eyeballs import STAGGER, ConnectFailed
from distlock_core.etcd.values import Get, Put
from distlock_core.lock.lease import Lease
from distlock_core.testing import Cluster
from tests.support.contract_cell import BOUND, Cell, patience
from tests.support.needs import missing
from tests.support.processes import Output

NAME = "etcd.example.test"
DEAF = "127.0.0.2"
Resolves = Callable[..., None]
OWN_FILES = ("unshare", "--map-root-user", "--mount")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Resolves:
    """resolves(host, ...) sets the addresses of the name, in this order, and clears the memory about addresses."""
    monkeypatch.setattr(happy_eyeballs, "_suspects", {})
    monkeypatch.setattr(happy_eyeballs, "_proven", set())
    monkeypatch.setattr(happy_eyeballs, "_known", {})
    monkeypatch.setattr(happy_eyeballs, "_silent", {})
    real: Callable[..., list[Any]] = _socket.getaddrinfo

    def resolve(*hosts: str) -> None:
        def look_up(host: Any, port: int, *more: Any, **options: Any) -> list[Any]:
            if host == NAME.encode():
                if options.get("flags"):
                    raise socket.gaierror(socket.EAI_NONAME, "a name")
                return [found for one in hosts for found in real(one, port, type=socket.SOCK_STREAM)]
            return real(host, port, *more, **options)

        monkeypatch.setattr(_socket, "getaddrinfo", look_up)

    return resolve


@contextmanager
def dropping(host: str, port: int) -> Iterator[None]:
    """An address that drops connection requests, because its accept queue is full."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    queued = [socket.socket(family) for _ in range(4)]
    try:
        listener.bind((host, port))
        listener.listen(0)
        for one in queued:
            one.setblocking(False)
            one.connect_ex((host, port))
        with socket.socket(family) as probe:
            probe.settimeout(0.3)
            assert probe.connect_ex((host, port)) in (errno.EAGAIN, errno.EWOULDBLOCK)
        yield
    finally:
        for one in (listener, *queued):
            one.close()


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """An address that takes connections and never answers."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
        yield


def named(cell: Cell, port: int = 0) -> Any:
    scheme, _, where = cell.cluster.endpoints[0].partition("://")
    own = {"server_name": "localhost"} if scheme == "https" else {}
    return cell.dial(f"{scheme}://{NAME}:{port or port_of(where)}", **own)


@pytest.mark.parametrize("fault", ["dropping", "silent"])
def test_a_silent_address_leaves_time_for_the_next(newer: Cell, resolves: Resolves, fault: str) -> None:
    resolves(DEAF, "127.0.0.1")
    with {"dropping": dropping, "silent": silent}[fault](DEAF, port_of(newer.cluster.endpoints[0])):
        etcd = named(newer)
        since = time.monotonic()
        etcd.read([Get(newer.key("x"))], patience(5.0))
        if fault == "dropping":
            assert time.monotonic() - since < 3, "the next address is tried beside it"
        since = time.monotonic()
        assert etcd.txn([], [Put(newer.key("x"), b"")], [], patience(5.0)).succeeded
        assert time.monotonic() - since < 2, "it was not remembered which address answers"


def test_two_families_are_tried_in_turns(driver: Cell, resolves: Resolves) -> None:
    port = port_of(driver.cluster.endpoints[0])
    resolves("::1", "127.0.0.1")
    with dropping("::1", port):
        since = time.monotonic()
        named(driver).read([], patience(4.0))
        assert time.monotonic() - since < 3
    resolves("127.0.0.4", "127.0.0.3", "::1", "127.0.0.2")
    found = [one.where[0] for one in happy_eyeballs.targets(Address("", NAME, port), patience())]
    assert found == ["127.0.0.4", "::1", "127.0.0.3", "127.0.0.2"]


def test_addresses_are_tried_250_ms_apart_and_at_once_after_a_refusal(resolves: Resolves) -> None:
    with socket.socket() as serving:
        serving.bind(("127.0.0.1", 0))
        serving.listen()
        port = serving.getsockname()[1]
        with dropping("127.0.0.2", port), dropping("127.0.0.3", port):
            resolves("127.0.0.2", "127.0.0.9", "127.0.0.3", "127.0.0.1")  # the second one refuses
            since = time.monotonic()
            connected, where, others = happy_eyeballs.open_socket(Address("", NAME, port), patience())
            took = time.monotonic() - since
            connected.close()
            assert where[0] == "127.0.0.1"
            assert others == 3
            assert 2 * STAGGER <= took < 2 * STAGGER + 2
            resolves("127.0.0.2", "127.0.0.3")
            with pytest.raises(ConnectFailed, match="timed out"):
                happy_eyeballs.open_socket(Address("", NAME, port), patience(0.8))
        resolves("127.0.0.8", "127.0.0.9")
        with pytest.raises(ConnectFailed, match="connection refused"):
            happy_eyeballs.open_socket(Address("", NAME, port), patience())


def test_a_renewal_continues_at_the_next_address_when_one_falls_silent(driver: Cell, resolves: Resolves) -> None:
    """The address that falls silent has answered before, and still accepts connections."""
    proxy, url = driver.proxy()
    resolves("127.0.0.1", DEAF)
    lease = Lease(named(driver, port_of(url)), 12, patience())
    with forwarding(DEAF, port_of(url), port_of(driver.cluster.endpoints[0])):
        proxy.blackhole()
        lease.renew(patience(4.0))
        lease.renew(patience(1.5))
        proxy.heal()
    lease.revoke(patience())


@contextmanager
def forwarding(host: str, port: int, target: int) -> Iterator[None]:
    """Another address that leads to the same etcd."""
    program = (
        "import asyncio, sys\n"
        "async def copy(reader, writer):\n"
        "    while data := await reader.read(65536):\n"
        "        writer.write(data)\n"
        "    writer.close()\n"
        "async def serve(reader, writer):\n"
        f"    there = await asyncio.open_connection('127.0.0.1', {target})\n"
        "    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))\n"
        "async def main():\n"
        f"    server = await asyncio.start_server(serve, '{host}', {port})\n"
        "    print('ready', flush=True)\n"
        "    await server.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("fault", ["hangs", "fails for now", "does not know the name"])
def test_while_the_resolver_is_down_the_previous_answer_is_used(
    resolves: Resolves, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The network that is cut has the name servers on it too, and a lease does not wait for them."""
    where = Address("", NAME, 2379)
    done = threading.Event()

    def look_up(host: Any, port: int, *more: Any, **options: Any) -> list[Any]:
        if fault == "hangs" and not options.get("flags"):
            done.wait(BOUND)
        unknown = options.get("flags") or fault == "does not know the name"
        raise socket.gaierror(socket.EAI_NONAME if unknown else socket.EAI_AGAIN, fault)

    resolves("127.0.0.1", "127.0.0.2")
    before = happy_eyeballs.targets(where, patience())
    monkeypatch.setattr(_socket, "getaddrinfo", look_up)
    since = time.monotonic()
    try:
        if fault == "does not know the name":
            with pytest.raises(ConnectFailed, match="does not resolve"):
                happy_eyeballs.targets(where, patience())
        else:
            assert happy_eyeballs.targets(where, patience()) == before
            assert time.monotonic() - since < 5
            threads = threading.active_count()
            assert all(happy_eyeballs.targets(where, patience()) == before for _ in range(10))
            if fault == "hangs":
                assert threading.active_count() <= threads, "each question to a silent resolver holds a thread"
        with pytest.raises(ConnectFailed, match="resolve"):
            happy_eyeballs.targets(Address("", "other.example.test", 2379), patience(0.5))
    finally:
        done.set()


def test_without_an_address_the_reason_is_reported(driver: Cell, resolves: Resolves) -> None:
    resolves("127.0.0.8", "127.0.0.9")
    with pytest.raises(EtcdUnavailable, match="connection refused"):
        named(driver).read([], patience(1.0))


# A process that may open no IPv6 socket: `RestrictAddressFamilies=AF_INET` of systemd, a seccomp filter of containers.

WITHOUT_IPV6 = """
import ctypes, os, platform, struct, sys
AF_INET6, EAFNOSUPPORT = 10, 97
arch, number = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[platform.machine()]
code = [
    (0x20, 0, 0, 4), (0x15, 0, 5, arch),      # another architecture: allow
    (0x20, 0, 0, 0), (0x15, 0, 3, number),    # not socket(): allow
    (0x20, 0, 0, 16), (0x15, 0, 1, AF_INET6), # not IPv6: allow
    (0x06, 0, 0, 0x00050000 | EAFNOSUPPORT),
    (0x06, 0, 0, 0x7FFF0000),
]
program = b"".join(struct.pack("HBBI", *one) for one in code)
buffer = ctypes.create_string_buffer(program)
header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def with_hosts(tmp_path: Path) -> Callable[..., list[str]]:
    """with_hosts(host, ...): what begins a command for which the name stands for these addresses, by /etc/hosts."""
    tried = subprocess.run([*OWN_FILES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        missing(f"no /etc/hosts of the test's own is to be had: {tried.stderr.strip()}")

    def prefix(*hosts: str) -> list[str]:
        path = tmp_path / "hosts"
        path.write_text("".join(f"{host} {NAME}\n" for host in hosts))
        return [*OWN_FILES, "sh", "-c", f'mount --bind {path} /etc/hosts && exec "$@"', "sh"]

    return prefix


@pytest.mark.parametrize("endpoints", ["http://NAME", "http://[::1]:PORT,http://127.0.0.1:PORT"], ids=["name", "list"])
@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_where_no_ipv6_socket_can_be_opened_ipv4_is_spoken(
    with_hosts: Callable[..., list[str]], etcd: Cluster, distlock_env: dict[str, str], transport: str, endpoints: str
) -> None:
    port = port_of(etcd.endpoints[0])
    urls = endpoints.replace("NAME", f"{NAME}:PORT").replace("PORT", str(port))
    env = {**distlock_env, "DISTLOCK_ENDPOINTS": urls, "DISTLOCK_TRANSPORT": transport}
    command = [os.path.join(os.path.dirname(sys.executable), "distlock"), "--lock-name=x", "--", "echo", "in"]
    restricted = [*with_hosts("::1", "127.0.0.1"), sys.executable, "-c", WITHOUT_IPV6]
    check = "import socket; socket.socket(socket.AF_INET6)"
    shown = subprocess.run([*restricted, sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert "Address family not supported" in shown.stderr
    done = subprocess.run([*restricted, *command], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_leased_command_survives_when_one_of_two_addresses_falls_silent(
    with_hosts: Callable[..., list[str]], etcd: Cluster, distlock_env: dict[str, str], transport: str
) -> None:
    """Both lead to the same etcd, through a process each; the one in use is stopped, as a machine that hangs."""
    target = port_of(etcd.endpoints[0])
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    env = {**distlock_env, "DISTLOCK_ENDPOINTS": f"http://{NAME}:{port}", "DISTLOCK_TRANSPORT": transport}
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    words = [distlock, "--lock-name=x", "--ttl=8", "--", "sh", "-c", "echo in; read end; echo out"]
    with forwarding("127.0.0.2", port, target):
        process = subprocess.Popen(
            [*with_hosts("127.0.0.2", "127.0.0.3"), *words],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            Output(process.stdout).until("in\n")
            with forwarding("127.0.0.3", port, target):
                # The first one goes on taking connections, by its kernel alone.
                forwarder = _listening_on("127.0.0.2", port)
                os.kill(forwarder, 19)
                time.sleep(10)  # what passes is what is tested: more than the ttl
                out, said = process.communicate("\n", timeout=BOUND)
                os.kill(forwarder, 18)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert (process.returncode, out, said) == (0, "out\n", "")


def _listening_on(host: str, port: int) -> int:
    """The pid of the child of this process that listens there."""
    wanted = f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        inode = next(line.split()[9] for line in table if line.split()[1] == wanted and line.split()[3] == "0A")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for child in children:
        for name in os.listdir(f"/proc/{child}/fd"):
            if os.readlink(f"/proc/{child}/fd/{name}") == f"socket:[{inode}]":
                return int(child)
    raise AssertionError("nobody listens there")
