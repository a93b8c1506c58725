"""The JSON form of etcd's messages: requests of the gateway driver, and parsing of the answers.

64-bit integers are strings, zero values are left out, keys and values are base64.
"""

from __future__ import annotations

import binascii

from distlock_core.base import plain_json
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import ConnectionLost
from distlock_core.etcd.refused import MALFORMED, Refused, quoted, watch_ended
from distlock_core.etcd.values import Compare, Delete, Event, Get, KeyValue, Outcome, Put, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from distlock_core.etcd.facts import ListedMember, MemberStatus
    from distlock_core.etcd.values import Op

LONGEST_NUMBER = 20  # digits of 64 bits
MANY = 200  # keys that are parsed together


class NoGateway(ConnectionLost):
    """There is no JSON gateway, or none for this client. The request was not carried out."""


class SpeakGrpc(Exception):
    """A member has no gateway for this client, but gRPC may work. The request was not carried out."""


class Limited(ConnectFailed):
    """A rate limiter in front of etcd has refused the call. The request was not carried out."""


class Unavailable(ConnectionLost):
    """A proxy in front of etcd got no answer from it. The request may have been carried out."""


def read_events(message: Any, check_cluster: Callable[[int], None]) -> list[Event]:
    """The events of one message of a watch. Raises `WatchEnded` if the message ends the watch.

    `check_cluster` raises if the message comes from another cluster.
    """
    result = message.get("result") if isinstance(message, dict) else None
    if not isinstance(result, dict):
        raise watch_ended(quoted(message))
    header = _object(result.get("header", {}))
    if "cluster_id" in header:
        check_cluster(_whole(header["cluster_id"]))
    if _truth(result, "canceled"):
        raise watch_ended(quoted(message), _number(result, "compact_revision"))
    return [_event(_object(event)) for event in _list(result, "events")]


def is_created(message: dict[str, Any]) -> bool:
    """True for the message with which etcd opens a watch, once for each of its ranges."""
    result = message.get("result")
    return isinstance(result, dict) and _truth(result, "created")


