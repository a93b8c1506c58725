"""Lease: what a hold or a ticket hangs on in etcd: granted, renewed, and sure to live until its deadline."""

from __future__ import annotations

import os

from distlock_core.base.deadline import Backoff, Patience, now
from distlock_core.errors import Cancelled
from distlock_core.lock.renewal import renew
from distlock_core.model.ttl import longest_call, refresh_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd

TICKET_TTL = 10  # seconds that a waiter who died keeps those behind it waiting
SOON = 1.0  # seconds that a renewal may take in any case
GIVE_UP = 1.0  # seconds that are spent on leaving nothing behind; the lease ends the rest
# Between two tries of a renewal that is not answered, by the time between the moment it is due and the deadline: a
# fortieth of it, so that an etcd that is back shortly before the end is still found.
SHORTEST_STEP, LONGEST_STEP, STEPS = 0.1, 1.0, 40


class Lease:
    """A lease in etcd, renewed by whoever calls `renew_if_due()` often enough.

    `deadline` (on the `now()` clock) is the moment until which the lease is sure to live: counted from the *sending*
    of the last renewal that was confirmed, with the TTL that the server granted; where some before it were not
    answered, from the first of those. After it nothing is sure.
    """

    ttl: int
    deadline: float
    renew_at: float
    _step: float
    _pauses: Backoff
    _asked: float | None = None  # when the first renewal was sent that may not have been answered yet

    def __init__(self, etcd: Etcd, ttl: int, patience: Patience | None, refresh: float | None = None) -> None:
        """Grant a lease of `ttl` seconds, to be renewed every `refresh` (default: a third). Raises as `Etcd` does.

        Without a patience that is left to `grant()`, and what becomes of it when that fails to the caller.
        """
        self._etcd = etcd
        # Chosen here and not by the server: after a lost reply the same grant can be sent again.
        self.id = int.from_bytes(os.urandom(8), "big") >> 1 | 1
        self.refresh = refresh
        self.gone = True  # not granted yet
        self.failing = False  # the last renewal has failed, and may be one of many
        if patience is not None:
            try:
                self.grant(ttl, patience)
            except BaseException:
                self.give_up()  # it may have been granted: only the reply is missing
                raise

    @classmethod
    def adopt(cls, etcd: Etcd, lease: int, patience: Patience, refresh: float | None = None) -> Lease:
        """Go on with a lease that another process has granted. `gone` is set when it is there no more."""
        adopted = cls.__new__(cls)
        adopted._etcd, adopted.id, adopted.refresh = etcd, lease, refresh
        adopted.gone = adopted.failing = False
        sent = now()
        ttl = etcd.keep_alive(lease, patience)
        adopted._confirmed(sent, ttl)
        adopted.gone = ttl <= 0
        return adopted

    def grant(self, ttl: int, patience: Patience) -> None:
        """Have it granted. Raises as `Etcd` does: it may exist all the same."""
        sent = now()
        self._confirmed(sent, self._etcd.grant(self.id, ttl, patience))
        self.gone = False

    def renew_if_due(self, patience: Patience) -> None:
        """Renew the lease when it is time. Sets `gone` when the server no longer knows it.

        An etcd that does not answer is no loss yet: it is asked again soon, with growing, jittered pauses of a second
        at most. Whatever else goes wrong counts as no answer too: the deadline decides.
        """
        if self.gone or now() < self.renew_at:
            return
        try:
            # Who renews often wants to know soon.
            longest = longest_call(self.ttl)
            self.renew(patience.within(longest if self.refresh is None else min(longest, max(self.refresh, SOON))))
        except Cancelled:
            raise
        except Exception:  # noqa: BLE001 - away, refused for a reason that may pass, or this machine lacks something
            self.renew_at = now() + self._pauses.next()
            self.failing = True

    def renew(self, patience: Patience) -> None:
        """Renew the lease now. Sets `gone` when the server no longer knows it. Raises as `Etcd` does.

        A try without an answer is not waited for alone: see `renewal`.
        """
        asked = self._asked  # a renewal in another thread (`Lock.acquire()` of what is held) may be answered meanwhile
        if asked is None:
            asked = self._asked = now()
        ttl = renew(lambda limit, fresh: self._etcd.keep_alive(self.id, limit, fresh=fresh), patience, self._step)
        if ttl > 0:
            self._confirmed(asked, ttl)
        else:
            self.gone = True

    def give_up(self, patience: Patience | None = None) -> None:
        """Revoke it within the patience (default: a second), if that can be done: else it runs out."""
        try:
            self.revoke(patience or Patience.lasting(GIVE_UP))
        except Exception:  # noqa: BLE001, S110 - whatever it was, the lease ends by itself
            pass

    def revoke(self, patience: Patience) -> None:
        """End the lease, and everything that hangs on it, now."""
        self._etcd.revoke(self.id, patience)

    def _confirmed(self, sent: float, ttl: int) -> None:
        self.ttl = ttl
        self.deadline = sent + ttl
        self.renew_at = sent + refresh_of(ttl, self.refresh)
        self._step = min(max((self.deadline - self.renew_at) / STEPS, SHORTEST_STEP), LONGEST_STEP)
        self._pauses = Backoff(longest=self._step, most=1)
        self.failing = False
        self._asked = None
