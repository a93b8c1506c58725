"""Watching: an iterator over what happens to a lock, or to every lock of a realm, that any thread may end."""

from __future__ import annotations

import threading

from distlock_core.base.deadline import FOREVER, Interrupt, Patience
from distlock_core.errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from distlock_core.events.follow import Follower, LockEvent


class Watching:
    """What happens to locks, as it happens: an iterator of `LockEvent`. Made by `Realm.watch()`.

    It begins with every hold there is, as `acquired`, and then leaves nothing out, also over an outage, a failover or
    a restart of etcd. It ends when it is closed, by any thread. Raises `EtcdUnavailable` when etcd does not answer at
    the very beginning, `AnotherCluster` when all that answers is another cluster by now, and `AccessDenied`.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._turn = threading.Lock()  # one reader at a time
        self._guard = threading.RLock()  # of what follows; a signal handler may close, too
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
        """Return the next event. Raises `Cancelled` when it is closed, and when the interrupt is set.

        After an interrupt it can be called again: no event is lost by it.
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
        """An event that was taken and could not be used: the next to ask has it."""
        self._follower.news.appendleft(event)

    def close(self) -> None:
        """End the iteration, at once, in whatever thread it waits. Nothing is left open."""
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
