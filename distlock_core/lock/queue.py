"""A waiter's place in the queue for a lock: its ticket, and the watch that says when a new read is worth it."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.etcd.values import REREAD, WatchEnded
from distlock_core.lock.lease import TICKET_TTL, Lease
from distlock_core.lock.ticket import Ticket
from distlock_core.model.keys import Keys, ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.lock.snapshot import Snapshot


class Queue:
    """The place of one waiter in the queue for a lock, if it has one."""

    def __init__(self, etcd: Etcd, keys: Keys, ttl: int = TICKET_TTL) -> None:
        """`ttl` (seconds): how long the ticket survives without a renewal."""
        self._etcd = etcd
        self._keys = keys
        self._ttl = ttl
        self.ticket: Ticket | None = None
        self._leftover: Lease | None = None  # of a ticket that nobody knows to be there
        self._watch: Watch | None = None
        self._watched: list[tuple[bytes, bytes | None]] = []

    def join(self, record: bytes, patience: Patience) -> None:
        """Take a ticket. Raises as `Ticket` does; what may be there then is left by the next `join()`, or `leave()`."""
        self._drop_leftover(None)
        lease = self._leftover = Lease(self._etcd, self._ttl, None)
        lease.grant(self._ttl, patience)
        self.ticket = Ticket(self._etcd, self._keys, lease, record, patience)
        self._leftover = None

    def leave(self, patience: Patience | None = None) -> None:
        """Give the place up: best effort within the patience (default: a second), the lease ends the rest."""
        self.stop_watching()
        if self.ticket is not None:
            self.ticket.give_up(patience)
            self.ticket = None
        self._drop_leftover(patience)

    def _drop_leftover(self, patience: Patience | None) -> None:
        lease, self._leftover = self._leftover, None
        if lease is not None:
            lease.give_up(patience)

    def renew(self, patience: Patience) -> None:
        """Keep the ticket alive. Call it at least every `Lease.renew_at`."""
        if self.ticket is not None:
            self.ticket.lease.renew_if_due(patience)

    def wait(self, snapshot: Snapshot, patience: Patience, call: Patience) -> None:
        """Wait until something has happened that is worth a read, at most `REREAD` seconds, renewing the ticket.

        Opening the watch gets the patience of a single `call`. Raises `EtcdUnavailable`, `Cancelled`.
        """
        assert self.ticket is not None
        lease = self.ticket.lease
        watch = self._watch_for(snapshot, call)
        reread = now() + REREAD
        while now() < reread and not lease.gone and not patience.over():
            try:
                if watch.wait_for_hint(patience.until(min(reread, lease.renew_at))):
                    return
            except WatchEnded:
                self.stop_watching()
                patience.pause(RETRY_PAUSE)
                return
            lease.renew_if_due(patience)
            if watch.endpoint != self._etcd.endpoint:
                return  # the member behind the watch did not answer the renewal, another one did

    def _watch_for(self, snapshot: Snapshot, patience: Patience) -> Watch:
        """Watch what can bring this waiter's turn: the ticket before its own; for the first waiter, the lock."""
        assert self.ticket is not None
        assert snapshot.ahead is not None
        keys = self._keys
        ranges: list[tuple[bytes, bytes | None]] = [(self.ticket.key, None)]
        if snapshot.ahead:
            ranges.append((snapshot.ahead[-1].key, None))
        else:
            ranges += [(keys.lock, None), ends(keys.slots), (keys.freeze, None), ends(keys.mutex)]
        if self._watch is None or self._watched != ranges or self._watch.endpoint != self._etcd.endpoint:
            self.stop_watching()
            self._watch = self._etcd.watch(ranges, snapshot.revision + 1, patience)
            self._watched = ranges
        return self._watch

    def stop_watching(self) -> None:
        """Close the watch. The place in the queue stays."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
