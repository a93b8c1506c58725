"""A waiter's place in the queue for its locks: its tickets, and the watch that shows when its turn may have come."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.etcd.values import REREAD, Compacted, WatchEnded
from distlock_core.lock.lease import TICKET_TTL, Lease
from distlock_core.model.keys import ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.etcd.values import Event
    from distlock_core.lock.snapshot import Snapshots
    from distlock_core.lock.ticket import Ticket
    from distlock_core.model.keys import Keys

OPENING = 3.0  # time limit for opening a watch, in seconds
THE_REST = 0.02  # seconds to wait for the remaining events of a transaction that arrive separately


class Queue:
    """The place of one waiter in the queue of each of its locks, if it has one.

    It watches the ticket just ahead of its own. Once that is gone, it is next: it watches the lock itself, before the
    release, and updates its snapshot from the events alone. So a release and a claim wake one waiter each, however many
    there are, and the next holder needs no read when the lock is released.

    A waiter for several locks watches the ticket just ahead of it in each queue in which it is not first. Once it is
    first in all, it watches all the locks, and reads after each event.
    """

    def __init__(self, etcd: Etcd, locks: Sequence[Keys], ttl: int = TICKET_TTL, slots: int = 1) -> None:
        """`ttl` (seconds): how long the tickets survive without a renewal. `slots`: of each lock."""
        self._etcd = etcd
        self._locks = locks
        self._ttl = ttl
        # With several slots, a read is needed to know their holders; with several locks, to know all at one revision.
        self._follows = slots == 1 and len(locks) == 1
        self.tickets: tuple[Ticket, ...] = ()  # one for each lock, all attached to one lease
        self._leftover: Lease | None = None  # of tickets that may or may not exist
        self._watch: Watch | None = None
        self._watched: tuple[bytes, ...] | None = None  # the tickets ahead; () while the locks themselves are watched
        self._followed: Snapshots | None = None  # the last snapshots, as updated from events
        self._read_at = 0  # revision of the read on which that snapshot is based
        self._reread_at = 0.0

    @property
    def lease(self) -> Lease | None:
        """The lease of the tickets, None without a place in the queue."""
        return self.tickets[0].lease if self.tickets else None

    def join(self, record: bytes, patience: Patience) -> None:
        """Take the tickets. Raises as `take_tickets()`; the next `join()` or `leave()` removes what may remain."""
        from distlock_core.lock.ticket import take_tickets

        self._drop_leftover(None)
        lease = self._leftover = Lease(self._etcd, self._ttl, None)
        lease.grant(self._ttl, patience)
        self.tickets = take_tickets(self._etcd, self._locks, lease, record, patience)
        self._leftover = None

    def leave(self, patience: Patience | None = None) -> None:
        """Give up the place: best effort within the patience (default: one second), otherwise the lease expires."""
        self.stop_watching()
        lease, self.tickets = self.lease, ()
        if lease is not None:
            lease.give_up(patience)
        self._drop_leftover(patience)

    def _drop_leftover(self, patience: Patience | None) -> None:
        lease, self._leftover = self._leftover, None
        if lease is not None:
            lease.give_up(patience)

    def renew(self, patience: Patience) -> None:
        """Keep the tickets alive. Call it at least every `Lease.renew_at`."""
        if self.lease is not None:
            self.lease.renew_if_due(patience)

    def wait(
        self, snapshots: Snapshots, claim_lease: Lease | None, patience: Patience, call: Patience
    ) -> Snapshots | None:
        """Wait for an event, for at most `REREAD` seconds, and renew the leases meanwhile.

        Returns the updated snapshots, or None if a read is needed. Opening a watch may take as long as a single `call`.
        Raises `EtcdUnavailable`, `Cancelled`.
        """
        ticket_lease = self.tickets[0].lease
        leases = [ticket_lease] if claim_lease is None else [ticket_lease, claim_lease]
        if snapshots is not self._followed:
            self._followed, self._read_at, self._reread_at = snapshots, snapshots.revision, now() + REREAD
        watch = self._watch_for(snapshots, call)
        if watch is None:
            return None
        while now() < self._reread_at and not leases[0].gone and not patience.over():
            due = min(lease.renew_at for lease in leases if not lease.gone)
            try:
                events = watch.wait(patience.until(min(self._reread_at, due)))
                if events:
                    self._followed = self._after(watch, snapshots, events, patience)
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

    def _after(
        self, watch: Watch, snapshots: Snapshots, events: Sequence[Event], patience: Patience
    ) -> Snapshots | None:
        """The snapshots after these events and the rest of their transaction, or None if a read is needed."""
        ahead = _ahead(snapshots)
        if ahead:
            gone = {event.kv.key for event in events}
            if gone.issuperset(ahead) and gone.isdisjoint(ticket.key for ticket in self.tickets):
                self._watch_locks(patience.within(OPENING))  # the waiter ahead is gone, most likely with the lock
            return None
        if not self._follows:
            return None
        from distlock_core.lock import near

        (keys,), (snapshot,) = self._locks, snapshots.each
        while events:
            followed = near.after(snapshot, events, keys, self._read_at)
            if followed is None or not near.is_incomplete(followed):
                return followed and snapshots._replace(revision=followed.revision, each=(followed,))
            snapshot, events = followed, watch.wait(patience.within(THE_REST))
        return None

    def _watch_for(self, snapshots: Snapshots, patience: Patience) -> Watch | None:
        """Watch the keys that decide about this waiter's turn. None if a watch of the locks was opened: read after it.

        That watch starts at the current revision, as etcd serves watches that start in the past only every 100 ms.
        """
        ahead = _ahead(snapshots)
        if self._watch is not None and self._watched == ahead and self._watch.endpoint == self._etcd.endpoint:
            return self._watch
        if not ahead:
            self._watch_locks(patience)
            return None
        self.stop_watching()
        watched = [(key, None) for key in (*(ticket.key for ticket in self.tickets), *ahead)]
        self._watch = self._etcd.watch(watched, snapshots.revision + 1, patience)
        self._watched = ahead
        return self._watch

    def _watch_locks(self, patience: Patience) -> None:
        self.stop_watching()
        ranges: list[tuple[bytes, bytes | None]] = []
        for keys, ticket in zip(self._locks, self.tickets):
            ranges += [(ticket.key, None), (keys.lock, None), ends(keys.slots), ends(keys.mutex)]
            ranges += [(keys.freeze, None), (keys.lock_freeze, None)]
            if self._follows:
                ranges.append((keys.last, None))
        self._watch = self._etcd.watch(list(dict.fromkeys(ranges)), 0, patience)
        self._watched = ()

    def stop_watching(self) -> None:
        """Close the watch. The place in the queue stays."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def _ahead(snapshots: Snapshots) -> tuple[bytes, ...]:
    """The tickets just ahead of this waiter's, in each queue in which it is not first."""
    return tuple(one.ahead[-1].key for one in snapshots.each if one.ahead)
