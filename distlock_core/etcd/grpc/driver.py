"""The driver for gRPC, for clusters whose JSON gateway is disabled or refuses the client.

It uses only the messages and methods of the package `etcd3`; failover, deadlines and watches are implemented here. See
`client.Etcd` for its interface, and `messages` for the wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distlock_core.base.deadline import Patience
from distlock_core.errors import AccessDenied, DistlockError
from distlock_core.etcd.auth.login import Login
from distlock_core.etcd.auth.rights import TRYING, name_missing
from distlock_core.etcd.endpoints import Attempt, Endpoints
from distlock_core.etcd.failover import ask_in_turn
from distlock_core.etcd.grpc import messages
from distlock_core.etcd.grpc.channels import Channels
from distlock_core.etcd.grpc.cluster_check import ClusterCheck
from distlock_core.etcd.grpc.etcd3_package import load
from distlock_core.etcd.grpc.stream import FirstAnswer
from distlock_core.etcd.grpc.watch import GrpcWatch
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import ConnectionLost
from distlock_core.etcd.http.reply import MAX_ANSWER, MIB
from distlock_core.etcd.refused import FAILED_PRECONDITION, NO_SPACE, NOT_FOUND, Refused
from distlock_core.etcd.values import Compare, Get, LeaseGone, Outcome, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.facts import Site
    from distlock_core.etcd.grpc.channel import Metadata
    from distlock_core.etcd.values import Op

    Answer = TypeVar("Answer")


class Grpc:
    """One etcd cluster over gRPC. Implements `Etcd`. Thread-safe."""

    def __init__(self, endpoints: Endpoints, access: Access | None = None, max_answer: int = MAX_ANSWER) -> None:
        """`max_answer` (MiB) is the size limit of an answer. Raises `ConfigError` if `etcd3` is missing."""
        self._rpc = load()
        self._endpoints = endpoints
        self._access = access
        self._login = Login(access, self._authenticate) if access is not None and access.user else None
        self._channels = Channels(self._rpc, endpoints, access, max_answer * MIB)
        self._cluster_check = ClusterCheck(self._rpc, endpoints, self._channels)

    @property
    def endpoint(self) -> str:
        return self._endpoints.current.url

    @property
    def term(self) -> int:
        return self._endpoints.term

    def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        return self._transact([], gets, [], patience, once=False)

    def txn(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
    ) -> Outcome:
        return self._transact(compares, then, otherwise, patience, once=True)

    def grant(self, lease: int, ttl: int, patience: Patience) -> int:
        # The id is unique, so sending it again after a lost reply is safe: etcd answers that it exists.
        request = self._rpc.LeaseGrantRequest(ID=lease, TTL=ttl)
        granted = self._call(self._leases("LeaseGrant"), request, patience, benign=FAILED_PRECONDITION)
        return int(granted.TTL) if granted is not None else self.keep_alive(lease, patience)

    def keep_alive(self, lease: int, patience: Patience, *, fresh: bool = False) -> int:
        request = self._rpc.LeaseKeepAliveRequest(ID=lease)
        return _ttl(self._call(self._keep_alive, request, patience, benign=NOT_FOUND, fresh=fresh))

    def time_to_live(self, lease: int, patience: Patience) -> int:
        request = self._rpc.LeaseTimeToLiveRequest(ID=lease)
        return _ttl(self._call(self._leases("LeaseTimeToLive"), request, patience, benign=NOT_FOUND))

    def revoke(self, lease: int, patience: Patience) -> None:
        request = self._rpc.LeaseRevokeRequest(ID=lease)
        self._call(self._leases("LeaseRevoke"), request, patience, benign=NOT_FOUND)

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes | None]],
        revision: int,
        patience: Patience,
        *,
        polls: bool = True,  # noqa: ARG002 - gRPC passes no proxy that buffers
    ) -> GrpcWatch:
        requests = [messages.watch(self._rpc, key, end, revision) for key, end in ranges]

        def ask(attempt: Attempt, token: str) -> GrpcWatch:
            return self._open_watch(attempt, requests, revision, token)

        watch = ask_in_turn(self._endpoints, self._as_user(ask), patience)
        assert watch is not None
        return watch

    @property
    def site(self) -> Site:
        from distlock_core.etcd.facts import Site

        return Site(self._endpoints, self._access, "grpc")

    def load_all(self) -> None:
        """Nothing to do: the package was loaded as a whole."""

    def close(self) -> None:
        self._channels.close()

    def _transact(
        self,
        compares: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op],
        patience: Patience,
        *,
        once: bool,
    ) -> Outcome:
        request = messages.txn(self._rpc, compares, then, otherwise)
        try:
            return messages.outcome(self._call(self._txn, request, patience, once=once))
        except AccessDenied as denied:
            few = patience.within(TRYING)

            def attempt(then: Sequence[Op], otherwise: Sequence[Op]) -> Any:
                return self._call(self._txn, messages.txn(self._rpc, [], then, otherwise), few)

            raise name_missing(denied, self._access, compares, [*then, *otherwise], attempt) from denied.__cause__
        except DistlockError as error:
            refusal = error.__cause__ if isinstance(error.__cause__, Refused) else None
            if refusal is not None and refusal.code == NOT_FOUND:
                raise LeaseGone from error
            if refusal is not None and NO_SPACE in refusal.message and not once:
                return self._read_one_by_one(request, patience)
            raise

    def _read_one_by_one(self, request: Any, patience: Patience) -> Outcome:
        """Read one range after another: 3.5 with a full database refuses even read-only transactions."""
        found: list[Range | int | None] = []
        revision = 0
        for op in request.success:
            op.request_range.revision = revision
            answer = self._call(lambda raw: self._rpc.KVStub(raw).Range, op.request_range, patience)
            revision = revision or answer.header.revision
            found.append(messages.found(answer))
        return Outcome(True, revision, tuple(found))

    # The methods of a channel.

    def _txn(self, raw: Any) -> Any:
        return self._rpc.KVStub(raw).Txn

    def _leases(self, name: str) -> Callable[[Any], Any]:
        return lambda raw: getattr(self._rpc.LeaseStub(raw), name)

    def _keep_alive(self, raw: Any) -> FirstAnswer:
        return FirstAnswer(self._rpc.LeaseStub(raw).LeaseKeepAlive)

    def _call(
        self,
        method: Callable[[Any], Any],
        request: Any,
        patience: Patience,
        *,
        once: bool = False,
        benign: int = -1,
        fresh: bool = False,
    ) -> Any:
        """Send a request to one endpoint after another; see `ask_in_turn`. None for a benign refusal."""

        def ask(attempt: Attempt, token: str) -> Any:
            return self._attempt(attempt, method, request, token, careful=once, fresh=fresh)

        return ask_in_turn(self._endpoints, self._as_user(ask), patience, once=once, benign=benign)

    def _as_user(self, ask: Callable[[Attempt, str], Answer]) -> Callable[[Attempt], Answer]:
        """Ask as the user, if there is one: log in, and again when the token has expired."""
        login = self._login
        if login is None:
            return lambda attempt: ask(attempt, "")
        return lambda attempt: login.ask(attempt, ask)

    def _authenticate(self, attempt: Attempt, user: str, password: str) -> str:
        request = self._rpc.AuthenticateRequest(name=user, password=password)
        return str(self._attempt(attempt, lambda raw: self._rpc.AuthStub(raw).Authenticate, request, "").token)

    def _attempt(
        self,
        attempt: Attempt,
        method: Callable[[Any], Any],
        request: Any,
        token: str,
        *,
        careful: bool = False,
        fresh: bool = False,
    ) -> Any:
        """Send one request to one endpoint. With `careful`, only over a connection whose cluster is known."""
        if fresh:
            channel = self._channels.connect(attempt.address, attempt.patience)
        else:
            channel = self._channels.get(attempt.address, attempt.patience)
        if careful and not channel.is_connected():
            self._channels.give_up(channel)
            channel = self._channels.get(attempt.address, attempt.patience)
        try:
            if careful and not channel.is_known:
                self._cluster_check.check(channel, attempt, request, _metadata(token))
            answer = channel.call(method, request, _metadata(token), attempt.patience)
            self._endpoints.answered(attempt.address, answer.header.cluster_id)
            channel.has_told_cluster = True
            if isinstance(request, (self._rpc.TxnRequest, self._rpc.RangeRequest)):
                # Answers about leases may come from a member that lags behind.
                self._endpoints.check_history(answer.header.revision, attempt)
                channel.is_known = True
            else:
                self._endpoints.note_term(answer.header.raft_term)
        except (ConnectFailed, ConnectionLost):
            self._channels.give_up(channel)
            raise
        except BaseException:
            if fresh:
                channel.give_up()
            raise
        if fresh:
            self._channels.prefer(channel)
        return answer

    def _open_watch(self, attempt: Attempt, requests: Sequence[Any], revision: int, token: str) -> GrpcWatch:
        suspect = None if self._login is None else self._login.suspect
        channel = self._channels.connect(attempt.address, attempt.patience)
        try:
            method, check = self._rpc.WatchStub(channel.raw).Watch, self._endpoints.check_cluster
            watch = GrpcWatch(channel, method, requests, _metadata(token), revision, check, suspect)
        except BaseException:
            channel.give_up()
            raise
        try:
            watch.open(attempt.patience)
            if not self._endpoints.knows_members:
                self._cluster_check.learn_members(attempt, _metadata(token))
        except BaseException:
            watch.close()
            raise
        return watch


def _ttl(answer: Any) -> int:
    return 0 if answer is None else max(0, int(answer.TTL))  # -1 for a lease that is gone


def _metadata(token: str) -> Metadata:
    # With this, a member without a leader refuses at once, and ends its watches, instead of staying silent.
    leader = ("hasleader", "true")
    return (leader, ("token", token)) if token else (leader,)
