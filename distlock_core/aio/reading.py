"""What comes one after the other, as a task reads it: what happens to locks, and whose a lock is."""

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

Item = TypeVar("Item")
Reading = TypeVar("Reading", bound="AsyncReading")  # type: ignore[type-arg] # of whatever it reads


class Reader(Protocol[Item]):
    """What both of them read from, in a thread."""

    def take(self, interrupt: Interrupt, /) -> Item: ...

    def give_back(self, item: Item, /) -> None: ...

    def close(self) -> None: ...


class AsyncReading(Generic[Item]):
    """An iteration that ends when it is closed, in whatever task it waits."""

    def __init__(self, reader: Reader[Item], wake: Callable[[], object] | None = None) -> None:
        """`wake`: what `take()` needs beside its interrupt to notice that it is set."""
        self._reader = reader
        self._wake = wake

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """The next one. A task that is cancelled here has missed none: the next call has it."""
        try:
            return await in_thread(self._reader.take, undo=self._reader.give_back, wake=self._wake)
        except Cancelled:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End the iteration, in whatever task it waits."""
        self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncWatching(AsyncReading[LockEvent]):
    """What happens to locks, as it happens: `Watching`, for asyncio."""

    def __init__(self, watching: Watching) -> None:
        """Made by `AsyncRealm.watch()`."""
        super().__init__(watching)


class AsyncOwnership(AsyncReading[bool]):
    """True and False as a lock becomes mine and ceases to be: `Ownership`, for asyncio."""

    def __init__(self, ownership: Ownership) -> None:
        """Made by `AsyncLock.ownership()`."""
        super().__init__(ownership, ownership.wake)
