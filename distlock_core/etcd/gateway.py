"""etcd v3 over its JSON gateway: the driver that needs nothing but Python.

See `Etcd` for what is offered, and `messages` for what goes over the wire.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Sequence

from distlock_core.errors import Cancelled, ConfigError, DistlockError, OutcomeUnknown
from distlock_core.etcd.api import Compare, Event, Get, LeaseGone, Outcome, WatchEnded
from distlock_core.etcd.endpoints import Attempt, Endpoints, parse_endpoint
from distlock_core.etcd.http1 import Address, ConnectFailed, Connection, ConnectionLost, Stream
from distlock_core.etcd.messages import (
    FAILED_PRECONDITION,
    MALFORMED,
    NOT_FOUND,
    Refused,
    b64,
    compare_json,
    op_json,
    range_json,
    read_answer,
    read_events,
    read_outcome,
    read_streamed_ttl,
    read_ttl,
    translate,
)
from distlock_core.patience import Patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from distlock_core.etcd.api import Op

    Answer = TypeVar("Answer")

LINGER = 0.25  # seconds that a call which was called off waits for the answer that is on its way
LARGEST_ANSWER = 64 * 1024 * 1024  # characters of one watch message; beyond this it is no etcd


class Gateway:
    """One etcd cluster behind its JSON gateway. Implements `Etcd`. May be used by several threads."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        # Idle connections. list.append and list.pop are atomic, so no lock guards them.
        self._idle: list[Connection] = []
        self._pid = os.getpid()

    @property
    def endpoint(self) -> str:
        return self._endpoints.current.url

    def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        message = {"success": [op_json(get) for get in gets]}
        return self._call("/v3/kv/txn", message, read_outcome, patience)

    def txn(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
    ) -> Outcome:
        message = {
            "compare": [compare_json(compare) for compare in compares],
            "success": [op_json(op) for op in then],
            "failure": [op_json(op) for op in otherwise],
        }
        try:
            return self._call("/v3/kv/txn", message, read_outcome, patience, once=True)
        except DistlockError as error:
            if isinstance(error.__cause__, Refused) and error.__cause__.code == NOT_FOUND:
                raise LeaseGone from error
            raise

    def grant(self, lease: int, ttl: int, patience: Patience) -> int:
        # The id is mine alone, so to send it again after a lost reply is safe: etcd says that it has it already.
        message = {"ID": str(lease), "TTL": str(ttl)}
        granted = self._call("/v3/lease/grant", message, read_ttl, patience, benign=FAILED_PRECONDITION)
        return granted or self.keep_alive(lease, patience)

    def keep_alive(self, lease: int, patience: Patience) -> int:
        message = {"ID": str(lease)}
        return self._call("/v3/lease/keepalive", message, read_streamed_ttl, patience, benign=NOT_FOUND)

    def time_to_live(self, lease: int, patience: Patience) -> int:
        return max(0, self._call("/v3/lease/timetolive", {"ID": str(lease)}, read_ttl, patience, benign=NOT_FOUND))

    def revoke(self, lease: int, patience: Patience) -> None:
        self._call("/v3/lease/revoke", {"ID": str(lease)}, read_ttl, patience, benign=NOT_FOUND)

    def watch(self, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience) -> GatewayWatch:
        # Several create requests in one body: the gateway reads them one after the other, so one stream serves all.
        requests = [
            {"create_request": {"key": b64(key), "start_revision": str(revision), **range_json(end)}}
            for key, end in ranges
        ]
        body = "\n".join(json.dumps(request) for request in requests).encode()
        for attempt in self._endpoints.attempts(patience):
            try:
                return self._open_watch(attempt, body)
            except (ConnectFailed, ConnectionLost) as failure:
                attempt.failure = str(failure)
            except Refused as refusal:
                if not refusal.passing:
                    raise translate(refusal) from refusal
                attempt.failure = refusal.message
        raise AssertionError("attempts end with an error")

    def _open_watch(self, attempt: Attempt, body: bytes) -> GatewayWatch:
        connection = Connection(attempt.address, attempt.patience)
        try:
            # With "close" the server goes on reading the body after it has begun to answer. Without, it may throw
            # away what it has not read by then: the last of the ranges would never be watched.
            stream = connection.open("/v3/watch", body, attempt.patience, {"Connection": "close"})
            if stream.status != 200:
                read_answer(stream.status, stream.read_all(attempt.patience))
            self._endpoints.answered(attempt.address)
            return GatewayWatch(attempt.address.url, connection, stream)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _call(
        self,
        path: str,
        message: dict[str, Any],
        parse: Callable[[dict[str, Any]], Answer],
        patience: Patience,
        *,
        once: bool = False,
        benign: int = -1,
    ) -> Answer:
        """Send a request to one endpoint after the other, until one answers.

        What must not be sent twice (`once`) is given up with `OutcomeUnknown` as soon as it may have arrived and no
        answer came. A refusal of the `benign` code counts as an empty answer.
        """
        body = json.dumps(message).encode()
        for attempt in self._endpoints.attempts(patience):
            try:
                return parse(self._attempt(attempt, path, body))
            except ConnectFailed as failure:
                attempt.failure = str(failure)
            except Refused as refusal:
                if refusal.code == benign:
                    return parse({})
                if not refusal.passing:
                    raise translate(refusal) from refusal
                attempt.failure = refusal.message
                if once:
                    raise OutcomeUnknown(f"{attempt.address.url}: {refusal.message}") from refusal
            except (ConnectionLost, *MALFORMED) as failure:
                lost = isinstance(failure, ConnectionLost)
                attempt.failure = str(failure) if lost else "it answers, but not as etcd does"
                if once:
                    raise OutcomeUnknown(f"{attempt.address.url}: {attempt.failure}") from failure
        raise AssertionError("attempts end with an error")

    def _attempt(self, attempt: Attempt, path: str, body: bytes) -> dict[str, Any]:
        connection = self._connection(attempt.address, attempt.patience)
        stream = None
        try:
            stream = connection.open(path, body, attempt.patience)
            answer = read_answer(stream.status, stream.read_all(attempt.patience))
            self._endpoints.answered(attempt.address)
            return answer
        except Cancelled:
            # etcd 3.5.0 to 3.5.4 die of a client that goes away while a transaction that only reads is on.
            connection.await_answer(Patience.lasting(LINGER))
            raise
        finally:
            if stream is not None and stream.reusable:
                self._idle.append(connection)
            else:
                connection.close()

    def _connection(self, address: Address, patience: Patience) -> Connection:
        if self._pid != os.getpid():
            # A fork: the parent goes on with these connections, so they are not mine to talk on.
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            connection = self._idle.pop()
            if connection.address == address and not connection.is_stale():
                return connection
            connection.close()
        return Connection(address, patience)


