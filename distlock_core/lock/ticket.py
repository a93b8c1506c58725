"""Ticket: a key in the queue of a lock, attached to its waiter's lease."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.base.value import Value
from distlock_core.errors import OutcomeUnknown
from distlock_core.etcd.values import Compare, Get, LeaseGone, Outcome, Put
from distlock_core.lock.lease import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.client import Etcd


class Ticket(Value):
    """A key in the queue of one lock. The queue is ordered by rank, within a rank by `create_revision`."""

    key: bytes
    create_revision: int
    lease: Lease


def take_tickets(
    etcd: Etcd, wanted: Sequence[Ticket], record: bytes, reads: Sequence[Get], patience: Patience
) -> tuple[tuple[Ticket, ...], Outcome | None]:
    """Join each lock's queue with these tickets in one transaction, so that all have the same create_revision.

    They also have the same rank. So all queues have the same order of waiters, and nobody waits in a circle.

    Returns the tickets as they are in etcd, and the outcome, with the results of these `reads` right after the join;
    None if only the answer to a repeated request has arrived.

    Raises as `Etcd` does; the tickets may exist anyway, until their lease expires. Raises `LeaseGone` if that lease
    expired meanwhile, or if another client has deleted one of the tickets: then queue again.
    """
    keys = [ticket.key for ticket in wanted]
    absent = [Compare("CREATE", "EQUAL", key, 0) for key in keys]
    puts = [Put(ticket.key, record, ticket.lease.id) for ticket in wanted]
    while True:
        try:
            outcome = etcd.txn(absent, [*puts, *reads], [Get(key) for key in keys], patience)
        except OutcomeUnknown:
            patience.pause(RETRY_PAUSE)
            continue  # no other waiter uses these keys, so a retry shows the outcome
        if outcome.succeeded:
            return tuple(ticket._replace(create_revision=outcome.revision) for ticket in wanted), outcome
        born = {kv.key: kv.create_revision for found in outcome.ranges() for kv in found.kvs}
        if len(born) < len(keys) or len(set(born.values())) > 1:
            raise LeaseGone
        return tuple(ticket._replace(create_revision=born[ticket.key]) for ticket in wanted), None
