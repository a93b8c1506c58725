"""The state of a lock as one read shows it: holders and waiters. Pure values."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue
from distlock_core.model.keys import DEFAULT_RANK, Keys, Place
from distlock_core.model.record import COOLING, KEPT, HoldEnd, Record, token_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from distlock_core.model.freeze import Freeze
    from distlock_core.model.policy import Policy
    from distlock_core.model.sign_of_life import SignOfLife


class Waiter(Value):
    """A waiter in the queue of a lock. `since` is a Unix time in seconds. Those with a lower rank are served first."""

    owner: str | None
    host: str
    since: int | None
    reason: str
    lease: int
    create_revision: int
    rank: int = DEFAULT_RANK
    is_shared: bool = False

    @classmethod
    def parse(cls, kv: KeyValue, place: Place) -> Waiter:
        record = Record.parse(kv.value)
        host, reason = record.text("host"), record.text("reason")
        return cls(record.owner, host, record.since, reason, kv.lease, kv.create_revision, *place)


class Holder(Value):
    """A holder of a lock, of one of its slots, or a shared one. `owner` is None if the value `stored` is no record."""

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
    expect: int | None = None  # seconds that the hold is expected to take, by the lock's policy or its holder
    cooldown: int | None = None  # seconds, by the lock's policy
    is_shared: bool = False  # held together with any number of other shared holders; it has no slot then
    sign: SignOfLife | None = None  # its last sign of life, if its process gives them

    @classmethod
    def parse(cls, keys: Keys, kv: KeyValue) -> Holder:
        record = Record.parse(kv.value)
        slot = keys.slot_of(kv.key)
        return cls(
            keys.name,
            slot,
            record,
            token_of(kv),
            kv.mod_revision,
            kv.lease,
            kv.key,
            kv.value,
            kv,
            None,
            record.number("expect"),
            None,
            keys.is_shared(kv.key),
        )

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
        """The lock's value, which others can look up; None if it has none."""
        value = self.record.details.get("value")
        return value if isinstance(value, str) else None

    def is_overdue(self, at: float) -> bool:
        """True if at this Unix time it is held for longer than expected. A kept or cooling lock is not overdue."""
        if self.expect is None or self.since is None or self.record.state in (KEPT, COOLING):
            return False
        return at - self.since > self.expect

    @property
    def alive(self) -> bool | None:
        """True if its process has given a sign of life lately, False if it is silent. None if that is unknown."""
        return None if self.sign is None else self.sign.is_alive

    @property
    def last_beat(self) -> float | None:
        """Unix time of its last sign of life, on this machine's clock. None if it is unknown."""
        return None if self.sign is None else self.sign.at

    @property
    def lifetime(self) -> str:
        """How long the hold lasts.

        persistent: until it is unlocked, whatever happens to its holder. leased: until at most its ttl after its
        holder is gone. bound: leased, and renewed by a keeper for as long as another process lives.
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
        """True if no process monitors the hold: it is cooling down, or a step without a keeper."""
        return self.record.state == COOLING or (self.record.text("kind") == "lock" and self.keeper is None)


def in_order(holders: Iterable[Holder]) -> tuple[Holder, ...]:
    """The holders of one lock: by their slots, then the shared ones, the eldest first."""
    return tuple(sorted(holders, key=lambda holder: (holder.is_shared, holder.slot, holder.token)))


class LockState(Value):
    """The state of a lock at one revision. `waiters` are in the order of the queue.

    `freezes`: those that keep everybody from acquiring it, the realm's before its own.
    """

    name: str
    holders: tuple[Holder, ...]
    waiting: int
    waiters: tuple[Waiter, ...] = ()
    note: bytes | None = None  # on how its last hold ended, as stored in etcd
    freezes: tuple[Freeze, ...] = ()
    policy: Policy | None = None
    mutex_busy: bool = False  # a client of the Go original is inside its mutex: no acquisition is possible
    position: int = 0  # the place in the queue that a refused caller would have got, from 1; 0 if it was not read

    @property
    def last(self) -> HoldEnd | None:
        """How its last hold ended. Read from the note when it is asked for: a list of a realm has thousands."""
        return None if self.note is None else HoldEnd.parse(self.note)

    @property
    def frozen(self) -> Freeze | None:
        """The freeze of the realm, else that of this lock, None if it is not frozen."""
        return self.freezes[0] if self.freezes else None

    @property
    def is_frozen_itself(self) -> bool:
        """True if this lock has a freeze of its own, apart from one of its realm."""
        return any(freeze.lock is not None for freeze in self.freezes)

    @property
    def slots(self) -> int:
        """The number of slots: by the policy, or as the holders assume it."""
        if self.policy is not None and self.policy.slots is not None:
            return self.policy.slots
        return max((holder.record.limit for holder in self.holders if not holder.is_shared), default=1)

    def under(self, policy: Policy | None) -> LockState:
        """The same state with its policy, of which each holder has its part."""
        if policy is None:
            return self
        holders = (
            holder._replace(expect=policy.expect or holder.expect, cooldown=policy.cooldown) for holder in self.holders
        )
        return self._replace(holders=tuple(holders), policy=policy)
