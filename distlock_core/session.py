"""Session: a hold that is looked after: its lease, the renewal, the deadline, the loss."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from distlock_core.errors import Cancelled, DistlockError
from distlock_core.etcd.api import Get, KeyValue, WatchEnded
from distlock_core.model import Ended, Keys, Record
from distlock_core.patience import FOREVER, Interrupt, Patience, now
from distlock_core.values import Value
from distlock_core.wording import clock, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from distlock_core.etcd.api import Etcd
    from distlock_core.patience import Cancel

REREAD = 10.0  # seconds; a watch can be silent or miss an event, so the truth is read this often
FIRST_RETRY, LONGEST_RETRY = 0.1, 1.0  # seconds between two tries while etcd does not answer

GIVE_UP = 1.0  # seconds that are spent on leaving nothing behind; the lease ends the rest


class Lease:
    """A lease in etcd, renewed by whoever calls `renew_if_due()` often enough.

    `deadline` (on the `now()` clock) is the moment until which the lease is sure to live: counted from the *sending*
    of the last renewal that was confirmed, with the TTL that the server granted. After it nothing is sure.
    """

    ttl: int
    deadline: float
    renew_at: float

    def __init__(self, etcd: Etcd, ttl: int, patience: Patience, refresh: float | None = None) -> None:
        """Grant a lease of `ttl` seconds, to be renewed every `refresh` (default: a third). Raises as `Etcd` does."""
        self._etcd = etcd
        # Chosen here and not by the server: after a lost reply the same grant can be sent again.
        self.id = int.from_bytes(os.urandom(8), "big") >> 1 | 1
        self._refresh = refresh
        self._retry = FIRST_RETRY
        self.lost = False
        sent = now()
        try:
            self._confirmed(sent, etcd.grant(self.id, ttl, patience))
        except BaseException:
            self.give_up()  # it may have been granted: only the reply is missing
            raise

    @classmethod
    def adopt(cls, etcd: Etcd, lease: int, patience: Patience, refresh: float | None = None) -> Lease:
        """Go on with a lease that another process has granted. `lost` is set when it is gone."""
        adopted = cls.__new__(cls)
        adopted._etcd, adopted.id, adopted._refresh = etcd, lease, refresh
        adopted._retry, adopted.lost = FIRST_RETRY, False
        sent = now()
        ttl = etcd.keep_alive(lease, patience)
        adopted._confirmed(sent, ttl)
        adopted.lost = ttl <= 0
        return adopted

    def renew_if_due(self, patience: Patience) -> None:
        """Renew the lease when it is time. Sets `lost` when the server no longer knows it.

        An etcd that does not answer is no loss yet: it is asked again soon, with growing, jittered pauses.
        """
        if self.lost or now() < self.renew_at:
            return
        sent = now()
        try:
            ttl = self._etcd.keep_alive(self.id, patience.within(self.ttl / 3))
        except Cancelled:
            raise
        except DistlockError:  # away, or it refuses for a reason that may pass
            # Jitter: those who lost the same member do not come back to the next one all at once.
            self.renew_at = now() + self._retry * (0.5 + os.urandom(1)[0] / 256)
            self._retry = min(self._retry * 2, LONGEST_RETRY, self.ttl / 10)
            return
        if ttl > 0:
            self._confirmed(sent, ttl)
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
        self._etcd.revoke(self.id, patience)

    def _confirmed(self, sent: float, ttl: int) -> None:
        self.ttl = ttl
        self.deadline = sent + ttl
        self.renew_at = sent + (ttl / 3 if self._refresh is None else self._refresh)
        self._retry = FIRST_RETRY


class Loss(Value):
    """How a hold was lost: `at` Unix seconds, `why` in words. `orderly` when its own owner let it go."""

    why: str
    at: float
    orderly: bool = False


class Session:
    """A hold that is looked after until it is lost or closed.

    It renews the hold's lease (without one, the hold is persistent and there is nothing to renew) and watches its
    key. It is lost when the lease has run out or was revoked, or the key was deleted, replaced, or is no longer mine:
    a watch tells at once, the deadline at the latest. `on_lost` is called once, in the thread that found out.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        kv: KeyValue,
        is_mine: Callable[[KeyValue], bool],
        lease: Lease | None,
        on_lost: Callable[[Loss], None] | None = None,
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._key = kv.key
        self._token = kv.create_revision
        self._revision = kv.mod_revision
        self._is_mine = is_mine
        self.lease = lease
        self.on_lost = on_lost
        self.loss: Loss | None = None
        self._lost: threading.Event | None = None
        self.margin = 0.0  # seconds before the deadline by which a hold without a renewal counts as lost
        self._stop: Interrupt | None = None
        self._thread: threading.Thread | None = None

    @property
    def deadline(self) -> float:
        """Until when the hold is sure, on the `now()` clock. A persistent one has no end."""
        return FOREVER if self.lease is None else self.lease.deadline

    @property
    def lost(self) -> threading.Event:
        """Set when the hold is lost, for threads that wait for that."""
        if self._lost is None:
            import threading

            self._lost = threading.Event()
            if self.loss is not None:
                self._lost.set()
        return self._lost

    def start(self) -> None:
        """Look after the hold in a thread of its own, until it is lost or `stop()` is called."""
        if self._thread is None:
            from distlock_core.threads import start_thread

            stop = self._stop = Interrupt()
            self._thread = start_thread(lambda: self.run(stop), "distlock-session")

    def stop(self) -> None:
        """Stop looking after it, and leave no thread. The lease is left as it is."""
        if self._thread is not None and self._stop is not None:
            self._stop.set()
            self._thread.join()
            self._stop.close()
            self._thread = self._stop = None

    def run(self, cancel: Cancel | None = None) -> None:
        """Look after the hold in this thread. Returns when it is lost, or the caller's cancel is set."""
        patience = Patience(FOREVER, cancel)
        pause = FIRST_RETRY
        try:
            while self.loss is None:
                try:
                    self._watch(patience)
                    pause = FIRST_RETRY
                except Cancelled:
                    raise
                except (DistlockError, WatchEnded):
                    patience.pause(pause * (0.5 + os.urandom(1)[0] / 256))
                    pause = min(pause * 2, LONGEST_RETRY)
                    self._keep(patience)
        except Cancelled:
            pass

    def _watch(self, patience: Patience) -> None:
        """Watch the key and renew the lease until the watch says something, or falls silent for too long."""
        call = patience.within(self._longest_call())
        watch = self._etcd.watch([(self._key, None)], self._revision + 1, call)
        try:
            reread = now() + REREAD
            while self.loss is None:
                moment = min(reread, FOREVER if self.lease is None else min(self.lease.renew_at, self._last_moment))
                if watch.wait(patience.until(moment)) or now() >= reread:
                    self._look(patience)
                    reread = now() + REREAD
                self._keep(patience)
                if watch.endpoint != self._etcd.endpoint:
                    self._look(patience)
                    return  # the member behind the watch did not answer, another one did
        finally:
            watch.close()

    def _keep(self, patience: Patience) -> None:
        """Renew the lease if it is due; notice when it is gone."""
        if self.lease is None or self.loss is not None:
            return
        self.lease.renew_if_due(patience.until(self._last_moment) if self.margin else patience)
        if self.lease.lost:
            self._lose("its lease has run out, or was revoked")
        elif now() >= self._last_moment:
            self._lose(f"etcd has confirmed no renewal for {self.lease.ttl - self.margin:.3g}s")

    def _look(self, patience: Patience) -> None:
        """Read the key. Raises `EtcdUnavailable`."""
        reads = [Get(self._key), Get(self._keys.last)]
        outcome = self._etcd.read(reads, patience.within(self._longest_call()))
        found, last = outcome.ranges()
        self._revision = outcome.revision
        if found.kvs and self._is_mine(found.kvs[0]):
            return
        if found.kvs:
            other = Record.parse(found.kvs[0].value)
            same = found.kvs[0].create_revision == self._token
            self._lose(f"it is held by {owner_of(other.owner)} now", orderly=same and other.explicit)
            return
        ended = Ended.parse(last.kvs[0].value) if last.kvs else None
        if ended is not None and ended.how and ended.token == self._token:
            when = f" at {clock(ended.at)}" if ended.at else ""
            self._lose(f"it was {ended.how} by {owner_of(ended.by)}{when}", orderly=ended.how == "released")
        elif self.lease is not None and self._etcd.time_to_live(self.lease.id, patience.within(GIVE_UP)) == 0:
            self._lose("its lease has run out, or was revoked")
        else:
            self._lose("its key was deleted")

    @property
    def _last_moment(self) -> float:
        return self.deadline - self.margin

    def _longest_call(self) -> float:
        longest = 5.0 if self.lease is None else max(self.lease.ttl / 3, 0.5)
        return min(longest, max(self._last_moment - now(), 0.1)) if self.margin else longest

    def _lose(self, why: str, *, orderly: bool = False) -> None:
        if self.loss is None:
            self.loss = Loss(why, time.time(), orderly)
            if self._lost is not None:
                self._lost.set()
            if self.on_lost is not None:
                self.on_lost(self.loss)
