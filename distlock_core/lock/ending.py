"""Ending: a hold is released, with or without a freeze, kept or left to cool down; retried until etcd confirms it."""

from __future__ import annotations

from distlock_core.base.deadline import Backoff, Patience, now
from distlock_core.errors import (
    AccessDenied,
    AnotherCluster,
    Cancelled,
    ConfigError,
    DistlockError,
    EtcdUnavailable,
    Frozen,
    NoSpace,
    OutcomeUnknown,
)
from distlock_core.etcd.values import KeyValue, LeaseGone, Put
from distlock_core.lock.lease import Lease
from distlock_core.lock.release import UNEXPECTED, HeldKey, release_keys, without_sign
from distlock_core.lock.rewrite import cool_down, leave_taken, rewrite
from distlock_core.lock.spec import NESTED, STEP, Acquired
from distlock_core.model.record import KEPT, EndNote, Record
from distlock_core.model.ttl import longest_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.client import Etcd

SHORTEST_STEP = 0.5  # seconds for one attempt to leave a leased lock taken, between two renewals of its lease


def held_keys(acquired: Sequence[Acquired], hosting: str | None = None) -> list[HeldKey]:
    """The keys of a hold. `hosting`: its owner, if a run of the same owner may have entered it as a step."""

    def is_own(one: Acquired) -> Callable[[KeyValue], bool]:
        return one.owns if hosting is None else lambda kv: one.owns_or_hosts(kv, hosting)

    return [HeldKey(one.keys, one.kv, is_own(one)) for one in acquired]


