"""A waiter's place in the queue for its locks: its tickets, and the watch that shows when its turn may have come."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, jittered, now
from distlock_core.etcd.values import REREAD, Compacted, WatchEnded
from distlock_core.lock.lease import TICKET_TTL, Lease
from distlock_core.lock.snapshot import NEAREST, Snapshots, gets_of_all
from distlock_core.model.keys import ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.etcd.values import Event
    from distlock_core.lock.ticket import Ticket
    from distlock_core.model.keys import Keys, Place

OPENING = 3.0  # time limit for opening a watch, in seconds
THE_REST = 0.02  # seconds to wait for the remaining events of a transaction that arrive separately
# A waiter reads again every `REREAD` seconds; beyond place `FRONT` less often, down to every `LONGEST` times as long:
# so what all waiters of a long queue read together does not grow with the square of its length.
FRONT, LONGEST = 10, 6
COUNTING = 1.0  # seconds, for each place in the queue, between two reads of all tickets ahead


class Queue:
    """The place of one waiter in the queue of each of its locks, if it has one.

    It watches the two tickets just ahead of its own: of its own rank if there are two, else also of lower ranks. The
    first two in the queue watch the lock itself, and update their snapshots from the events alone. So a release and a
    claim wake two waiters each, however many there are, and the next holder needs no read when the lock is released,
    even if the hold before was too short to prepare for it.

    A waiter for several locks watches the ticket just ahead of it in each queue in which it is not first. Once it is
    first in all, it watches all the locks, and reads after each event. So does one for a lock with several slots.

    Who watches the locks also watches for waiters with a lower rank, which may join ahead of it at any time. The others
    need not: before their turn comes, one of the two tickets goes, and then they read.
    """

    def __init__(self, etcd: Etcd, locks: Sequence[Keys], place: Place, ttl: int = TICKET_TTL) -> None:
        """`ttl` (seconds): how long the tickets survive without a renewal."""
        self._etcd = etcd
        self._locks = locks
        self._place = place
        self._below = [keys.below_rank(place.rank) for keys in locks]
        self._ttl = ttl
        # With several slots, a read is needed to know their holders; with several locks, to know all at one revision.
        self.follows = len(locks) == 1
        self.tickets: tuple[Ticket, ...] = ()  # one for each lock, all attached to one lease
        self._leftover: Lease | None = None  # of tickets that may or may not exist
        self._watch: Watch | None = None
        self._watched: frozenset[bytes] = frozenset()  # the watched tickets of other waiters
        self._watches_locks = False
        self._followed: Snapshots | None = None  # the last snapshots, as updated from events
        self._read_at = 0  # revision of the read on which that snapshot is based
        self._reread_at = 0.0
        # Within the rank, as last counted; nobody of the same rank joins ahead, so they are never too low.
        self._positions = [0 for _ in locks]
        self._count_at = 0.0

    @property
    def lease(self) -> Lease | None:
        """The lease of the tickets, None without a place in the queue."""
        return self.tickets[0].lease if self.tickets else None

    def join(self, record: bytes, patience: Patience) -> Snapshots | None:
        """Take the tickets. Return the locks as they were at that moment, None if a lost reply has left that unknown.

        Raises as `take_tickets()`; the next `join()` or `leave()` removes what may remain.
        """
        from distlock_core.lock.ticket import Ticket, take_tickets

        self._drop_leftover(None)
        lease = self._leftover = Lease(self._etcd, self._ttl, None, of_ticket=True)
        lease.grant(self._ttl, patience)
        wanted = tuple(Ticket(keys.ticket(lease.id, self._place), 0, lease) for keys in self._locks)
        reads = gets_of_all(self._locks, self._place, wanted)
        self.tickets, joined = take_tickets(self._etcd, wanted, record, reads, patience)
        self._leftover = None
        self._count_at = 0.0
        if joined is None:
            return None
        return self._counted(Snapshots.parse(self._locks, self._place, joined, wanted))

    def read(self, patience: Patience) -> Snapshots:
        """Read the locks, and the place in their queues."""
        counts = bool(self.tickets) and now() >= self._count_at
        outcome = self._etcd.read(gets_of_all(self._locks, self._place, self.tickets, count=counts), patience)
        return self._counted(Snapshots.parse(self._locks, self._place, outcome, self.tickets, counted=counts))

    @property
    def _front(self) -> int:
        """The number of waiters at the front of a queue that watch the locks."""
        return NEAREST if self.follows and not self._place.shared else 1

    def positions(self, snapshots: Snapshots) -> list[int]:
        """The place in each queue, from 1; without tickets, the place that they would get."""
        found = []
        for known, one in zip(self._positions, snapshots.each):
            if one.ahead is None:
                found.append(one.outranked + 1)
                continue
            older = len(one.ahead) - min(one.outranked, NEAREST)
            if older < NEAREST:
                found.append(one.outranked + older + 1)
            else:
                found.append(one.outranked + max(NEAREST + 1, min(known, one.waiting - one.outranked)))
        return found

    def is_near(self, snapshots: Snapshots) -> bool:
        """True if this waiter's turn may come any moment, so that it has to be prepared."""
        return not any(one.ahead is None or len(one.ahead) >= self._front for one in snapshots.each)

    def _counted(self, snapshots: Snapshots) -> Snapshots:
        if all(one.position for one in snapshots.each):
            self._positions = [one.position for one in snapshots.each]
            self._count_at = now() + max(self._positions) * COUNTING
        return snapshots

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
        """Wait for an event, until it is time to read again, and renew the leases meanwhile.

        Returns the updated snapshots, or None if a read is needed. Opening a watch may take as long as a single `call`.
        Raises `EtcdUnavailable`, `Cancelled`.
        """
        from distlock_core.lock import near  # loaded while there is time, and only by those that wait

        ticket_lease = self.tickets[0].lease
        leases = [ticket_lease] if claim_lease is None else [ticket_lease, claim_lease]
        if snapshots is not self._followed:
            self._followed, self._read_at, self._reread_at = snapshots, snapshots.revision, self._next_read(snapshots)
        watch = self._watch_for(snapshots, call)
        if watch is None:
            return None
        while now() < self._reread_at and not leases[0].gone and not patience.over():
            due = min(lease.renew_at for lease in leases if not lease.gone)
            try:
                events = watch.wait(patience.until(min(self._reread_at, due)))
                if events:
                    followed = self._followed = self._after(watch, snapshots, events, patience)
                    if followed is None or not near.is_spoken_for(followed.each[0]):
                        return followed
                    snapshots = followed
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

    def _next_read(self, snapshots: Snapshots) -> float:
        """When to read again without an event: not all waiters at the same time."""
        back = max(self.positions(snapshots)) / FRONT
        return now() + jittered(REREAD * min(max(1.0, back), LONGEST), 0.75, 1.0)

    def _after(
        self, watch: Watch, snapshots: Snapshots, events: Sequence[Event], patience: Patience
    ) -> Snapshots | None:
        """The snapshots after these events and the rest of their transaction, or None if a read is needed."""
        if not self._watches_locks:
            gone = {event.kv.key for event in events}
            left = [key for key in self._ahead(snapshots) if key not in gone]
            if len(left) < self._front and gone.isdisjoint(ticket.key for ticket in self.tickets):
                self._watch_locks(left, patience.within(OPENING))  # a waiter ahead is gone, most likely with the lock
            return None
        if not self.follows:
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
        ahead, is_near = self._ahead(snapshots), self.is_near(snapshots)
        if is_near:
            ahead = self._of_own_rank(ahead)
        is_enough = is_near is self._watches_locks and self._watched.issuperset(ahead)
        if self._watch is not None and is_enough and self._watch.endpoint == self._etcd.endpoint:
            return self._watch
        if is_near:
            self._watch_locks(ahead, patience)
            return None
        self.stop_watching()
        watched = [(key, None) for key in (*(ticket.key for ticket in self.tickets), *ahead)]
        self._watch = self._etcd.watch(watched, snapshots.revision + 1, patience)
        self._watched = frozenset(ahead)
        return self._watch

    def _watch_locks(self, ahead: Sequence[bytes], patience: Patience) -> None:
        """Watch the locks, these tickets, and the queues of all lower ranks."""
        self.stop_watching()
        ahead = self._of_own_rank(ahead)
        ranges: list[tuple[bytes, bytes | None]] = [(key, None) for key in ahead]
        for keys, ticket in zip(self._locks, self.tickets):
            alone = [ticket.key, keys.lock, keys.freeze, keys.lock_freeze, keys.policy]
            if len(self._locks) == 1:
                alone.append(keys.last)
            ranges += [
                *((key, None) for key in alone),
                keys.beside,
                ends(keys.mutex),
                keys.below_rank(self._place.rank),
            ]
        self._watch = self._etcd.watch(list(dict.fromkeys(ranges)), 0, patience)
        self._watched = frozenset(ahead)
        self._watches_locks = True

    def stop_watching(self) -> None:
        """Close the watch. The place in the queue stays."""
        self._watches_locks = False
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _ahead(self, snapshots: Snapshots) -> list[bytes]:
        """The tickets just ahead of this waiter's in each queue, as many as it watches."""
        return [kv.key for one in snapshots.each for kv in (one.ahead or ())[-self._front :]]

    def _of_own_rank(self, tickets: Sequence[bytes]) -> list[bytes]:
        return [key for key in tickets if not any(start <= key < end for start, end in self._below)]
