from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster, Proxy

PUT, RANGE, WATCH = "/v3/kv/put", "/v3/kv/range", "/v3/watch"
PATIENCE = 30.0


class Client:
    """One keep-alive connection, as a client of the gateway has it."""

    def __init__(self, url: str, timeout: float = PATIENCE) -> None:
        self.http = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=timeout)

    def post(self, path: str, body: object) -> Any:
        self.http.request("POST", path, json.dumps(body))
        return json.loads(self.http.getresponse().read())

    def put(self, key: str, value: str) -> Any:
        return self.post(PUT, {"key": _b64(key), "value": _b64(value)})

    def get(self, key: str) -> str | None:
        kvs = self.post(RANGE, {"key": _b64(key)}).get("kvs")
        return base64.b64decode(kvs[0]["value"]).decode() if kvs else None

    def watch(self, key: str) -> http.client.HTTPResponse:
        self.http.request("POST", WATCH, json.dumps({"create_request": {"key": _b64(key)}}))
        stream = self.http.getresponse()
        assert json.loads(stream.readline())["result"]["created"]
        return stream


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    client = Client(proxy.url)
    yield client
    client.http.close()


@pytest.fixture
def direct(etcd: Cluster) -> Iterator[Client]:
    client = Client(etcd.endpoints[0])
    yield client
    client.http.close()


@pytest.fixture
def later() -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        yield executor


def test_without_faults_it_is_not_noticed(client: Client, proxy: Proxy, realm_prefix: str) -> None:
    large = "x" * 200_000  # a reply over 2 kB comes in chunks
    client.put(realm_prefix, large)
    first = client.http.sock
    assert client.get(realm_prefix) == large
    assert client.http.sock is first, "keep-alive"
    assert [path for path, _ in proxy.requests] == [PUT, RANGE]
    assert json.loads(proxy.requests[1][1]) == {"key": _b64(realm_prefix)}


def test_a_lost_reply_was_applied(client: Client, proxy: Proxy, direct: Client, realm_prefix: str) -> None:
    proxy.lose_reply(PUT)
    with pytest.raises(http.client.RemoteDisconnected):
        client.put(realm_prefix, "applied")
    assert direct.get(realm_prefix) == "applied"
    client.put(realm_prefix, "once only")


def test_a_lost_request_was_not_applied(client: Client, proxy: Proxy, direct: Client, realm_prefix: str) -> None:
    proxy.lose_request(PUT, times=2)
    for _ in range(2):
        with pytest.raises(http.client.RemoteDisconnected):
            client.put(realm_prefix, "lost")
    assert direct.get(realm_prefix) is None
    client.put(realm_prefix, "after")
    assert direct.get(realm_prefix) == "after"


def test_when_chooses_by_body_and_the_path_must_match(client: Client, proxy: Proxy, realm_prefix: str) -> None:
    proxy.lose_request(PUT, when=lambda body: _b64("second").encode() in body)
    client.put(realm_prefix, "first")
    client.get(realm_prefix)
    with pytest.raises(http.client.RemoteDisconnected):
        client.put(realm_prefix, "second")


def test_a_held_request_is_applied_when_released(
    client: Client, proxy: Proxy, direct: Client, realm_prefix: str, later: concurrent.futures.Executor
) -> None:
    held = proxy.hold_request(PUT)
    reply = later.submit(client.put, realm_prefix, "held")
    assert held.wait(PATIENCE)
    assert json.loads(held.body)["value"] == _b64("held")
    assert direct.get(realm_prefix) is None
    held.release()
    assert "header" in reply.result(PATIENCE)
    assert direct.get(realm_prefix) == "held"


def test_a_dropped_request_is_never_applied(
    client: Client, proxy: Proxy, direct: Client, realm_prefix: str, later: concurrent.futures.Executor
) -> None:
    held = proxy.hold_request(PUT)
    reply = later.submit(client.put, realm_prefix, "held")
    held.wait(PATIENCE)
    held.drop()
    with pytest.raises(http.client.RemoteDisconnected):
        reply.result(PATIENCE)
    assert direct.get(realm_prefix) is None


def test_a_held_reply_belongs_to_an_applied_request(
    client: Client, proxy: Proxy, direct: Client, realm_prefix: str, later: concurrent.futures.Executor
) -> None:
    held = proxy.hold_reply(PUT)
    reply = later.submit(client.put, realm_prefix, "applied")
    held.wait(PATIENCE)
    assert direct.get(realm_prefix) == "applied"
    assert not reply.done()
    held.release()
    assert "header" in reply.result(PATIENCE)


def test_a_wait_for_an_event_that_never_comes_ends(proxy: Proxy) -> None:
    with pytest.raises(TimeoutError):
        proxy.hold_request(PUT).wait(0.05)


def test_a_client_that_gives_up_while_held_is_forgotten(client: Client, proxy: Proxy, realm_prefix: str) -> None:
    held = proxy.hold_request(PUT)
    client.http.request("POST", PUT, json.dumps({"key": _b64(realm_prefix)}))
    held.wait(PATIENCE)
    client.http.close()
    _until(lambda: not proxy._connections)


