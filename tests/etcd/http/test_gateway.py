"""The driver for etcd's JSON gateway: servers that are no etcd, broken answers, and peculiarities of etcd."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable

import pytest

from distlock_core import AccessDenied, ConfigError, EtcdUnavailable, OutcomeUnknown
from distlock_core.base.deadline import Patience
from distlock_core.etcd.values import Compare, Get, LeaseGone, Put, WatchEnded, prefix_end
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, TXN, Scene, gateway
from tests.support.scripted_server import HEAD, Script, as_chunks, chunked, reply, says

BROKEN = {
    "404, plain text": (reply("404 Not Found", "404 page not found\n"), "no JSON gateway .404."),
    "a web server": (reply("200 OK", "<html>It works!</html>"), "not as etcd does .HTTP 200."),
    "a web server's 400": (reply("400 Bad Request", "Bad Request"), "not as etcd does .HTTP 400."),
    "500, plain text": (reply("500 Internal Server Error", "oops"), "not as etcd does .HTTP 500."),
    "JSON cut short": (reply("200 OK", '{"header":{"revis'), "not as etcd does"),
    "JSON of something else": (reply("200 OK", '{"status":"ok"}'), "not as etcd does"),
    "a JSON list": (reply("200 OK", "[1]"), "not as etcd does"),
    "JSON null": (reply("200 OK", "null"), "not as etcd does"),
    "JSON without an end": (reply("200 OK", "[" * 50000), "not as etcd does"),
    "no UTF-8": (reply("200 OK", b"\xff\xfe{"), "not as etcd does"),
    "a wrong type inside": (reply("200 OK", '{"header":{"revision":"1"},"responses":[7]}'), "not as etcd does"),
    "no base64": (
        reply("200 OK", '{"header":{"revision":"1"},"responses":[{"response_range":{"kvs":[{"key":"abcde"}]}}]}'),
        "not as etcd does",
    ),
    "an error whose code is a word": (reply("500 Oops", '{"code":"E7","message":"no"}'), "not as etcd does"),
    "etcd without a leader": (
        reply(
            "503 Service Unavailable", '{"error":"etcdserver: no leader","code":14,"message":"etcdserver: no leader"}'
        ),
        "etcdserver: no leader",
    ),
    "an end in the middle of a chunk": (chunked(b'{"header"') + b"fff\r\n:{", "closed the connection"),
    "an end before the length": (reply("200 OK", "{}").replace(b"Length: 2", b"Length: 200"), "closed the connection"),
    "a chunk of no length": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", "no HTTP answer"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP answer"),
    "nothing at all": (b"", "closed the connection"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_endpoint_that_gives_this_answer_is_named_with_it(proxy: Proxy, what: str) -> None:
    raw, said = BROKEN[what]
    proxy.garble(TXN, raw, times=100)
    with pytest.raises(EtcdUnavailable, match=said):
        gateway(proxy.url).read([Get(b"x")], Patience.lasting(1.0))


@pytest.mark.parametrize("what", BROKEN)
def test_it_is_replaced_by_another_endpoint(scene: Scene, proxy: Proxy, what: str) -> None:
    proxy.garble(TXN, BROKEN[what][0], times=100)
    etcd = gateway(proxy.url, *scene.endpoints)
    assert etcd.read([Get(b"x")], Patience.lasting(BOUND)).revision
    assert etcd.endpoint == scene.endpoints[0]


@pytest.mark.parametrize("what", [what for what in BROKEN if what != "etcd without a leader"])
def test_a_write_that_is_answered_with_it_is_in_doubt(proxy: Proxy, what: str) -> None:
    proxy.garble(TXN, BROKEN[what][0])
    with pytest.raises(OutcomeUnknown):
        gateway(proxy.url).txn([], [Get(b"x")], [], Patience.lasting(BOUND))


def test_a_write_that_a_member_without_a_leader_refuses_is_sent_again(proxy: Proxy) -> None:
    """It refuses before it does anything."""
    proxy.garble(TXN, BROKEN["etcd without a leader"][0])
    assert gateway(proxy.url).txn([], [Get(b"x")], [], Patience.lasting(BOUND)).succeeded
    assert len(proxy.wait_for_requests(TXN, 2)) == 2


@pytest.mark.parametrize("what", ["500, plain text", "JSON cut short", "etcd without a leader"])
def test_a_claim_that_is_answered_with_it_is_resolved(scene: Scene, proxy: Proxy, what: str) -> None:
    lock = scene.realm(proxy.url).lock("web")
    proxy.garble(TXN, BROKEN[what][0], times=2)
    lock.acquire(BOUND)
    proxy.garble(TXN, BROKEN[what][0])
    lock.release()
    scene.assert_clean()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ('{"error":"etcdserver: permission denied","code":7,"message":"etcdserver: permission denied"}', AccessDenied),
        ('{"code":16,"message":"etcdserver: invalid auth token"}', AccessDenied),
        ('{"code":3,"message":"etcdserver: user name is empty"}', AccessDenied),
        ('{"code":3,"message":"etcdserver: request is too large"}', ConfigError),
    ],
)
def test_a_refusal_is_final(scene: Scene, proxy: Proxy, answer: str, error: type[Exception]) -> None:
    """No other endpoint is asked, since all would answer the same."""
    proxy.garble(TXN, reply("400 Bad Request", answer))
    with pytest.raises(error, match="etcd refuses: etcdserver"):
        gateway(proxy.url, *scene.endpoints).txn([], [Get(b"x")], [], Patience.lasting(BOUND))


def test_a_value_that_etcd_finds_too_large_leaves_nothing_behind(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="too large"):
        scene.realm().lock("web", reason="x" * 2_000_000).acquire(0)
    assert scene.under() == ()


CREATED = b'{"result":{"header":{"revision":"7"},"created":true}}\n'
EVENT = json.dumps(
    {"result": {"note": "naïve €uro 🔒", "events": [{"type": "DELETE", "kv": {"key": "d2Vi", "mod_revision": "8"}}]}},
    ensure_ascii=False,
).encode()


def events(url: str) -> Sequence[Any]:
    watch = gateway(url).watch([(b"web", None)], 1, Patience.lasting(BOUND))
    try:
        return watch.wait(Patience.lasting(BOUND))
    finally:
        watch.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_watch_reads_chunks_that_are_split_inside_a_character(script: Callable[..., Script], size: int) -> None:
    server = script(says(HEAD, *as_chunks(CREATED + EVENT, size), pause=0.0005))
    (event,) = events(server.url)
    assert event.deleted
    assert event.kv.key == b"web"


def test_a_watch_reads_several_values_of_one_chunk(script: Callable[..., Script]) -> None:
    server = script(says(HEAD, *as_chunks(CREATED + EVENT + EVENT + b" \n" + EVENT, 5000), pause=0.1))
    assert len(events(server.url)) == 3


ENDS = {
    "an error without a newline": b'{"error":{"grpc_code":14,"http_code":503,"message":"transport is closing"}}',
    "an error of 3.6": b'{"error":{"code":14,"message":"no leader"}}\n',
    "a compaction": b'{"result":{"watch_id":"1","canceled":true,"compact_revision":"9"}}\n',
    "no JSON object": b"[]\n",
    "an event without a key": b'{"result":{"events":[{"type":"DELETE"}]}}\n',
    "an event whose key is no base64": b'{"result":{"events":[{"kv":{"key":"abcde"}}]}}\n',
    "an event that is none": b'{"result":{"events":[null]}}\n',
    "no UTF-8": b'{"result":{"\xff\xff',
    "no end of it": b"[" * 100000,
}


@pytest.mark.parametrize("what", ENDS)
def test_a_watch_ends_with(script: Callable[..., Script], what: str) -> None:
    server = script(says(HEAD, *as_chunks(CREATED + ENDS[what], 50000), pause=0.2))
    with pytest.raises(WatchEnded):
        events(server.url)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"", b"fff\r\n{"], ids=["in order", "at once", "in the middle"])
def test_a_watch_reports_the_end_of_its_stream(script: Callable[..., Script], end: bytes) -> None:
    server = script(says(HEAD, *as_chunks(CREATED, 5000), end))
    with pytest.raises(WatchEnded):
        events(server.url)


@pytest.mark.parametrize("status", ["404 Not Found", "200 OK", "500 Oops"])
def test_a_watch_of_no_etcd_finds_another_endpoint(scene: Scene, script: Callable[..., Script], status: str) -> None:
    server = script(says(reply(status, '{"code":"E7","message":"no"}' if status[0] == "5" else "nothing here")))
    watch = gateway(server.url, *scene.endpoints).watch([(scene.key("web"), None)], 1, Patience.lasting(BOUND))
    if watch.endpoint == server.url:  # it said 200, and so it may be one until it is read
        with pytest.raises(WatchEnded):
            watch.wait(Patience.lasting(BOUND))
    else:
        assert watch.endpoint == scene.endpoints[0]
    watch.close()


def test_every_range_of_a_watch_is_watched(scene_each: Scene) -> None:
    """Go's HTTP server throws away what is left of a request when the answer begins: the last ranges were lost."""
    etcd = gateway(*scene_each.endpoints)
    names = [f"{number:02}-{'x' * 200}" for number in range(10)]
    for _ in range(15):
        revision = scene_each.put(names[-1])
        ranges = [(scene_each.key(name), None) for name in names]
        watch = etcd.watch(ranges, revision + 1, Patience.lasting(BOUND))
        scene_each.delete(names[-1])
        assert watch.wait(Patience.lasting(BOUND)), "the last range was not watched"
        watch.close()


