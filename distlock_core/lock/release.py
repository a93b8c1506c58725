"""Release: the one way in which a lock's key is deleted, and only the lock that was meant."""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, now
from distlock_core.errors import NoSpace, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, Put, Range
from distlock_core.lock.snapshot import mutex_free
from distlock_core.model.keys import Keys, ends
from distlock_core.model.record import EndNote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op

# What nobody expects of a call (no descriptor, no thread, no memory): it may have been sent.
UNEXPECTED = (OSError, RuntimeError, MemoryError, ValueError)
MUTEX_PATIENCE = 2.0  # seconds that the Go original's mutex is respected; it can miss a DELETE made meanwhile


def release_key(
    etcd: Etcd,
    keys: Keys,
    kv: KeyValue,
    is_own: Callable[[KeyValue], bool],
    ending: EndNote,
    patience: Patience,
    in_doubt: list[bytes] | None = None,
) -> bool:
    """Delete the key as it was seen, and put down how its hold ended. False: it is gone, or no longer this hold.

    `in_doubt` keeps what was sent without a reply: who calls again after an `EtcdUnavailable` hands it in again, and
    so knows its own release when it has come through meanwhile.

    It is compared by mod_revision. When that has changed and it is still this hold, it is read again. A full etcd,
    which takes nothing that adds to it, gets the delete alone. Raises `EtcdUnavailable`, `AccessDenied`, `NoSpace` if
    even that is refused, `Cancelled`; a lost reply is resolved by a read.
    """
    reads = [Get(kv.key), Get(*ends(keys.mutex), keys_only=True, limit=1), Get(keys.last)]
    courtesy = now() + MUTEX_PATIENCE
    in_doubt = [] if in_doubt is None else in_doubt
    is_full = False
    while True:
        compares = [Compare("MOD", "EQUAL", kv.key, kv.mod_revision)]
        if now() < courtesy:
            compares.append(mutex_free(keys))
        record = ending.record(kv)
        then: list[Op] = [Delete(kv.key)] if is_full else [Delete(kv.key), Put(keys.last, record)]
        try:
            outcome = etcd.txn(compares, then, reads, patience)
            if outcome.succeeded:
                return True
            found, mutex, last = outcome.ranges()
        except NoSpace:
            if is_full:
                raise
            is_full = True
            in_doubt.append(record)  # the write that goes beyond the limit is applied, and refused all the same
            found, mutex, last = etcd.read(reads, patience).ranges()
        except (OutcomeUnknown, *UNEXPECTED):
            in_doubt.append(record)
            patience.pause(RETRY_PAUSE)
            found, mutex, last = etcd.read(reads, patience).ranges()
        if not found.kvs or not is_own(found.kvs[0]):
            # Any of them: one that was held up can be applied after the next was sent.
            return any(kv.value in in_doubt for kv in last.kvs)
        kv = found.kvs[0]
        while mutex.kvs and now() < courtesy:
            # Read, and not tried again: a refused transaction costs etcd a commit.
            patience.pause(RETRY_PAUSE)
            mutex = _first(etcd.read(reads[1:2], patience).ranges())


def _first(ranges: tuple[Range, ...]) -> Range:
    return ranges[0]
