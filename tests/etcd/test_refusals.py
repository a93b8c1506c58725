"""Refusals of etcd, recorded by version, and the errors that they become, which are the same over both drivers."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import urllib.parse
from functools import partial
from typing import Any, Callable

import grpc
import pytest

from distlock_core import AccessDenied, ConfigError, DistlockError
from distlock_core.etcd.grpc.etcd3_package import load
from distlock_core.etcd.values import Delete, Get, LeaseGone, Put, WatchEnded, prefix_end
from distlock_core.testing import Cluster
from tests.support.contract_cell import Cell, patience, wait_until_noticed
from tests.support.etcd_servers import VERSIONS, WHEEL

# Refusals: gRPC's code, the message, and the HTTP status, except for those below. The key "x" need not exist.
RECORDED: dict[str, tuple[str, str, int]] = {
    "no token": ("INVALID_ARGUMENT", "etcdserver: user name is empty", 400),
    "an invalid token": ("UNAUTHENTICATED", "etcdserver: invalid auth token", 401),
    "another's key": ("PERMISSION_DENIED", "etcdserver: permission denied", 403),
    "a wrong password": (
        "INVALID_ARGUMENT",
        "etcdserver: authentication failed, invalid user ID or password",
        400,
    ),
    "a put under no lease": ("NOT_FOUND", "etcdserver: requested lease not found", 404),
    "to revoke no lease": ("NOT_FOUND", "etcdserver: requested lease not found", 404),
    "a lease that is there": ("FAILED_PRECONDITION", "etcdserver: lease already exists", 400),
    "too long a lease": ("OUT_OF_RANGE", "etcdserver: too large lease TTL", 400),
    "a key put twice": ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", 400),
    "a large value": ("INVALID_ARGUMENT", "etcdserver: request is too large", 400),
    "a larger value": (
        "RESOURCE_EXHAUSTED",
        "grpc: received message larger than max (3000018 vs. 2097152)",
        429,
    ),
}
OTHER_STATUS = {("a lease that is there", "3.4"): 412}
REPEATS_THE_MESSAGE = ("3.4", WHEEL, "3.5")  # in the field "error"
# Why a watch is cancelled by an etcd with auth on; the reason of 3.5.1 is always the first, and its id another one.
WATCH_RECORDED = {
    "another's key": "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
    "an invalid token": "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
    "no token": "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
}
LEASE = 7_777_777


class Raw:
    """Raw access to an etcd with auth enabled: as root, as a user without rights, and without a user."""

    def __init__(self, version: str, cluster: Cluster) -> None:
        self.version = version
        assert cluster.tls is not None
        assert cluster.auth is not None
        self.cluster = cluster
        self._netloc = urllib.parse.urlsplit(cluster.endpoints[0]).netloc
        self.rpc = load()
        with open(cluster.tls.authority.cacert, "rb") as cacert:
            self.channel = grpc.secure_channel(self._netloc, grpc.ssl_channel_credentials(cacert.read()))
        self.weak = f"weak-{secrets.token_hex(4)}"
        cluster.etcdctl("user", "add", self.weak, "--interactive=false", input="weak-pw\n")
        self.tokens = {
            "root": self._token(cluster.auth.user, cluster.auth.password),
            "weak": self._token(self.weak, "weak-pw"),
            "bad": "bad.1",
            "": "",
        }
        self.post("/v3/lease/grant", {"ID": str(LEASE), "TTL": "60"}, "root")

    def _token(self, user: str, password: str) -> str:
        return str(self.post("/v3/auth/authenticate", {"name": user, "password": password}, "")[1]["token"])

    def post(self, path: str, message: Any, who: str) -> tuple[int, Any]:
        assert self.cluster.tls is not None
        connection = http.client.HTTPSConnection(self._netloc, context=self.cluster.tls.context(), timeout=20)
        try:
            token = self.tokens[who] if who else ""
            connection.request("POST", path, json.dumps(message), {"Authorization": token} if token else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def close(self) -> None:
        self.post("/v3/lease/revoke", {"ID": str(LEASE)}, "root")
        self.channel.close()


@pytest.fixture(params=[f"{version}-auth" for version in VERSIONS], scope="module")
def raw(request: pytest.FixtureRequest, etcd_cell: Callable[[str, str], Cluster]) -> Any:
    version, security = request.param.split("-")
    raw = Raw(version, etcd_cell(version, security))
    yield raw
    raw.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def put(**more: str) -> dict[str, Any]:
    return {"request_put": {"key": b64(b"x"), **more}}


# Refused requests: by which user, over the gateway, and the same over gRPC.
ASKED: dict[str, tuple[str, str, Any, Callable[[Any], tuple[str, str, Any]]]] = {
    "no token": ("", "/v3/kv/txn", {"success": [put()]}, lambda rpc: _txn(rpc, _put(rpc))),
    "an invalid token": ("bad", "/v3/kv/txn", {"success": [put()]}, lambda rpc: _txn(rpc, _put(rpc))),
    "another's key": ("weak", "/v3/kv/txn", {"success": [put()]}, lambda rpc: _txn(rpc, _put(rpc))),
    "a wrong password": (
        "",
        "/v3/auth/authenticate",
        {"name": "root", "password": "no"},
        lambda rpc: ("AuthStub", "Authenticate", rpc.AuthenticateRequest(name="root", password="no")),
    ),
    "a put under no lease": (
        "root",
        "/v3/kv/txn",
        {"success": [put(lease="99")]},
        lambda rpc: _txn(rpc, _put(rpc, lease=99)),
    ),
    "to revoke no lease": (
        "root",
        "/v3/lease/revoke",
        {"ID": "99"},
        lambda rpc: ("LeaseStub", "LeaseRevoke", rpc.LeaseRevokeRequest(ID=99)),
    ),
    "a lease that is there": (
        "root",
        "/v3/lease/grant",
        {"ID": str(LEASE), "TTL": "60"},
        lambda rpc: ("LeaseStub", "LeaseGrant", rpc.LeaseGrantRequest(ID=LEASE, TTL=60)),
    ),
    "too long a lease": (
        "root",
        "/v3/lease/grant",
        {"ID": "99", "TTL": "9000000001"},
        lambda rpc: ("LeaseStub", "LeaseGrant", rpc.LeaseGrantRequest(ID=99, TTL=9_000_000_001)),
    ),
    "a key put twice": (
        "root",
        "/v3/kv/txn",
        {"success": [put(), put()]},
        lambda rpc: _txn(rpc, _put(rpc), _put(rpc)),
    ),
    "a large value": (
        "root",
        "/v3/kv/txn",
        {"success": [put(value=b64(bytes(1_600_000)))]},
        lambda rpc: _txn(rpc, _put(rpc, value=bytes(1_600_000))),
    ),
    "a larger value": (
        "root",
        "/v3/kv/txn",
        {"success": [put(value=b64(bytes(3_000_000)))]},
        lambda rpc: _txn(rpc, _put(rpc, value=bytes(3_000_000))),
    ),
}


def _put(rpc: Any, **more: Any) -> Any:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=b"x", **more))


def _txn(rpc: Any, *ops: Any) -> tuple[str, str, Any]:
    return "KVStub", "Txn", rpc.TxnRequest(success=ops)


@pytest.mark.parametrize("what", RECORDED)
def test_etcd_still_answers_as_recorded(raw: Raw, what: str) -> None:
    code, message, usual = RECORDED[what]
    who, path, body, request = ASKED[what]
    status, answer = raw.post(path, body, who)
    number = grpc.StatusCode[code].value[0]
    assert status == OTHER_STATUS.get((what, raw.version), usual)
    repeated = {"error": message} if raw.version in REPEATS_THE_MESSAGE else {}
    assert answer == {"code": number, "message": message, **repeated}
    stub, method, asked = request(raw.rpc)
    token = raw.tokens[who]
    call = getattr(getattr(raw.rpc, stub)(raw.channel), method)
    with pytest.raises(grpc.RpcError) as caught:
        call(asked, timeout=20, metadata=(("token", token),) if token else ())
    assert (caught.value.code().name, caught.value.details()) == (code, message)


@pytest.mark.parametrize(("what", "who"), [("another's key", "weak"), ("an invalid token", "bad"), ("no token", "")])
def test_etcd_still_cancels_a_watch_as_recorded(raw: Raw, what: str, who: str) -> None:
    create = raw.rpc.WatchRequest(create_request=raw.rpc.WatchCreateRequest(key=b"x"))
    token = raw.tokens[who]
    metadata = (("token", token),) if token else ()
    stream = raw.rpc.WatchStub(raw.channel).Watch(iter([create]), timeout=20, metadata=metadata)
    answer = next(stream)
    stream.cancel()
    assert answer.canceled
    usual = (-1, WATCH_RECORDED[what])
    first = (0, WATCH_RECORDED["another's key"])
    assert (answer.watch_id, answer.cancel_reason) == (first if raw.version == WHEEL else usual)


def test_a_missing_lease_is_answered_as_recorded(raw: Raw) -> None:
    """No error, but a TTL of 0, which is left out, or of -1."""
    status, answer = raw.post("/v3/lease/keepalive", {"ID": "99"}, "root")
    assert (status, answer["result"].keys()) == (200, {"header", "ID"})
    status, answer = raw.post("/v3/lease/timetolive", {"ID": "99"}, "root")
    assert (status, answer["TTL"]) == (200, "-1")
    leases = raw.rpc.LeaseStub(raw.channel)
    metadata = (("token", raw.tokens["root"]),)
    assert leases.LeaseTimeToLive(raw.rpc.LeaseTimeToLiveRequest(ID=99), metadata=metadata).TTL == -1


# The drivers' errors.


def refused(ask: Callable[[], Any]) -> DistlockError:
    with pytest.raises(DistlockError) as caught:
        ask()
    assert "\n" not in caught.value.message
    return caught.value


def test_refusals_of_etcd_have_the_same_words_over_both_drivers(cell: Cell) -> None:
    key = cell.key("x")
    for ask, kind, words in (
        (lambda etcd: etcd.txn([], [Put(key, bytes(1_600_000))], [], patience()), ConfigError, "too large; shorten"),
        (lambda etcd: etcd.txn([], [Put(key, b""), Put(key, b"")], [], patience()), DistlockError, "duplicate key"),
        (lambda etcd: etcd.grant(5, 9_000_000_001, patience()), DistlockError, "too large"),
    ):
        mine, others = refused(partial(ask, cell.etcd)), refused(partial(ask, cell.other()))
        assert (type(mine), mine.message) == (type(others), others.message)
        assert isinstance(mine, kind)
        assert words in mine.message
    assert cell.get("x") is None


def test_a_value_above_grpcs_own_limit_is_refused_too(newer: Cell) -> None:
    error = refused(lambda: newer.put("x", bytes(3_000_000)))
    assert isinstance(error, ConfigError)
    assert "larger than max" in error.message


def test_a_client_without_a_user_is_advised_to_have_one(secured: Cell) -> None:
    error = refused(lambda: secured.dial(user=None, password=None).read([Get(secured.key("x"))], patience()))
    assert isinstance(error, AccessDenied)
    assert "user" in error.message


def test_a_wrong_password_is_reported_and_not_shown(secured: Cell) -> None:
    etcd = secured.dial(password="not-the-password")
    for ask in (
        lambda: etcd.read([], patience()),
        lambda: etcd.txn([], [Put(secured.key("x"), b"")], [], patience()),
        lambda: etcd.watch([(secured.key("x"), None)], 1, patience()),
        lambda: etcd.keep_alive(7, patience()),
    ):
        error = refused(ask)
        assert isinstance(error, AccessDenied)
        assert "wrong password" in error.message
        assert "not-the-password" not in f"{error!r} {error.message}"


@pytest.fixture(scope="module")
def users() -> dict[str, dict[str, str]]:
    """What the user of each etcd says who may read below /weak/, and write one key there: to add one takes seconds."""
    return {}


@pytest.fixture
def weak(secured: Cell, users: dict[str, dict[str, str]]) -> Any:
    """A client that is this user."""
    (url,) = secured.cluster.endpoints
    if url not in users:
        user = f"weak-{secrets.token_hex(4)}"
        users[url] = secured.cluster.add_user(user, "pw", [("read", "/weak/"), ("write", "/weak/mine")])
    return secured.dial(**users[url])


def test_a_right_that_is_missing_is_named_with_its_key(secured: Cell, weak: Any) -> None:
    key = b"/weak/other"
    weak.txn([], [Put(b"/weak/mine", b"")], [Get(key)], patience())
    for ask, words in (
        (lambda: weak.txn([], [Put(key, b"")], [], patience()), "may not write /weak/other"),
        (lambda: weak.txn([], [Delete(key, prefix_end(key))], [], patience()), "may not write /weak/other"),
        (lambda: weak.read([Get(b"/another")], patience()), "may not read /another"),
    ):
        error = refused(ask)
        assert isinstance(error, AccessDenied)
        assert words in error.message


def test_a_watch_that_is_refused_ends(secured: Cell, weak: Any) -> None:
    watch = weak.watch([(b"/another", None)], 1, patience())
    with pytest.raises(WatchEnded, match="permission denied"):
        watch.wait(patience())
    watch.close()


def test_an_expired_token_is_renewed_unnoticed(secured: Cell) -> None:
    etcd = secured.etcd
    lease = secured.lease()
    asks: tuple[Callable[[], Any], ...] = (
        lambda: etcd.read([], patience()).succeeded,
        lambda: etcd.txn([], [Put(secured.key("x"), b"", lease)], [], patience()).succeeded,
    )
    for ask in asks:
        etcd._login._token = "bad.1"
        assert ask()
        assert etcd._login._token != "bad.1"
    # Newer versions ask for a user here too.
    etcd._login._token = "bad.1"
    assert etcd.keep_alive(lease, patience()) == 30


def test_an_expired_token_is_renewed_before_a_write_over_a_new_connection(secured: Cell) -> None:
    """Newer versions refuse already the question which cluster it leads to."""
    proxy, url = secured.proxy()
    etcd = secured.dial(url)
    etcd.read([], patience())
    etcd._login._token = "bad.1"
    proxy.cut()
    proxy.heal()
    wait_until_noticed(etcd)
    assert etcd.txn([], [Put(secured.key("x"), b"")], [], patience()).succeeded
    assert etcd._login._token != "bad.1"


def test_a_watch_with_a_token_that_has_ended_works_at_the_next_try(secured: Cell) -> None:
    revision = secured.put("before")
    login = secured.etcd._login
    login._token, login._since = "bad.1", 0.0  # an old one
    watch = secured.watch((secured.key("x"), None), revision=revision + 1)
    with pytest.raises(WatchEnded):
        watch.wait(patience())
    again = secured.watch((secured.key("x"), None), revision=revision + 1)
    secured.put("x")
    assert again.wait(patience())


def test_a_change_of_rights_disturbs_neither_a_hold_nor_a_wait(secured: Cell) -> None:
    realm = secured.realm(connect_timeout=20)
    lock = realm.lock("web", "me", ttl=6).acquire(20)
    for _ in range(2):
        secured.cluster.etcdctl("role", "add", f"new-{secrets.token_hex(4)}")
        assert lock.verify()
    waiter = secured.realm(secured.dial(), connect_timeout=20).lock("web", "you", ttl=6)
    lock.release()
    waiter.acquire(20).release()


def test_a_lease_that_is_gone_is_no_refusal_of_the_user(secured: Cell) -> None:
    with pytest.raises(LeaseGone):
        secured.put("x", b"", 99)
