"""The certificates that a server shows, valid or not: nothing is asked of it, and no secret is sent to it."""

from __future__ import annotations

import _ssl as ssl  # see tls.py

from distlock_core.etcd.auth.secure_connection import SecureConnection
from distlock_core.etcd.auth.tls import Tls, make_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.address import Address
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.auth.tls import Context


class _Look(Tls):
    """TLS that believes any certificate, for a connection that is closed right after the handshake."""

    def context(self) -> Context:
        context = make_context(self.access._replace(cacert=None))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def shown_chain(address: Address, access: Access | None, patience: Patience) -> tuple[bytes, ...]:
    """The server's certificate, and those that it sends with it (from Python 3.10 on), in DER.

    Raises `ConnectFailed`, `ConfigError` if the client certificate cannot be used, and `Cancelled`.
    """
    connection = SecureConnection(address, patience, _Look(access))
    try:
        return connection.shown_certificates()
    finally:
        connection.close()
