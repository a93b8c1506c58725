"""Release: the only code that deletes a lock's key, and only for the intended hold."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.errors import NoSpace, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, Put, Range
from distlock_core.lock.snapshot import mutex_free
from distlock_core.model.keys import Keys, ends
from distlock_core.model.record import EndNote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op, Outcome

# Unexpected errors of a call (no descriptor, no thread, no memory), which may have been sent all the same.
UNEXPECTED = (OSError, RuntimeError, MemoryError, ValueError)
MUTEX_PATIENCE = 2.0  # seconds to respect the Go original's mutex; inside it, a Go client can miss a DELETE


def release_key(
    etcd: Etcd,
    keys: Keys,
    kv: KeyValue,
    is_own: Callable[[KeyValue], bool],
    ending: EndNote,
    patience: Patience,
    in_doubt: list[bytes] | None = None,
    freeze: bytes | None = None,
) -> bool:
    """Delete the key as it was read, and write a note on how its hold ended. False: the hold is already gone.

    `in_doubt` collects the notes that were sent without a reply. A caller that retries after `EtcdUnavailable` passes
    the same list, so that an earlier release that was applied after all is recognized. `freeze` is the record of a
    freeze that the same transaction puts, unless the lock is frozen already.

    The delete requires an unchanged mod_revision. If that has changed but the hold is the same, the key is read again
    and the delete retried. A full etcd rejects the note, so it gets the delete alone, unless the lock is to be frozen.
    Raises `EtcdUnavailable`, `AccessDenied`, `NoSpace` if even the delete is rejected, `Cancelled`; a lost reply is
    resolved by a read.
    """
    reads = [Get(kv.key), Get(*ends(keys.mutex), keys_only=True, limit=1), Get(keys.last)]
    if freeze is not None:
        reads.append(Get(keys.lock_freeze, keys_only=True))
    courtesy = now() + MUTEX_PATIENCE
    in_doubt = [] if in_doubt is None else in_doubt
    is_full = False
    while True:
        compares = [Compare("MOD", "EQUAL", kv.key, kv.mod_revision)]
        if now() < courtesy:
            compares.append(mutex_free(keys))
        note = ending.record(kv)
        then: list[Op] = [Delete(kv.key)] if is_full else [Delete(kv.key), Put(keys.last, note)]
        if freeze is not None:
            compares.append(Compare("CREATE", "EQUAL", keys.lock_freeze, 0))
            then.append(Put(keys.lock_freeze, freeze))
        outcome, full = _send(etcd, compares, then, reads, patience)
        if outcome is not None and outcome.succeeded:
            return True
        if outcome is None:
            if full is not None and is_full:
                raise full
            in_doubt.append(note)  # etcd applies the write that exceeds the quota, although it reports an error
            outcome = etcd.read(reads, patience)
        found, mutex, last, *frozen = outcome.ranges()
        if not found.kvs or not is_own(found.kvs[0]):
            # Check all of them: a delayed one can be applied after the next was sent.
            return any(kv.value in in_doubt for kv in last.kvs)
        if frozen and frozen[0].kvs:
            freeze, reads = None, reads[:3]  # somebody has frozen it: the first freeze stays
        elif full is not None and freeze is not None:
            raise full
        is_full = is_full or full is not None
        kv = found.kvs[0]
        while mutex.kvs and now() < courtesy:
            # Only read: a transaction whose conditions fail costs etcd a commit.
            patience.pause(RETRY_PAUSE)
            mutex = _first(etcd.read(reads[1:2], patience).ranges())


def _send(
    etcd: Etcd, compares: Sequence[Compare], then: Sequence[Op], reads: Sequence[Get], patience: Patience
) -> tuple[Outcome | None, NoSpace | None]:
    """Send the transaction. Without an outcome it may have been applied: its reply was lost, or etcd is full."""
    try:
        return etcd.txn(compares, then, reads, patience), None
    except NoSpace as full:
        return None, full
    except (OutcomeUnknown, *UNEXPECTED):
        patience.pause(RETRY_PAUSE)
        return None, None


def _first(ranges: tuple[Range, ...]) -> Range:
    return ranges[0]
