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
from distlock_core.lock.release import UNEXPECTED, release_key
from distlock_core.lock.rewrite import cool_down, leave_taken, rewrite
from distlock_core.lock.spec import NESTED, STEP, Acquired
from distlock_core.model.record import KEPT, EndNote, Record
from distlock_core.model.ttl import longest_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.etcd.client import Etcd
    from distlock_core.model.keys import Keys

SHORTEST_STEP = 0.5  # seconds for one attempt to leave a leased lock taken, between two renewals of its lease


class Ending:
    """The end of one hold in etcd. Each method returns False if the hold was lost before.

    Raises `EtcdUnavailable` or `NoSpace` when the patience is over, and `AccessDenied`, `OutcomeUnknown`, `Cancelled`.
    """

    def __init__(self, etcd: Etcd, keys: Keys, acquired: Acquired, owner: str, in_doubt: list[bytes]) -> None:
        """`in_doubt`: releases that were sent but not answered, kept from one attempt to end the hold to the next."""
        self._etcd = etcd
        self._keys = keys
        self._acquired = acquired
        self._owner = owner
        self._in_doubt = in_doubt

    def release(self, patience: Patience) -> bool:
        """Delete the key; a step that a run has entered is left held, in its previous state."""
        if self._acquired.how == STEP:
            return self._until_done(self._restore_step, patience, stays=True)
        return self._until_done(self._delete, patience, stays=False)

    def keep(self, reason: str, patience: Patience) -> bool:
        """Leave the lock taken, persistent, until an operator unlocks it."""
        changes = {"state": KEPT, "reason": reason}
        return self._until_done(
            lambda patience: leave_taken(self._etcd, self._acquired.kv, self._acquired.owns, changes, patience),
            patience,
            stays=True,
        )

    def freeze(self, record: bytes, patience: Patience) -> bool:
        """Release the lock, and freeze it in the same transaction with this `freeze_record()`.

        If the hold stays, because it re-entered one that continues, the freeze is put first. A present freeze is left
        as it is. If the hold was lost, the lock is frozen all the same.
        """

        def put(patience: Patience) -> bool:
            return self._put_freeze(record, patience)

        if self._acquired.how in (NESTED, STEP):
            self._until_done(put, patience, stays=True)
            return self._acquired.how == NESTED or self.release(patience)
        if self._until_done(lambda patience: self._delete(patience, record), patience, stays=True):
            return True
        self._until_done(put, patience, stays=False)
        return False

    def _put_freeze(self, record: bytes, patience: Patience) -> bool:
        from distlock_core.lock.freeze import FreezeKey

        try:
            FreezeKey(self._etcd, self._keys.lock_freeze, self._keys.name).put(record, None, patience)
        except Frozen:
            pass  # the first freeze stays
        return True

    def cool(self, seconds: int, patience: Patience) -> bool:
        """Leave the lock taken for this number of seconds."""
        leases: list[Lease] = []

        def cool(patience: Patience) -> bool:
            if not leases or leases[0].deadline < now():
                leases[:] = [Lease(self._etcd, seconds, patience)]
            acquired = self._acquired
            return cool_down(self._etcd, self._keys, acquired.kv, acquired.owns, leases[0], self._owner, patience)

        return self._until_done(cool, patience, stays=True)

    def _delete(self, patience: Patience, freeze: bytes | None = None) -> bool:
        note = EndNote("released", self._owner)
        acquired = self._acquired
        return release_key(self._etcd, self._keys, acquired.kv, acquired.owns, note, patience, self._in_doubt, freeze)

    def _restore_step(self, patience: Patience) -> bool:
        acquired = self._acquired

        def step(there: KeyValue) -> Put:
            # The step as in the current record: changes made by the run are kept.
            inner = Record.parse(there.value).text("step").encode("utf-8", "backslashreplace")
            return Put(there.key, inner or acquired.before, acquired.before_lease)

        try:
            return rewrite(self._etcd, acquired.kv, acquired.owns, step, patience) is not None
        except LeaseGone:
            # The process that the step was bound to has ended in the meantime: release the step too.
            return self._delete(patience)

    def _until_done(self, how: Callable[[Patience], bool], patience: Patience, *, stays: bool) -> bool:
        """Call `how` until it succeeds. Raises the last error when the patience is over."""
        lease = self._acquired.lease if stays else None
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
                    return True
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
        """Revoke the lease of a hold whose key cannot be deleted otherwise. False: it has no lease."""
        if self._acquired.lease is None:
            return False
        self._acquired.lease.revoke(patience)
        return True
