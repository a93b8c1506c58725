"""The driver for etcd's JSON gateway, which needs only the standard library.

See `client.Etcd` for its interface, and `messages` for the wire format.
"""

from __future__ import annotations

import os

from distlock_core.base import plain_json
from distlock_core.base.deadline import Patience
from distlock_core.errors import AccessDenied, Cancelled, DistlockError
from distlock_core.etcd.endpoints import Attempt, Endpoints, WrongCluster, seconds_to_wait
from distlock_core.etcd.failover import LINGER, SPEAKS_TLS, ask_in_turn
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.messages import (
    Limited,
    NoGateway,
    SpeakGrpc,
    Unavailable,
    b64,
    compare_json,
    op_json,
    range_json,
    read_answer,
    read_cluster,
    read_outcome,
    read_revision,
    read_streamed_ttl,
    read_token,
    read_ttl,
    reader_of_range,
)
from distlock_core.etcd.http.pool import Pool
from distlock_core.etcd.http.reply import MAX_ANSWER, MIB, ConnectionLost, Reply
from distlock_core.etcd.refused import FAILED_PRECONDITION, NO_SPACE, NOT_FOUND, Refused
from distlock_core.etcd.values import Compare, Get, LeaseGone, Outcome, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.auth.login import Login
    from distlock_core.etcd.client import Watch
    from distlock_core.etcd.http.cluster_check import ClusterCheck
    from distlock_core.etcd.http.polling import Opener
    from distlock_core.etcd.http.watch import GatewayWatch
    from distlock_core.etcd.values import Op

    Answer = TypeVar("Answer")


