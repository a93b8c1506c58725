"""Session: one lease, its renewal, its deadline, its loss."""

from __future__ import annotations

import os

from distlock_core.errors import DistlockError, EtcdUnavailable
from distlock_core.patience import Patience, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.api import Etcd

GIVE_UP = 1.0  # seconds that are spent on leaving nothing behind; the lease ends the rest


class Session:
    """A lease in etcd, renewed by whoever calls `renew_if_due()` often enough.

    `deadline` (on the `now()` clock) is the moment until which the lease is sure to live: counted from the *sending*
    of the last renewal that was confirmed, with the TTL that the server granted. After it nothing is sure.
    """

    def __init__(self, etcd: Etcd, ttl: int, patience: Patience) -> None:
        """Grant a lease of `ttl` seconds, under a random id of its own. Raises as `Etcd` does."""
        self._etcd = etcd
        # Chosen here and not by the server: after a lost reply the same grant can be sent again.
        self.lease = int.from_bytes(os.urandom(8), "big") >> 1 | 1
        sent = now()
        self.lost = False
        try:
            self.ttl = etcd.grant(self.lease, ttl, patience)
        except BaseException:
            self.give_up()  # it may have been granted: only the reply is missing
            raise
        self.deadline = sent + self.ttl
        self.renew_at = sent + self.ttl / 3

    def renew_if_due(self, patience: Patience) -> None:
        """Renew the lease when a third of its TTL is gone. Sets `lost` when the server no longer knows it.

        An etcd that does not answer is no loss yet: it is asked again soon.
        """
        if self.lost or now() < self.renew_at:
            return
        sent = now()
        try:
            ttl = self._etcd.keep_alive(self.lease, patience.within(self.ttl / 3))
        except EtcdUnavailable:
            self.renew_at = now() + self.ttl / 20
            return
        if ttl > 0:
            self.ttl = ttl
            self.deadline = sent + ttl
            self.renew_at = sent + ttl / 3
        else:
            self.lost = True

    def give_up(self) -> None:
        """Revoke it within a second, if that can be done: else it runs out."""
        try:
            self.revoke(Patience.lasting(GIVE_UP))
        except DistlockError:
            pass

    def revoke(self, patience: Patience) -> None:
        """End the lease, and everything that hangs on it, now."""
        self._etcd.revoke(self.lease, patience)
