"""The same verbs for asyncio, over the same implementation: each call that may block has a thread of its own.

Of its own, and not one of a pool: a hundred tasks that wait for locks would leave none for anybody else. When a task
is cancelled, its call is ended at once, as a signal ends one of the command line, and leaves nothing behind: no place
in the line, no lease, no lock, and no thread.

>>> from distlock_core import aio
>>> async with aio.connect(["http://10.0.0.1:2379"]).lock("percona_prod", ttl=10) as lock:
...     await upgrade(fencing_token=lock.token)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from distlock_core import connection, manager
from distlock_core.errors import Cancelled
from distlock_core.lease import GIVE_UP
from distlock_core.patience import Interrupt
from distlock_core.threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins  # the method `list` hides the type inside the class
    from types import TracebackType
    from typing import Any, TypeVar

    from distlock_core.acquisition import Waiting
    from distlock_core.following import LockEvent
    from distlock_core.lock import Lock
    from distlock_core.model import Holder, LockState
    from distlock_core.notices import Notice
    from distlock_core.ownership import Ownership
    from distlock_core.realm import Realm
    from distlock_core.session import Loss
    from distlock_core.watching import Watching

    Result = TypeVar("Result")


async def in_thread(
    work: Callable[[Interrupt], Result],
    *,
    undo: Callable[[Result], object] | None = None,
    wake: Callable[[], object] | None = None,
    grace: float = 0.0,
) -> Result:
    """Do it in a thread of its own. When the task is cancelled, `work` is ended, and then waited for.

    It is ended by setting its interrupt, `grace` seconds after the cancellation; `wake` is called then. What it brings
    all the same is undone by `undo`.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()
    interrupt = Interrupt()

    def run() -> None:
        outcome: tuple[Result | None, BaseException | None]
        try:
            outcome = (work(interrupt), None)
        except BaseException as error:  # noqa: BLE001 - it is raised in the task
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(done.set_result, outcome)
        except RuntimeError:
            pass  # the loop was closed under its tasks

    def end() -> None:
        interrupt.set()
        if wake is not None:
            wake()

    thread = start_thread(run, "distlock-aio")
    cancelled: asyncio.CancelledError | None = None
    ending: asyncio.TimerHandle | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as called_off:
            cancelled = cancelled or called_off
            ending = ending or loop.call_later(grace, end)
    if ending is not None:
        ending.cancel()
    thread.join()  # nothing is left for it to do
    interrupt.close()
    result, error = done.result()
    if cancelled is not None:
        if error is None and undo is not None:
            await _although_cancelled(lambda: undo(result))  # type: ignore[arg-type]
        raise cancelled from error
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


async def _although_cancelled(work: Callable[[], object]) -> None:
    try:
        await in_thread(lambda _: work(), grace=GIVE_UP)
    except asyncio.CancelledError:
        pass  # once more: it is told to the caller in any case


def connect(
    endpoints: Sequence[str] | str = connection.DEFAULT_ENDPOINTS, *arguments: Any, **options: Any
) -> AsyncRealm:
    """Return the realm of all locks below a prefix. Arguments and errors as those of `distlock_core.connect()`."""
    return AsyncRealm(connection.connect(endpoints, *arguments, **options))