class Gateway:
    """One etcd cluster over its JSON gateway. Implements `Etcd`. Thread-safe."""

    may_leave = False  # raise `SpeakGrpc` if there is no gateway
    advice = ""  # added to that error's message otherwise

    def __init__(self, endpoints: Endpoints, access: Access | None = None, max_answer: int = MAX_ANSWER) -> None:
        """`max_answer` (MiB) is the size limit of an answer."""
        self._endpoints = endpoints
        self._most = max_answer * MIB
        self._access = access
        self._login: Login | None = None
        if access is not None and access.user:
            from distlock_core.etcd.auth.login import Login

            self._login = Login(access, self._authenticate)
        self._pool = Pool(access)
        self._opener: Opener | None = None
        self._cluster_check: ClusterCheck | None = None
        self._stumbled = False  # a proxy, not etcd, has answered a write
        self._secure: set[str] = set()  # plain endpoints that were found to speak TLS

    @property
    def endpoint(self) -> str:
        return self._endpoints.current.url

    def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        try:
            return self._transact([], gets, [], patience)
        except AccessDenied as denied:
            raise self._denied(denied, [], gets, patience) from denied.__cause__
        except DistlockError as error:
            if isinstance(error.__cause__, Refused) and NO_SPACE in error.__cause__.message:
                return self._read_one_by_one(gets, patience)
            raise

    def _read_one_by_one(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        """Read one range after another: 3.5 with a full database refuses even read-only transactions."""
        found: list[Range | int | None] = []
        revision = 0
        for get in gets:
            message = op_json(get)["request_range"]
            if revision:
                message["revision"] = str(revision)
            seen, one = self._call("/v3/kv/range", message, reader_of_range(get), patience)
            revision = revision or seen
            found.append(one)
        return Outcome(True, revision, tuple(found))

    def txn(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
    ) -> Outcome:
        try:
            return self._transact(compares, then, otherwise, patience, once=True)
        except AccessDenied as denied:
            raise self._denied(denied, compares, [*then, *otherwise], patience) from denied.__cause__
        except DistlockError as error:
            if isinstance(error.__cause__, Refused) and error.__cause__.code == NOT_FOUND:
                raise LeaseGone from error
            raise

    def _transact(
        self,
        compares: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op],
        patience: Patience,
        *,
        once: bool = False,
    ) -> Outcome:
        message = {"success": [op_json(op) for op in then]}
        if compares or otherwise:
            message["compare"] = [compare_json(compare) for compare in compares]
            message["failure"] = [op_json(op) for op in otherwise]

        def parse(answer: dict[str, Any]) -> Outcome:
            return read_outcome(answer, compares, then, otherwise)

        probe = next((one.key for one in (*compares, *then)), b"")
        return self._call("/v3/kv/txn", message, parse, patience, once=once, probe=probe)

    def grant(self, lease: int, ttl: int, patience: Patience) -> int:
        # The id is unique, so sending it again after a lost reply is safe: etcd answers that it exists.
        message = {"ID": str(lease), "TTL": str(ttl)}
        granted = self._call("/v3/lease/grant", message, read_ttl, patience, benign=FAILED_PRECONDITION)
        return granted or self.keep_alive(lease, patience)

    def keep_alive(self, lease: int, patience: Patience, *, fresh: bool = False) -> int:
        message = {"ID": str(lease)}
        return self._call("/v3/lease/keepalive", message, read_streamed_ttl, patience, benign=NOT_FOUND, fresh=fresh)

    def time_to_live(self, lease: int, patience: Patience) -> int:
        return max(0, self._call("/v3/lease/timetolive", {"ID": str(lease)}, read_ttl, patience, benign=NOT_FOUND))

    def revoke(self, lease: int, patience: Patience) -> None:
        self._call("/v3/lease/revoke", {"ID": str(lease)}, read_ttl, patience, benign=NOT_FOUND)

    def watch(self, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience) -> Watch:
        # Several create requests in one body: the gateway reads one after another, so one stream serves all.
        requests = [
            {"create_request": {"key": b64(key), "start_revision": str(revision), **range_json(end)}}
            for key, end in ranges
        ]
        body = "\n".join(plain_json.dumps(request) for request in requests).encode()

        def open_watch(attempt: Attempt, token: str) -> GatewayWatch:
            return self._open_watch(attempt, body, revision, token, 1 if revision else len(ranges))

        if self._opener is None:
            from distlock_core.etcd.http.polling import Opener

            self._opener = Opener(self._endpoints)
        return self._opener.open(self, ranges, revision, patience, self._as_user, open_watch)

    def _open_watch(self, attempt: Attempt, body: bytes, revision: int, token: str, ranges: int) -> GatewayWatch:
        from distlock_core.etcd.http.watch import GatewayWatch

        connection = self._pool.open(attempt.address, attempt.patience)
        attempt.leave_some(connection.others)
        try:
            # With "close" the server reads the whole body even after it has begun to answer. Without it, the server may
            # discard the unread rest, and the last of the ranges would never be watched.
            headers = {**_headers(token), "Connection": "close"}
            reply = connection.open("/v3/watch", body, attempt.patience, headers)
            if reply.status != 200:
                self._answer(reply, attempt)
            suspect = None if self._login is None else self._login.suspect
            check = self._endpoints.check_cluster
            watch = GatewayWatch(attempt.address.url, connection, reply, revision, check, suspect, self._most, ranges)
            watch.begin(attempt.patience)
            if not self._endpoints.knows_members:
                self._check().learn_members(attempt, _headers(token))
            self._endpoints.answered(attempt.address)
            return watch
        except BaseException:
            self._pool.drop(connection, late=attempt.patience.over())
            raise

    def load_all(self) -> None:
        from distlock_core.etcd.http import cluster_check, polling, watch  # noqa: F401

    def close(self) -> None:
        self._pool.close()

    def _call(
        self,
        path: str,
        message: dict[str, Any],
        parse: Callable[[dict[str, Any]], Answer],
        patience: Patience,
        *,
        once: bool = False,
        benign: int = -1,
        fresh: bool = False,
        probe: bytes = b"",
    ) -> Answer:
        """Send a request to one endpoint after another; see `ask_in_turn`. A benign refusal is an empty answer."""
        body = plain_json.dumps(message).encode()

        def ask(attempt: Attempt, token: str) -> Answer:
            return parse(self._attempt(attempt, path, body, token, probe=probe if once else None, fresh=fresh))

        answer = ask_in_turn(
            self._endpoints, lambda attempt: self._as_user(attempt, ask), patience, once=once, benign=benign
        )
        return parse({}) if answer is None else answer

    def _as_user(self, attempt: Attempt, ask: Callable[[Attempt, str], Answer]) -> Answer:
        return ask(attempt, "") if self._login is None else self._login.ask(attempt, ask)

    def _authenticate(self, attempt: Attempt, user: str, password: str) -> str:
        body = plain_json.dumps({"name": user, "password": password}).encode()
        return read_token(self._attempt(attempt, "/v3/auth/authenticate", body, ""))

    def _denied(
        self, denied: AccessDenied, compares: Sequence[Compare], ops: Sequence[Op], patience: Patience
    ) -> AccessDenied:
        """The error that names the user, the missing right and the key."""
        from distlock_core.etcd.auth import rights

        patience = patience.within(rights.TRYING)

        def attempt(then: Sequence[Op], otherwise: Sequence[Op]) -> Outcome:
            return self._transact([], then, otherwise, patience)

        return rights.name_missing(denied, self._access, compares, ops, attempt)

    def _attempt(
        self, attempt: Attempt, path: str, body: bytes, token: str, *, probe: bytes | None = None, fresh: bool = False
    ) -> dict[str, Any]:
        """Send one request to one endpoint. With a `probe` key, only over a connection whose cluster is known."""
        address = attempt.address
        connection, fresh = self._pool.take(address, attempt.patience, fresh=fresh)
        attempt.leave_some(connection.others)
        if probe is not None and fresh and self._endpoints.cluster is not None:
            connection = self._check().same_cluster(connection, attempt, _headers(token), probe)
        # A round-robin load balancer may send every write to a failing upstream, and every read to another one. So
        # after a failed write, a further request precedes the next write at random.
        if probe is not None and self._stumbled and os.urandom(1)[0] & 1:
            connection = self._check().same_cluster(connection, attempt, _headers(token), probe, known=True)
        reply, late = None, False
        try:
            reply = connection.open(path, body, attempt.patience, _headers(token))
            answer = self._answer(reply, attempt)
            self._endpoints.answered(address, read_cluster(answer))
            if path.startswith("/v3/kv/"):  # answers about leases may come from a member that lags behind
                self._endpoints.check_history(read_revision(answer), attempt)
            return answer
        except Cancelled:
            connection.await_answer(Patience.lasting(LINGER))
            raise
        except WrongCluster:
            reply = None
            raise
        except ConnectionLost as failure:
            late = attempt.patience.over()
            if fresh and not address.tls and not self._endpoints.has_answered(address):
                from distlock_core.etcd.auth.secure_connection import is_tls_spoken

                if address.url in self._secure or is_tls_spoken(address, attempt.patience):
                    self._secure.add(address.url)
                    raise ConnectFailed(SPEAKS_TLS) from failure
            raise
        finally:
            if reply is not None and reply.reusable:
                self._pool.give_back(connection)
            elif late:
                self._pool.hang_up_later(connection)
            else:
                connection.close()

    def _check(self) -> ClusterCheck:
        if self._cluster_check is None:
            from distlock_core.etcd.http.cluster_check import ClusterCheck

            self._cluster_check = ClusterCheck(self._endpoints, self._pool, self._answer, self._most)
        return self._cluster_check

    def _answer(self, reply: Reply, attempt: Attempt) -> dict[str, Any]:
        try:
            return read_answer(reply.status, reply.read_all(attempt.patience, self._most))
        except (Limited, Unavailable) as failure:
            told = reply.headers.get("retry-after")
            if told is not None or reply.status != 502:
                attempt.shut_for = seconds_to_wait(told)
            self._stumbled = self._stumbled or isinstance(failure, Unavailable)
            raise
        except NoGateway as failure:
            if self.may_leave:
                raise SpeakGrpc(f"{attempt.address.url}: {failure}") from failure
            raise NoGateway(f"{failure}{self.advice}") from failure


def _headers(token: str) -> dict[str, str]:
    # With this, a member without a leader refuses at once, and ends its watches, instead of staying silent.
    headers = {"Grpc-Metadata-Hasleader": "true"}
    return {**headers, "Authorization": token} if token else headers
