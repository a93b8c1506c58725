"""Probing: all endpoints of a cluster are looked at side by side, each within its own bound of time."""

from __future__ import annotations

from distlock_core.base.threads import start_thread
from distlock_core.errors import Cancelled, ConfigError
from distlock_core.etcd.facts import EndpointFacts
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.messages import NoGateway
from distlock_core.etcd.http.pool import Pool
from distlock_core.etcd.http.probe import HttpProbe
from distlock_core.etcd.http.reply import ConnectionLost
from distlock_core.etcd.refused import MALFORMED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.address import Address
    from distlock_core.etcd.facts import Site
    from distlock_core.etcd.grpc.probe import GrpcProbe

    Given = TypeVar("Given")
    Found = TypeVar("Found")

SPARE = 1.0  # seconds that a look may take beyond its patience before its thread is left alone
LOST = "it was not looked at: {}"


class Probing:
    """The looks at the endpoints of one site. `close()` ends its connections."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._pools: list[Pool] = []
        self._grpc: GrpcProbe | None = None
        self._no_grpc = ""
        self.why_no_endpoint = ""

    def look(self, key: bytes, patience: Patience) -> list[EndpointFacts]:
        """The facts of each endpoint, in order. `key` is one that a client of the realm reads. Raises `Cancelled`."""
        addresses, self.why_no_endpoint = self._site.endpoints.known(patience)
        if self._site.transport == "grpc":
            self._load_grpc()

        def look(address: Address) -> EndpointFacts:
            return self._look(address, key, patience)

        def lost(address: Address, why: str) -> EndpointFacts:
            return EndpointFacts(address.url, failure=LOST.format(why))

        found = side_by_side(addresses, look, lost, patience)
        if self._site.transport == "auto" and any(one.no_gateway for one in found):
            found = self._look_over_grpc(addresses, found, key, patience)
        return found

    def look_again(self, found: Sequence[EndpointFacts], patience: Patience) -> list[EndpointFacts]:
        """The same facts, with a second status of each endpoint that gave a first one over its gateway."""

        def look(one: EndpointFacts) -> EndpointFacts:
            if one.status is None:
                return one
            address = self._address(one.url)
            try:
                if one.via == "grpc":
                    return one if self._grpc is None else one._replace(later=self._grpc.status(address, patience))
                return one._replace(later=HttpProbe(self._pool(), address, self._site.access, patience).status())
            except (ConnectFailed, ConnectionLost, Refused, NoGateway, *MALFORMED):
                return one

        return side_by_side(found, look, lambda one, _: one, patience)

    def close(self) -> None:
        for pool in self._pools:
            pool.close()
        if self._grpc is not None:
            self._grpc.close()

    def _look(self, address: Address, key: bytes, patience: Patience) -> EndpointFacts:
        chain, no_chain = None, ""
        if address.tls:
            from distlock_core.etcd.auth.shown_certificates import shown_chain

            try:
                chain = shown_chain(address, self._site.access, patience.within(patience.left() / 2))
            except (ConnectFailed, ConfigError) as failure:
                no_chain = failure.message if isinstance(failure, ConfigError) else str(failure)
        try:
            found = HttpProbe(self._pool(), address, self._site.access, patience).look(key)
        except ConfigError as error:
            found = EndpointFacts(address.url, failure=error.message, is_strange=True)
        if self._site.transport == "grpc":
            found = self._over_grpc(found, address, key, patience)
        return found._replace(chain=chain, no_chain=no_chain)

    def _look_over_grpc(
        self, addresses: Sequence[Address], found: Sequence[EndpointFacts], key: bytes, patience: Patience
    ) -> list[EndpointFacts]:
        self._load_grpc()
        pairs = list(zip(addresses, found))

        def look(pair: tuple[Address, EndpointFacts]) -> EndpointFacts:
            address, one = pair
            return self._over_grpc(one, address, key, patience) if one.no_gateway else one

        return side_by_side(pairs, look, lambda pair, _: pair[1], patience)

    def _over_grpc(self, found: EndpointFacts, address: Address, key: bytes, patience: Patience) -> EndpointFacts:
        if self._grpc is None:
            return found._replace(status=None, via="", failure=f"{found.failure or 'no gRPC'}; {self._no_grpc}")
        try:
            return self._grpc.look(found, address, key, patience)
        except ConfigError as error:
            return found._replace(failure=error.message, is_strange=True)

    def _load_grpc(self) -> None:
        from distlock_core.etcd.grpc.probe import GrpcProbe

        try:
            self._grpc = GrpcProbe(self._site)
        except ConfigError as missing:
            self._no_grpc = missing.message

    def _pool(self) -> Pool:
        pool = Pool(self._site.access)
        self._pools.append(pool)
        return pool

    def _address(self, url: str) -> Address:
        from distlock_core.etcd.address import parse_endpoint

        return parse_endpoint(url)


def side_by_side(
    given: Sequence[Given],
    look: Callable[[Given], Found],
    lost: Callable[[Given, str], Found],
    patience: Patience,
) -> list[Found]:
    """Do the same for several things at once, each in a thread, and return the results in order.

    `lost` makes the result of one that has raised something, or has not returned in time. Raises `Cancelled`.
    """
    results: dict[int, Found] = {}

    def run(at: int) -> None:
        try:
            results[at] = look(given[at])
        except Cancelled:
            pass
        except Exception as error:  # noqa: BLE001 - a diagnosis ends with a line for it, not with a traceback
            results[at] = lost(given[at], f"{type(error).__name__}: {error}")

    threads = [start_thread(lambda at=at: run(at), "distlock-probe") for at in range(len(given))]  # type: ignore[misc]
    for thread in threads:
        thread.join(patience.left() + SPARE)
    patience.check()
    return [results[at] if at in results else lost(one, "timed out") for at, one in enumerate(given)]