def read_answer(status: int, body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in an answer. Raises `Refused` for an error from etcd, `ConnectionLost` if it is no etcd."""
    try:
        answer = plain_json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        error = answer.get("error")
        if isinstance(error, dict):  # of a stream
            answer = {"code": error.get("grpc_code", error.get("code", 2)), "message": error.get("message", "")}
        if type(answer.get("code")) is int and "message" in answer:
            raise Refused(answer["code"], quoted(answer["message"]))
        if status == 200:
            return answer
    if status == 429:
        raise Limited("a limit on requests refuses them (HTTP 429)")
    if status == 404:
        raise NoGateway("it has no JSON gateway (404): switched off, or no etcd v3")
    if status == 421:
        raise NoGateway("its JSON gateway does not answer to this host name (421): see etcd's --host-whitelist")
    if status == 400 and b"CommonName" in body:
        raise NoGateway("its JSON gateway takes no client certificate with a common name while auth is on (400)")
    kind = Unavailable if status in (502, 503, 504) else ConnectionLost
    raise kind(f"it answers, but not as etcd does (HTTP {status})")


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
    if op.youngest_first:
        get.update(sort_target="CREATE", sort_order="DESCEND")
    if op.newest_first:
        get.update(sort_target="MOD", sort_order="DESCEND")
    if op.last_first:
        get.update(sort_target="KEY", sort_order="DESCEND")
    if op.revision:
        get["revision"] = str(op.revision)
    if op.keys_only:
        get["keys_only"] = True
    if op.limit:
        get["limit"] = str(op.limit)
    if op.max_create_revision:
        get["max_create_revision"] = str(op.max_create_revision)
    return {"request_range": get}


# Parsing. Anything that etcd would not write raises one of `MALFORMED`: no part of a damaged answer is used, since etcd
# leaves out zero and false, so that they look like damage.


def read_outcome(
    answer: dict[str, Any], compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]
) -> Outcome:
    """The outcome of a transaction with these parts."""
    succeeded = _truth(answer, "succeeded")
    ops = then if succeeded else otherwise
    responses = _list(answer, "responses")
    # One for each operation of the executed branch: so a lost "succeeded" does not look like a refusal.
    if len(responses) != len(ops) or not (succeeded or compares):
        raise ValueError("not the answer to this transaction")
    results = tuple(_result(_object(response), op) for response, op in zip(responses, ops))
    return Outcome(succeeded, read_revision(answer), results)


def reader_of_range(get: Get) -> Callable[[dict[str, Any]], tuple[int, Range]]:
    """A reader of answers to a read outside a transaction. It returns the revision and the range."""
    return lambda answer: (read_revision(answer), _range(answer, get))


def read_revision(answer: dict[str, Any]) -> int:
    revision = _whole(_object(answer["header"])["revision"])
    if revision <= 0:
        raise ValueError("no revision")
    return revision


def read_cluster(answer: dict[str, Any]) -> int:
    """The cluster id in an answer."""
    return _whole(_header(answer)["cluster_id"])


def read_term(answer: dict[str, Any]) -> int:
    """The raft term in an answer, 0 if it has none."""
    return _number(_header(answer), "raft_term")


def _header(answer: dict[str, Any]) -> dict[str, Any]:
    """The header of an answer, or of the first message of a stream."""
    return _object(answer.get("header") or _object(answer["result"])["header"])


def read_members(answer: dict[str, Any]) -> list[str]:
    """The members of a cluster, each with id, name and client URLs."""
    return [
        shown_member(_number(member, "ID"), member.get("name", ""), map(str, _list(member, "clientURLs")))
        for member in map(_object, _list(answer, "members"))
    ]


def read_member_status(answer: dict[str, Any]) -> MemberStatus:
    """A member's status. Raises one of `MALFORMED` for anything else."""
    from distlock_core.etcd.facts import MemberStatus

    header, version = _object(answer["header"]), answer["version"]
    if not isinstance(version, str):
        raise TypeError("no version")
    return MemberStatus(
        quoted(version),
        _whole(header["cluster_id"]),
        _whole(header["member_id"]),
        _number(answer, "leader"),
        _number(answer, "raftTerm"),
        _number(answer, "raftIndex"),
        _number(answer, "raftAppliedIndex"),
        _number(answer, "dbSize"),
        _number(answer, "dbSizeInUse"),
        _number(answer, "dbSizeQuota"),
        _truth(answer, "isLearner"),
        tuple(map(quoted, _list(answer, "errors"))),
    )


def read_listed_members(answer: dict[str, Any]) -> tuple[ListedMember, ...]:
    """The members of a cluster, for an examination."""
    from distlock_core.etcd.facts import ListedMember

    return tuple(
        ListedMember(
            _number(member, "ID"),
            quoted(member.get("name", "")),
            tuple(map(quoted, _list(member, "clientURLs"))),
            _truth(member, "isLearner"),
        )
        for member in map(_object, _list(answer, "members"))
    )


def shown_member(member: int, name: object, urls: Iterable[str]) -> str:
    """The text by which a member of a cluster is identified and shown."""
    return quoted(f"{member:x} {name} at {','.join(sorted(urls)) or 'no URL'}")


def read_token(answer: dict[str, Any]) -> str:
    token = answer["token"]
    if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
        raise ValueError("no token")
    return token


def read_ttl(answer: dict[str, Any]) -> int:
    """The TTL in the answer to a grant, a renewal, or a query of a lease; 0 if there is no such lease."""
    # The answer for a lease that is gone has no TTL: then the rest of the answer must be complete.
    if "TTL" not in answer and not answer.keys() <= {"header", "ID"}:
        raise ValueError("not as etcd does")
    return _number(answer, "TTL")


def read_streamed_ttl(answer: dict[str, Any]) -> int:
    return read_ttl(_object(answer["result"])) if answer else 0


def _result(response: dict[str, Any], op: Op) -> Range | int | None:
    if isinstance(op, Get):
        return _range(_object(response["response_range"]), op)
    if isinstance(op, Delete):
        return _number(_object(response["response_delete_range"]), "deleted")
    _object(response["response_put"])
    return None


def _range(found: dict[str, Any], get: Get) -> Range:
    read_revision(found)  # even an empty result has a revision
    entries, total = _list(found, "kvs"), _number(found, "count")
    kvs = tuple(_key_values(entries) if len(entries) < MANY else _many_key_values(entries))
    whole = min(total, get.limit) if get.limit else total
    if len(kvs) > whole or (len(kvs) < whole and not get.max_create_revision):
        raise ValueError("not as many keys as it says")
    return Range(kvs, total)


def _many_key_values(entries: Sequence[Any]) -> list[KeyValue]:
    from distlock_core.etcd.http import key_columns

    kvs = []
    for start in range(0, len(entries), MANY):
        some = entries[start : start + MANY]
        try:
            kvs += key_columns.key_values(some)
        except MALFORMED:
            kvs += _key_values(some)
    return kvs


def _key_values(entries: Sequence[Any]) -> list[KeyValue]:
    kvs = [_key_value(_object(kv)) for kv in entries]
    if not all(kv.key and 0 < kv.create_revision <= kv.mod_revision for kv in kvs):
        raise ValueError("no key of etcd's")
    return kvs


def _event(event: dict[str, Any]) -> Event:
    if event.get("type", "PUT") not in ("PUT", "DELETE"):
        raise ValueError("no event of etcd's")
    kv = _key_value(_object(event["kv"]))
    if not kv.key or kv.mod_revision <= 0:
        raise ValueError("no event of etcd's")
    return Event(event.get("type") == "DELETE", kv)


def _key_value(kv: dict[str, Any]) -> KeyValue:
    return KeyValue(
        _bytes(kv["key"]),
        _bytes(kv.get("value", "")),
        _number(kv, "create_revision"),
        _number(kv, "mod_revision"),
        _number(kv, "lease"),
    )


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError("no base64")
    data = binascii.a2b_base64(text)  # it skips invalid characters, and so returns fewer bytes
    if len(text) != (len(data) + 2) // 3 * 4:
        raise ValueError("no base64")
    return data


def _number(message: dict[str, Any], field: str) -> int:
    return _whole(message[field]) if field in message else 0


def _whole(value: Any) -> int:
    """A 64-bit integer, as a string or a number. `int()` would also accept 1.5, true, " 7" and 1_000."""
    if type(value) is str:
        # Nearly all that etcd writes: short and positive.
        if len(value) < LONGEST_NUMBER and value.isascii() and value.isdigit():
            return int(value)
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_NUMBER):
            raise ValueError("no integer")
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**64:
        raise ValueError("no integer")
    return value


def _truth(message: dict[str, Any], field: str) -> bool:
    value = message.get(field, False)
    if type(value) is not bool:
        raise TypeError("neither true nor false")  # the string "false" would count as true
    return value


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError("no object")
    return value


def _list(message: dict[str, Any], field: str) -> list[Any]:
    value = message.get(field, [])
    if type(value) is not list:
        raise TypeError("no list")
    return value