# The contract with the layers above, on both versions.


def test_an_empty_range_counts_as_a_key_of_revision_0(scene_each: Scene) -> None:
    etcd, patience = gateway(*scene_each.endpoints), Patience.lasting(BOUND)
    key = scene_each.key("nobody/")
    for compare, holds in (
        (Compare("CREATE", "EQUAL", key, 0, prefix_end(key)), True),
        (Compare("MOD", "LESS", key, 1, prefix_end(key)), True),
        (Compare("CREATE", "GREATER", key, 0, prefix_end(key)), False),
    ):
        assert etcd.txn([compare], [], [], patience).succeeded is holds


def test_a_range_counts_all_its_keys_whatever_was_filtered(scene_each: Scene) -> None:
    etcd, patience = gateway(*scene_each.endpoints), Patience.lasting(BOUND)
    revisions = [scene_each.put(f"q/{name}") for name in ("c", "a", "b")]
    key = scene_each.key("q/")
    get = Get(key, prefix_end(key), youngest_first=True, keys_only=True, max_create_revision=revisions[1])
    (found,) = etcd.read([get], patience).ranges()
    assert [kv.create_revision for kv in found.kvs] == [revisions[1], revisions[0]]
    assert found.total == 3
    (found,) = etcd.read([get._replace(limit=1)], patience).ranges()
    assert ([kv.create_revision for kv in found.kvs], found.total) == (revisions[1:2], 3)


