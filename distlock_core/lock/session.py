"""Session: the monitoring of a hold: watch, lease renewal, deadline, loss."""

from __future__ import annotations

import os
import time

from distlock_core.base.deadline import FOREVER, Backoff, Patience, now
from distlock_core.base.standby_thread import StandbyThread
from distlock_core.base.text import printable
from distlock_core.base.threads import report
from distlock_core.errors import Cancelled
from distlock_core.etcd.values import REREAD, Get, KeyValue
from distlock_core.lock.lease import GIVE_UP
from distlock_core.lock.loss_reasons import CANNOT_GO_ON, Loss, ended, key_deleted, lease_gone, replaced, unconfirmed
from distlock_core.model.record import token_of
from distlock_core.model.ttl import longest_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.lock.lease import Lease
    from distlock_core.lock.release import HeldKey

SHORTEST_PAUSE = 0.02  # seconds between two attempts, even if the next action is overdue
SHORTEST_CALL, LONGEST_CALL = 0.25, 5.0  # limits for the time that a read or the opening of a watch may take


class Session:
    """Monitors a hold until it is lost or closed. The loss of one of its keys is the loss of the hold.

    It renews the hold's lease (a persistent hold has none) and watches its keys. The hold is lost if the lease has
    expired or was revoked, or if the key was deleted, replaced, or belongs to another hold. The watch detects that at
    once, the deadline at the latest. `on_lost` is called once, in the thread that detected the loss.

    The hold is in `doubt` from the first failed renewal until etcd has confirmed both lease and key; past the deadline
    it is `overdue` too. With `endures` an overdue hold is not lost: only an answer of etcd ends it. `on_change` is
    called after each change of this state.

    No error ends the monitoring earlier. Unexpected errors (no descriptor left, no thread can be started, out of
    memory) are treated as an unreachable etcd: they are retried until the deadline. Exceptions in `on_lost` and
    `on_change` are reported as errors of the thread, and have no other effect.
    """

    def __init__(
        self,
        etcd: Etcd,
        held: Sequence[HeldKey],
        lease: Lease | None,
        on_lost: Callable[[Loss], None] | None = None,
        standby: StandbyThread | None = None,
        beat: Callable[[Patience], float] = lambda _: FOREVER,
    ) -> None:
        """`standby` is the thread for `start()`, created before the claim. The caller remains responsible for it.

        `beat` is called before its return value, a time on the `now()` clock, is over: it gives a sign of life.
        """
        self._etcd = etcd
        self._held = held
        self._tokens = [token_of(one.kv) for one in held]
        self._revision = min(one.kv.mod_revision for one in held)
        self.lease = lease
        self.on_lost = on_lost
        self.on_change: Callable[[], None] | None = None
        self.endures = False
        self.doubt = False
        self.overdue = False
        self.loss: Loss | None = None
        self._lost: threading.Event | None = None
        self.kill_after = 0.0  # seconds before the deadline by which a hold without a renewal counts as lost
        self._beat = beat
        self._beat_at = 0.0
        self._standby = standby
        self._is_given = standby is not None
        self._running = False
        self._pid = os.getpid()

    @property
    def deadline(self) -> float:
        """End of the guaranteed hold, on the `now()` clock; `FOREVER` for a persistent one."""
        return FOREVER if self.lease is None else self.lease.deadline

    @property
    def lost(self) -> threading.Event:
        """An event that is set when the hold is lost, for threads to wait on."""
        if self._lost is None:
            import threading

            self._lost = threading.Event()
            if self.loss is not None:
                self._lost.set()
        return self._lost

    @property
    def is_running(self) -> bool:
        """True from `start()` to `stop()`; always False in a forked child, which has no such thread."""
        return self._running and self._pid == os.getpid()

    def start(self) -> None:
        """Monitor the hold in a separate thread, until it is lost or `stop()` is called.

        Without a `standby` the thread is started now. Raises `DistlockError` if that fails.
        """
        if not self._running:
            self._standby = self._standby or StandbyThread("distlock-session")
            self._running = True
            self._standby.hand(self.run)

    def stop(self, *, for_now: bool = False) -> None:
        """Stop monitoring, and end the thread unless it was given by the caller or the stop is only `for_now`.

        The lease is left unchanged. If the thread itself calls this (from `on_lost`), it ends after the callback.
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
        """Monitor the hold in this thread. Returns when it is lost, or when `cancel` is set."""
        pauses = Backoff()
        shaken = False
        while self.loss is None:
            try:
                patience = Patience(FOREVER, cancel)
                self._keep(patience)
                if shaken:
                    # The revision from which the next watch would start may have been compacted.
                    self._look(patience)
                self._watch(patience)
                pauses.reset()
                shaken = False
            except Cancelled:
                return
            except Exception:  # noqa: BLE001 - retried until the deadline, whatever it is
                shaken = True
                if not self._outlast(cancel, pauses):
                    return

    def _outlast(self, cancel: Cancel | None, pauses: Backoff) -> bool:
        """Pause after a failure, unless the hold is lost by it. False: cancelled."""
        if self._pid != os.getpid():
            return False  # the child of a callback that forked: it monitors nothing
        try:
            if self._judge():
                return True
        except Exception:  # noqa: BLE001 - a process that cannot check the deadline cannot rely on the hold
            self._lose(CANNOT_GO_ON)
            return True
        try:
            # A due action that keeps failing must not cause a busy loop.
            patience = Patience(max(self._next_moment, now() + SHORTEST_PAUSE), cancel)
            patience.pause(pauses.next())
        except Cancelled:
            return False
        except Exception:  # noqa: BLE001 - even the wait can fail
            time.sleep(SHORTEST_PAUSE)
            return not _is_set(cancel)
        return True

    def _judge(self) -> bool:
        """Check the deadline against the clock: True if the hold is lost by it."""
        if self.lease is None or now() < self._last_moment:
            return False
        if self.endures:
            self._doubt_it(overdue=True)
            return False
        self._lose(unconfirmed(self.lease.ttl - self.kill_after))
        return True

    def _watch(self, patience: Patience) -> None:
        """Watch the key and renew the lease, until the hold is lost or the client has failed over."""
        if self.loss is not None:
            return
        keys = [(one.kv.key, None) for one in self._held]
        watch = self._etcd.watch(keys, self._revision + 1, self._call(patience))
        try:
            reread = now() + REREAD
            while self.loss is None:
                if watch.wait(patience.until(min(reread, self._next_moment))) or now() >= reread:
                    self._look(patience)
                    reread = now() + REREAD
                self._keep(patience)
                if watch.endpoint != self._etcd.endpoint:
                    self._look(patience)
                    return  # the client has failed over from the member that serves the watch
        finally:
            watch.close()

    def _keep(self, patience: Patience) -> None:
        """Beat and renew the lease if that is due, and detect its loss. Raises `EtcdUnavailable` only in doubt."""
        if self.loss is None and now() >= self._beat_at:
            self._beat_at = self._beat(self._call(patience))  # it must not delay the renewal of a lease either
        if self.lease is None or self.loss is not None:
            return
        if self.endures and now() >= self.deadline:
            self._doubt_it(overdue=True)  # before asking: after a pause of the process the lease alone proves nothing
        bounded = self.kill_after or (self.endures and not self.overdue)
        try:
            self.lease.renew_if_due(patience.until(self._last_moment) if bounded else patience)
        except Cancelled:
            raise
        except Exception:
            self._doubt_it()
            raise  # `run()` checks the deadline, and retries after a pause
        if self.lease.gone:
            self._lose(lease_gone())
        elif self._judge() or now() >= self._last_moment:
            pass
        elif self.lease.failing:
            self._doubt_it()
        elif self.doubt:
            self._look(patience)
            self._trust()

    def _look(self, patience: Patience) -> None:
        """Read the keys. Raises `EtcdUnavailable`."""
        reads = [get for one in self._held for get in (Get(one.kv.key), Get(one.keys.last))]
        outcome = self._etcd.read(reads, self._call(patience))
        ranges = outcome.ranges()
        self._revision = outcome.revision
        for one, token, found, last in zip(self._held, self._tokens, ranges[::2], ranges[1::2]):
            if not found.kvs or not one.is_own(found.kvs[0]):
                name = printable(one.keys.name) if len(self._held) > 1 else None
                self._lose(self._loss_of(name, token, found.kvs, last.kvs, patience))
                return

    def _loss_of(
        self,
        name: str | None,
        token: int,
        found: Sequence[KeyValue],
        last: Sequence[KeyValue],
        patience: Patience,
    ) -> Loss:
        """The loss of one key: how it was deleted, or who has it now. `name`: of the lock, if it is one of several."""
        loss = ended(last, token, name)
        if loss is None and found:
            return replaced(found[0], token, name)
        if loss is None:
            lease = self.lease
            expired = lease is not None and self._etcd.time_to_live(lease.id, patience.within(GIVE_UP)) == 0
            loss = lease_gone() if expired else key_deleted(name)
        return loss

    @property
    def _last_moment(self) -> float:
        return self.deadline - self.kill_after

    @property
    def _next_moment(self) -> float:
        """Time of the next action: a beat, the renewal of the lease, or the loss of the hold."""
        if self.lease is None:
            return self._beat_at
        moments = self._beat_at, self.lease.renew_at
        return min(moments) if self.overdue else min(*moments, self._last_moment)

    def _call(self, patience: Patience) -> Patience:
        """The patience for one call, so short that a hanging member cannot delay the renewal."""
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
            self.loss = loss  # first: the hold is lost even if a callback fails
            self._tell(None if self._lost is None else self._lost.set)
            self._tell(self.on_change)
            on_lost = self.on_lost
            self._tell(None if on_lost is None else lambda: on_lost(loss))

    def _tell(self, callback: Callable[[], object] | None) -> None:
        """Call it. An exception is only reported, as more callbacks and the lease depend on this thread."""
        try:
            if callback is not None:
                callback()
        except Exception as error:  # noqa: BLE001
            report(error)


def move(session: Session, revision: int, lease: Lease | None) -> None:
    """Switch the session to another lease of the hold, from a revision on. Only while it is not running."""
    session._revision, session.lease = revision, lease


def _is_set(cancel: Cancel | None) -> bool:
    try:
        return cancel is not None and cancel.is_set()
    except Exception:  # noqa: BLE001 - checked again the next time
        return False
