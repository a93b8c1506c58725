"""Letting go: the one way in which a lock's key is deleted, and only the lock that was meant."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from distlock_core.errors import OutcomeUnknown
from distlock_core.etcd.api import Compare, Delete, Get, KeyValue, Op, Put, Range
from distlock_core.line import RETRY_PAUSE
from distlock_core.model import Keys, Record, ends
from distlock_core.patience import Patience, now
from distlock_core.view import mutex_free

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.api import Etcd

MUTEX_PATIENCE = 2.0  # seconds that the Go original's mutex is respected; it can miss a DELETE made meanwhile


class Ending(NamedTuple):
    """What is put down about the end of a hold: `how` is released or broken, `by` whom."""

    how: str
    by: str

    def record(self, kv: KeyValue) -> bytes:
        ended = Record.parse(kv.value)
        details = {"how": self.how, "owner": ended.owner, "token": kv.create_revision, "since": ended.since}
        if ended.text("reason"):
            details["reason"] = ended.text("reason")
        if ended.run:
            details["run"] = ended.run
        return Record(int(time.time()), self.by, details).encode()


def let_go(
    etcd: Etcd, keys: Keys, kv: KeyValue, mine: Callable[[KeyValue], bool], ending: Ending, patience: Patience
) -> bool:
    """Delete the key as it was seen, and put down how its hold ended. False: it is gone, or no longer `mine`.

    It is compared by mod_revision. When that has changed and it is still `mine`, it is read again. Raises
    `EtcdUnavailable`, `AccessDenied`, `Cancelled`; a lost reply is resolved by a read.
    """
    reads = [Get(kv.key), Get(*ends(keys.mutex), keys_only=True, limit=1), Get(keys.last)]
    courtesy = now() + MUTEX_PATIENCE
    in_doubt: list[bytes] = []
    while True:
        compares = [Compare("MOD", "EQUAL", kv.key, kv.mod_revision)]
        if now() < courtesy:
            compares.append(mutex_free(keys))
        record = ending.record(kv)
        then: list[Op] = [Delete(kv.key), Put(keys.last, record)]
        try:
            outcome = etcd.txn(compares, then, reads, patience)
            if outcome.succeeded:
                return True
            found, mutex, last = outcome.ranges()
        except OutcomeUnknown:
            in_doubt.append(record)
            patience.pause(RETRY_PAUSE)
            found, mutex, last = etcd.read(reads, patience).ranges()
        if not found.kvs or not mine(found.kvs[0]):
            # Any of them: one that was held up can be applied after the next was sent.
            return any(kv.value in in_doubt for kv in last.kvs)
        kv = found.kvs[0]
        while mutex.kvs and now() < courtesy:
            # Read, and not tried again: a refused transaction costs etcd a commit.
            patience.pause(RETRY_PAUSE)
            mutex = _first(etcd.read(reads[1:2], patience).ranges())


def put_back(etcd: Etcd, kv: KeyValue, before: bytes, patience: Patience) -> bool:
    """Put the record back that stood there before mine. False: the key is gone, or has changed since."""
    while True:
        try:
            compares = [Compare("MOD", "EQUAL", kv.key, kv.mod_revision)]
            outcome = etcd.txn(compares, [Put(kv.key, before)], [Get(kv.key)], patience)
        except OutcomeUnknown:
            patience.pause(RETRY_PAUSE)
            continue  # applied already: then the value is what I wanted, and the condition fails
        found = () if outcome.succeeded else _first(outcome.ranges()).kvs
        return outcome.succeeded or any(
            now_there.create_revision == kv.create_revision and now_there.value == before for now_there in found
        )


def _first(ranges: tuple[Range, ...]) -> Range:
    return ranges[0]
