"""ClusterCheck: which cluster a connection leads to. A load balancer may have another one behind it.

Loaded before the first write over a new connection, or with `Gateway.load_all()`.
"""

from __future__ import annotations

from distlock_core.base import plain_json
from distlock_core.etcd.endpoints import Attempt, Endpoints, WrongCluster
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import Connection
from distlock_core.etcd.http.messages import (
    NoGateway,
    SpeakGrpc,
    b64,
    read_answer,
    read_cluster,
    read_members,
    read_revision,
)
from distlock_core.etcd.http.pool import Pool
from distlock_core.etcd.http.reply import ConnectionLost, Reply
from distlock_core.etcd.refused import MALFORMED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LEARNING = 1.0  # seconds that a request for the members may take


class ClusterCheck:
    """Checks connections of one pool by the cluster's id, revision and members."""

    def __init__(
        self, endpoints: Endpoints, pool: Pool, answer: Callable[[Reply, Attempt], dict[str, Any]], most: int
    ) -> None:
        """`answer` reads a reply, and raises what a call raises. `most` is the size limit of an answer, in bytes."""
        self._endpoints = endpoints
        self._pool = pool
        self._answer = answer
        self._most = most

    def same_cluster(
        self,
        connection: Connection,
        attempt: Attempt,
        headers: Mapping[str, str],
        probe: bytes,
        *,
        known: bool = False,
    ) -> Connection:
        """Return this connection, or a new one to the same place, if it leads to the same cluster as before.

        `probe` is a key that this user may read. A connection that is already `known` is kept, whatever its answer.
        Raises `ConnectFailed` for another cluster, and `Refused` if etcd wants a login first.
        """
        reply: Reply | None = None

        def ask(path: str, body: bytes) -> dict[str, Any]:
            nonlocal reply, connection
            if reply is not None and not reply.reusable:
                connection.close()
                connection = self._pool.open(attempt.address, attempt.patience)
            reply = connection.open(path, body, attempt.patience, dict(headers))
            answer = self._answer(reply, attempt)
            self._endpoints.answered(attempt.address, read_cluster(answer))
            return answer

        try:
            answer = ask("/v3/maintenance/status", b"{}")
            if read_revision(answer) < attempt.floor:
                # Either a member that lags behind, or another cluster: a linearizable read decides.
                body = plain_json.dumps({"key": b64(probe), "keys_only": True}).encode()
                self._endpoints.check_history(read_revision(ask("/v3/kv/range", body)), attempt)
            if self._endpoints.knows_members:
                self._check_members(ask)
        except (ConnectionLost, Refused, *MALFORMED) as failure:
            if known and reply is not None and reply.reusable and not isinstance(failure, WrongCluster):
                self._pool.give_back(connection)
            else:
                connection.close()
            if isinstance(failure, Refused) and failure.wants_login:
                raise  # the write has not been sent: it is, after a login
            said = "it answers, but not as etcd does" if isinstance(failure, MALFORMED) else str(failure)
            raise ConnectFailed(said) from failure  # the write has not been sent
        except BaseException:
            connection.close()
            raise
        if reply is not None and reply.reusable:
            return connection
        connection.close()
        return self._pool.open(attempt.address, attempt.patience)

    def learn_members(self, attempt: Attempt, headers: Mapping[str, str]) -> None:
        """Record the cluster's members over the connection in use: a later connection may lead to another cluster."""
        patience = attempt.patience.within(LEARNING)
        connection, _ = self._pool.take(attempt.address, patience)
        reply: Reply | None = None

        def ask(path: str, body: bytes) -> dict[str, Any]:
            nonlocal reply
            reply = connection.open(path, body, patience, dict(headers))
            return read_answer(reply.status, reply.read_all(patience, self._most))

        try:
            self._check_members(ask)
        except WrongCluster:
            raise
        except ConnectionLost:
            pass  # the next watch tries again
        finally:
            if reply is not None and reply.reusable:
                self._pool.give_back(connection)
            else:
                connection.close()

    def _check_members(self, ask: Callable[[str, bytes], dict[str, Any]]) -> None:
        """Check the cluster's members, if this user may ask for them."""
        try:
            members = read_members(ask("/v3/cluster/member/list", b"{}"))
        except (Refused, NoGateway, SpeakGrpc, *MALFORMED):
            return
        self._endpoints.check_members(members)
