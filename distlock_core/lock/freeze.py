"""Freezing and thawing a lock or a realm. A freeze is one key: while it exists, nobody acquires.

Each write requires that the key is as it was read, so a freeze never replaces another unseen, and a thaw never ends a
newer freeze than the one that it returns.
"""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.base.text import printable
from distlock_core.errors import DistlockError, EtcdUnavailable, Frozen, NoSpace, NotFrozen, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, LeaseGone, Put
from distlock_core.hints import REPLACE_FREEZE, Hint
from distlock_core.lock.lease import GIVE_UP, Lease
from distlock_core.lock.release import UNEXPECTED
from distlock_core.model.checks import check_owner, check_text
from distlock_core.model.freeze import Freeze, freeze_record
from distlock_core.model.wording import is_frozen_by
from distlock_core.process.identity import hostname, new_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op


class FreezeKey:
    """The freeze of one lock, or of a whole realm if `lock` is None.

    Methods raise `EtcdUnavailable`, `AccessDenied`, `NoSpace`, `Cancelled`, and `OutcomeUnknown` if a reply was lost
    and etcd does not answer any more.
    """

    def __init__(self, etcd: Etcd, key: bytes, lock: str | None) -> None:
        self._etcd = etcd
        self._key = key
        self._lock = lock

    def find(self, patience: Patience) -> Freeze | None:
        """The present freeze with its time left, None if there is none."""
        found = self._read(patience)
        return None if found is None else with_ttl_left(self._etcd, found, patience)

    def freeze(
        self, owner: str | None, reason: str, seconds: int | None, patience: Patience, *, force: bool = False
    ) -> Freeze:
        """Freeze, as this owner (default: the host name). Raises as `put()`, and `ConfigError`."""
        by = hostname() if owner is None else check_owner(owner)
        record = freeze_record(by, check_text(reason, "reason"), new_run(), seconds, host=hostname())
        return self.put(record, seconds, patience, force=force)

    def put(self, record: bytes, seconds: int | None, patience: Patience, *, force: bool = False) -> Freeze:
        """Freeze, with this new `freeze_record()`. `force` replaces a present freeze, otherwise it raises `Frozen`.

        With `seconds` the freeze is attached to a lease that nobody renews. The record was made before that lease, so
        the lease cannot end before the time in the record.
        """
        lease = None if seconds is None else Lease(self._etcd, seconds, patience)
        try:
            return self._put(Put(self._key, record, 0 if lease is None else lease.id), patience, force=force)
        except OutcomeUnknown:
            raise
        except BaseException as error:
            if lease is not None:
                lease.give_up()
            if isinstance(error, LeaseGone):
                raise EtcdUnavailable("the lease of the freeze expired before it was used") from error
            raise

    def _put(self, put: Put, patience: Patience, *, force: bool) -> Freeze:
        before: Freeze | None = None
        while True:
            try:
                revision, found = self._write(put, before, patience)
            except NoSpace:
                # etcd applies the write that exceeds the quota, although it reports an error.
                found = self._read(patience)
                if found is None or found.kv.value != put.value:
                    raise
                revision = found.kv.mod_revision
            if found is not None and found.kv.value == put.value:
                break  # applied, though its reply was lost
            if found is None:
                born = revision if before is None else before.kv.create_revision
                found = Freeze.parse(self._lock, KeyValue(self._key, put.value, born, revision, put.lease))
                break
            if not force:
                raise already_frozen(with_ttl_left(self._etcd, found, patience))
            before = found
        if before is not None:
            self._drop_lease(before)
        return found

    def remove(self, patience: Patience) -> Freeze:
        """End the present freeze, whoever has put it, and return it. Raises `NotFrozen`."""
        what = "the realm" if self._lock is None else printable(self._lock)
        first = there = self._read(patience)
        while first is not None and there is not None:
            if (there.kv.create_revision, there.run) != (first.kv.create_revision, first.run):
                raise NotFrozen(f"{is_frozen_by(there)}, put in the meantime: left as it is")
            _, there = self._write(Delete(self._key), there, patience)
            if there is None:
                self._drop_lease(first)
                return first
        raise NotFrozen(f"{what} is not frozen")

    def _read(self, patience: Patience) -> Freeze | None:
        return self._first(self._etcd.read([Get(self._key)], patience).ranges()[0].kvs)

    def _first(self, kvs: tuple[KeyValue, ...]) -> Freeze | None:
        return Freeze.parse(self._lock, kvs[0]) if kvs else None

    def _write(self, op: Op, before: Freeze | None, patience: Patience) -> tuple[int, Freeze | None]:
        """Write if the key is still as `before`: the revision and None, or else 0 and what is there now.

        After a lost reply it is what is there now: the write itself, or what it should change. A later repetition of
        the write is harmless, as each has the same random id.
        """
        compare = Compare("MOD", "EQUAL", self._key, 0 if before is None else before.kv.mod_revision)
        while True:
            try:
                outcome = self._etcd.txn([compare], [op], [Get(self._key)], patience)
            except (OutcomeUnknown, *UNEXPECTED) as lost:
                patience.pause(RETRY_PAUSE)
                try:
                    found = self._read(patience)
                except EtcdUnavailable as away:
                    raise OutcomeUnknown(f"unknown whether the freeze was changed: {lost}; {away}") from away
                if found == before:
                    continue
                return 0, found
            if outcome.succeeded:
                return outcome.revision, None
            return 0, self._first(outcome.ranges()[0].kvs)

    def _drop_lease(self, freeze: Freeze) -> None:
        """Revoke the lease of a freeze that has ended: best effort, otherwise it expires."""
        if freeze.kv.lease:
            try:
                self._etcd.revoke(freeze.kv.lease, Patience.lasting(GIVE_UP))
            except DistlockError:
                pass


def already_frozen(present: Freeze) -> Frozen:
    """The error for what is frozen already."""
    return Frozen(f"{is_frozen_by(present)}: left as it is", hints=[Hint(REPLACE_FREEZE)])


def with_ttl_left(etcd: Etcd, freeze: Freeze, patience: Patience) -> Freeze:
    """The freeze with the time that its lease has left, if it has one."""
    if not freeze.kv.lease:
        return freeze
    return freeze._replace(ttl_left=etcd.time_to_live(freeze.kv.lease, patience))
