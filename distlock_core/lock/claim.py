"""Claims: the transactions that take a lock for one attempt, and the recovery from a lost reply."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.base.value import Value
from distlock_core.errors import Cancelled, DistlockError, NoSpace, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, KeyValue, LeaseGone, Put
from distlock_core.lock import refusals
from distlock_core.lock.lease import Lease
from distlock_core.lock.snapshot import Snapshot, claim_conditions, gets, reentry_conditions, unsettled
from distlock_core.lock.spec import NESTED, Acquired, LockSpec, claim_record, run_details
from distlock_core.model.record import EndNote, Record
from distlock_core.process.identity import new_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Get, Op, Outcome
    from distlock_core.lock.queue import Queue
    from distlock_core.lock.reentry import Reentry

    Call = Callable[[], Patience]

LONGEST_AHEAD = 3600  # seconds; a lease with a longer ttl is not granted in advance, as it would outlive a dead waiter


class Claim(Value):
    """A claim in flight: the snapshot that it is based on, and the hold that it creates if it is applied."""

    snapshot: Snapshot
    acquired: Acquired


class Claims:
    """The claims of one attempt, sent one at a time under one run id. Methods raise as `Etcd.txn` does.

    `call` returns the patience for the next call.
    """

    def __init__(self, etcd: Etcd, spec: LockSpec, queue: Queue) -> None:
        self._etcd = etcd
        self._spec = spec
        self._keys = spec.keys
        self._queue = queue
        self._run = new_run()
        self.lease: Lease | None = None  # for the next claim
        self._details: dict[str, Any] | None = None  # of the record
        self._is_full = False  # etcd was full and granted no lease in advance: retried at the claim
        self._doubt: Claim | None = None
        self.won: Acquired | None = None  # the hold, for a caller that is interrupted before it receives it
        self._is_noted = False

    @property
    def in_doubt(self) -> bool:
        """True while it is unknown whether the last claim was applied."""
        return self._doubt is not None

    def take(self, snapshot: Snapshot, slot: int, call: Call) -> Acquired | Snapshot:
        """Claim a free slot. Returns the lock, or a new snapshot if the slot is no longer free."""
        key, record, lease = self._keys.slot(slot), claim_record(self._spec, self._own_details()), self._leased(call)
        then: list[Op] = [Put(key, record, lease)]
        if self._queue.ticket is not None:
            then.append(Delete(self._queue.ticket.key))
        conditions = claim_conditions(self._keys, snapshot, self._queue.ticket, slot, self._spec.slots)
        acquired = Acquired(KeyValue(key, record, 0, 0, lease), self._run, slot, lease=self.lease)
        return self._commit(Claim(snapshot, acquired), conditions, then, call)

    def enter(self, snapshot: Snapshot, reentry: Reentry, call: Call) -> Acquired | Snapshot:
        """Re-enter a hold of the same owner. Returns as `take`."""
        holder, before = reentry.holder, reentry.before
        if reentry.how == NESTED:
            # Nothing is written: the outer run keeps its record, and with it the right to release.
            self.drop_lease()
            return Acquired(holder.kv, holder.record.run, holder.slot, NESTED)
        from distlock_core.lock.reentry import reentry_record  # already loaded by the search for the hold

        record, lease = reentry_record(self._spec, self._run, reentry), self._leased(call)
        kv = KeyValue(holder.key, record, holder.kv.create_revision, 0, lease)
        acquired = Acquired(kv, self._run, holder.slot, reentry.how, before, reentry.before_lease, self.lease)
        conditions = reentry_conditions(self._keys, snapshot, holder)
        return self._commit(Claim(snapshot, acquired), conditions, [Put(holder.key, record, lease)], call)

    def _commit(self, claim: Claim, conditions: list[Compare], then: list[Op], call: Call) -> Acquired | Snapshot:
        self._note()
        self._doubt = claim
        reads = gets(self._keys, self._queue.ticket)
        try:
            outcome = self._etcd.txn(conditions, then, reads, call())
        except (OutcomeUnknown, Cancelled):
            raise
        except NoSpace:
            # etcd applies the write that exceeds the quota, although it reports an error. Nothing is in flight now.
            holder = Snapshot.parse(self._keys, self._etcd.read(reads, call()), None).held_under(self._run)
            self.won = None if holder is None else claim.acquired._replace(kv=holder.kv)
            self._doubt = None
            if self.won is None:
                raise
            return self.won
        except (DistlockError, LeaseGone) as refused:
            self._doubt = None  # refused, or never sent: there is nothing to settle
            if isinstance(refused, LeaseGone):
                self.drop_lease()
            raise
        if not outcome.succeeded:
            self._doubt = None
            self.drop_lease()
            return Snapshot.parse(self._keys, outcome, self._queue.ticket)
        kv = claim.acquired.kv
        born = kv.create_revision or outcome.revision
        won = self.won = claim.acquired._replace(kv=kv._replace(create_revision=born, mod_revision=outcome.revision))
        self._doubt = None
        return won

    def _note(self) -> None:
        """Write this machine's note of the acquisition, in advance: after a reboot it is the only proof."""
        if self._spec.explicit and not self._is_noted:
            from distlock_core.process.run_notes import remember

            self._is_noted = remember(self._spec.state_dir, self._run)

    def forget(self) -> None:
        """Remove the note of an acquisition that did not happen and cannot happen any more."""
        if self._is_noted:
            from distlock_core.process.run_notes import forget

            forget(self._spec.state_dir, self._run)

    def get_ready(self, call: Call) -> None:
        """Prepare the claim of the next waiter in advance, to save time after the release.

        The waiter renews the lease. Its deadline counts from the last renewal, as that of a held lock.
        """
        self._own_details()
        ttl = self._spec.ttl
        if ttl is not None and ttl <= LONGEST_AHEAD and not self._is_full and (self.lease is None or self.lease.gone):
            try:
                self._grant(ttl, call)
            except NoSpace:
                self._is_full = True

    def _own_details(self) -> dict[str, Any]:
        if self._details is None:
            self._details = run_details(self._spec, self._run)
        return self._details

    def _leased(self, call: Call) -> int:
        """The id of the lease for the hold, 0 for a persistent one."""
        if self._spec.ttl is None:
            return 0
        lease = self.lease
        if lease is None or lease.gone or lease.failing or now() >= lease.renew_at:
            lease = self._grant(self._spec.ttl, call)
        return lease.id

    def _grant(self, ttl: int, call: Call) -> Lease:
        """Grant a new lease, whose deadline counts from now."""
        self.drop_lease()
        # Assigned before the grant, so that an interrupted attempt revokes it with the rest.
        lease = self.lease = Lease(self._etcd, ttl, None, self._spec.refresh)
        lease.grant(ttl, call())
        return lease

    def drop_lease(self, patience: Patience | None = None) -> None:
        """Revoke the lease of a failed claim, within the patience (default: one second)."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.give_up(patience)

    def settle(self, patience: Patience) -> Acquired | None:
        """Determine the outcome of a claim without a reply, and invalidate it if it was not applied.

        Every claim requires that the lock's `__last` note is unchanged. Rewriting the note with the same content
        changes its revision, so a claim that is still in flight (in a proxy, in a paused member) can never be applied.
        """
        assert self._doubt is not None
        snapshot, acquired = self._doubt
        last = snapshot.last.value if snapshot.last else Record(0, "", {"how": ""}).encode()
        again = Put(self._keys.last, last)
        reads = gets(self._keys, None)
        try:
            outcome = self._etcd.txn([unsettled(self._keys, snapshot)], [again, *reads], reads, patience)
        except NoSpace as full:
            outcome = self._void_in_a_full_etcd(snapshot, reads, patience, full)
        holder = Snapshot.parse(self._keys, outcome, None).held_under(self._run)
        self.won = None if holder is None else acquired._replace(kv=holder.kv)
        self._doubt = None
        return self.won

    def _void_in_a_full_etcd(
        self, snapshot: Snapshot, reads: Sequence[Get], patience: Patience, full: NoSpace
    ) -> Outcome:
        """Invalidate a claim by deletes alone, and read its outcome.

        A claim requires that its lease, its ticket and the lock's `__last` note are unchanged, so the first of these
        that exists is deleted. A claim with none of them (the very first for a persistent lock) cannot be invalidated:
        this raises `full`.
        """
        if self.lease is not None:
            lease, self.lease = self.lease, None
            lease.revoke(patience)
            return self._etcd.read(reads, patience)
        ticket = self._queue.ticket
        if ticket is not None:
            same = Compare("CREATE", "EQUAL", ticket.key, ticket.create_revision)
            return self._etcd.txn([same], [Delete(ticket.key), *reads], reads, patience)
        if snapshot.last is None:
            raise full
        return self._etcd.txn([unsettled(self._keys, snapshot)], [Delete(self._keys.last), *reads], reads, patience)

    def resolve(self, ending: BaseException, patience: Patience) -> Acquired | None:
        """Settle a claim in doubt. Returns the lock if it was applied, None if it never will be.

        Raises `OutcomeUnknown` if that cannot be determined.
        """
        while self._doubt is not None:
            try:
                return self.settle(patience)
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
            except Exception as error:  # noqa: BLE001 - after any error the outcome of the claim is unknown
                raise refusals.unknown(self._keys.name, self._spec.owner, self._run, f"{ending}; {error}") from ending
        return None

    def undo(self, acquired: Acquired, patience: Patience) -> None:
        """Restore the state before a claim that succeeded while the caller was interrupted."""
        ended = Put(self._keys.last, EndNote("released", self._spec.owner).record(acquired.kv))
        undo: list[Op] = [Delete(acquired.kv.key), ended]
        if acquired.before:
            undo = [Put(acquired.kv.key, acquired.before, acquired.before_lease)]
        while True:
            try:
                self._etcd.txn([Compare("MOD", "EQUAL", acquired.kv.key, acquired.kv.mod_revision)], undo, [], patience)
                self.won = None
                return
            except LeaseGone:
                undo = [Delete(acquired.kv.key), ended]  # the lease of the previous record has expired since
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
            except NoSpace as full:
                if acquired.before or len(undo) == 1:
                    raise refusals.unknown(self._keys.name, self._spec.owner, self._run, str(full)) from full
                undo = undo[:1]  # a full etcd still accepts deletes
            except Exception as error:
                raise refusals.unknown(self._keys.name, self._spec.owner, self._run, str(error)) from error
