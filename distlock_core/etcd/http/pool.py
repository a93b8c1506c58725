"""Pool: the connections of one gateway that are idle or late, and new ones, plain or inside of TLS."""

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
    """Connections for one request at a time. May be used by several threads. All raise as `Connection` does."""

    def __init__(self, access: Access | None) -> None:
        self._access = access
        self._tls: Tls | None = None
        # list.append and list.pop are atomic, so no lock guards them.
        self._idle: list[Connection] = []
        # Those whose answer did not come in time, with the moment until which it still may.
        self._late: list[tuple[float, Connection]] = []
        self._pid = os.getpid()

    def take(self, address: Address, patience: Patience, *, fresh: bool = False) -> tuple[Connection, bool]:
        """An idle connection, or a new one (`fresh`: in any case); and whether it is new."""
        if self._pid != os.getpid():
            # A fork: the parent goes on with these connections, so they are not mine to talk on.
            self._idle, self._late, self._pid = [], [], os.getpid()
        self._hang_up(now())
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.address == address and not connection.is_stale():
                return connection, False
            connection.close()
        return self.open(address, patience), True

    def give_back(self, connection: Connection) -> None:
        """It has been read to the end of an answer, and may be used again."""
        heard(connection.where)
        connection.others = 0
        self._idle.append(connection)

    def hang_up_later(self, connection: Connection) -> None:
        """Its answer has not come in time: leave it open for `LATE` seconds, while others are used."""
        suspect(connection.where)
        self._late.append((now() + LATE, connection))

    def drop(self, connection: Connection, *, late: bool) -> None:
        """Close it: what was asked of it has failed, `late` for want of an answer."""
        if late:
            suspect(connection.where)
        connection.close()

    def open(self, address: Address, patience: Patience) -> Connection:
        """A new connection, to be closed or given back."""
        if not address.tls:
            return Connection(address, patience)
        from distlock_core.etcd.auth.tls import SecureConnection, Tls

        if self._tls is None:
            self._tls = Tls(self._access)
        return SecureConnection(address, patience, self._tls)

    def close(self) -> None:
        """Close what is idle, and what waits for late answers."""
        while self._idle:
            self._idle.pop().close()
        self._hang_up(FOREVER)

    def _hang_up(self, moment: float) -> None:
        """Close the connections whose answer has had its time by this moment."""
        for _ in range(len(self._late)):
            try:
                until, connection = self._late.pop(0)
            except IndexError:
                return  # another thread was faster
            if until > moment:
                self._late.append((until, connection))
            else:
                connection.close()
