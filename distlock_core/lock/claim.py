"""Claims: the transactions that take the locks of one attempt, and the recovery from a lost reply."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.base.value import Value
from distlock_core.errors import Cancelled, DistlockError, NoSpace, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, LeaseGone, Put
from distlock_core.lock import refusals
from distlock_core.lock.lease import Lease
from distlock_core.lock.release import without_sign
from distlock_core.lock.snapshot import (
    Snapshots,
    claim_conditions,
    gets_of_all,
    note_unchanged,
    once,
    reentry_conditions,
)
from distlock_core.lock.spec import NESTED, NEW, Acquired, LockSpec, Rules, claim_record, run_details
from distlock_core.model.record import EndNote, Record, beat_lease_of
from distlock_core.process.identity import new_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op, Outcome
    from distlock_core.lock.beat import Beat
    from distlock_core.lock.entries import Entry
    from distlock_core.lock.queue import Queue
    from distlock_core.lock.reentry import Reentry
    from distlock_core.lock.snapshot import Snapshot
    from distlock_core.lock.ticket import Ticket
    from distlock_core.model.keys import Keys

    Call = Callable[[], Patience]

LONGEST_AHEAD = 3600  # seconds; a lease with a longer ttl is not granted in advance, as it would outlive a dead waiter


class Claim(Value):
    """A claim in flight: the snapshots that it is based on, and the holds that it creates if it is applied."""

    snapshots: Snapshots
    acquired: tuple[Acquired, ...]


class Claims:
    """The claims of one attempt, sent one at a time under one run id. Methods raise as `Etcd.txn` does.

    Each claim is one transaction, about all locks of the attempt. `call` returns the patience for the next call.
    """

    def __init__(self, etcd: Etcd, spec: LockSpec, queue: Queue) -> None:
        self._etcd = etcd
        self._spec = spec
        self._locks = spec.locks
        self._queue = queue
        self._run = new_run()
        self.lease: Lease | None = None  # for the next claim
        self._beat: Beat | None = None  # the same
        self._details: dict[str, Any] | None = None  # of the record
        self._is_full = False  # etcd was full and granted no lease in advance: retried at the claim
        self._doubt: Claim | None = None
        self.won: tuple[Acquired, ...] | None = None  # the holds, for a caller that is interrupted before it gets them
        self._is_noted = False

    @property
    def in_doubt(self) -> bool:
        """True while it is unknown whether the last claim was applied."""
        return self._doubt is not None

    def take(
        self, snapshots: Snapshots, entries: Sequence[Entry], rules: Sequence[Rules], call: Call
    ) -> tuple[Acquired, ...] | Snapshots:
        """Claim a free slot, or re-enter a hold of the same owner, for each lock.

        Returns the holds, or new snapshots if a lock has changed. If this process runs inside all the holds, nothing is
        written: the outer run keeps its records, and with them the right to release.
        """
        nested = self._nested(entries)
        if nested is not None:
            self.drop_lease()
            return nested
        lease = self._leased(call)
        if self._spec.beat is not None and not lease:
            self._start_beat(self._spec.beat, call)
        conditions: list[Compare] = []
        then: list[Op] = []
        acquired = []
        each = zip(self._locks, snapshots.each, entries, self._tickets(), rules)
        for keys, snapshot, entry, ticket, applies in each:
            if isinstance(entry, int):
                part = self._claim(keys, snapshot, entry, ticket, lease, applies)
            else:
                part = self._enter(keys, snapshot, entry, lease)
            acquired.append(part[0])
            conditions += part[1]
            then += part[2]
            if self._beat is not None:
                then.append(self._beat.put(keys))
        return self._commit(Claim(snapshots, tuple(acquired)), once(conditions), then, call)

    def _nested(self, entries: Sequence[Entry]) -> tuple[Acquired, ...] | None:
        """The holds of the commands around this one, if all locks are theirs, else None."""
        found = []
        for keys, entry in zip(self._locks, entries):
            if isinstance(entry, int) or entry.how != NESTED:
                return None
            holder = entry.holder
            found.append(Acquired(keys, holder.kv, holder.record.run, holder.slot, NESTED))
        return tuple(found)

    def _claim(
        self, keys: Keys, snapshot: Snapshot, slot: int, ticket: Ticket | None, lease: int, rules: Rules
    ) -> tuple[Acquired, list[Compare], list[Op]]:
        """The hold of a free slot, with the conditions and writes that make it."""
        key = keys.shared_hold(self._run) if rules.shared else keys.slot(slot)
        record = claim_record(self._spec, {**self._own_details(), **self._beats()}, rules, snapshot.last)
        then: list[Op] = [Put(key, record, lease)]
        if ticket is not None:
            then.append(Delete(ticket.key))
        conditions = claim_conditions(keys, self._spec.place, snapshot, ticket, key, rules.slots)
        kv = KeyValue(key, record, 0, 0, lease)
        acquired = Acquired(keys, kv, self._run, slot, lease=self.lease, cooldown=rules.cooldown, beat=self._beat)
        return acquired, conditions, then

    def _enter(
        self, keys: Keys, snapshot: Snapshot, reentry: Reentry, lease: int
    ) -> tuple[Acquired, list[Compare], list[Op]]:
        """The re-entered hold, with the conditions and the write that make it."""
        from distlock_core.lock.reentry import reentry_record  # already loaded by the search for the hold

        holder = reentry.holder
        record = reentry_record(self._spec, self._run, reentry, self._beats())
        kv = KeyValue(holder.key, record, holder.kv.create_revision, 0, lease)
        before, before_lease = reentry.before, reentry.before_lease
        acquired = Acquired(
            keys, kv, self._run, holder.slot, reentry.how, before, before_lease, self.lease, beat=self._beat
        )
        acquired = acquired._replace(stale_lease=beat_lease_of(holder.record))
        then: list[Op] = [Put(holder.key, record, lease), *without_sign(keys, holder.kv)]
        return acquired, reentry_conditions(keys, snapshot, holder), then

    def _tickets(self) -> Sequence[Ticket | None]:
        return self._queue.tickets or (None,) * len(self._locks)

    def _commit(
        self, claim: Claim, conditions: list[Compare], then: list[Op], call: Call
    ) -> tuple[Acquired, ...] | Snapshots:
        self._note()
        self._doubt = claim
        reads = gets_of_all(self._locks, self._spec.place, self._queue.tickets)
        try:
            outcome = self._etcd.txn(conditions, then, reads, call())
        except (OutcomeUnknown, Cancelled):
            raise
        except NoSpace:
            # etcd applies the write that exceeds the quota, although it reports an error. Nothing is in flight now.
            found = self._etcd.read(_holds_of(claim), call())
            self.won = self._won(claim, found, call())
            self._doubt = None
            if self.won is None:
                raise
            return self.won
        except (DistlockError, LeaseGone) as refused:
            self._doubt = None  # refused, or never sent: there is nothing to resolve
            if isinstance(refused, LeaseGone):
                self.drop_lease()
            raise
        if not outcome.succeeded:
            self._doubt = None
            self.drop_lease()
            return Snapshots.parse(self._locks, self._spec.place, outcome, self._queue.tickets)
        won = self.won = tuple(_at(outcome.revision, one) for one in claim.acquired)
        self._doubt = None
        return won

    def _won(self, claim: Claim, outcome: Outcome, patience: Patience) -> tuple[Acquired, ...] | None:
        """The holds of a claim that nothing can apply any more, from a read of their keys. None if they do not exist.

        If another client has deleted some of them since, the others are undone.
        """
        read = zip(claim.acquired, outcome.ranges()[-len(claim.acquired) :])
        there = ((one, kv) for one, result in read for kv in result.kvs)
        found = tuple(one._replace(kv=kv) for one, kv in there if Record.parse(kv.value).run == self._run)
        if found and len(found) < len(claim.acquired):
            self.undo(found, patience)
            return None
        return found or None

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

    def _start_beat(self, every: int, call: Call) -> None:
        """Grant the lease of the sign of life, unless it was granted for an earlier claim of this attempt."""
        if self._beat is None:
            from distlock_core.lock.beat import Beat

            # Assigned before the grant, as in `_grant()`. If that is not answered, the next claim grants it again.
            self._beat = Beat(self._etcd, every, self._spec.owner, self._run)
        if not self._beat.is_granted:
            self._beat.grant(call())

    def _beats(self) -> dict[str, Any]:
        """The fields of the record that lead to its sign of life."""
        if self._beat is None:
            return {}
        together = {"together": len(self._locks)} if len(self._locks) > 1 else {}
        return {**self._beat.details, **together}

    def drop_lease(self, patience: Patience | None = None) -> None:
        """Revoke the leases of a failed claim, within the patience (default: one second each)."""
        lease, self.lease = self.lease, None
        beat, self._beat = self._beat, None
        if lease is not None:
            lease.give_up(patience)
        if beat is not None:
            beat.end(patience)

    def resolve_once(self, patience: Patience) -> tuple[Acquired, ...] | None:
        """Determine the outcome of a claim without a reply, and invalidate it if it was not applied.

        Every claim requires that the `__last` notes of all its locks are unchanged. Rewriting one of them with the same
        content changes its revision, so a claim that is still in flight (in a proxy, in a paused member) can never be
        applied. If one of them has changed already, it cannot either.
        """
        assert self._doubt is not None
        claim = self._doubt
        unchanged = self._notes_unchanged(claim.snapshots)
        note = claim.snapshots.each[0].last
        again = Put(self._locks[0].last, note.value if note else Record(0, "", {"how": ""}).encode())
        reads = _holds_of(claim)
        try:
            outcome = self._etcd.txn(unchanged, [again, *reads], reads, patience)
        except NoSpace as full:
            outcome = self._void_in_a_full_etcd(claim, reads, patience, full)
        self.won = self._won(claim, outcome, patience)
        self._doubt = None
        return self.won

    def _notes_unchanged(self, snapshots: Snapshots) -> list[Compare]:
        return [note_unchanged(keys, one) for keys, one in zip(self._locks, snapshots.each)]

    def _void_in_a_full_etcd(self, claim: Claim, reads: Sequence[Get], patience: Patience, full: NoSpace) -> Outcome:
        """Invalidate a claim by deletes alone, and read its outcome.

        A claim requires that its lease and the `__last` notes are unchanged, and the claim of a free slot that its
        ticket is, so the first of these that exists is deleted. A claim with none of them (the very first for a
        persistent lock) cannot be invalidated: this raises `full`.
        """
        if self.lease is not None:
            lease, self.lease = self.lease, None
            lease.revoke(patience)
            return self._etcd.read(reads, patience)
        for ticket, acquired in zip(self._queue.tickets, claim.acquired):
            if acquired.how == NEW:
                same = Compare("CREATE", "EQUAL", ticket.key, ticket.create_revision)
                return self._etcd.txn([same], [Delete(ticket.key), *reads], reads, patience)
        for keys, snapshot in zip(self._locks, claim.snapshots.each):
            if snapshot.last is not None:
                unchanged = self._notes_unchanged(claim.snapshots)
                return self._etcd.txn(unchanged, [Delete(keys.last), *reads], reads, patience)
        raise full

    def resolve(self, ending: BaseException, patience: Patience) -> tuple[Acquired, ...] | None:
        """Resolve a claim in doubt. Returns the holds if it was applied, None if it never will be.

        Raises `OutcomeUnknown` if that cannot be determined.
        """
        while self._doubt is not None:
            try:
                return self.resolve_once(patience)
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
            except Exception as error:  # noqa: BLE001 - after any error the outcome of the claim is unknown
                raise self._unknown(f"{ending}; {error}") from ending
        return None

    def undo(self, acquired: Sequence[Acquired], patience: Patience) -> None:
        """Restore the state before a claim that succeeded while the caller was interrupted, in one transaction."""
        left = [one for one in acquired if one.how != NESTED]
        without_notes = False
        while left:
            then: list[Op] = []
            for one in left:
                then += self._undoing(one, without_notes)
            same = [Compare("MOD", "EQUAL", one.kv.key, one.kv.mod_revision) for one in left]
            try:
                outcome = self._etcd.txn(same, then, [Get(one.kv.key) for one in left], patience)
            except LeaseGone:
                # The lease of the previous record has expired since.
                left = [one._replace(before=b"") for one in left]
                continue
            except OutcomeUnknown:
                patience.pause(RETRY_PAUSE)
                continue
            except NoSpace as full:
                if without_notes or any(one.before for one in left):
                    raise self._unknown(str(full)) from full
                without_notes = True  # a full etcd still accepts deletes
                continue
            except Exception as error:
                raise self._unknown(str(error)) from error
            if outcome.succeeded:
                break
            # Those that another client has changed or deleted meanwhile are left to it.
            there = {kv.key: kv.mod_revision for found in outcome.ranges() for kv in found.kvs}
            left = [one for one in left if there.get(one.kv.key) == one.kv.mod_revision]
        self.won = None

    def _undoing(self, acquired: Acquired, without_note: bool) -> list[Op]:
        key = acquired.kv.key
        sign = without_sign(acquired.keys, acquired.kv)
        if acquired.before:
            return [Put(key, acquired.before, acquired.before_lease), *sign]
        if without_note:
            return [Delete(key), *sign]
        note = EndNote("released", self._spec.owner, counts=False).record(acquired.kv)
        return [Delete(key), *sign, Put(acquired.keys.last, note)]

    def _unknown(self, why: str) -> OutcomeUnknown:
        return refusals.unknown([keys.name for keys in self._locks], self._spec.owner, self._run, why)


def _holds_of(claim: Claim) -> list[Get]:
    """The reads that show whether a claim was applied."""
    return [Get(one.kv.key) for one in claim.acquired]


def _at(revision: int, acquired: Acquired) -> Acquired:
    """A hold whose record was written at this revision."""
    kv = acquired.kv
    return acquired._replace(kv=kv._replace(create_revision=kv.create_revision or revision, mod_revision=revision))