class Ending:
    """The end of one hold in etcd. Each method returns the locks of the hold that were lost before.

    Raises `EtcdUnavailable` or `NoSpace` when the patience is over, and `AccessDenied`, `OutcomeUnknown`, `Cancelled`.
    """

    def __init__(
        self, etcd: Etcd, acquired: Sequence[Acquired], owner: str, in_doubt: list[bytes], ended: set[bytes]
    ) -> None:
        """`in_doubt` and `ended` are kept from one attempt to end the hold to the next.

        They are the releases that were sent but not answered, and the keys whose end etcd has confirmed.
        """
        self._etcd = etcd
        self._acquired = acquired
        self._owner = owner
        self._in_doubt = in_doubt
        self._ended = ended

    def release(self, patience: Patience) -> list[Acquired]:
        """Delete the keys in one transaction; steps that a run has entered are left held, in their previous state."""
        left = [one for one in self._acquired if one.kv.key not in self._ended]
        steps = [one for one in left if one.how == STEP]
        others = [one for one in left if one.how != STEP]
        lost: list[Acquired] = []
        if others:
            # Steps are on the same lease: as long as they are not restored, it is not revoked.
            lost += self._until_done(lambda patience: self._delete(others, patience), patience, stays=bool(steps))
        if steps:
            lost += self._until_done(lambda patience: self._restore(steps, patience), patience, stays=True)
        return lost

    def keep(self, reason: str, patience: Patience) -> list[Acquired]:
        """Leave the locks taken, persistent, until an operator unlocks them."""
        changes = {"state": KEPT, "reason": reason}

        def keep(patience: Patience) -> list[Acquired]:
            return self._lost(leave_taken(self._etcd, held_keys(self._acquired), changes, patience))

        return self._until_done(keep, patience, stays=True)

    def freeze(self, record: bytes, patience: Patience) -> list[Acquired]:
        """Release the locks, and freeze each of them in the same transaction with this `freeze_record()`.

        If a hold stays, because it re-entered one that continues, its freeze is put first. A present freeze is left as
        it is. If a hold was lost, the lock is frozen all the same.
        """
        staying = [one for one in self._acquired if one.how in (NESTED, STEP)]
        others = [one for one in self._acquired if one not in staying and one.kv.key not in self._ended]
        lost: list[Acquired] = []
        if staying:
            self._until_done(lambda patience: self._put_freezes(staying, record, patience), patience, stays=True)
        if others:
            lost = self._until_done(lambda patience: self._delete(others, patience, record), patience, stays=True)
        if lost:
            gone = lost
            self._until_done(lambda patience: self._put_freezes(gone, record, patience), patience, stays=False)
        if any(one.how == STEP for one in staying):
            lost = [*lost, *self.release(patience)]
        return lost

    def _put_freezes(self, acquired: Sequence[Acquired], record: bytes, patience: Patience) -> list[Acquired]:
        from distlock_core.lock.freeze import FreezeKey

        for one in acquired:
            try:
                FreezeKey(self._etcd, one.keys.lock_freeze, one.keys.name).put(record, None, patience)
            except Frozen:
                pass  # the first freeze stays
        return []

    def cool(self, seconds: int, patience: Patience) -> list[Acquired]:
        """Leave the locks taken for this number of seconds."""
        leases: list[Lease] = []

        def cool(patience: Patience) -> list[Acquired]:
            if not leases or leases[0].deadline < now():
                leases[:] = [Lease(self._etcd, seconds, patience)]
            return self._lost(cool_down(self._etcd, held_keys(self._acquired), leases[0], self._owner, patience))

        return self._until_done(cool, patience, stays=True)

    def _delete(self, acquired: Sequence[Acquired], patience: Patience, freeze: bytes | None = None) -> list[Acquired]:
        notes = [EndNote("released", self._owner, not one.keys.is_shared(one.kv.key)) for one in acquired]
        done = release_keys(self._etcd, held_keys(acquired), notes, patience, self._in_doubt, freeze)
        self._ended.update(one.kv.key for one in acquired)
        return [one for one, is_released in zip(acquired, done) if not is_released]

    def _restore(self, steps: Sequence[Acquired], patience: Patience) -> list[Acquired]:
        by_key = {one.kv.key: one for one in steps}

        def step(held: HeldKey) -> Put:
            # The step as in the current record: changes made by the run are kept.
            entered, there = by_key[held.kv.key], held.kv
            inner = Record.parse(there.value).text("step").encode("utf-8", "backslashreplace")
            return Put(there.key, inner or entered.before, entered.before_lease)

        try:
            found = rewrite(self._etcd, held_keys(steps), step, patience, lambda held: without_sign(held.keys, held.kv))
        except LeaseGone:
            if len(steps) > 1:
                return [lost for one in steps for lost in self._restore([one], patience)]
            # The process that the step was bound to has ended in the meantime: release the step too.
            return self._delete(steps, patience)
        self._ended.update(by_key)
        return [one for one, kv in zip(steps, found) if kv is None]

    def _lost(self, found: Sequence[KeyValue | None]) -> list[Acquired]:
        return [one for one, kv in zip(self._acquired, found) if kv is None]

    def _until_done(
        self, how: Callable[[Patience], list[Acquired]], patience: Patience, *, stays: bool
    ) -> list[Acquired]:
        """Call `how` until it succeeds. Raises the last error when the patience is over."""
        lease = self._acquired[0].lease if stays else None
        pauses = Backoff()
        trouble: Exception | None = None
        while True:
            # The lease of a lock that stays taken is renewed between attempts.
            step = patience if lease is None else patience.within(max(longest_call(lease.ttl), SHORTEST_STEP))
            try:
                return how(step)
            except (AccessDenied, AnotherCluster, Cancelled, ConfigError, OutcomeUnknown):
                raise
            except NoSpace as full:
                if not stays and self._revoke(step):
                    return []
                trouble = full
            except (EtcdUnavailable, LeaseGone, *UNEXPECTED) as away:
                # The last attempt may have had no time left, so an earlier answer of etcd is more useful.
                if not (isinstance(trouble, NoSpace) and patience.over()):
                    trouble = away
            if lease is not None and not lease.gone and not patience.over():
                lease.renew_if_due(step)
            patience.pause(pauses.next())
            if patience.over():
                if isinstance(trouble, DistlockError):
                    raise trouble
                raise EtcdUnavailable(f"cannot send requests to etcd: {trouble or type(trouble).__name__}") from trouble

    def _revoke(self, patience: Patience) -> bool:
        """Revoke the lease of a hold whose keys cannot be deleted otherwise. False: it has no lease."""
        lease = self._acquired[0].lease
        if lease is None:
            return False
        lease.revoke(patience)
        return True
