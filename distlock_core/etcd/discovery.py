"""Discovery of a cluster's members by the DNS SRV records of a domain.

`_etcd-client-ssl._tcp` names members with TLS, `_etcd-client._tcp` those without, as for etcd's own tools.
"""

from __future__ import annotations

import random

from distlock_core.base.deadline import Patience
from distlock_core.errors import ConfigError
from distlock_core.etcd.address import Address, parse_endpoint
from distlock_core.etcd.happy_eyeballs import ConnectFailed, aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECURE, PLAIN = "_etcd-client-ssl._tcp", "_etcd-client._tcp"
LONGEST = 5.0  # seconds that one lookup may take
MISSING = "discovery_srv needs the Python package dnspython: pip install dnspython"


class Discovery:
    """The members in one domain's records, looked up at every call."""

    def __init__(self, domain: str, *, tls_only: bool = False) -> None:
        """With `tls_only`, members without TLS are not looked up."""
        self.domain = domain.strip().rstrip(".")
        self._services = (SECURE,) if tls_only else (SECURE, PLAIN)

    def __str__(self) -> str:
        return f"SRV records of {self.domain}"

    def __call__(self, patience: Patience) -> list[Address]:
        """Return the members in the order in which to try them.

        If some have TLS, those without are left out. Raises `ConnectFailed` if DNS does not answer or has no records,
        `ConfigError` if dnspython is missing, and `Cancelled`.
        """
        try:
            import dns.exception
            import dns.resolver
        except ImportError:
            raise ConfigError(MISSING) from None
        for service in self._services:
            name, seconds = f"{service}.{self.domain}.", min(patience.left(), LONGEST)

            def look_up(name: str = name, seconds: float = seconds) -> list[Any]:
                try:
                    return list(dns.resolver.get_default_resolver().resolve(name, "SRV", lifetime=seconds))
                except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                    return []

            try:
                found = aside(look_up, patience, "distlock-srv")
            except dns.resolver.NoResolverConfiguration:
                raise ConnectFailed("this machine has no DNS server configured") from None
            except dns.exception.Timeout:
                raise ConnectFailed("timed out waiting for DNS") from None
            except dns.exception.DNSException as error:
                raise ConnectFailed(f"DNS: {_first_line(error)}") from error
            if found is None:
                raise ConnectFailed("timed out waiting for DNS")
            if found:
                return _addresses(found, "https" if service == SECURE else "http")
        raise ConnectFailed(f"there are none: no {' and no '.join(self._services)}")


def _addresses(records: list[Any], scheme: str) -> list[Address]:
    # Lowest priority first; among equals, the chance to be first is proportional to the weight (RFC 2782).
    ordered = sorted(records, key=lambda one: (one.priority, -(random.random() ** (1 / max(one.weight, 0.1)))))
    targets = [(str(record.target).rstrip("."), record.port) for record in ordered]
    try:
        return [parse_endpoint(f"{host}:{port}", scheme) for host, port in targets if host]
    except ConfigError as error:
        raise ConnectFailed(error.message) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
