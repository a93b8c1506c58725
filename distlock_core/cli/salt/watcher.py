"""RealmWatcher: follows the locks of a realm in a thread, and hands out what has happened since it was last asked."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque

from distlock_core.adapters.advice import SALT
from distlock_core.base.deadline import Backoff, Interrupt, Patience, now
from distlock_core.base.threads import start_thread
from distlock_core.connection import realm_of
from distlock_core.errors import AnotherCluster, Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.events.follow import LockEvent
    from distlock_core.events.watch import Watching
    from distlock_core.lock.realm import Realm
    from distlock_core.settings.options import Settings

log = logging.getLogger(__name__)

MOST = 10_000  # events that wait to be taken; beyond it the oldest are dropped
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0  # seconds between attempts to begin
LAST_CALL = 5.0  # seconds that `close()` waits for the thread


class RealmWatcher:
    """The changes of a realm's locks from now on. `take()` never waits for etcd.

    While etcd is away the thread tries again, and nothing is missed. It ends with `close()`, or when nobody has called
    `take()` for `idle` seconds, since whoever has made it may be gone without a word.
    """

    def __init__(self, settings: Settings, is_wanted: Callable[[str], bool], idle: float) -> None:
        """`is_wanted` selects locks by their names."""
        self._settings = settings
        self._is_wanted = is_wanted
        self._idle = idle
        self._taken_at = now()
        self._news: deque[LockEvent] = deque(maxlen=MOST)
        self.dropped = 0  # events since the last call of `take()`
        self.has_begun = False  # True once changes are followed
        self._trouble = ""
        self._interrupt = Interrupt()
        self._guard = threading.Lock()  # of the interrupt, which the thread closes, and of `dropped`
        self._is_over = False
        self._pid = os.getpid()
        try:
            self._thread = start_thread(self._run, "distlock-beacon")
        except BaseException:
            self._interrupt.close()
            raise

    @property
    def is_alive(self) -> bool:
        """False after its end, and in a forked child, which has no such thread."""
        return self._thread.is_alive() and not self._is_over

    @property
    def waiting(self) -> int:
        """Number of events that the next `take()` returns."""
        return len(self._news)

    def take(self) -> list[LockEvent]:
        """Return the events since the last call, in order."""
        self._taken_at = now()
        with self._guard:
            dropped, self.dropped = self.dropped, 0
        if dropped:
            log.warning("distlock: %d events of locks were dropped: more than %d waited for the beacon", dropped, MOST)
        return [self._news.popleft() for _ in range(len(self._news))]

    def close(self) -> None:
        """End the thread, and close the watch."""
        if self._pid != os.getpid():
            return  # the thread and its descriptors are the parent's
        with self._guard:
            if not self._is_over:
                self._interrupt.set()
        if not self._thread.is_current:
            self._thread.join(LAST_CALL)

    def _run(self) -> None:
        pauses = Backoff(FIRST_RETRY, LONGEST_RETRY)
        realm: Realm | None = None
        watching: Watching | None = None
        try:
            while now() - self._taken_at < self._idle:
                try:
                    realm = realm or realm_of(self._settings)
                    watching = watching or realm.watch(freezes=True)
                    if not self.has_begun:
                        watching.skip_present(self._interrupt)
                        self.has_begun = True
                        self._tell("")
                    self._collect(watching.poll(self._interrupt))
                    self._tell("")
                    pauses.reset()
                    continue
                except Cancelled:
                    return
                except Exception as error:  # noqa: BLE001 - whatever it is, the minion goes on, and so does its beacon
                    if isinstance(error, AnotherCluster):
                        _close(watching, realm)
                        realm, watching, self.has_begun = None, None, False
                    self._tell(SALT.said(error))
                Patience.lasting(pauses.next(), self._interrupt).wait()
        except Cancelled:
            pass
        finally:
            with self._guard:
                self._is_over = True
            _close(watching, realm)
            self._interrupt.close()

    def _collect(self, events: list[LockEvent]) -> None:
        wanted = [event for event in events if not event.lock or self._is_wanted(event.lock)]
        with self._guard:
            self.dropped += max(0, len(self._news) + len(wanted) - MOST)
        self._news.extend(wanted)

    def _tell(self, trouble: str) -> None:
        """Log a trouble when it begins, and its end."""
        if trouble and trouble != self._trouble:
            log.warning("distlock: the beacon waits: %s", trouble)
        elif self._trouble and not trouble:
            log.warning("distlock: the beacon follows the locks again")
        self._trouble = trouble


def _close(*opened: Watching | Realm | None) -> None:
    for one in opened:
        if one is not None:
            one.close()
