"""The protobuf form of etcd's messages: requests of the gRPC driver, and parsing of the answers.

`rpc` is the module `etcd3.etcdrpc`, which is imported late, and only if this driver is used.
"""

from __future__ import annotations

from distlock_core.etcd.refused import watch_ended
from distlock_core.etcd.values import Compare, Delete, Event, KeyValue, Outcome, Put, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.etcd.values import Op


def txn(rpc: Any, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> Any:
    return rpc.TxnRequest(
        compare=[_compare(rpc, compare) for compare in compares],
        success=[_op(rpc, op) for op in then],
        failure=[_op(rpc, op) for op in otherwise],
    )


def watch(rpc: Any, key: bytes, range_end: bytes | None, revision: int) -> Any:
    create = rpc.WatchCreateRequest(key=key, range_end=range_end or b"", start_revision=revision)
    return rpc.WatchRequest(create_request=create)


def outcome(answer: Any) -> Outcome:
    return Outcome(answer.succeeded, answer.header.revision, tuple(_result(response) for response in answer.responses))


def first_key(request: Any) -> bytes:
    """The key of the first operation of a transaction."""
    for op in request.success:
        return bytes(getattr(op, op.WhichOneof("request")).key)
    return b""


def found(answer: Any) -> Range:
    """The range in a read's answer."""
    return Range(tuple(_key_value(kv) for kv in answer.kvs), answer.count)


def events(answer: Any) -> list[Event]:
    """The events of one message of a watch. Raises `WatchEnded` if the message ends the watch."""
    if answer.canceled:
        raise watch_ended(" ".join(str(answer).split())[:300], answer.compact_revision)
    return [Event(event.type == event.DELETE, _key_value(event.kv)) for event in answer.events]


def _compare(rpc: Any, compare: Compare) -> Any:
    field = {"CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value"}[compare.target]
    return rpc.Compare(
        target=compare.target,
        result=compare.result,
        key=compare.key,
        range_end=compare.range_end or b"",
        **{field: compare.operand},
    )


def _op(rpc: Any, op: Op) -> Any:
    if isinstance(op, Put):
        return rpc.RequestOp(request_put=rpc.PutRequest(key=op.key, value=op.value, lease=op.lease))
    if isinstance(op, Delete):
        delete = rpc.DeleteRangeRequest(key=op.key, range_end=op.range_end or b"")
        return rpc.RequestOp(request_delete_range=delete)
    order = {"sort_target": "CREATE", "sort_order": "DESCEND"} if op.youngest_first else {}
    if op.newest_first:
        order = {"sort_target": "MOD", "sort_order": "DESCEND"}
    if op.last_first:
        order = {"sort_target": "KEY", "sort_order": "DESCEND"}
    get = rpc.RangeRequest(
        key=op.key,
        range_end=op.range_end or b"",
        keys_only=op.keys_only,
        limit=op.limit,
        max_create_revision=op.max_create_revision,
        revision=op.revision,
        **order,
    )
    return rpc.RequestOp(request_range=get)


def _result(response: Any) -> Range | int | None:
    kind = response.WhichOneof("response")
    if kind == "response_range":
        return found(response.response_range)
    return response.response_delete_range.deleted if kind == "response_delete_range" else None


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease)
