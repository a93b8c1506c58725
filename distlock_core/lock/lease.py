"""Lease: the etcd lease of a hold or a ticket: granted, renewed, and guaranteed to live until its deadline."""

from __future__ import annotations

import os

from distlock_core.base.deadline import Backoff, Patience, jittered, now
from distlock_core.errors import Cancelled, DistlockError
from distlock_core.model.ttl import longest_call, refresh_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd

TICKET_TTL = 10  # seconds that a dead waiter blocks those behind it
SOON = 1.0  # lower limit for the time that a renewal may take, in seconds
GIVE_UP = 1.0  # seconds spent on cleaning up; what remains expires with its lease
# Interval between two attempts of an unanswered renewal: a fortieth of the time from when it is due to the deadline,
# so that an etcd that returns shortly before the deadline is still noticed.
SHORTEST_STEP, LONGEST_STEP, STEPS = 0.1, 1.0, 40


def drop_lease(etcd: Etcd, lease: int, patience: Patience) -> None:
    """Revoke the lease of a hold that has ended and has no process to do so. After any error it expires."""
    try:
        etcd.revoke(lease, patience)
    except DistlockError:
        pass


class Lease:
    """A lease in etcd, kept alive by frequent calls of `renew_if_due()`.

    The lease is guaranteed to live until `deadline` (on the `now()` clock). That is the TTL granted by the server,
    counted from the *sending* of the last confirmed renewal, or of the first unanswered one right before it.
    """

    ttl: int
    deadline: float
    renew_at: float
    _step: float
    _pauses: Backoff
    _asked: float | None = None  # time of the first renewal that may still be unanswered
    _of_ticket = False

    def __init__(
        self,
        etcd: Etcd,
        ttl: int,
        patience: Patience | None,
        refresh: float | None = None,
        *,
        of_ticket: bool = False,
    ) -> None:
        """Grant a lease of `ttl` seconds, to be renewed every `refresh` (default: a third). Raises as `Etcd` does.

        That of a ticket is renewed at times that differ from waiter to waiter, and with one attempt at a time: a fleet
        of waiters must not flood an etcd that is only slow, and nothing is killed when it is lost.

        Without a patience the lease is not granted yet: the caller calls `grant()`, and `give_up()` if that fails.
        """
        self._etcd = etcd
        self._of_ticket = of_ticket
        # The id is chosen here, not by the server, so that the same grant can be sent again after a lost reply.
        self.id = int.from_bytes(os.urandom(8), "big") >> 1 | 1
        self.refresh = refresh
        self.gone = True  # not granted yet
        self.failing = False  # the last renewal failed
        if patience is not None:
            try:
                self.grant(ttl, patience)
            except BaseException:
                self.give_up()  # it may have been granted, with only the reply lost
                raise

    @classmethod
    def adopt(cls, etcd: Etcd, lease: int, patience: Patience, refresh: float | None = None) -> Lease:
        """Continue with a lease that another process has granted. Sets `gone` if it no longer exists."""
        from distlock_core.lock import renewal  # noqa: F401 - as in `grant()`

        adopted = cls.__new__(cls)
        adopted._etcd, adopted.id, adopted.refresh = etcd, lease, refresh
        adopted.gone = adopted.failing = False
        sent = now()
        ttl = etcd.keep_alive(lease, patience)
        adopted._confirmed(sent, ttl)
        adopted.gone = ttl <= 0
        return adopted

    def grant(self, ttl: int, patience: Patience) -> None:
        """Grant the lease. Raises as `Etcd` does, in which case the lease may exist anyway."""
        from distlock_core.lock import renewal  # noqa: F401 - loaded while nothing depends on the lease

        sent = now()
        self._confirmed(sent, self._etcd.grant(self.id, ttl, patience))
        self.gone = False

    def renew_if_due(self, patience: Patience) -> None:
        """Renew the lease if it is due. Sets `gone` if the server no longer knows it.

        If etcd does not answer, the renewal is retried with growing, jittered pauses of at most a second. Any other
        error is treated in the same way. The lease is not lost before its deadline.
        """
        if self.gone or now() < self.renew_at:
            return
        try:
            # A short refresh interval asks for early detection, so it shortens the call.
            longest = longest_call(self.ttl)
            self.renew(patience.within(longest if self.refresh is None else min(longest, max(self.refresh, SOON))))
        except Cancelled:
            raise
        except Exception:  # noqa: BLE001 - etcd is unreachable or refuses for now, or this machine lacks a resource
            self.renew_at = now() + self._pauses.next()
            self.failing = True

    def renew(self, patience: Patience) -> None:
        """Renew the lease now. Sets `gone` if the server no longer knows it. Raises as `Etcd` does.

        Several attempts may overlap: see `renewal`.
        """
        from distlock_core.lock.renewal import renew, renew_gently

        asked = self._asked  # a renewal in another thread (`Lock.acquire()` of a held lock) may be answered meanwhile
        if asked is None:
            asked = self._asked = now()

        def ask(limit: Patience, fresh: bool) -> int:
            return self._etcd.keep_alive(self.id, limit, fresh=fresh)

        ttl = renew_gently(ask, patience) if self._of_ticket else renew(ask, patience, self._step)
        if ttl > 0:
            self._confirmed(asked, ttl)
        else:
            self.gone = True

    def give_up(self, patience: Patience | None = None) -> None:
        """Try to revoke the lease within the patience (default: one second); otherwise it expires."""
        try:
            self.revoke(patience or Patience.lasting(GIVE_UP))
        except Exception:  # noqa: BLE001, S110 - after any error the lease expires by itself
            pass

    def revoke(self, patience: Patience) -> None:
        """Revoke the lease now, which deletes all keys attached to it."""
        self._etcd.revoke(self.id, patience)

    def _confirmed(self, sent: float, ttl: int) -> None:
        self.ttl = ttl
        self.deadline = sent + ttl
        self.renew_at = sent + refresh_of(ttl, self.refresh)
        self._step = min(max((self.deadline - self.renew_at) / STEPS, SHORTEST_STEP), LONGEST_STEP)
        if self._of_ticket:
            self.renew_at = sent + jittered(refresh_of(ttl, self.refresh), 0.75, 1.0)
        self._pauses = Backoff(longest=self._step, most=1)
        self.failing = False
        self._asked = None
