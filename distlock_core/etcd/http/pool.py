"""Pool: the idle and late connections of one gateway, and new ones, with or without TLS."""

from __future__ import annotations

import os

from distlock_core.base.deadline import FOREVER, now
from distlock_core.etcd.address import Address
from distlock_core.etcd.failover import LATE
from distlock_core.etcd.happy_eyeballs import heard, suspect
from distlock_core.etcd.http.http1 import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.auth.tls import Tls


class Pool:
    """Connections for one request at a time. Thread-safe. All methods raise the errors of `Connection`."""

    def __init__(self, access: Access | None) -> None:
        self._access = access
        self._tls: Tls | None = None
        # list.append and list.pop are atomic, so no lock guards them.
        self._idle: list[Connection] = []
        # Connections whose answer did not come in time, each with the time at which to close it.
        self._late: list[tuple[float, Connection]] = []
        self._pid = os.getpid()

    def take(self, address: Address, patience: Patience, *, fresh: bool = False) -> tuple[Connection, bool]:
        """Return an idle connection, or a new one (with `fresh` always), and whether it is new."""
        if self._pid != os.getpid():
            # In a forked child: these connections belong to the parent.
            self._idle, self._late, self._pid = [], [], os.getpid()
        self._hang_up(now())
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.address == address and not connection.is_stale():
                return connection, False
            connection.close()
        return self.open(address, patience), True

    def give_back(self, connection: Connection) -> None:
        """Return a connection, whose answer has been read completely, to the pool."""
        heard(connection.where)
        connection.others = 0
        self._idle.append(connection)

    def hang_up_later(self, connection: Connection) -> None:
        """Close a connection `LATE` seconds from now, because its answer has not come in time."""
        suspect(connection.where)
        self._late.append((now() + LATE, connection))

    def drop(self, connection: Connection, *, late: bool) -> None:
        """Close a connection whose request has failed; later if it failed because the answer is `late`."""
        if late:
            suspect(connection.where)
        connection.close()

    def open(self, address: Address, patience: Patience) -> Connection:
        """Return a new connection, which the caller closes or gives back."""
        if not address.tls:
            return Connection(address, patience)
        from distlock_core.etcd.auth.secure_connection import SecureConnection
        from distlock_core.etcd.auth.tls import Tls

        if self._tls is None:
            self._tls = Tls(self._access)
        return SecureConnection(address, patience, self._tls)

    def close(self) -> None:
        """Close all idle and late connections."""
        while self._idle:
            self._idle.pop().close()
        self._hang_up(FOREVER)

    def __del__(self) -> None:
        # Whoever drops a realm has nothing to close: without this Python warns of each socket.
        self.close()

    def _hang_up(self, moment: float) -> None:
        """Close the late connections whose time has passed at this moment."""
        for _ in range(len(self._late)):
            try:
                until, connection = self._late.pop(0)
            except IndexError:
                return  # another thread was faster
            if until > moment:
                self._late.append((until, connection))
            else:
                connection.close()