def dial(endpoints: Sequence[str] | str, hint: str = "") -> Gateway:
    """Return the cluster behind these endpoints: URLs, in a list or separated by commas. Nothing is sent yet.

    `hint` is added to the message when none answers. Raises `ConfigError`.
    """
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    addresses = [parse_endpoint(text) for text in texts if text.strip()]
    if not addresses:
        raise ConfigError("no endpoint is given; write it like http://10.0.0.1:2379")
    return Gateway(Endpoints(addresses, hint))


class GatewayWatch:
    """A stream of events from one member. Implements `Watch`."""

    def __init__(self, endpoint: str, connection: Connection, stream: Stream) -> None:
        self.endpoint = endpoint
        self._connection = connection
        self._stream = stream
        # A chunk may end inside a character or a value, and an error comes with no newline behind it.
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""

    def wait(self, patience: Patience) -> list[Event]:
        while True:
            try:
                data = self._stream.read(patience)
                if data is None:
                    return []
                self._text += self._decode.decode(data)
            except (ConnectionLost, UnicodeDecodeError) as failure:
                raise WatchEnded(str(failure)) from failure
            if data == b"" or len(self._text) > LARGEST_ANSWER:
                raise WatchEnded("the stream ended")
            try:
                events = [event for message in self._messages() for event in read_events(message)]
            except MALFORMED as failure:
                raise WatchEnded("it answers, but not as etcd does") from failure
            if events:
                return events

    def close(self) -> None:
        self._connection.close()

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        decoder = json.JSONDecoder()
        while True:
            self._text = self._text.lstrip()
            try:
                message, end = decoder.raw_decode(self._text)
            except ValueError:
                return messages  # not all here yet
            self._text = self._text[end:]
            messages.append(message)
