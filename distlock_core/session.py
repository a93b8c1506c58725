"""Session: a hold that is looked after: its watch, the renewal of its lease, the deadline, the loss."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from distlock_core.errors import Cancelled, DistlockError
from distlock_core.etcd.api import Get, KeyValue, WatchEnded
from distlock_core.lease import FIRST_RETRY, GIVE_UP, LONGEST_RETRY
from distlock_core.model import Ended, Keys, Record, token_of
from distlock_core.patience import FOREVER, Interrupt, Patience, now
from distlock_core.values import Value
from distlock_core.wording import clock, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from distlock_core.etcd.api import Etcd
    from distlock_core.lease import Lease
    from distlock_core.patience import Cancel

REREAD = 10.0  # seconds; a watch can be silent or miss an event, so the truth is read this often
SHORTEST_CALL, LONGEST_CALL = 0.25, 5.0  # seconds that a read, or the opening of a watch, may take


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

    From the first renewal that fails until etcd has confirmed both lease and key it is in `doubt`; past the deadline it
    is `overdue` too. One that `endures` is not lost by that: only etcd's own word ends it. `on_change` is called
    whenever any of these has changed.
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
        self._token = token_of(kv)
        self._revision = kv.mod_revision
        self._is_mine = is_mine
        self.lease = lease
        self.on_lost = on_lost
        self.on_change: Callable[[], None] | None = None
        self.endures = False
        self.doubt = False
        self.overdue = False
        self.loss: Loss | None = None
        self._lost: threading.Event | None = None
        self.margin = 0.0  # seconds before the deadline by which a hold without a renewal counts as lost
        self._stop: Interrupt | None = None
        self._thread: threading.Thread | None = None
        self._itself = False  # stopped by its own thread

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

    @property
    def is_running(self) -> bool:
        """True from `start()` to `stop()`."""
        return self._thread is not None

    def start(self) -> None:
        """Look after the hold in a thread of its own, until it is lost or `stop()` is called."""
        if self._thread is None:
            from distlock_core.threads import start_thread

            stop = self._stop = Interrupt()
            self._thread = start_thread(lambda: self._run_to_the_end(stop), "distlock-session")

    def stop(self) -> None:
        """Stop looking after it, and leave no thread. The lease is left as it is.

        Called by the thread itself (from `on_lost`), it ends as soon as that returns.
        """
        thread, stop = self._thread, self._stop
        self._thread = self._stop = None
        if thread is not None and stop is not None:
            import threading

            stop.set()
            self._itself = thread is threading.current_thread()
            if not self._itself:
                thread.join()
                stop.close()

    def move(self, kv: KeyValue, lease: Lease | None) -> None:
        """The hold has another lease from now on: not while it is looked after."""
        self._revision, self.lease = kv.mod_revision, lease

    def run(self, cancel: Cancel | None = None) -> None:
        """Look after the hold in this thread. Returns when it is lost, or the caller's cancel is set."""
        patience = Patience(FOREVER, cancel)
        pause = FIRST_RETRY
        shaken = False
        try:
            while self.loss is None:
                try:
                    self._keep(patience)
                    if shaken:
                        # The history that the next watch would begin with may be compacted by now.
                        self._look(patience)
                    self._watch(patience)
                    pause, shaken = FIRST_RETRY, False
                except Cancelled:
                    raise
                except (DistlockError, WatchEnded):
                    shaken = True
                    patience.until(self._next_moment).pause(pause * (0.5 + os.urandom(1)[0] / 256))
                    pause = min(pause * 2, LONGEST_RETRY)
        except Cancelled:
            pass

    def _run_to_the_end(self, stop: Interrupt) -> None:
        self.run(stop)
        if self._itself:
            stop.close()

    def _watch(self, patience: Patience) -> None:
        """Watch the key and renew the lease until the watch says something, or falls silent for too long."""
        if self.loss is not None:
            return
        watch = self._etcd.watch([(self._key, None)], self._revision + 1, self._call(patience))
        try:
            reread = now() + REREAD
            while self.loss is None:
                if watch.wait(patience.until(min(reread, self._next_moment))) or now() >= reread:
                    self._look(patience)
                    reread = now() + REREAD
                self._keep(patience)
                if watch.endpoint != self._etcd.endpoint:
                    self._look(patience)
                    return  # the member behind the watch did not answer, another one did
        finally:
            watch.close()

    def _keep(self, patience: Patience) -> None:
        """Renew the lease if it is due; notice when it is gone. Raises `EtcdUnavailable` only where it is in doubt."""
        if self.lease is None or self.loss is not None:
            return
        if self.endures and now() >= self.deadline:
            self._doubt_it(overdue=True)  # before asking: a process that was stopped must not believe a lease alone
        bounded = self.margin or (self.endures and not self.overdue)
        self.lease.renew_if_due(patience.until(self._last_moment) if bounded else patience)
        if self.lease.lost:
            self._lose("its lease has run out, or was revoked")
        elif now() >= self._last_moment:
            if self.endures:
                self._doubt_it(overdue=True)
            else:
                self._lose(f"etcd has confirmed no renewal for {self.lease.ttl - self.margin:.3g}s")
        elif self.lease.failing:
            self._doubt_it()
        elif self.doubt:
            self._look(patience)
            self._trust()

    def _look(self, patience: Patience) -> None:
        """Read the key. Raises `EtcdUnavailable`."""
        reads = [Get(self._key), Get(self._keys.last)]
        outcome = self._etcd.read(reads, self._call(patience))
        found, last = outcome.ranges()
        self._revision = outcome.revision
        if found.kvs and self._is_mine(found.kvs[0]):
            return
        if found.kvs:
            other = Record.parse(found.kvs[0].value)
            same = token_of(found.kvs[0]) == self._token
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

    @property
    def _next_moment(self) -> float:
        """When the lease needs something: its renewal, or to be given up."""
        if self.lease is None:
            return FOREVER
        return self.lease.renew_at if self.overdue else min(self.lease.renew_at, self._last_moment)

    def _call(self, patience: Patience) -> Patience:
        """The patience for one call: a member that hangs must not hold up the renewal."""
        if self.lease is None:
            return patience.within(LONGEST_CALL)
        until_due = max(self.lease.renew_at - now(), SHORTEST_CALL)
        call = patience.within(min(until_due, max(self.lease.ttl / 3, 0.5)))
        return call.until(max(self._last_moment, now() + 0.1)) if self.margin else call

    def _doubt_it(self, *, overdue: bool = False) -> None:
        changed = not self.doubt or (overdue and not self.overdue)
        self.doubt = True
        self.overdue = self.overdue or overdue
        if changed and self.on_change is not None:
            self.on_change()

    def _trust(self) -> None:
        if self.loss is None:
            self.doubt = self.overdue = False
            if self.on_change is not None:
                self.on_change()

    def _lose(self, why: str, *, orderly: bool = False) -> None:
        if self.loss is None:
            self.loss = Loss(why, time.time(), orderly)
            if self._lost is not None:
                self._lost.set()
            if self.on_change is not None:
                self.on_change()
            if self.on_lost is not None:
                self.on_lost(self.loss)
