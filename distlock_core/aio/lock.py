"""AsyncLock: `Lock` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from distlock_core.aio.reading import AsyncOwnership
from distlock_core.aio.tasks import call_in, on_standby
from distlock_core.base.standby_thread import StandbyThread
from distlock_core.lock.lease import GIVE_UP
from distlock_core.lock.lock import cooldown_of, has_hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, TypeVar

    from distlock_core.base.deadline import Interrupt
    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.loss_reasons import Loss
    from distlock_core.lock.realm import Realm
    from distlock_core.model.state import Holder

    Result = TypeVar("Result")


class AsyncLock:
    """`Lock` for asyncio: one acquisition of a lock by one program. Its calls run one at a time."""

    def __init__(
        self,
        realm: Realm,
        name: str | Sequence[str],
        *arguments: Any,
        on_lost: Callable[[Loss], object] | None,
        **options: Any,
    ) -> None:
        """Made by `AsyncRealm.lock()`."""
        self.sync = realm.lock(name, *arguments, on_lost=self._tell, **options)
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: asyncio.Lock | None = None
        self._lost: asyncio.Event | None = None
        self._standby: StandbyThread | None = None

    async def acquire(
        self, timeout: float | None = None, progress: Callable[[Waiting], object] | None = None
    ) -> AsyncLock:
        """Return this lock, held. After a cancellation of the task it is not held. Raises as `Lock.acquire()`."""
        loop = asyncio.get_running_loop()
        tell = progress

        def told(waiting: Waiting) -> None:
            assert tell is not None
            loop.call_soon_threadsafe(tell, waiting)

        async with self._turn():
            was_held = self.sync.held
            await self._in_thread(
                lambda interrupt: self.sync.acquire(timeout, interrupt, told if tell is not None else None),
                undo=None if was_held else lambda _: self.sync.release(),
            )
            self.lost.clear()
            if self.sync.ttl is not None and self.sync.lost.is_set():
                self.lost.set()  # the loss was reported before `lost` was cleared
        return self

    async def try_acquire(self) -> AsyncLock | None:
        async with self._turn():
            was_held = self.sync.held

            def undo(taken: Lock | None) -> None:
                if taken is not None and not was_held:
                    taken.release()

            taken = await self._in_thread(lambda _: self.sync.try_acquire(), undo=undo)
        return None if taken is None else self

    async def verify(self) -> bool:
        return await self._do(self.sync.verify)

    async def update(self, value: str | None = None, *, reason: str | None = None) -> None:
        await self._do(lambda interrupt: self.sync.update(value, reason=reason, cancel=interrupt))

    async def release(self) -> None:
        """Release the lock. When the task is cancelled, the release has one more second. Raises as `Lock.release()`."""
        await self._do(self.sync.release, GIVE_UP)

    async def keep(self, reason: str) -> None:
        await self._do(lambda interrupt: self.sync.keep(reason, interrupt), GIVE_UP)

    async def freeze(self, reason: str, *, exit_code: int | None = None) -> None:
        await self._do(lambda interrupt: self.sync.freeze(reason, interrupt, exit_code=exit_code), GIVE_UP)

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
    def names(self) -> tuple[str, ...]:
        return self.sync.names

    @property
    def held(self) -> bool:
        return self.sync.held

    @property
    def token(self) -> int:
        return self.sync.token

    @property
    def tokens(self) -> dict[str, int]:
        return self.sync.tokens

    @property
    def value(self) -> str | None:
        return self.sync.value

    @property
    def holder(self) -> Holder:
        return self.sync.holder

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self.sync.holders

    async def __aenter__(self) -> AsyncLock:
        return await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cooldown = None if error is not None else cooldown_of(self.sync)
        if cooldown is None:
            await self.release()
        else:
            await self.cool(cooldown)

    def __del__(self) -> None:
        standby = getattr(self, "_standby", None)
        if standby is not None:
            standby.close()  # dropped without a release: a persistent lock stays, but its thread is useless

    async def _do(self, work: Callable[[Interrupt], Result], grace: float = 0.0) -> Result:
        async with self._turn():
            return await self._in_thread(work, grace=grace)

    async def _in_thread(self, work: Callable[[Interrupt], Result], **options: Any) -> Result:
        """Do `work` in this lock's thread, which exists from before the acquisition until the release."""
        if self._standby is None or self._standby.is_inherited:
            self._standby = StandbyThread("distlock-aio")
        try:
            return await on_standby(self._standby, work, **options)
        finally:
            if not has_hold(self.sync):
                standby, self._standby = self._standby, None
                standby.close()

    def _turn(self) -> asyncio.Lock:
        """The mutex of its calls: a `Lock` may be used by one thread at a time."""
        if self._turns is None:
            self._loop, self._turns = asyncio.get_running_loop(), asyncio.Lock()
        return self._turns

    def _tell(self, loss: Loss) -> None:
        """Report a loss to the event loop. Called by the lock, in one of its threads."""

        def tell() -> None:
            self.lost.set()
            if self._on_lost is not None:
                self._on_lost(loss)

        assert self._loop is not None
        call_in(self._loop, tell)
