"""Session: a hold that is looked after: its watch, the renewal of its lease, the deadline, the loss."""

from __future__ import annotations

import os
import time

from distlock_core.base.deadline import FOREVER, Backoff, Patience, now
from distlock_core.base.standby_thread import StandbyThread
from distlock_core.base.threads import report
from distlock_core.base.value import Value
from distlock_core.errors import Cancelled
from distlock_core.etcd.values import REREAD, Get, KeyValue
from distlock_core.lock.lease import GIVE_UP
from distlock_core.model.keys import Keys
from distlock_core.model.record import HoldEnd, Record, token_of
from distlock_core.model.ttl import longest_call
from distlock_core.model.wording import clock, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.lock.lease import Lease

SHORTEST_PAUSE = 0.02  # seconds between two tries, even where the next thing is overdue
SHORTEST_CALL, LONGEST_CALL = 0.25, 5.0  # seconds that a read, or the opening of a watch, may take


class Loss(Value):
    """How a hold was lost: `at` Unix seconds, `why` in words. `orderly` when its own owner let it go."""

    why: str
    at: float
    orderly: bool = False


CANNOT_GO_ON = Loss("this process cannot monitor it any more: out of memory", 0.0)  # made in time


class Session:
    """A hold that is looked after until it is lost or closed.

    It renews the hold's lease (without one, the hold is persistent and there is nothing to renew) and watches its
    key. It is lost when the lease has run out or was revoked, or the key was deleted, replaced, or is another's:
    a watch tells at once, the deadline at the latest. `on_lost` is called once, in the thread that found out.

    From the first renewal that fails until etcd has confirmed both lease and key it is in `doubt`; past the deadline it
    is `overdue` too. One that `endures` is not lost by that: only etcd's own word ends it. `on_change` is called
    whenever any of these has changed.

    No error ends it before that. What nobody expects (no descriptor is left, no thread can be started, memory is short)
    counts as an etcd that is away: it is tried again, and the deadline decides. What `on_lost` and `on_change` raise is
    reported as an error of the thread, and changes nothing.
    """

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        kv: KeyValue,
        is_mine: Callable[[KeyValue], bool],
        lease: Lease | None,
        on_lost: Callable[[Loss], None] | None = None,
        standby: StandbyThread | None = None,
    ) -> None:
        """`standby` is the thread that `start()` uses, made before the claim: it stays the caller's."""
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
        self.kill_after = 0.0  # seconds before the deadline by which a hold without a renewal counts as lost
        self._standby = standby
        self._is_given = standby is not None
        self._running = False
        self._pid = os.getpid()

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
        """True from `start()` to `stop()`. In a forked child nobody looks after it."""
        return self._running and self._pid == os.getpid()

    def start(self) -> None:
        """Look after the hold in a thread of its own, until it is lost or `stop()` is called.

        Without a `standby` the thread is started now, which raises `DistlockError` where none can be.
        """
        if not self._running:
            self._standby = self._standby or StandbyThread("distlock-session")
            self._running = True
            self._standby.hand(self.run)

    def stop(self, *, for_now: bool = False) -> None:
        """Stop looking after it, and leave no thread: but one that was given, and, `for_now`, one to start again with.

        The lease is left as it is. Called by the thread itself (from `on_lost`), it ends as soon as that returns.
        """
        standby, self._running = self._standby, False
        if standby is None:
            return
        if self._is_given or for_now:
            standby.recall()
        else:
            self._standby = None
            standby.close()

    def run(self, cancel: Cancel | None = None) -> None:
        """Look after the hold in this thread. Returns when it is lost, or the caller's cancel is set."""
        pauses = Backoff()
        shaken = False
        while self.loss is None:
            try:
                patience = Patience(FOREVER, cancel)
                self._keep(patience)
                if shaken:
                    # The history that the next watch would begin with may be compacted by now.
                    self._look(patience)
                self._watch(patience)
                pauses.reset()
                shaken = False
            except Cancelled:
                return
            except Exception:  # noqa: BLE001 - etcd is away, or this process is in trouble: the deadline decides
                shaken = True
                if not self._outlast(cancel, pauses):
                    return

    def _outlast(self, cancel: Cancel | None, pauses: Backoff) -> bool:
        """Wait for a while after a failure, unless that was the last one there was time for. False: called off."""
        if self._pid != os.getpid():
            return False  # a callback has forked, and the child came back here: it looks after nothing
        try:
            if self._judge():
                return True
        except Exception:  # noqa: BLE001 - who cannot look at the deadline cannot hold anything until then
            self._lose(CANNOT_GO_ON)
            return True
        try:
            # What is due and cannot be done must not make this spin.
            patience = Patience(max(self._next_moment, now() + SHORTEST_PAUSE), cancel)
            patience.pause(pauses.next())
        except Cancelled:
            return False
        except Exception:  # noqa: BLE001 - not even waiting works as it should
            time.sleep(SHORTEST_PAUSE)
            return not _is_set(cancel)
        return True

    def _judge(self) -> bool:
        """Look at the clock alone: True when the hold is lost by it."""
        if self.lease is None or now() < self._last_moment:
            return False
        if self.endures:
            self._doubt_it(overdue=True)
            return False
        self._lose(self._silence())
        return True

    def _silence(self) -> Loss:
        assert self.lease is not None
        return Loss(f"etcd has confirmed no renewal for {self.lease.ttl - self.kill_after:.3g}s", time.time())

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
        bounded = self.kill_after or (self.endures and not self.overdue)
        try:
            self.lease.renew_if_due(patience.until(self._last_moment) if bounded else patience)
        except Cancelled:
            raise
        except Exception:
            self._doubt_it()
            raise  # it is judged, and tried again after a pause
        if self.lease.gone:
            self._lose(Loss("its lease has expired or was revoked", time.time()))
        elif self._judge() or now() >= self._last_moment:
            pass
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
            self._lose(Loss(f"it is held by {owner_of(other.owner)} now", time.time(), same and other.explicit))
            return
        ended = HoldEnd.parse(last.kvs[0].value) if last.kvs else None
        if ended is not None and ended.how and ended.token == self._token:
            when = f" at {clock(ended.at)}" if ended.at else ""
            self._lose(Loss(f"it was {ended.how} by {owner_of(ended.by)}{when}", time.time(), ended.how == "released"))
        elif self.lease is not None and self._etcd.time_to_live(self.lease.id, patience.within(GIVE_UP)) == 0:
            self._lose(Loss("its lease has expired or was revoked", time.time()))
        else:
            self._lose(Loss("its key was deleted", time.time()))

    @property
    def _last_moment(self) -> float:
        return self.deadline - self.kill_after

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
        call = patience.within(min(until_due, max(longest_call(self.lease.ttl), 0.5)))
        return call.until(max(self._last_moment, now() + 0.1)) if self.kill_after else call

    def _doubt_it(self, *, overdue: bool = False) -> None:
        changed = not self.doubt or (overdue and not self.overdue)
        self.doubt = True
        self.overdue = self.overdue or overdue
        if changed:
            self._tell(self.on_change)

    def _trust(self) -> None:
        if self.loss is None:
            self.doubt = self.overdue = False
            self._tell(self.on_change)

    def _lose(self, loss: Loss) -> None:
        if self.loss is None:
            self.loss = loss  # first: whatever comes of telling it, it is lost
            self._tell(None if self._lost is None else self._lost.set)
            self._tell(self.on_change)
            on_lost = self.on_lost
            self._tell(None if on_lost is None else lambda: on_lost(loss))

    def _tell(self, callback: Callable[[], object] | None) -> None:
        """Call it; what it raises is not ours to raise: there is more to tell, and a lease to look after."""
        try:
            if callback is not None:
                callback()
        except Exception as error:  # noqa: BLE001
            report(error)


def move(session: Session, kv: KeyValue, lease: Lease | None) -> None:
    """The hold has another lease from now on. Not while it is looked after."""
    session._revision, session.lease = kv.mod_revision, lease


def _is_set(cancel: Cancel | None) -> bool:
    try:
        return cancel is not None and cancel.is_set()
    except Exception:  # noqa: BLE001 - it cannot be looked at now: the next time
        return False
