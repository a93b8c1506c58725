"""Pool: the connections of one gateway that are idle, and new ones, plain or inside of TLS."""

from __future__ import annotations

import os

from distlock_core.etcd.http1 import Address, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.access import Access
    from distlock_core.etcd.tls import Tls
    from distlock_core.patience import Patience


class Pool:
    """Connections for one request at a time. May be used by several threads. All raise as `Connection` does."""

    def __init__(self, access: Access | None) -> None:
        self._access = access
        self._tls: Tls | None = None
        # list.append and list.pop are atomic, so no lock guards them.
        self._idle: list[Connection] = []
        self._pid = os.getpid()

    def take(self, address: Address, patience: Patience) -> tuple[Connection, bool]:
        """An idle connection, or a new one; and whether it is new."""
        if self._pid != os.getpid():
            # A fork: the parent goes on with these connections, so they are not mine to talk on.
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            connection = self._idle.pop()
            if connection.address == address and not connection.is_stale():
                return connection, False
            connection.close()
        return self.connect(address, patience), True

    def give_back(self, connection: Connection) -> None:
        """It has been read to the end of an answer, and may be used again."""
        self._idle.append(connection)

    def connect(self, address: Address, patience: Patience) -> Connection:
        """A new connection, to be closed or given back."""
        if not address.tls:
            return Connection(address, patience)
        from distlock_core.etcd.tls import SecureConnection, Tls

        if self._tls is None:
            self._tls = Tls(self._access)
        return SecureConnection(address, patience, self._tls)

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()