def test_a_lease_is_granted_once_under_its_id(scene_each: Scene) -> None:
    etcd, patience = gateway(*scene_each.endpoints), Patience.lasting(BOUND)
    lease = (1 << 62) + time.time_ns()
    assert etcd.grant(lease, 30, patience) == 30
    assert etcd.grant(lease, 30, patience) == 30
    assert 0 < etcd.time_to_live(lease, patience) <= 30
    assert etcd.keep_alive(lease, patience) == 30
    etcd.revoke(lease, patience)
    etcd.revoke(lease, patience)
    assert etcd.keep_alive(lease, patience) == 0
    assert etcd.time_to_live(lease, patience) == 0
    with pytest.raises(LeaseGone):
        etcd.txn([], [Put(scene_each.key("x"), b"", lease)], [], patience)


def test_keys_and_values_are_bytes(scene_each: Scene) -> None:
    etcd, patience = gateway(*scene_each.endpoints), Patience.lasting(BOUND)
    key, value = scene_each.key("") + bytes(range(256)), bytes(reversed(range(256)))
    revision = etcd.txn([], [Put(key, value)], [], patience).revision
    (found,) = etcd.read([Get(key)], patience).ranges()
    assert [(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease) for kv in found.kvs] == [
        (key, value, revision, revision, 0)
    ]


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"/x/", b"/x0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


WITHOUT_POLL = """
import select, sys, threading
del select.poll, select.epoll  # as eventlet's monkeypatching does
from distlock_core import Interrupt, connect
from distlock_core.errors import Cancelled
realm = connect({endpoints!r}, {prefix!r})
with realm.lock("web", ttl=5) as held:
    for cancel in (Interrupt(), threading.Event()):
        threading.Timer(0.3, cancel.set).start()
        try:
            realm.lock("web").acquire(cancel=cancel)
        except Cancelled:
            continue
        sys.exit("it was not called off")
    waiting = threading.Thread(target=lambda: realm.lock("web").acquire(20).release())
    waiting.start()
    while not realm.show("web").waiting:
        pass
waiting.join(20)
assert not realm.list()
"""


def test_it_works_where_the_select_module_has_no_poll(scene: Scene) -> None:
    program = WITHOUT_POLL.format(endpoints=scene.endpoints, prefix=scene.prefix)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
