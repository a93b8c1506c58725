"""Freeze: the record that keeps everybody from acquiring a lock, or any lock of a realm. Pure values.

It exists until somebody thaws it, or until its lease expires. Holders are not affected.
"""

from __future__ import annotations

import time

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue
from distlock_core.model.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from distlock_core.model.keys import Keys


class Freeze(Value):
    """A freeze as it was read. `lock` is the name of the frozen lock, None for a freeze of the whole realm.

    `ttl_left`: seconds until etcd ends it, None without a time limit, or if that was not read.
    """

    lock: str | None
    record: Record
    kv: KeyValue
    ttl_left: int | None = None

    @classmethod
    def parse(cls, lock: str | None, kv: KeyValue) -> Freeze:
        return cls(lock, Record.parse(kv.value), kv)

    @property
    def by(self) -> str | None:
        """The owner that froze it, None if the value in etcd is no record."""
        return self.record.owner

    @property
    def since(self) -> int | None:
        return self.record.since

    @property
    def reason(self) -> str:
        return self.record.text("reason")

    @property
    def until(self) -> int | None:
        """Unix time in seconds at which it ends by itself, None if only a thaw ends it.

        etcd may keep it a little longer than that, never shorter: its leases are extended when its leader changes.
        """
        return self.record.number("until")

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command whose failure has put this freeze, None if a person or a tool has."""
        return self.record.number("exit_code")

    @property
    def run(self) -> str:
        """The random id of this freeze, "" if distlock did not write it."""
        return self.record.run


def freezes_of(keys: Keys, found: Iterable[KeyValue]) -> tuple[Freeze, ...]:
    """The freezes among these keys that affect a lock: that of its realm first, then its own."""
    by_key = {kv.key: kv for kv in found}
    both = ((None, keys.freeze), (keys.name, keys.lock_freeze))
    return tuple(Freeze.parse(lock, by_key[key]) for lock, key in both if key in by_key)


def freeze_record(by: str, reason: str, run: str, seconds: int | None = None, **details: Any) -> bytes:
    """The record of a new freeze, which ends after this number of seconds if one is given."""
    now = int(time.time())
    until = {} if seconds is None else {"until": now + seconds}
    because = {"reason": reason} if reason else {}
    return Record(now, by, {**because, "run": run, **until, **details}).encode()
