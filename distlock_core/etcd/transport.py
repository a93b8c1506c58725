"""Which driver speaks to a cluster: the gateway or gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from distlock_core.errors import ConfigError
from distlock_core.etcd.endpoints import Endpoints, parse_endpoint
from distlock_core.etcd.gateway import Gateway

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.api import Etcd


def dial(endpoints: Sequence[str] | str, hint: str = "") -> Etcd:
    """Return the cluster behind these endpoints: URLs, in a list or separated by commas. Nothing is sent yet.

    `hint` is added to the message when none answers. Raises `ConfigError`.
    """
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    addresses = [parse_endpoint(text) for text in texts if text.strip()]
    if not addresses:
        raise ConfigError("no endpoint is given; write it like http://10.0.0.1:2379")
    return Gateway(Endpoints(addresses, hint))
