"""A waiter's place in the queue for a lock: its ticket, and the watch that shows when its turn may have come."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.etcd.values import REREAD, Compacted, WatchEnded
from distlock_core.lock.lease import TICKET_TTL, Lease
from distlock_core.model.keys import Keys, ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.etcd.values import Event
    from distlock_core.lock.snapshot import Snapshot
    from distlock_core.lock.ticket import Ticket

OPENING = 3.0  # time limit for opening a watch, in seconds
THE_REST = 0.02  # seconds to wait for the remaining events of a transaction that arrive separately


class Queue:
    """The place of one waiter in the queue for a lock, if it has one.

    It watches the ticket just ahead of its own. Once that is gone, it is next: it watches the lock itself, before the
    release, and updates its snapshot from the events alone. So a release and a claim wake one waiter each, however many
    there are, and the next holder needs no read when the lock is released.
    """

    def __init__(self, etcd: Etcd, keys: Keys, ttl: int = TICKET_TTL, slots: int = 1) -> None:
        """`ttl` (seconds): how long the ticket survives without a renewal. `slots`: of the lock."""
        self._etcd = etcd
        self._keys = keys
        self._ttl = ttl
        self._follows = slots == 1  # with several slots, a read is needed to know their holders
        self.ticket: Ticket | None = None
        self._leftover: Lease | None = None  # of a ticket that may or may not exist
        self._watch: Watch | None = None
        self._watched: bytes | None = None  # the watched ticket, None while the lock itself is watched
        self._followed: Snapshot | None = None  # the last snapshot, as updated from events
        self._read_at = 0  # revision of the read on which that snapshot is based
        self._reread_at = 0.0

    def join(self, record: bytes, patience: Patience) -> None:
        """Take a ticket. Raises as `Ticket` does; the next `join()` or `leave()` removes a ticket that may remain."""
        from distlock_core.lock.ticket import Ticket

        self._drop_leftover(None)
        lease = self._leftover = Lease(self._etcd, self._ttl, None)
        lease.grant(self._ttl, patience)
        self.ticket = Ticket(self._etcd, self._keys, lease, record, patience)
        self._leftover = None

    def leave(self, patience: Patience | None = None) -> None:
        """Give up the place: best effort within the patience (default: one second), otherwise the lease expires."""
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

    def wait(
        self, snapshot: Snapshot, claim_lease: Lease | None, patience: Patience, call: Patience
    ) -> Snapshot | None:
        """Wait for an event, for at most `REREAD` seconds, and renew the leases meanwhile.

        Returns the updated snapshot, or None if a read is needed. Opening a watch may take as long as a single `call`.
        Raises `EtcdUnavailable`, `Cancelled`.
        """
        assert self.ticket is not None
        leases = [self.ticket.lease] if claim_lease is None else [self.ticket.lease, claim_lease]
        if snapshot is not self._followed:
            self._followed, self._read_at, self._reread_at = snapshot, snapshot.revision, now() + REREAD
        watch = self._watch_for(snapshot, call)
        if watch is None:
            return None
        while now() < self._reread_at and not leases[0].gone and not patience.over():
            due = min(lease.renew_at for lease in leases if not lease.gone)
            try:
                events = watch.wait(patience.until(min(self._reread_at, due)))
                if events:
                    self._followed = self._after(watch, snapshot, events, patience)
                    return self._followed
            except WatchEnded as ended:
                self.stop_watching()
                if not isinstance(ended, Compacted):  # a polled watch ends with `Compacted` at the first change
                    patience.pause(RETRY_PAUSE)
                return None
            for lease in leases:
                lease.renew_if_due(patience)
            if watch.endpoint != self._etcd.endpoint:
                return None  # the renewal has failed over from the member that serves the watch
        return None

    def _after(self, watch: Watch, snapshot: Snapshot, events: Sequence[Event], patience: Patience) -> Snapshot | None:
        """The snapshot after these events and the rest of their transaction, or None if a read is needed."""
        if snapshot.ahead:
            assert self.ticket is not None
            if any(event.kv.key != self.ticket.key for event in events):
                self._watch_lock(patience.within(OPENING))  # the waiter ahead is gone, most likely with the lock
            return None
        from distlock_core.lock import near

        while self._follows and events:
            followed = near.after(snapshot, events, self._keys, self._read_at)
            if followed is None or not near.is_incomplete(followed):
                return followed
            snapshot, events = followed, watch.wait(patience.within(THE_REST))
        return None

    def _watch_for(self, snapshot: Snapshot, patience: Patience) -> Watch | None:
        """Watch the keys that decide about this waiter's turn. None if a watch of the lock was opened: read after it.

        That watch starts at the current revision, as etcd serves watches that start in the past only every 100 ms.
        """
        assert self.ticket is not None
        assert snapshot.ahead is not None
        before = snapshot.ahead[-1].key if snapshot.ahead else None
        if self._watch is not None and self._watched == before and self._watch.endpoint == self._etcd.endpoint:
            return self._watch
        if before is None:
            self._watch_lock(patience)
            return None
        self.stop_watching()
        self._watch = self._etcd.watch([(self.ticket.key, None), (before, None)], snapshot.revision + 1, patience)
        self._watched = before
        return self._watch

    def _watch_lock(self, patience: Patience) -> None:
        assert self.ticket is not None
        keys = self._keys
        self.stop_watching()
        ranges = [(self.ticket.key, None), (keys.lock, None), ends(keys.slots), (keys.freeze, None), ends(keys.mutex)]
        if self._follows:
            ranges.append((keys.last, None))
        self._watch = self._etcd.watch(ranges, 0, patience)
        self._watched = None

    def stop_watching(self) -> None:
        """Close the watch. The place in the queue stays."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
