"""Selection of the driver for a cluster: the gateway or gRPC."""

from __future__ import annotations

from distlock_core.errors import ConfigError, EtcdUnavailable
from distlock_core.etcd.address import parse_endpoint
from distlock_core.etcd.endpoints import Endpoints
from distlock_core.etcd.http.gateway import Gateway
from distlock_core.etcd.http.messages import SpeakGrpc
from distlock_core.etcd.http.reply import MAX_ANSWER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.etcd.facts import Site
    from distlock_core.etcd.values import Compare, Get, Op, Outcome
    from distlock_core.hints import Hint

    Answer = TypeVar("Answer")


def dial(
    endpoints: Sequence[str] | str,
    access: Access | None = None,
    *,
    discovery_srv: str = "",
    transport: str = "auto",
    hints: Sequence[Hint] = (),
    max_answer: int = MAX_ANSWER,
) -> Etcd:
    """Return a client of the cluster with these endpoints: URLs in a list, or separated by commas. Sends nothing yet.

    Members in the SRV records of the domain `discovery_srv` are asked if none of these endpoints answers. An endpoint
    without a scheme is https if `access` has a secret or a TLS setting, or if another endpoint is https; members
    without TLS are then not discovered. `transport` is auto, http or grpc. `hints` go with the error if none answers.
    `max_answer` (MiB) is the size limit of an answer. Raises `ConfigError`.
    """
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    given_tls = any(text.strip().lower().startswith("https://") for text in texts)
    scheme = "https" if given_tls or (access is not None and access.wants_tls) else "http"
    addresses = [parse_endpoint(text, scheme) for text in texts if text.strip()]
    if not addresses and not discovery_srv:
        raise ConfigError("no endpoint is given; write it like http://10.0.0.1:2379")
    discovery = None
    if discovery_srv:
        from distlock_core.etcd.discovery import Discovery

        discovery = Discovery(discovery_srv, tls_only=scheme == "https")
    members = Endpoints(addresses, hints, discovery)
    if transport == "grpc":
        from distlock_core.etcd.grpc.driver import Grpc

        return Grpc(members, access, max_answer)
    if transport == "http":
        gateway = Gateway(members, access, max_answer)
        gateway.sender.advice = "; with transport auto or grpc it can be spoken to over gRPC"
        return gateway
    return Either(members, access, max_answer)


class Either:
    """One etcd cluster over the gateway, or over gRPC once a member has no gateway for this client. Implements `Etcd`.

    If the package `etcd3` is missing it stays with the gateway, and the error names what to install.
    """

    def __init__(self, endpoints: Endpoints, access: Access | None = None, max_answer: int = MAX_ANSWER) -> None:
        self._endpoints = endpoints
        self._access = access
        self._max_answer = max_answer
        self._gateway = Gateway(endpoints, access, max_answer)
        self._gateway.sender.may_leave = True
        self._chosen: Etcd = self._gateway

    @property
    def endpoint(self) -> str:
        return self._endpoints.current.url

    @property
    def term(self) -> int:
        return self._endpoints.term

    def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        return self._ask(lambda etcd: etcd.read(gets, patience))

    def txn(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
    ) -> Outcome:
        return self._ask(lambda etcd: etcd.txn(compares, then, otherwise, patience))

    def grant(self, lease: int, ttl: int, patience: Patience) -> int:
        return self._ask(lambda etcd: etcd.grant(lease, ttl, patience))

    def keep_alive(self, lease: int, patience: Patience, *, fresh: bool = False) -> int:
        return self._ask(lambda etcd: etcd.keep_alive(lease, patience, fresh=fresh))

    def time_to_live(self, lease: int, patience: Patience) -> int:
        return self._ask(lambda etcd: etcd.time_to_live(lease, patience))

    def revoke(self, lease: int, patience: Patience) -> None:
        self._ask(lambda etcd: etcd.revoke(lease, patience))

    def watch(
        self, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience, *, polls: bool = True
    ) -> Watch:
        return self._ask(lambda etcd: etcd.watch(ranges, revision, patience, polls=polls))

    @property
    def site(self) -> Site:
        from distlock_core.etcd.facts import Site

        return Site(self._endpoints, self._access, "auto")

    def load_all(self) -> None:
        self._chosen.load_all()

    def close(self) -> None:
        self._gateway.close()
        self._chosen.close()

    def _ask(self, ask: Callable[[Etcd], Answer]) -> Answer:
        try:
            return ask(self._chosen)
        except SpeakGrpc as refusal:
            self._choose()
            try:
                return ask(self._chosen)
            except EtcdUnavailable as error:
                advice = self._gateway.sender.advice
                if not advice or advice in error.message:
                    raise
                raise EtcdUnavailable(f"{refusal}{advice}") from error  # no time is left for another try

    def _choose(self) -> None:
        from distlock_core.etcd.grpc.driver import Grpc

        if self._chosen is not self._gateway:
            return  # another thread was faster
        try:
            self._chosen = Grpc(self._endpoints, self._access, self._max_answer)
        except ConfigError as missing:
            self._gateway.sender.may_leave = False
            self._gateway.sender.advice = f"; {missing.message}"
