"""The server on etcd's port may be no etcd, or hostile: every call ends in time, with one line."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, EtcdUnavailable, LimitConflict, LockBusy, OutcomeUnknown, connect
from distlock_core.base.deadline import Interrupt, Patience
from distlock_core.errors import Cancelled
from distlock_core.etcd.address import parse_endpoint
from distlock_core.etcd.endpoints import Endpoints
from distlock_core.etcd.http.gateway import Gateway
from distlock_core.etcd.http.watch import GatewayWatch
from distlock_core.etcd.values import Get, Put, WatchEnded
from tests.support.scene import BOUND, Scene, gateway
from tests.support.scripted_server import HEAD, Script, as_chunks, reply, says

HEADER = {"cluster_id": "5", "revision": "7"}
NOTHING = {"response_range": {"header": {"revision": "7"}}}
ANSWER = json.dumps({"header": HEADER, "succeeded": True, "responses": [NOTHING]})
OK = b"HTTP/1.1 200 OK\r\n"
CREATED = b'{"result":{"header":{"revision":"7"},"created":true}}\n'
PROGRESS = b'{"result":{"header":{"revision":"7"}}}\n'
DEADLINE = 0.5  # seconds; a server that outlasts it here would outlast any other

Answer = Callable[[socket.socket], None]
Write = Callable[[Answer], Script]


def without_end(first: bytes, again: bytes, pause: float = 0.0) -> Answer:
    """Sends this, and then that forever."""

    def answer(client: socket.socket) -> None:
        client.sendall(first)
        piece = again if pause else again * max(1, 65536 // len(again))
        while True:
            client.sendall(piece)
            time.sleep(pause)

    return answer


def ask(url: str, seconds: float = DEADLINE, max_answer: int = 64) -> Any:
    etcd = Gateway(Endpoints([parse_endpoint(url)]), max_answer=max_answer)
    return etcd.read([Get(b"x")], Patience.lasting(seconds))


TIMED_OUT, NO_HTTP, CLOSED, TOO_LARGE = "timed out", "no HTTP answer", "closed the connection", "larger than 1 MiB"

HOSTILE: dict[str, tuple[Answer, str]] = {
    "a body that drips": (without_end(OK + b"Content-Length: 1000\r\n\r\n", b" ", 0.02), TIMED_OUT),
    "a body without a length that drips": (without_end(OK + b"\r\n", b" ", 0.02), TIMED_OUT),
    "chunks that drip": (without_end(HEAD, b"1\r\n \r\n", 0.02), TIMED_OUT),
    "a chunk that drips": (without_end(HEAD + b"ffff\r\n", b" ", 0.02), TIMED_OUT),
    "a chunk's length that drips": (without_end(HEAD, b"0", 0.02), TIMED_OUT),
    "a head that drips": (without_end(OK, b"X", 0.02), TIMED_OUT),
    "silence": (says(b"", pause=3), TIMED_OUT),
    "a flood of headers": (without_end(OK, b"X: y\r\n"), NO_HTTP),
    "a flood without a line": (without_end(b"", b"x"), NO_HTTP),
    "a flood of 1xx": (without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), NO_HTTP),
    "1xx that drip": (without_end(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.02), TIMED_OUT),
    "another protocol": (says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), NO_HTTP),
    "a flood of body": (without_end(OK + b"\r\n", b" "), TOO_LARGE),
    "a flood of chunks": (without_end(HEAD, b"400\r\n" + b" " * 1024 + b"\r\n"), TOO_LARGE),
    "a flood of one chunk": (without_end(HEAD + b"fffffffffff\r\n", b" "), TOO_LARGE),
    "a flood of a chunk's length": (without_end(HEAD, b"0"), NO_HTTP),
    "a flood of trailers": (without_end(HEAD + b"0\r\n", b"X: y\r\n"), NO_HTTP),
    "a chunk of 2^64 bytes": (says(HEAD + b"10000000000000000\r\nx", pause=3), NO_HTTP),
    "a chunk of -5 bytes": (says(HEAD + b"-5\r\nx", pause=3), NO_HTTP),
    "a chunk of 0x5 bytes": (says(HEAD + b"0x5\r\nhello\r\n", pause=3), NO_HTTP),
    "a chunk of 1_0 bytes": (says(HEAD + b"1_0\r\n0123456789012345\r\n", pause=3), NO_HTTP),
    "a chunk of no length": (says(HEAD + b"\r\nhello\r\n", pause=3), NO_HTTP),
    "a chunk longer than it says": (says(HEAD + b"3\r\nhello\r\n", pause=3), NO_HTTP),
    "chunks without a last": (says(HEAD + b"2\r\n{}\r\n"), CLOSED),
    "a length of 10^12": (says(OK + b"Content-Length: 1000000000000\r\n\r\n", pause=3), TOO_LARGE),
    "a length of 10^5000": (says(OK + b"Content-Length: 1" + b"0" * 5000 + b"\r\n\r\n", pause=3), NO_HTTP),
    "a length that is no number": (says(OK + "Content-Length: ²\r\n\r\n".encode("latin-1"), pause=3), NO_HTTP),
    "a negative length": (says(OK + b"Content-Length: -1\r\n\r\n", pause=3), NO_HTTP),
    "two lengths": (says(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", pause=3), NO_HTTP),
    "a length and chunks": (says(HEAD[:-2] + b"Content-Length: 2\r\n\r\n{}", pause=3), NO_HTTP),
    "an unknown coding": (says(OK + b"Transfer-Encoding: gzip\r\n\r\n{}", pause=3), NO_HTTP),
    "a coding twice": (says(HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", pause=3), NO_HTTP),
    "a status that is no number": (says("HTTP/1.1 ²²² OK\r\n\r\n".encode("latin-1"), pause=3), NO_HTTP),
    "a status of four digits": (says(b"HTTP/1.1 2000 OK\r\n\r\n", pause=3), NO_HTTP),
    "a header without a colon": (says(OK + b"no header\r\n\r\n", pause=3), NO_HTTP),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_call_ends_in_time_whatever_it_is_answered(script: Write, what: str) -> None:
    answer, said = HOSTILE[what]
    server = script(answer)
    since, cpu = time.monotonic(), time.process_time()
    with pytest.raises(EtcdUnavailable, match=said) as caught:
        ask(server.url, max_answer=1)
    assert "\n" not in caught.value.message
    assert time.monotonic() - since < DEADLINE + 4
    # The server floods in a thread of this process, so some of it is its own.
    assert time.process_time() - cpu < DEADLINE + 4


@pytest.mark.parametrize("what", ["a flood of body", "a flood of chunks", "a flood of one chunk"])
def test_a_flood_below_the_limit_ends_with_the_deadline(script: Write, what: str) -> None:
    server = script(HOSTILE[what][0])
    since = time.monotonic()
    with pytest.raises(EtcdUnavailable, match=r"timed out|larger than"):
        ask(server.url, max_answer=4096)
    assert time.monotonic() - since < DEADLINE + 4


@pytest.mark.parametrize("what", ["a flood of body", "a chunk that drips", "silence"])
def test_a_write_that_is_answered_with_it_is_in_doubt_in_time(script: Write, what: str) -> None:
    server = script(HOSTILE[what][0])
    since = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        Gateway(Endpoints([parse_endpoint(server.url)]), max_answer=1).txn(
            [], [Put(b"x", b"")], [], Patience.lasting(DEADLINE)
        )
    assert time.monotonic() - since < DEADLINE + 4


@pytest.mark.parametrize("what", ["a flood of chunks", "chunks that drip", "1xx that drip", "a flood of one chunk"])
def test_a_cancel_ends_a_call_while_data_flows(script: Write, what: str) -> None:
    cancel, server = Interrupt(), script(HOSTILE[what][0])
    cancel.set()
    since = time.monotonic()
    with pytest.raises(Cancelled):
        Gateway(Endpoints([parse_endpoint(server.url)]), max_answer=4096).read([], Patience.lasting(60, cancel))
    assert time.monotonic() - since < BOUND


def test_a_server_that_takes_a_request_byte_by_byte_does_not_outlast_the_deadline(script: Write) -> None:
    def sip(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while client.recv(512):
            time.sleep(0.001)

    since = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="timed out"):
        gateway(script(sip).url).txn([], [Put(b"x", b"x" * 12_000_000)], [], Patience.lasting(DEADLINE + 2))
    assert time.monotonic() - since < DEADLINE + 6


GOOD = {
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + reply("200 OK", ANSWER),
    "with its length said twice": reply("200 OK", ANSWER, f"Content-Length: {len(ANSWER)}"),
    "without a length": OK + b"\r\n" + ANSWER.encode(),
    "with trailers": HEAD + b"".join(as_chunks(ANSWER.encode(), 7)) + b"0\r\nX: y\r\nZ: z\r\n\r\n",
    "with extensions of its chunks": HEAD + b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER.encode()),
    "over HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER.encode(),
}


@pytest.mark.parametrize("what", GOOD)
@pytest.mark.parametrize("size", [1, 1000])
def test_an_answer_is_understood(script: Write, what: str, size: int) -> None:
    raw = GOOD[what]
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert ask(script(says(*pieces)).url, BOUND).revision == 7


# Large answers.


def cpu_of(script: Write, keys: int) -> float:
    """CPU seconds for an answer with `keys` keys of 20 kB."""
    kv = {"key": "d2Vi", "create_revision": "5", "mod_revision": "6", "value": "eHh4" * 5000}
    found = {"response_range": {"header": HEADER, "kvs": [kv] * keys, "count": str(keys)}}
    body = json.dumps({"header": HEADER, "succeeded": True, "responses": [found]})
    chunks = b"".join(as_chunks(body.encode(), 4096))
    ready: list[bytes] = [HEAD + chunks + b"0\r\n\r\n"]

    def answer(client: socket.socket) -> None:
        client.sendall(ready[0])

    server = script(answer)
    before = time.process_time()
    (found_keys,) = ask(server.url, BOUND * 3).ranges()
    assert len(found_keys.kvs) == keys
    return time.process_time() - before


def test_the_time_for_an_answer_grows_as_its_size(script: Write) -> None:
    small = min(cpu_of(script, 200) for _ in range(3))
    large = min(cpu_of(script, 1600) for _ in range(2))
    assert large < max(small, 0.02) * 8 * 3  # quadratic, it would be 64 times as much


def test_a_message_of_a_watch_is_read_in_a_time_that_grows_as_its_size() -> None:
    def cpu(events: int) -> float:
        event = {"kv": {"key": "d2Vi", "mod_revision": "8", "value": "eHh4" * 5000}}
        raw = json.dumps({"result": {"events": [event] * events}}).encode()
        pieces: Iterator[bytes] = (raw[at : at + 4096] for at in range(0, len(raw), 4096))
        watch = GatewayWatch("", None, Pieces(pieces), lambda _: None, None, 2**30)  # type: ignore[arg-type]
        before = time.process_time()
        assert len(watch.wait(Patience.lasting(BOUND * 3))) == events
        return time.process_time() - before

    small, large = min(cpu(200) for _ in range(3)), min(cpu(1600) for _ in range(2))
    assert large < max(small, 0.02) * 8 * 3


class Pieces:
    """The body of a reply, in these pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _: Patience) -> bytes:
        return next(self._pieces)


