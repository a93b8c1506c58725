"""Watching: an iterator over the events of a lock, or of every lock of a realm, that any thread may close."""

from __future__ import annotations

import threading

from distlock_core.base.deadline import FOREVER, Interrupt, Patience
from distlock_core.errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from distlock_core.events.follow import Follower, LockEvent


class Watching:
    """Iterator over the events of locks (`LockEvent`), as they happen. Made by `Realm.watch()`.

    It begins with an `acquired` for every existing hold, and then delivers every event, even across an outage, a
    failover or a restart of etcd. It ends when any thread closes it. Raises `EtcdUnavailable` if etcd does not answer
    at the start, `AnotherCluster` if the endpoints now belong to another cluster, and `AccessDenied`.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._turn = threading.Lock()  # one reader at a time
        self._guard = threading.RLock()  # guards the fields below; reentrant, as a signal handler may close
        self._closed = False
        self._waiting: Interrupt | None = None

    def __iter__(self) -> Watching:
        return self

    def __next__(self) -> LockEvent:
        interrupt = Interrupt()
        try:
            return self.take(interrupt)
        except Cancelled:
            raise StopIteration from None
        finally:
            interrupt.close()

    def take(self, interrupt: Interrupt) -> LockEvent:
        """Return the next event. Raises `Cancelled` if it is closed, and if the interrupt is set.

        After an interrupt it can be called again, and no event is lost.
        """
        news = self._follower.news
        with self._turn:
            with self._guard:
                self._waiting = interrupt
                if self._closed:
                    interrupt.set()
            patience = Patience(FOREVER, interrupt)
            try:
                patience.check()
                while not news:
                    self._follower.advance(patience)
                    patience.check()
                return news.popleft()
            finally:
                with self._guard:
                    self._waiting = None
                    if self._closed:
                        self._follower.close()

    def give_back(self, event: LockEvent) -> None:
        """Put back an event that was taken but not used, for the next call."""
        self._follower.news.appendleft(event)

    def close(self) -> None:
        """End the iteration at once, in whichever thread it waits, and close the watch."""
        with self._guard:
            self._closed = True
            if self._waiting is not None:
                self._waiting.set()
            else:
                self._follower.close()

    def __enter__(self) -> Watching:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
