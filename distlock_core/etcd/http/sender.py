"""Sender: one request to one endpoint, over a pooled connection that leads to the right cluster, and its answer."""

from __future__ import annotations

import os

from distlock_core.base.deadline import Patience
from distlock_core.errors import Cancelled
from distlock_core.etcd.endpoints import Attempt, Endpoints, WrongCluster, seconds_to_wait
from distlock_core.etcd.failover import LINGER, SPEAKS_TLS
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.messages import (
    Limited,
    NoGateway,
    SpeakGrpc,
    Unavailable,
    read_answer,
    read_cluster,
    read_revision,
    read_term,
)
from distlock_core.etcd.http.pool import Pool
from distlock_core.etcd.http.reply import ConnectionLost, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from distlock_core.etcd.http.cluster_check import ClusterCheck
    from distlock_core.etcd.http.watch import GatewayWatch


class Sender:
    """Sends requests to the gateways of one cluster. Thread-safe."""

    may_leave = False  # raise `SpeakGrpc` if there is no gateway
    advice = ""  # added to that error's message otherwise

    def __init__(self, endpoints: Endpoints, pool: Pool, most: int) -> None:
        """`most` is the size limit of an answer, in bytes."""
        self._endpoints = endpoints
        self.pool = pool
        self._most = most
        self._cluster_check: ClusterCheck | None = None
        self._stumbled = False  # a proxy, not etcd, has answered a write
        self._secure: set[str] = set()  # plain endpoints that were found to speak TLS

    def send(
        self, attempt: Attempt, path: str, body: bytes, token: str, *, probe: bytes | None = None, fresh: bool = False
    ) -> dict[str, Any]:
        """Send one request. With a `probe` key, only over a connection whose cluster is known."""
        address = attempt.address
        connection, fresh = self.pool.take(address, attempt.patience, fresh=fresh)
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
            else:
                self._endpoints.note_term(read_term(answer))
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
                self.pool.give_back(connection)
            elif late:
                self.pool.hang_up_later(connection)
            else:
                connection.close()

    def open_watch(
        self,
        attempt: Attempt,
        body: bytes,
        token: str,
        ranges: int,
        suspect: Callable[[], None] | None,
    ) -> GatewayWatch:
        """Open a watch; `body` has `ranges` create requests. `suspect` is called if the token may be invalid."""
        from distlock_core.etcd.http.watch import GatewayWatch

        connection = self.pool.open(attempt.address, attempt.patience)
        attempt.leave_some(connection.others)
        try:
            # With "close" the server reads the whole body even after it has begun to answer. Without it, the server may
            # discard the unread rest, and the last of the ranges would never be watched.
            headers = {**_headers(token), "Connection": "close"}
            reply = connection.open("/v3/watch", body, attempt.patience, headers)
            if reply.status != 200:
                self._answer(reply, attempt)
            check = self._endpoints.check_cluster
            watch = GatewayWatch(attempt.address.url, connection, reply, check, suspect, self._most, ranges)
            watch.begin(attempt.patience)
            if not self._endpoints.knows_members:
                self._check().learn_members(attempt, _headers(token))
            self._endpoints.answered(attempt.address)
            return watch
        except BaseException:
            self.pool.drop(connection, late=attempt.patience.over())
            raise

    def close(self) -> None:
        self.pool.close()

    def _check(self) -> ClusterCheck:
        if self._cluster_check is None:
            from distlock_core.etcd.http.cluster_check import ClusterCheck

            self._cluster_check = ClusterCheck(self._endpoints, self.pool, self._answer, self._most)
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