def test_large_values_below_a_lock_do_not_delay_its_waiters(scene: Scene) -> None:
    for number in range(1, 13):
        scene.put(f"web/slot/{number}", "1;someone;" + "v" * 1_400_000)
    before, since = time.process_time(), time.monotonic()
    with pytest.raises((LimitConflict, EtcdUnavailable, AcquireTimeout)):
        scene.realm().lock("web").acquire(2.0)
    assert time.process_time() - before < 2.5  # it took 5 seconds of CPU
    assert time.monotonic() - since < 2 + 5
    with pytest.raises(LockBusy) as caught:
        scene.realm().lock("web").acquire(0)
    assert len(caught.value.message) < 5000
    scene.clear("web/")


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_an_answer_beyond_the_limit_is_one_line_that_names_the_setting(scene: Scene, transport: str) -> None:
    for number in (1, 2):
        scene.put(f"big-{number}", "1;someone;" + "v" * 700_000)
    with pytest.raises(EtcdUnavailable, match=r"larger than 1 MiB: set max_answer .MiB. higher") as caught:
        connect(scene.endpoints, scene.prefix, max_answer=1, transport=transport).list()
    assert "\n" not in caught.value.message
    assert len(connect(scene.endpoints, scene.prefix, max_answer=2, transport=transport).list()) == 2
    scene.clear()


