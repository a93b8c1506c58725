"""Beat: the sign of life beside a persistent hold, given at regular intervals by the process that holds it.

Its key is attached to a lease that outlives the process for days. A beat is a renewal of that lease, which costs no
commit. No condition of a claim reads the key, so neither its presence nor its end lets anybody in or out, and whatever
fails here never ends a hold.
"""

from __future__ import annotations

from distlock_core.base.deadline import LONGEST_RETRY, jittered, now
from distlock_core.errors import Cancelled
from distlock_core.etcd.values import Compare, Put
from distlock_core.lock.lease import Lease
from distlock_core.model.sign_of_life import LASTS, sign_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue
    from distlock_core.model.keys import Keys

LONGEST_CALL = 5.0  # seconds; the thread that beats also watches the hold
NOT_WRITTEN = -1  # no term of etcd
REWRITE = 20.0  # seconds between two attempts to write a sign again, if a beat is not due before


class Beat:
    """The signs of life of one acquisition: one key for each of its locks, all attached to one lease."""

    def __init__(self, etcd: Etcd, every: int, owner: str, run: str) -> None:
        """Nothing is sent before `grant()`."""
        self.every = every
        self._etcd = etcd
        self._owner, self._run = owner, run
        # Of a ticket: one attempt at a time, at times that differ from holder to holder, as nothing ends with it.
        self._lease = Lease(etcd, LASTS, None, every, of_ticket=True)
        self._term = 0
        self.is_over = False  # the hold is gone, or ended

    def grant(self, patience: Patience) -> None:
        """Grant the lease. Raises as `Etcd` does, in which case it may exist anyway."""
        self._lease.grant(LASTS, patience)
        self._term = self._etcd.term

    @property
    def is_granted(self) -> bool:
        """True if etcd has confirmed the lease."""
        return not self._lease.gone

    @property
    def details(self) -> dict[str, Any]:
        """The fields of the hold's record that lead to the sign."""
        return {"beat": self.every, "beat_lease": self._lease.id}

    @property
    def due_at(self) -> float:
        """The time of the next beat, on the `now()` clock."""
        return self._lease.renew_at

    def put(self, keys: Keys) -> Put:
        """The write of the sign for one lock."""
        return Put(keys.sign_of_life(self._run), sign_record(self._owner, self.every, self._term), self._lease.id)

    def go_on(self, held: Sequence[tuple[Keys, KeyValue]], patience: Patience) -> None:
        """Beat if it is due, beside these holds. No error but `Cancelled` gets out: the next attempt follows soon."""
        lease = self._lease
        if self.is_over or now() < lease.renew_at:
            return
        patience = patience.within(LONGEST_CALL)
        try:
            lease.renew_if_due(patience)
            if lease.gone:
                lease.grant(LASTS, patience)  # it was revoked by hand, or this process was stopped for days
                self._term = NOT_WRITTEN  # until it is: the next attempt would find nothing else to write for
                self._write(held, patience)
            elif not lease.failing and self._etcd.term != self._term:
                self._write(held, patience)
        except Cancelled:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the hold does not depend on it
            # The lease lives: each attempt is a write, which an etcd that is full refuses to a whole fleet.
            pause = LONGEST_RETRY if lease.gone or lease.failing else min(self.every, REWRITE)
            lease.renew_at = now() + jittered(pause)

    def _write(self, held: Sequence[tuple[Keys, KeyValue]], patience: Patience) -> None:
        """Put the signs again, with the present term, beside holds that are still there."""
        term, before = self._etcd.term, self._term
        self._term = term
        try:
            still = [Compare("CREATE", "EQUAL", kv.key, kv.create_revision) for _, kv in held]
            outcome = self._etcd.txn(still, [self.put(keys) for keys, _ in held], [], patience)
        except BaseException:
            self._term = before
            raise
        if not outcome.succeeded:
            self.end(patience)

    def end(self, patience: Patience | None = None) -> None:
        """Revoke the lease within the patience (default: one second), which deletes what is left of the signs."""
        self.is_over = True
        self._lease.give_up(patience)
