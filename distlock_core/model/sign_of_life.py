"""SignOfLife: how long ago the process behind a persistent hold was last seen alive, as etcd tells it. Pure.

A process that beats renews a lease of its own at every beat. That lease outlives it by far, so what has gone by of its
ttl is the time since the last beat: measured by etcd alone, so that no two clocks are compared. A new leader of etcd
starts all leases again, which makes the time look shorter than it is. So the sign also carries the raft term in which
the process was last alive: if etcd has had another leader since, the time is only the least that it can be.
"""

from __future__ import annotations

import time

from distlock_core.base.value import Value
from distlock_core.model.record import ATTENDED, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.values import KeyValue

LASTS = 7 * 24 * 3600  # seconds that the last sign of life can be read after it
MISSED = 3  # beats, after which a process counts as silent
ROUNDED = 1  # seconds by which the time may be too long, as etcd tells whole seconds
LEADER, EXPIRED, DELETED = "leader", "expired", "deleted"  # reasons for a doubt


class SignOfLife(Value):
    """The last sign of life, as read at the Unix time `read_at` on this machine's clock.

    `silent` are the seconds since then. With a `doubt` they are the least that they can be: another `leader` of etcd
    was elected since, or the sign has `expired`. If it was `deleted`, they are unknown.
    """

    every: int  # seconds between two signs
    silent: int | None
    doubt: str
    read_at: float

    @classmethod
    def of(cls, record: Record, kv: KeyValue | None, left: int, term: int, at: float) -> SignOfLife | None:
        """The sign of a hold with this record, None if it gives none, or if no process looks after it any more.

        `kv` is the sign's key, `left` what its lease has left in seconds, `term` etcd's raft term now.
        """
        every = record.number("beat")
        if every is None or every <= 0 or record.state not in ATTENDED:
            return None
        sign = Record.parse(b"" if kv is None else kv.value)
        lasts = sign.number("ttl") or LASTS
        if left <= 0:
            is_over = record.since is None or at - record.since >= lasts
            return cls(every, lasts, EXPIRED, at) if is_over else cls(every, None, DELETED, at)
        is_certain = 0 < term <= (sign.number("term") or 0)
        return cls(every, max(0, lasts - left), "" if is_certain else LEADER, at)

    @property
    def is_alive(self) -> bool | None:
        """True if it is not silent for longer than `MISSED` beats, None if that is unknown."""
        if self.silent is None:
            return None
        if self.silent > MISSED * self.every + ROUNDED:
            return False
        return None if self.doubt else True

    @property
    def at(self) -> float | None:
        """Its Unix time on this machine's clock; with a doubt the latest that it can be. None if it is unknown."""
        return None if self.silent is None else self.read_at - self.silent


def sign_record(owner: str, every: int, term: int) -> bytes:
    """The value of a sign's key. It is written at the claim, and again when etcd has another leader."""
    return Record(int(time.time()), owner, {"every": every, "ttl": LASTS, "term": term}).encode()
