"""Asynchronous iterators over events of locks and over changes of ownership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from distlock_core.aio.tasks import in_thread
from distlock_core.errors import Cancelled
from distlock_core.events.follow import LockEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from distlock_core.base.deadline import Interrupt
    from distlock_core.events.ownership import Ownership
    from distlock_core.events.watch import Watching
    from distlock_core.history.entries import Entry  # noqa: F401 - in quotes below
    from distlock_core.history.history import History

Item = TypeVar("Item")
Reading = TypeVar("Reading", bound="AsyncReading")  # type: ignore[type-arg] # of any item


class Reader(Protocol[Item]):
    """The synchronous source of an `AsyncReading`, read in a thread."""

    def take(self, interrupt: Interrupt, /) -> Item: ...

    def give_back(self, item: Item, /) -> None: ...

    def close(self) -> None: ...


class AsyncReading(Generic[Item]):
    """An asynchronous iterator that `aclose()` ends in any task that waits for it."""

    def __init__(self, reader: Reader[Item], wake: Callable[[], object] | None = None) -> None:
        """`wake` is called after the interrupt is set, if `take()` does not notice that by itself."""
        self._reader = reader
        self._wake = wake

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """Return the next item. A cancellation loses none: the next call returns it."""
        try:
            return await in_thread(self._reader.take, undo=self._reader.give_back, wake=self._wake)
        except Cancelled:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End the iteration, also in a task that waits for it."""
        self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncWatching(AsyncReading[LockEvent]):
    """`Watching` for asyncio: events of locks as they happen."""

    def __init__(self, watching: Watching) -> None:
        """Made by `AsyncRealm.watch()`."""
        super().__init__(watching)


class AsyncHistory(AsyncReading["Entry"]):
    """`History` for asyncio: past and present holds, waits and freezes."""

    def __init__(self, history: History) -> None:
        """Made by `AsyncRealm.history()`."""
        super().__init__(history)


class AsyncOwnership(AsyncReading[bool]):
    """`Ownership` for asyncio: True and False as the lock is acquired and lost."""

    def __init__(self, ownership: Ownership) -> None:
        """Made by `AsyncLock.ownership()`."""
        super().__init__(ownership, ownership.wake)
