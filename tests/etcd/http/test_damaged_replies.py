"""Replies that are cut short, garbled or not etcd's: what cannot be understood is in doubt, never a yes or a no."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Callable, cast

import pytest

from distlock_core import AcquireTimeout, DistlockError, EtcdUnavailable, Lock, OutcomeUnknown
from distlock_core.base.deadline import Patience
from distlock_core.etcd.http.gateway import Gateway
from distlock_core.etcd.http.messages import compare_json, op_json
from distlock_core.etcd.http.reply import Inbox, Reply
from distlock_core.etcd.http.watch import GatewayWatch
from distlock_core.etcd.values import Compare, Delete, Event, Get, LeaseGone, Outcome, Put, WatchEnded
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, GRANT, KEEPALIVE, TXN, Scene, deletes, gateway, post, puts, puts_under, until
from tests.support.scripted_server import reply

STEP = 13  # bytes between two positions at which a real reply is damaged; those of a canned one are damaged at each


def trial(scene: Scene, lock: Lock, released: Callable[[], None] = lambda: None) -> str:
    """The outcome of an acquire and a release. Only an outcome reported as unknown may leave something behind."""
    try:
        lock.acquire(BOUND)
    except OutcomeUnknown:
        scene.clear(lock.name)
        return "unknown"
    except (EtcdUnavailable, AcquireTimeout):
        assert scene.get(lock.name) is None
        return "failed"
    kv = scene.get(lock.name)
    assert kv is not None
    assert kv.create_revision == lock.token
    released()
    lock.release()
    assert scene.get(lock.name) is None
    return "acquired"


@pytest.mark.parametrize("damage", ["cut_reply", "garble_reply"])
@pytest.mark.parametrize("what", ["claim", "release"])
def test_a_damaged_reply_leaves_no_lock_behind_and_none_unknown(
    scene: Scene, proxy: Proxy, damage: str, what: str
) -> None:
    realm = scene.realm(proxy.url, connect_timeout=2.0)

    def one(position: int) -> str:
        lock = realm.lock(f"{what}-{position}")
        key = scene.key(lock.name)
        harm = getattr(proxy, damage)
        if what == "claim":
            harm(TXN, position, puts(key))
            return trial(scene, lock)
        return trial(scene, lock, lambda: harm(TXN, position, deletes(key)))

    assert one(0) == "acquired"
    length = proxy.damaged
    outcomes = {position: one(position) for position in range(1, length, STEP)}
    assert set(outcomes.values()) == {"acquired"}, outcomes
    scene.assert_clean()


@pytest.mark.parametrize("damage", ["cut_reply", "garble_reply"])
def test_damaged_replies_to_a_waiter_leave_nothing_behind(scene: Scene, proxy: Proxy, damage: str) -> None:
    realm = scene.realm(proxy.url, connect_timeout=2.0)
    for position in range(0, 500, 3 * STEP):
        lock = realm.lock(f"web-{position}")
        scene.put(lock.name)
        harm = getattr(proxy, damage)
        harm(TXN, position, puts_under(scene.key(f"{lock.name}/queue/")))
        harm(GRANT, position % 200)
        waiter = scene.queue(lock)
        harm(TXN, position, puts(scene.key(lock.name)))
        harm(KEEPALIVE, position % 200)
        scene.delete(lock.name)
        try:
            waiter.result(BOUND).release()
        except EtcdUnavailable:
            pass  # a head without a length is waited for until the time is up
    until(lambda: scene.new_leases() == set())
    scene.assert_clean()


@pytest.mark.parametrize("what", ["claim", "release"])
def test_a_request_cut_short_is_sent_again(scene: Scene, proxy: Proxy, what: str) -> None:
    """The connection is half closed: etcd answers that the request is incomplete, and so has done nothing."""
    realm = scene.realm(proxy.url, connect_timeout=2.0)
    for position in range(1, 1500, 2 * STEP):
        lock = realm.lock(f"{what}-{position}")
        key = scene.key(lock.name)
        if what == "claim":
            proxy.cut_request(TXN, position, puts(key))
            assert trial(scene, lock) == "acquired", position
        else:
            assert trial(scene, lock, partial(proxy.cut_request, TXN, position, deletes(key))) == "acquired"
    scene.assert_clean()


def test_a_read_cut_short_is_asked_again(scene: Scene, proxy: Proxy) -> None:
    etcd = gateway(proxy.url)
    scene.put("x")
    position = 1
    # A whole read, half-closed, is not cut short: etcd 3.5.1 ends when a client leaves during a read.
    while position == 1 or position < proxy.damaged:
        proxy.cut_request("*", position)
        assert etcd.read([Get(scene.key("x"))], Patience.lasting(BOUND)).ranges()[0].total == 1
        position += STEP
    assert position > 10 * STEP


# Every field of every reply, in turn, with every kind of wrong value.

DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
MISSING = object()
WRONG: list[Any] = [
    *(MISSING, None, True, False, 0, -1, 1.5, float("inf"), float("nan"), 2**64, 10**400, "", "x", "false", "1e999"),
    *("1_0", " 7", "²", "9" * 5000, "-", "\ud800", "a\x1b[2Jb", [], [None], [[]], {}, {"a": 1}, DEEP),
]


class Canned:
    """A connection that always gives this answer."""

    others = 0

    def __init__(self, raw: bytes) -> None:
        self._raw = [raw, b""]

    def open(self, *_: Any) -> Reply:
        return Reply(self, Inbox(), Patience.lasting(BOUND))

    def receive(self, _: Patience) -> bytes:
        return self._raw.pop(0) if self._raw else b""

    def close(self) -> None:
        pass


class CannedPool:
    def __init__(self) -> None:
        self.raw = b""

    def take(self, *_: Any, **__: Any) -> tuple[Canned, bool]:
        return Canned(self.raw), False

    def give_back(self, _: Canned) -> None:
        pass

    hang_up_later = give_back


class Canny(Gateway):
    """A gateway that is answered with the same again and again."""

    def __init__(self) -> None:
        from distlock_core.etcd.address import parse_endpoint
        from distlock_core.etcd.endpoints import Endpoints

        super().__init__(Endpoints([parse_endpoint("http://127.0.0.1:9")]))
        self._canned: Any = CannedPool()
        self.sender.pool = cast("Any", self._canned)

    def say(self, answer: Any, status: str = "200 OK") -> None:
        self._canned.raw = reply(status, json.dumps(answer))
        self._endpoints.cluster, self._endpoints._revision = None, 0


def paths(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


def mutations(answer: Any) -> Iterator[tuple[str, Any]]:
    """The answer with one field after the other replaced by each wrong value, and what was done to it."""
    for path in paths(answer):
        for wrong in WRONG:
            whole = copy.deepcopy({"": answer})
            inner: Any = whole
            for key in ("", *path)[:-1]:
                inner = inner[key]
            last = ("", *path)[-1]
            if wrong is MISSING:
                del inner[last]
            else:
                inner[last] = wrong
            if "" in whole:
                shown = "missing" if wrong is MISSING else "deep" if wrong is DEEP else repr(wrong)[:20]
                yield f"{'.'.join(map(str, path))} = {shown}", whole[""]


def outcomes(etcd: Canny, answer: Any, ask: Callable[[], Any], status: str = "200 OK") -> Iterator[tuple[str, Any]]:
    """The driver's results for mutated answers; it may raise only distlock's errors."""
    for what, mutated in mutations(answer):
        etcd.say(mutated, status)
        try:
            yield what, ask()
        except (DistlockError, LeaseGone, WatchEnded) as error:
            said = str(error)
            assert said.isprintable(), (what, said)
        except Exception as error:
            pytest.fail(f"{what}: {error!r}")


def brief() -> Patience:
    return Patience.lasting(0.01)


def txn_json(compares: Sequence[Compare], then: Sequence[Any], otherwise: Sequence[Any]) -> bytes:
    return json.dumps(
        {
            "compare": [compare_json(one) for one in compares],
            "success": [op_json(op) for op in then],
            "failure": [op_json(op) for op in otherwise],
        }
    ).encode()


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "refused"])
def test_a_transaction_is_never_believed_the_other_way_round(scene_each: Scene, applied: bool) -> None:
    key, other = scene_each.key("web"), scene_each.key("other")
    scene_each.put("other", "1;someone;{}", scene_each.grant())
    compares = [Compare("CREATE", "EQUAL", key, 0 if applied else 5)]
    then: list[Any] = [Put(key, b"x"), Delete(scene_each.key("ticket"))]
    otherwise: list[Any] = [Get(key), Get(other)]
    answer = post(scene_each.endpoints[0], TXN, txn_json(compares, then, otherwise))
    etcd = Canny()
    seen = 0
    for what, outcome in outcomes(etcd, answer, lambda: etcd.txn(compares, then, otherwise, brief())):
        seen += 1
        assert outcome.succeeded is applied, what
    assert seen  # what does not matter may be damaged
    for revoked in scene_each.new_leases():
        scene_each.revoke(revoked)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "refused"])
def test_a_reply_damaged_at_any_byte_is_never_believed_the_other_way_round(scene: Scene, applied: bool) -> None:
    key = scene.key("web")
    then: list[Get | Put | Delete]
    compares, then = [Compare("CREATE", "EQUAL", key, 0 if applied else 5)], [Put(key, b"x"), Delete(scene.key("t"))]
    otherwise: list[Get | Put | Delete] = [Get(key), Get(scene.key("other"))]
    raw = reply("200 OK", json.dumps(post(scene.endpoints[0], TXN, txn_json(compares, then, otherwise))))
    etcd, understood = Canny(), 0
    for at in range(len(raw)):
        for damaged in (raw[:at] + b"~" + raw[at + 1 :], raw[:at] + raw[at + 1 :], raw[:at]):
            etcd._canned.raw, etcd._endpoints.cluster, etcd._endpoints._revision = damaged, None, 0
            try:
                outcome = etcd.txn(compares, then, otherwise, brief())
            except DistlockError:
                continue
            understood += 1
            assert outcome.succeeded is applied, damaged
    assert understood


def test_a_key_is_never_believed_absent_because_its_reply_is_damaged(scene_each: Scene) -> None:
    lease = scene_each.grant()
    scene_each.put("a", "1;someone;{}", lease)
    scene_each.put("b")
    gets = [Get(scene_each.key("a"), scene_each.key("c")), Get(scene_each.key("a"), keys_only=True), Get(b"nothing")]
    answer = post(scene_each.endpoints[0], TXN, txn_json([], gets, []))
    etcd = Canny()
    for what, outcome in outcomes(etcd, answer, lambda: etcd.read(gets, brief())):
        assert isinstance(outcome, Outcome)
        both, one, nothing = outcome.ranges()
        assert (len(both.kvs), both.total, len(one.kvs), nothing.total) == (2, 2, 1, 0), what
        assert all(kv.create_revision > 0 for kv in both.kvs), what
    scene_each.revoke(lease)


def test_a_damaged_answer_about_a_lease_is_an_error_of_ours(scene_each: Scene) -> None:
    etcd, url = Canny(), scene_each.endpoints[0]
    lease = scene_each.grant(30)
    body = json.dumps({"ID": str(lease)}).encode()
    asked: dict[str, Callable[[], Any]] = {
        KEEPALIVE: lambda: etcd.keep_alive(lease, brief()),
        "/v3/lease/timetolive": lambda: etcd.time_to_live(lease, brief()),
    }
    for path, ask in asked.items():
        for what, ttl in outcomes(etcd, post(url, path, body), ask):
            assert isinstance(ttl, int), what
            # Only an answer without a TTL that is otherwise complete means that the lease is gone.
            assert ttl > 0 or "TTL" in what, what
    granted = {"header": {"cluster_id": "5", "revision": "7"}, "ID": str(lease), "TTL": "30"}
    for _ in outcomes(etcd, granted, lambda: etcd.grant(lease, 30, brief())):
        pass
    for _ in outcomes(etcd, post(url, "/v3/lease/revoke", body), lambda: etcd.revoke(lease, brief())):
        pass


@pytest.mark.parametrize("stream", [True, False])
def test_a_damaged_error_is_an_error_of_ours(stream: bool) -> None:
    etcd = Canny()
    error: dict[str, Any] = {"error": "etcdserver: permission denied", "code": 7, "message": "etcdserver: denied"}
    answer = {"error": {**error, "grpc_code": 7, "http_code": 403}} if stream else error
    for status in ("400 Bad Request", "200 OK"):
        for what, _ in outcomes(etcd, answer, lambda: etcd.read([Get(b"x")], brief()), status):
            pytest.fail(f"an error was taken for an answer: {what}")


CREATED = {"result": {"header": {"cluster_id": "5", "revision": "7"}, "watch_id": "0", "created": True}}
KV = {"key": "d2Vi", "create_revision": "8", "mod_revision": "8", "version": "1", "value": "eA==", "lease": "5"}
CHANGED = {"result": {"header": {"cluster_id": "5", "revision": "8"}, "events": [{"type": "DELETE", "kv": KV}]}}


class Once:
    """The body of a reply with this content, followed by silence."""

    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data

    def read(self, _: Patience) -> bytes | None:
        data, self._data = self._data, None
        return data


def seen_of(data: bytes) -> list[Event]:
    reading: Any = Once(data)
    connection: Any = None
    return GatewayWatch("", connection, reading, lambda cluster: None, None, 10**6).wait(brief())


def test_a_damaged_message_of_a_watch_ends_it_or_is_no_event() -> None:
    for message in (CREATED, CHANGED):
        for what, mutated in mutations(message):
            try:
                found = seen_of(json.dumps(mutated).encode())
            except WatchEnded:
                continue
            assert all(event.kv.key for event in found), what
    raw = json.dumps(CREATED).encode() + b"\n" + json.dumps(CHANGED).encode()
    for at in range(len(raw)):
        for damaged in (raw[:at] + b"~" + raw[at + 1 :], raw[:at]):
            try:
                seen_of(damaged)
            except WatchEnded:
                pass


def test_a_damaged_login_is_an_error_of_ours() -> None:
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.auth.login import Login

    etcd = Canny()
    access = Access(user="me", password="secret")
    answer = {"header": {"cluster_id": "5", "revision": "7"}, "token": "abc.7"}

    def ask() -> Any:
        etcd._login = Login(access, etcd._authenticate)
        return etcd.read([], brief())

    for what, _ in outcomes(etcd, answer, ask):
        pytest.fail(f"a login was taken for an answer: {what}")


def test_etcds_messages_are_shown_on_one_line_without_control_characters() -> None:
    etcd = Canny()
    etcd.say({"code": 9, "message": "\x1b[2J\nno\r" + "x" * 100_000}, "400 Bad Request")
    with pytest.raises(DistlockError, match="etcd refuses") as caught:
        etcd.read([], brief())
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 2000