def test_an_answer_beyond_the_limit_is_not_asked_for_again_and_again(script: Write) -> None:
    asked: list[int] = []

    def answer(client: socket.socket) -> None:
        asked.append(1)
        client.sendall(OK + b"Content-Length: 1000000000000\r\n\r\n")

    since = time.monotonic()
    with pytest.raises(EtcdUnavailable, match="larger than"):
        ask(script(answer).url, BOUND * 3)
    assert len(asked) <= 2  # with a look whether it speaks TLS
    assert time.monotonic() - since < BOUND


def test_more_keys_below_a_lock_than_it_has_slots_is_taken(scene: Scene) -> None:
    """Not all of them are read, so no slot counts as free for what was not seen."""
    for first in range(0, 1001, 91):
        puts = [Put(scene.key(f"web/slot/!{number}"), b"") for number in range(first, first + 91)]
        scene._etcd.txn([], puts, [], Patience.lasting(BOUND))
    with pytest.raises(LimitConflict) as caught:
        scene.realm().lock("web", slots=3).acquire(2.0)
    assert len(caught.value.message) < 1000
    assert "and 992 more" in caught.value.message
    scene.clear("web/")


# A watch.


def test_a_watch_that_is_kept_busy_ends_its_wait_in_time(script: Write) -> None:
    """It sends empty messages without a pause."""
    flood = PROGRESS * 2000
    answer = without_end(HEAD + b"".join(as_chunks(CREATED, 5000)), b"".join(as_chunks(flood, len(flood))))
    watch = gateway(script(answer).url).watch([(b"web", None)], 9, Patience.lasting(BOUND))
    since = time.monotonic()
    assert not watch.wait(Patience.lasting(DEADLINE))
    assert time.monotonic() - since < DEADLINE + 4
    cancel = Interrupt()
    cancel.set()
    with pytest.raises(Cancelled):
        watch.wait(Patience.lasting(60, cancel))
    watch.close()


