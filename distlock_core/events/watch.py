"""Feed: an iterator over what a source delivers, that any thread may close. Watching: one over the events of locks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from distlock_core.base.deadline import FOREVER, Interrupt, Patience
from distlock_core.errors import Cancelled
from distlock_core.events.follow import Follower, LockEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from types import TracebackType

    from typing_extensions import Self

Item = TypeVar("Item")


class Source(Protocol[Item]):
    """Appends items to `news`, one `advance()` after another, until it `is_over`."""

    news: deque[Item]
    is_over: bool

    def advance(self, patience: Patience, /) -> None: ...

    def close(self) -> None: ...


class Feed(Generic[Item]):
    """Iterator over the items of a source. It ends with the source, or when any thread closes it."""

    def __init__(self, source: Source[Item]) -> None:
        self._source = source
        self._turn = threading.Lock()  # one reader at a time
        self._guard = threading.RLock()  # guards the fields below; reentrant, as a signal handler may close
        self._closed = False
        self._waiting: Interrupt | None = None

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        interrupt = Interrupt()
        try:
            return self.take(interrupt)
        except Cancelled:
            raise StopIteration from None
        finally:
            interrupt.close()

    def take(self, interrupt: Interrupt) -> Item:
        """Return the next item. Raises `Cancelled` if there is none left or it is closed, and if the interrupt is set.

        After an interrupt it can be called again, and no item is lost.
        """
        news = self._source.news
        with self._reading(interrupt) as patience:
            while not news:
                if self._source.is_over:
                    raise Cancelled("there is no more")
                self._source.advance(patience)
                patience.check()
            return news.popleft()

    @contextmanager
    def _reading(self, interrupt: Interrupt) -> Iterator[Patience]:
        """The turn of one reader, which `close()` and the interrupt end with `Cancelled`."""
        with self._turn:
            with self._guard:
                self._waiting = interrupt
                if self._closed:
                    interrupt.set()
            patience = Patience(FOREVER, interrupt)
            try:
                patience.check()
                yield patience
            finally:
                with self._guard:
                    self._waiting = None
                    if self._closed:
                        self._source.close()

    def give_back(self, item: Item) -> None:
        """Put back an item that was taken but not used, for the next call."""
        self._source.news.appendleft(item)

    def close(self) -> None:
        """End the iteration at once, in whichever thread it waits, and close the watch."""
        with self._guard:
            self._closed = True
            if self._waiting is not None:
                self._waiting.set()
            else:
                self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Watching(Feed[LockEvent]):
    """Iterator over the events of locks (`LockEvent`), as they happen. Made by `Realm.watch()`.

    It begins with an `acquired` for every existing hold, and then delivers every event, even across an outage, a
    failover or a restart of etcd. It ends when any thread closes it. Raises `EtcdUnavailable` if etcd does not answer
    at the start, `AnotherCluster` if the endpoints now belong to another cluster, and `AccessDenied`.
    """

    def __init__(self, follower: Follower) -> None:
        super().__init__(follower)
        self._follower = follower

    def skip_present(self, interrupt: Interrupt) -> None:
        """Begin with the next change instead, in a first call: the holds that exist now are no news."""
        with self._reading(interrupt) as patience:
            self._follower.skip_present(patience)

    def poll(self, interrupt: Interrupt) -> list[LockEvent]:
        """Wait for events, but no longer than until the follower reads again (10 s), and return them.

        Raises as `take()`.
        """
        news = self._follower.news
        with self._reading(interrupt) as patience:
            if not news:
                self._follower.advance(patience)
            return [news.popleft() for _ in range(len(news))]