class AsyncRealm:
    """Every lock under one prefix: `Realm`, for asyncio. What it takes, returns and raises is said there."""

    def __init__(self, realm: Realm) -> None:
        self.sync = realm

    def lock(
        self, name: str, *arguments: Any, on_lost: Callable[[Loss], object] | None = None, **options: Any
    ) -> AsyncLock:
        """Return a lock, not yet acquired. `on_lost` is called in the event loop."""
        return AsyncLock(self.sync, name, *arguments, on_lost=on_lost, **options)

    async def list(self) -> builtins.list[LockState]:
        return await in_thread(lambda interrupt: self.sync.list(cancel=interrupt))

    async def show(self, name: str) -> LockState:
        return await in_thread(lambda interrupt: self.sync.show(name, cancel=interrupt))

    async def get(self, name: str) -> str | None:
        return await in_thread(lambda interrupt: self.sync.get(name, cancel=interrupt))

    async def verify(self, name: str, token: int) -> bool:
        return await in_thread(lambda interrupt: self.sync.verify(name, token, cancel=interrupt))

    async def update(self, name: str, value: str | None = None, **options: Any) -> Holder:
        return await in_thread(lambda interrupt: self.sync.update(name, value, cancel=interrupt, **options))

    async def unlock(self, name: str, owner: str | None = None, **options: Any) -> Holder:
        return await in_thread(
            lambda interrupt: self.sync.unlock(name, owner, cancel=interrupt, **options), grace=GIVE_UP
        )

    def watch(self, name: str | None = None) -> AsyncWatching:
        return AsyncWatching(self.sync.watch(name))

    def manager(
        self, name: str, *arguments: Any, listener: Callable[[Notice], object] | None = None, **options: Any
    ) -> AsyncLockManager:
        """Stand for a lock, from now on. `listener` is called in the event loop."""
        return AsyncLockManager(self.sync, name, *arguments, listener=listener, **options)

    async def close(self) -> None:
        self.sync.close()

    async def __aenter__(self) -> AsyncRealm:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncLock:
    """One lock, as one program wants or holds it: `Lock`, for asyncio. Its calls take turns."""

    def __init__(
        self, realm: Realm, name: str, *arguments: Any, on_lost: Callable[[Loss], object] | None, **options: Any
    ) -> None:
        """Made by `AsyncRealm.lock()`."""
        self.sync = realm.lock(name, *arguments, on_lost=self._tell, **options)
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: asyncio.Lock | None = None
        self._lost: asyncio.Event | None = None

    async def acquire(
        self, timeout: float | None = None, progress: Callable[[Waiting], object] | None = None
    ) -> AsyncLock:
        """Return this lock, held. A task that is cancelled here does not have it."""
        loop = asyncio.get_running_loop()
        tell = progress

        def told(waiting: Waiting) -> None:
            assert tell is not None
            loop.call_soon_threadsafe(tell, waiting)

        async with self._turn():
            was_held = self.sync.held
            await in_thread(
                lambda interrupt: self.sync.acquire(timeout, interrupt, told if tell is not None else None),
                undo=None if was_held else lambda _: self.sync.release(),
            )
            self.lost.clear()
            if self.sync.ttl is not None and self.sync.lost.is_set():
                self.lost.set()  # between the two: it was told before it was cleared
        return self

    async def try_acquire(self) -> AsyncLock | None:
        async with self._turn():
            was_held = self.sync.held

            def undo(taken: Lock | None) -> None:
                if taken is not None and not was_held:
                    taken.release()

            taken = await in_thread(lambda _: self.sync.try_acquire(), undo=undo)
        return None if taken is None else self

    async def verify(self) -> bool:
        return await self._do(self.sync.verify)

    async def update(self, value: str | None = None, *, reason: str | None = None) -> None:
        await self._do(lambda interrupt: self.sync.update(value, reason=reason, cancel=interrupt))

    async def release(self) -> None:
        """Let go. A task that is cancelled here gives it a second to come to its end."""
        await self._do(self.sync.release, GIVE_UP)

    async def hold(self, reason: str) -> None:
        await self._do(lambda interrupt: self.sync.hold(reason, interrupt), GIVE_UP)

    async def cool(self, seconds: int) -> None:
        await self._do(lambda interrupt: self.sync.cool(seconds, interrupt), GIVE_UP)

    def ownership(self) -> AsyncOwnership:
        return AsyncOwnership(self.sync.ownership())

    @property
    def lost(self) -> asyncio.Event:
        """Set when the lock is lost, until it is acquired again: `await lock.lost.wait()`."""
        if self._lost is None:
            self._lost = asyncio.Event()
        return self._lost

    @property
    def name(self) -> str:
        return self.sync.name

    @property
    def held(self) -> bool:
        return self.sync.held

    @property
    def token(self) -> int:
        return self.sync.token

    @property
    def value(self) -> str | None:
        return self.sync.value

    @property
    def holder(self) -> Holder:
        return self.sync.holder

    async def __aenter__(self) -> AsyncLock:
        return await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    async def _do(self, work: Callable[[Interrupt], Result], grace: float = 0.0) -> Result:
        async with self._turn():
            return await in_thread(work, grace=grace)

    def _turn(self) -> asyncio.Lock:
        """A `Lock` is for one thread at a time."""
        if self._turns is None:
            self._loop, self._turns = asyncio.get_running_loop(), asyncio.Lock()
        return self._turns

    def _tell(self, loss: Loss) -> None:
        """Called by the lock, in a thread of its."""

        def tell() -> None:
            self.lost.set()
            if self._on_lost is not None:
                self._on_lost(loss)

        assert self._loop is not None
        call_in(self._loop, tell)


class AsyncWatching:
    """What happens to locks, as it happens: `Watching`, for asyncio."""

    def __init__(self, watching: Watching) -> None:
        """Made by `AsyncRealm.watch()`."""
        self._watching = watching

    def __aiter__(self) -> AsyncWatching:
        return self

    async def __anext__(self) -> LockEvent:
        """The next event. A task that is cancelled here has missed none: the next call has it."""
        try:
            return await in_thread(self._watching.take, undo=self._watching.give_back)
        except Cancelled:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End the iteration, in whatever task it waits."""
        self._watching.close()

    async def __aenter__(self) -> AsyncWatching:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncOwnership:
    """True and False as a lock becomes mine and ceases to be: `Ownership`, for asyncio."""

    def __init__(self, ownership: Ownership) -> None:
        """Made by `AsyncLock.ownership()`."""
        self._ownership = ownership

    def __aiter__(self) -> AsyncOwnership:
        return self

    async def __anext__(self) -> bool:
        reader = self._ownership
        try:
            return await in_thread(reader.take, undo=reader.give_back, wake=reader.wake)
        except Cancelled:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """End the iteration, in whatever task it waits."""
        self._ownership.close()

    async def __aenter__(self) -> AsyncOwnership:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncLockManager:
    """Stands for a lock in the background: `LockManager`, for asyncio. What is instant there is no coroutine here."""

    def __init__(
        self,
        realm: Realm,
        name: str,
        *arguments: Any,
        listener: Callable[[Notice], object] | None,
        **options: Any,
    ) -> None:
        """Made by `AsyncRealm.manager()`, in a coroutine."""
        loop = asyncio.get_running_loop()

        def told(notice: Notice) -> None:
            if listener is not None:
                call_in(loop, lambda: listener(notice))

        self.sync = manager.LockManager(realm, name, *arguments, listener=told, **options)

    def have_lock(self) -> bool:
        return self.sync.have_lock()

    @property
    def token(self) -> int | None:
        return self.sync.token

    async def update(self, value: str | None = None, *, reason: str | None = None) -> bool:
        return await in_thread(lambda _: self.sync.update(value, reason=reason))

    def ownership(self) -> AsyncOwnership:
        return AsyncOwnership(self.sync.ownership())

    async def shutdown(self) -> None:
        await in_thread(lambda _: self.sync.shutdown())

    async def __aenter__(self) -> AsyncLockManager:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call it in the event loop, from any thread. A loop that was closed meanwhile has nobody to tell."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass
