"""Pruning: deletion of old notes on how the last hold of a lock ended (`__last/NAME`).

Every claim requires that its lock's note is unchanged since the read. A claim that read "no note" must not succeed
after a note was written and pruned. So a prune first reads the notes, then writes the realm's prune mark, and only then
deletes the notes that it has read, each on the condition that it is unchanged. A claim also requires that no prune mark
is newer than its read: claims based on a read before the mark fail, and reads after the mark have seen every note that
this prune deletes.
"""

from __future__ import annotations

import time

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.base.value import Value
from distlock_core.errors import ConfigError, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, Put
from distlock_core.model.keys import ends, last_prefix, prune_mark
from distlock_core.model.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op, Outcome

PAGE = 1000  # notes in one read: 100,000 of them exceed the size limit of an answer
BATCH = 100  # notes in one transaction: etcd's default limit is 128 operations


class Pruned(Value):
    """Result of a prune or its dry run: names of the locks whose notes are deleted, and number of notes kept."""

    names: tuple[str, ...]
    kept: int


class Prune:
    """One prune of a realm. `call_timeout` and `retry_timeout` are in seconds: for one call, and for one batch."""

    def __init__(
        self, etcd: Etcd, prefix: str, call_timeout: float, retry_timeout: float, cancel: Cancel | None
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._call_timeout = call_timeout
        self._retry_timeout = retry_timeout
        self._cancel = cancel
        self._last = last_prefix(prefix)

    def run(self, older_than: float, by: str, *, dry_run: bool = False) -> Pruned:
        """Delete the notes that are older than `older_than` seconds. Raises `ConfigError`, and as `Etcd`."""
        if not older_than > 0:
            raise ConfigError(f"older_than: expected a number of seconds above 0, found {older_than!r}")
        before = time.time() - older_than
        old: list[KeyValue] = []
        kept = 0
        for note in self._notes():
            at = Record.parse(note.value).since
            if at is not None and at < before:
                old.append(note._replace(value=b""))
            else:
                kept += 1
        if not old or dry_run:
            return Pruned(self._names(old), kept)
        mark = Record(int(time.time()), by, {"older_than": int(older_than)}).encode()
        self._send([], [Put(prune_mark(self._prefix), mark)], [])
        deleted = []
        for start in range(0, len(old), BATCH):
            deleted += self._delete(old[start : start + BATCH])
        return Pruned(self._names(deleted), kept + len(old) - len(deleted))

    def _notes(self) -> Iterator[KeyValue]:
        start, end = ends(self._last)
        while True:
            (found,) = self._etcd.read([Get(start, end, limit=PAGE)], self._patience()).ranges()
            yield from found.kvs
            if len(found.kvs) < PAGE:
                return
            start = found.kvs[-1].key + b"\0"

    def _delete(self, notes: Sequence[KeyValue]) -> list[KeyValue]:
        """Delete notes that have not changed since they were read; return those that are gone."""
        gone: list[KeyValue] = []
        while notes:
            conditions = [Compare("MOD", "EQUAL", note.key, note.mod_revision) for note in notes]
            outcome = self._send(
                conditions, [Delete(note.key) for note in notes], [Get(note.key, keys_only=True) for note in notes]
            )
            if outcome.succeeded:
                return [*gone, *notes]
            left = {kv.key: kv.mod_revision for found in outcome.ranges() for kv in found.kvs}
            gone += [note for note in notes if note.key not in left]  # a reply was lost, or another client deleted it
            notes = [note for note in notes if left.get(note.key) == note.mod_revision]
        return gone

    def _send(self, conditions: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> Outcome:
        """Send a transaction that may safely be applied twice, or late."""
        patience = Patience.lasting(self._retry_timeout, self._cancel)
        while True:
            try:
                return self._etcd.txn(conditions, then, otherwise, patience.within(self._call_timeout))
            except OutcomeUnknown:
                if patience.over():
                    raise
                patience.pause(RETRY_PAUSE)

    def _patience(self) -> Patience:
        return Patience.lasting(self._call_timeout, self._cancel)

    def _names(self, notes: Sequence[KeyValue]) -> tuple[str, ...]:
        return tuple(note.key[len(self._last) :].decode(errors="backslashreplace") for note in notes)
