"""The JSON form of etcd's messages: what the gateway driver sends, and how it reads the answers.

64-bit integers come as strings, zero values are left out, keys and values are base64.
"""

from __future__ import annotations

import binascii
import json

from distlock_core.errors import AccessDenied, ConfigError, DistlockError, NoSpace
from distlock_core.etcd.api import Compacted, Compare, Delete, Event, KeyValue, Outcome, Put, Range, WatchEnded
from distlock_core.etcd.http1 import ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from distlock_core.etcd.api import Op

# gRPC codes, as etcd's answers carry them.
NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, UNAUTHENTICATED = 5, 7, 9, 16
# Cancelled, Unknown, DeadlineExceeded, Aborted, Internal, Unavailable: another member may do better.
PASSING = frozenset({1, 2, 4, 10, 13, 14})
# What Python raises over an answer that is no JSON, or JSON of another shape than etcd's.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
TOO_MANY_REQUESTS, NO_LEADER = "too many requests", "etcdserver: no leader"
NO_SPACE = "database space exceeded"


# How a watch's end says that this user may not watch, or has no valid token any more: by version, one or the other.
REFUSALS = ("permission denied", "invalid auth token", "auth store is old", "in header is old", "user name is empty")


class WatchRefused(WatchEnded):
    """A watch is over because etcd refuses it to this user."""


class NoGateway(ConnectionLost):
    """There is no JSON gateway, or none for this client. What was asked for was not done."""


class Refused(Exception):
    """etcd answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def passing(self) -> bool:
        return self.code in PASSING or TOO_MANY_REQUESTS in self.message

    @property
    def undone(self) -> bool:
        """True if it was surely refused before anything was done: a write may be sent again."""
        return NO_LEADER in self.message or TOO_MANY_REQUESTS in self.message


def watch_ended(said: str, *, compacted: bool) -> WatchEnded:
    """The error for a watch that etcd has ended, by what it has said of that."""
    if compacted:
        return Compacted(said)
    return (WatchRefused if any(word in said for word in REFUSALS) else WatchEnded)(said)


def read_events(message: dict[str, Any], check_cluster: Callable[[int], None]) -> list[Event]:
    """The events of one message of a watch. Raises `WatchEnded` when it says that the watch is over.

    `check_cluster` raises when the message is of another cluster than it should be.
    """
    result = message.get("result") if isinstance(message, dict) else None
    if isinstance(result, dict) and "cluster_id" in result.get("header", ()):
        check_cluster(int(result["header"]["cluster_id"]))
    if not isinstance(result, dict) or result.get("canceled"):
        compacted = isinstance(result, dict) and bool(result.get("compact_revision"))
        raise watch_ended(str(message)[:300], compacted=compacted)
    return [Event(event.get("type") == "DELETE", _key_value(event["kv"])) for event in result.get("events", ())]


def begins_behind(message: dict[str, Any], revision: int) -> bool | None:
    """By the message that it has begun: True if a watch from this revision begins in the past. None: another one."""
    result = message.get("result")
    if not isinstance(result, dict) or not result.get("created"):
        return None
    return int(result.get("header", {}).get("revision", 0)) >= revision


def read_answer(status: int, body: bytes) -> dict[str, Any]:
    """The JSON object in an answer. Raises `Refused` for an error of etcd's, `ConnectionLost` for no etcd at all."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        error = answer.get("error")
        if isinstance(error, dict):  # of a stream
            answer = {"code": error.get("grpc_code", error.get("code", 2)), "message": error.get("message", "")}
        if isinstance(answer.get("code"), int) and "message" in answer:
            raise Refused(answer["code"], str(answer["message"]))
        if status == 200:
            return answer
    if status == 404:
        raise NoGateway("it has no JSON gateway (404): switched off, or no etcd v3")
    if status == 400 and b"CommonName" in body:
        raise NoGateway("its JSON gateway takes no client certificate with a common name while auth is on (400)")
    raise ConnectionLost(f"it answers, but not as etcd does (HTTP {status})")


