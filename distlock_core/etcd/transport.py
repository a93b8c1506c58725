"""Which driver speaks to a cluster: the gateway or gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from distlock_core.errors import ConfigError
from distlock_core.etcd.endpoints import Endpoints, parse_endpoint
from distlock_core.etcd.gateway import Gateway

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.access import Access
    from distlock_core.etcd.api import Etcd


def dial(
    endpoints: Sequence[str] | str,
    access: Access | None = None,
    *,
    discovery_srv: str = "",
    transport: str = "auto",
    hint: str = "",
) -> Etcd:
    """Return the cluster behind these endpoints: URLs, in a list or separated by commas. Nothing is sent yet.

    Those that the SRV records of the domain `discovery_srv` name are asked when none of these answers. An endpoint without a scheme is https
    where `access` says something of TLS. `hint` is added to the message when none answers. Raises `ConfigError`.
    """
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    scheme = "https" if access is not None and access.wants_tls else "http"
    addresses = [parse_endpoint(text, scheme) for text in texts if text.strip()]
    if not addresses and not discovery_srv:
        raise ConfigError("no endpoint is given; write it like http://10.0.0.1:2379")
    discovery = None
    if discovery_srv:
        from distlock_core.etcd.discovery import Discovery

        discovery = Discovery(discovery_srv, tls_only=scheme == "https")
    return Gateway(Endpoints(addresses, hint, discovery), access)