def test_cut_closes_open_connections_and_refuses_new_ones_until_healed(
    client: Client, proxy: Proxy, realm_prefix: str
) -> None:
    client.put(realm_prefix, "before")
    stream_client = Client(proxy.url)
    stream = stream_client.watch(realm_prefix)
    proxy.cut()
    assert stream.readline() == b""
    with pytest.raises(OSError):  # noqa: PT011 - reset, closed or refused, by the moment
        client.get(realm_prefix)
    with pytest.raises(ConnectionRefusedError):
        Client(proxy.url).get(realm_prefix)
    proxy.heal()
    assert Client(proxy.url).get(realm_prefix) == "before"


def test_a_black_hole_accepts_and_stays_silent_until_healed(
    proxy: Proxy, direct: Client, realm_prefix: str, later: concurrent.futures.Executor
) -> None:
    proxy.blackhole()
    impatient = Client(proxy.url, timeout=0.2)
    with pytest.raises(socket.timeout):  # TimeoutError itself only since Python 3.10
        impatient.put(realm_prefix, "nothing")
    impatient.http.close()
    patient = later.submit(Client(proxy.url).put, realm_prefix, "patient")
    proxy.wait_for_requests(PUT, 2, PATIENCE)
    assert direct.get(realm_prefix) is None
    proxy.heal()
    patient.result(PATIENCE)
    assert direct.get(realm_prefix) == "patient"


def test_a_delay_is_at_least_that_long(client: Client, proxy: Proxy, realm_prefix: str) -> None:
    proxy.delay(0.2)
    began = time.monotonic()
    client.get(realm_prefix)
    assert time.monotonic() - began >= 0.2
    proxy.heal()


def test_a_stream_passes_at_once_and_breaks_alone(
    client: Client, proxy: Proxy, direct: Client, realm_prefix: str
) -> None:
    client.get(realm_prefix)
    watcher = Client(proxy.url)
    stream = watcher.watch(realm_prefix)
    direct.put(realm_prefix, "seen")
    assert _b64("seen").encode() in stream.readline()
    assert proxy.streams == 1
    assert proxy.break_streams() == 1
    assert stream.readline() == b""
    assert client.get(realm_prefix) == "seen"


def test_a_watch_closed_by_the_client_ends_at_etcd(start_etcd: Callable[..., Cluster], realm_prefix: str) -> None:
    # Alone there: in the etcd of all, what other tests have left behind ends its watches at any time.
    with start_etcd() as quiet, Proxy(quiet.endpoints[0]) as proxy:

        def watchers() -> float:
            return quiet.members[0].metric("etcd_debugging_mvcc_watcher_total")

        watcher = Client(proxy.url)
        stream = watcher.watch(realm_prefix)
        assert watchers() == 1
        stream.close()
        watcher.http.close()
        _until(lambda: watchers() == 0)


def test_a_garbled_answer_is_passed_on_unchanged(
    client: Client, proxy: Proxy, direct: Client, realm_prefix: str
) -> None:
    proxy.garble("/v3/kv/*", b"HTTP/1.1 503 Away\r\nContent-Length: 7\r\n\r\nbad {]}")
    client.http.request("POST", PUT, json.dumps({"key": _b64(realm_prefix)}))
    answer = client.http.getresponse()
    assert (answer.status, answer.read()) == (503, b"bad {]}")
    assert direct.get(realm_prefix) is None


def test_a_dead_member_closes_the_client(proxy: Proxy) -> None:
    with Proxy("http://127.0.0.1:1") as nowhere, pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        Client(nowhere.url).get("a")


def test_traffic_other_than_http1_is_tunnelled(proxy: Proxy) -> None:
    # The first frames of a gRPC connection: etcd answers the preface with its settings.
    port = urllib.parse.urlsplit(proxy.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        frame = s.recv(9)
        assert frame[3] == 4, "SETTINGS"
        proxy.cut()
        while s.recv(65536):
            pass


def test_it_serves_many_clients_at_once(
    proxy: Proxy, direct: Client, realm_prefix: str, later: concurrent.futures.Executor
) -> None:
    def write(number: int) -> None:
        client = Client(proxy.url)
        for turn in range(20):
            client.put(f"{realm_prefix}{number}", str(turn))
        client.http.close()

    for done in [later.submit(write, number) for number in range(8)]:
        done.result(60)
    assert [direct.get(f"{realm_prefix}{number}") for number in range(8)] == ["19"] * 8
    assert len(proxy.requests) == 160


def test_close_ends_every_thread(etcd: Cluster, realm_prefix: str) -> None:
    with Proxy(etcd.endpoints[0]) as proxy:
        client = Client(proxy.url)
        client.watch(realm_prefix)
        proxy.hold_request(PUT)
        connections = list(proxy._connections)
        assert connections
    assert not any(connection.is_alive() for connection in connections)
    assert threading.active_count() < 50


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_muted_requests_reach_etcd_and_get_no_answer(proxy: Proxy, direct: Client, realm_prefix: str) -> None:
    client = Client(proxy.url)
    proxy.mute()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        put = pool.submit(client.put, realm_prefix, "v")
        deadline = time.monotonic() + PATIENCE
        while direct.get(realm_prefix) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not put.done()
        proxy.heal()
        assert put.result(PATIENCE)["header"]
    client.http.close()
