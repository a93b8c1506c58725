"""Release: the only code that deletes the keys of locks, and only for the intended holds."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.base.value import Value
from distlock_core.errors import NoSpace, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, Put
from distlock_core.lock.snapshot import mutex_free
from distlock_core.model.keys import Keys, ends
from distlock_core.model.record import MAYBE_BEATS, EndNote, Record, beat_lease_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op, Outcome

# Unexpected errors of a call (no descriptor, no thread, no memory), which may have been sent all the same.
UNEXPECTED = (OSError, RuntimeError, MemoryError, ValueError)
MUTEX_PATIENCE = 2.0  # seconds to respect the Go original's mutex; inside it, a Go client can miss a DELETE


class HeldKey(Value):
    """The key of one hold as last seen, and how a later state of it is recognized as the same hold's."""

    keys: Keys
    kv: KeyValue
    is_own: Callable[[KeyValue], bool]


def without_sign(keys: Keys, kv: KeyValue) -> list[Delete]:
    """The delete of the sign of life of a hold, if it gives one: for the transaction that ends or rewrites it."""
    if MAYBE_BEATS not in kv.value:
        return []
    record = Record.parse(kv.value)
    return [Delete(keys.sign_of_life(record.run))] if beat_lease_of(record) and record.run else []


def release_keys(
    etcd: Etcd,
    held: Sequence[HeldKey],
    endings: Sequence[EndNote],
    patience: Patience,
    in_doubt: list[bytes] | None = None,
    freeze: bytes | None = None,
) -> list[bool]:
    """Delete the keys as they were read, in one transaction, with a note for each on how its hold ended.

    Returns for each key whether this has deleted it: False if its hold was already gone, which does not keep the
    others. `in_doubt` collects the notes that were sent without a reply. A caller that retries after `EtcdUnavailable`
    passes the same list, so that an earlier release that was applied after all is recognized. `freeze` is the record of
    a freeze that the same transaction puts on each lock that is not frozen already.

    The delete requires an unchanged mod_revision. If that has changed but the hold is the same, the key is read again
    and the delete retried. A full etcd rejects the notes, so it gets the deletes alone, unless a lock is to be frozen.
    Raises `EtcdUnavailable`, `AccessDenied`, `NoSpace` if even the delete is rejected, `Cancelled`; a lost reply is
    resolved by a read.
    """
    released: dict[bytes, bool] = {}
    left = list(zip(held, endings))
    frozen: set[bytes] = set()  # by others: the first freeze stays
    mutex_of = Get(*ends(held[0].keys.mutex), keys_only=True, limit=1)
    courtesy = now() + MUTEX_PATIENCE
    in_doubt = [] if in_doubt is None else in_doubt
    is_full = False
    while left:
        compares = [Compare("MOD", "EQUAL", one.kv.key, one.kv.mod_revision) for one, _ in left]
        if now() < courtesy:
            compares.append(mutex_free(held[0].keys))
        notes = [ending.record(one.kv) for one, ending in left]
        then: list[Op] = [Delete(one.kv.key) for one, _ in left]
        then += [sign for one, _ in left for sign in without_sign(one.keys, one.kv)]
        if not is_full:
            then += [Put(one.keys.last, note) for (one, _), note in zip(left, notes)]
        reads = [mutex_of, *(get for one, _ in left for get in (Get(one.kv.key), Get(one.keys.last)))]
        to_freeze = [] if freeze is None else [one.keys.lock_freeze for one, _ in left]
        reads += [Get(key, keys_only=True) for key in to_freeze]
        # A freeze of others that is thawed meanwhile fails the release, which then brings its own.
        compares += [Compare("CREATE", "GREATER" if key in frozen else "EQUAL", key, 0) for key in to_freeze]
        then += [Put(key, freeze or b"") for key in to_freeze if key not in frozen]
        outcome, full = _send(etcd, compares, then, reads, patience)
        if outcome is not None and outcome.succeeded:
            released.update((one.kv.key, True) for one, _ in left)
            break
        if outcome is None:
            if full is not None and is_full:
                raise full
            in_doubt += notes  # etcd applies the write that exceeds the quota, although it reports an error
            outcome = etcd.read(reads, patience)
        mutex, *found = outcome.ranges()
        rest = []
        for (one, ending), there, last in zip(left, found[: 2 * len(left) : 2], found[1 : 2 * len(left) : 2]):
            if there.kvs and one.is_own(there.kvs[0]):
                rest.append((one._replace(kv=there.kvs[0]), ending))
            else:
                # Check all notes in doubt: a delayed one can be applied after the next was sent.
                released[one.kv.key] = any(kv.value in in_doubt for kv in last.kvs)
        frozen = {kv.key for present in found[2 * len(left) :] for kv in present.kvs}
        left = rest
        if full is not None and freeze is not None and any(one.keys.lock_freeze not in frozen for one, _ in left):
            raise full
        is_full = is_full or full is not None
        if left and mutex.kvs:
            _wait_for_mutex(etcd, mutex_of, courtesy, patience)
    return [released[one.kv.key] for one in held]


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


def _wait_for_mutex(etcd: Etcd, mutex_of: Get, until: float, patience: Patience) -> None:
    """Only read: a transaction whose conditions fail costs etcd a commit."""
    while now() < until:
        patience.pause(RETRY_PAUSE)
        if not etcd.read([mutex_of], patience).ranges()[0].kvs:
            return