def translate(refusal: Refused) -> DistlockError:
    """The error that callers know, for one of etcd's."""
    message = refusal.message
    if refusal.code in (PERMISSION_DENIED, UNAUTHENTICATED) or "user name is empty" in message:
        if "user name is empty" in message:
            return AccessDenied(f"etcd refuses: {message}. It wants a user: set user, and a password")
        return AccessDenied(f"etcd refuses: {message}")
    if NO_SPACE in message:
        return NoSpace(
            "etcd's database is full (alarm NOSPACE): it takes no writes until somebody has compacted and "
            "defragmented it, and then disarmed the alarm. See: etcdctl alarm list"
        )
    if "too large" in message or "larger than max" in message:  # the second is gRPC's, above its own limit
        return ConfigError(f"etcd refuses: {message}; shorten the reason or the value")
    return DistlockError(f"etcd refuses: {message}")


def b64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def range_json(end: bytes | None) -> dict[str, str]:
    return {} if end is None else {"range_end": b64(end)}


def compare_json(compare: Compare) -> dict[str, Any]:
    field = {"CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value"}[compare.target]
    operand = b64(compare.operand) if isinstance(compare.operand, bytes) else str(compare.operand)
    return {
        "target": compare.target,
        "result": compare.result,
        "key": b64(compare.key),
        field: operand,
        **range_json(compare.range_end),
    }


def op_json(op: Op) -> dict[str, Any]:
    if isinstance(op, Put):
        put = {"key": b64(op.key), "value": b64(op.value)}
        return {"request_put": {**put, "lease": str(op.lease)} if op.lease else put}
    if isinstance(op, Delete):
        return {"request_delete_range": {"key": b64(op.key), **range_json(op.range_end)}}
    get: dict[str, Any] = {"key": b64(op.key), **range_json(op.range_end)}
    if op.by_age:
        get.update(sort_target="CREATE", sort_order="ASCEND")
    if op.keys_only:
        get["keys_only"] = True
    if op.limit:
        get["limit"] = str(op.limit)
    if op.max_create_revision:
        get["max_create_revision"] = str(op.max_create_revision)
    return {"request_range": get}


def read_outcome(answer: dict[str, Any]) -> Outcome:
    return Outcome(
        bool(answer.get("succeeded")),
        int(answer["header"]["revision"]),
        tuple(_result(response) for response in answer.get("responses", ())),
    )


def read_range(answer: dict[str, Any]) -> tuple[int, Range]:
    """The revision of a read outside of a transaction, and what it found."""
    return int(answer["header"]["revision"]), _range(answer)


def read_cluster(answer: dict[str, Any]) -> int:
    """The id of the cluster that has answered."""
    return int((answer.get("header") or answer["result"]["header"])["cluster_id"])


def read_token(answer: dict[str, Any]) -> str:
    token = str(answer["token"])
    if not token.isprintable():
        raise ValueError("no token")
    return token


def read_ttl(answer: dict[str, Any]) -> int:
    return int(answer.get("TTL", 0))


def read_streamed_ttl(answer: dict[str, Any]) -> int:
    return read_ttl(answer.get("result", {}))


def _result(response: dict[str, Any]) -> Range | int | None:
    found = response.get("response_range")
    if found is not None:
        return _range(found)
    deleted = response.get("response_delete_range")
    return None if deleted is None else int(deleted.get("deleted", 0))


def _range(found: dict[str, Any]) -> Range:
    return Range(tuple(_key_value(kv) for kv in found.get("kvs", ())), int(found.get("count", 0)))


def _key_value(kv: dict[str, Any]) -> KeyValue:
    return KeyValue(
        binascii.a2b_base64(kv["key"]),
        binascii.a2b_base64(kv.get("value", "")),
        int(kv.get("create_revision", 0)),
        int(kv.get("mod_revision", 0)),
        int(kv.get("lease", 0)),
    )