def test_a_message_of_a_watch_beyond_the_limit_ends_it(script: Write) -> None:
    answer = without_end(HEAD + b"".join(as_chunks(CREATED + b'{"result":"', 5000)), b"400\r\n" + b"x" * 1024 + b"\r\n")
    etcd = Gateway(Endpoints([parse_endpoint(script(answer).url)]), max_answer=1)
    watch = etcd.watch([(b"web", None)], 9, Patience.lasting(BOUND))
    with pytest.raises(WatchEnded):
        watch.wait(Patience.lasting(BOUND))
    watch.close()


def test_json_is_cut_into_objects_wherever_its_pieces_end() -> None:
    from distlock_core.etcd.http.json_stream import JsonStream

    objects = [{"a": 'q"\\', "}{": ["}", {"\\": "\\\\"}]}, {}, {"naïve €uro 🔒": None}, {"x": {"y": {"z": '\\"'}}}]
    for between, size in itertools.product((b"", b"\n", b" \r\n\t"), (1, 2, 3, 5, 1000)):
        raw = between.join(json.dumps(one, ensure_ascii=False).encode() for one in objects)
        for end in (b"", b"\n"):
            stream = JsonStream(1000)
            text = raw + end
            found = [one for at in range(0, len(text), size) for one in stream.feed(text[at : at + size])]
            assert found == objects
            assert stream.feed(b'{"more": []}\n{}\n') == [{"more": []}, {}]


def test_json_on_lines_of_its_own_is_read_as_in_pieces() -> None:
    from distlock_core.etcd.http.json_stream import JsonStream

    texts = [
        *(b'{"a":1}\n', b'{"a":1}\n{"b":2}\n', b'{"a":1}{"b":2}\n', b'{"a":\n1}\n', b"{\n}\n", b"\n{}\r\n\n"),
        *(b"[1]\n", b"{}\n[1]\n", b"1\n", b'{"a"\n', b'{"a":"\n"}\n', b"{}\n}\n", b'{"a":"\xff"}\n', b"{} {}\n"),
    ]
    for text in texts:
        at_once, in_pieces = JsonStream(1000), JsonStream(1000)
        found = at_once.feed(text)
        slowly: list[object] = []
        for byte in text:
            if not in_pieces.broken:
                slowly += in_pieces.feed(bytes([byte]))
        assert (found, at_once.broken) == (slowly, in_pieces.broken), text
