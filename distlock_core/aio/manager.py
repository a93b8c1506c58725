"""AsyncLockManager: `LockManager` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from distlock_core.aio.reading import AsyncOwnership
from distlock_core.aio.tasks import call_in, in_thread, on_standby
from distlock_core.base.standby_thread import StandbyThread
from distlock_core.manager import LockManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from distlock_core.events.notices import Notice
    from distlock_core.lock.realm import Realm


class AsyncLockManager:
    """`LockManager` for asyncio: contends for a lock in the background. Instant methods are no coroutines."""

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

        self._standby: StandbyThread | None = StandbyThread(
            "distlock-aio"
        )  # for the shutdown, which must not fail for lack of a thread
        try:
            self.sync = LockManager(realm, name, *arguments, listener=told, **options)
        except BaseException:
            self._standby.close()
            raise

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
        standby, self._standby = self._standby, None
        if standby is None or standby.is_inherited:
            await in_thread(lambda _: self.sync.shutdown())
            return
        try:
            await on_standby(standby, lambda _: self.sync.shutdown())
        finally:
            standby.close()

    async def __aenter__(self) -> AsyncLockManager:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()
