"""The state of a lock as one read shows it: holders and waiters. Pure values."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue
from distlock_core.model.keys import Keys
from distlock_core.model.record import COOLING, HoldEnd, Record, token_of


class Waiter(Value):
    """Somebody in the queue."""

    owner: str | None
    host: str
    since: int | None
    reason: str
    lease: int
    create_revision: int

    @classmethod
    def parse(cls, kv: KeyValue) -> Waiter:
        record = Record.parse(kv.value)
        return cls(record.owner, record.text("host"), record.since, record.text("reason"), kv.lease, kv.create_revision)


class Holder(Value):
    """Somebody who holds a lock, or one of its slots. `owner` is None when what is `stored` in etcd is no record."""

    lock: str
    slot: int
    record: Record
    token: int
    mod_revision: int
    lease: int
    key: bytes
    stored: bytes
    kv: KeyValue  # the key as it was read
    ttl_left: int | None = None

    @classmethod
    def parse(cls, keys: Keys, kv: KeyValue) -> Holder:
        record = Record.parse(kv.value)
        slot = keys.slot_of(kv.key)
        return cls(keys.name, slot, record, token_of(kv), kv.mod_revision, kv.lease, kv.key, kv.value, kv)

    @property
    def owner(self) -> str | None:
        return self.record.owner

    @property
    def since(self) -> int | None:
        return self.record.since

    @property
    def reason(self) -> str:
        return self.record.text("reason")

    @property
    def value(self) -> str | None:
        """What the lock carries for others to look up, None where it carries nothing."""
        value = self.record.details.get("value")
        return value if isinstance(value, str) else None

    @property
    def lifetime(self) -> str:
        """How long it stays.

        persistent: until it is unlocked, whatever becomes of its holder. leased: until at most its ttl after its
        holder is gone. bound: leased, and kept by a keeper for as long as another process lives.
        """
        if not self.lease:
            return "persistent"
        return "bound" if self.keeper is not None else "leased"

    @property
    def keeper(self) -> int | None:
        """The pid of the keeper that renews a bound lock."""
        return self.record.number("keeper")

    @property
    def is_unattended(self) -> bool:
        """True when no process looks after it: it cools down, or is a step of its own without a keeper."""
        return self.record.state == COOLING or (self.record.text("kind") == "lock" and self.keeper is None)


class LockState(Value):
    """A lock as it was at one revision. `waiters` are in the order of the queue."""

    name: str
    holders: tuple[Holder, ...]
    waiting: int
    waiters: tuple[Waiter, ...] = ()
    last: HoldEnd | None = None
    frozen: Record | None = None
    mutex_busy: bool = False  # a client of the Go original is inside its mutex, so nobody acquires
