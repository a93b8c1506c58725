"""Ticket: a key in the queue of a lock, attached to its own lease."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.errors import OutcomeUnknown
from distlock_core.etcd.values import Compare, Get, Put
from distlock_core.lock.lease import Lease
from distlock_core.model.keys import Keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd


class Ticket:
    """A key in the queue, attached to its own lease. The queue is ordered by `create_revision`."""

    def __init__(self, etcd: Etcd, keys: Keys, lease: Lease, record: bytes, patience: Patience) -> None:
        """Join the end of the queue. Raises as `Etcd` does; the ticket may exist anyway, until its lease expires.

        Raises `LeaseGone` if the ticket's lease expired meanwhile: then queue again.
        """
        self.lease = lease
        self.key = keys.ticket(lease.id)
        self.create_revision = self._put(etcd, record, patience)

    def give_up(self, patience: Patience | None = None) -> None:
        """Leave the queue by revoking the lease: best effort within the patience (default: one second)."""
        self.lease.give_up(patience)

    def _put(self, etcd: Etcd, record: bytes, patience: Patience) -> int:
        absent = Compare("CREATE", "EQUAL", self.key, 0)
        put = Put(self.key, record, self.lease.id)
        while True:
            try:
                outcome = etcd.txn([absent], [put], [Get(self.key)], patience)
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
                continue  # no other waiter uses this key, so a retry shows the outcome
            if outcome.succeeded:
                return outcome.revision
            return outcome.ranges()[0].kvs[0].create_revision
