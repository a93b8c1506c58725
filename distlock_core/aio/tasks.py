"""What a task waits for, done in a thread of its own, and ended with the task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from distlock_core.base.standby_thread import StandbyThread
from distlock_core.lock.lease import GIVE_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from distlock_core.base.deadline import Interrupt

    Result = TypeVar("Result")


async def in_thread(work: Callable[[Interrupt], Result], **options: Any) -> Result:
    """Do it in a thread of its own, as `on_standby()`. Raises `DistlockError` where none can be started."""
    standby = StandbyThread("distlock-aio")
    try:
        return await on_standby(standby, work, **options)
    finally:
        standby.close()


async def on_standby(
    standby: StandbyThread,
    work: Callable[[Interrupt], Result],
    *,
    undo: Callable[[Result], object] | None = None,
    wake: Callable[[], object] | None = None,
    grace: float = 0.0,
) -> Result:
    """Do it in the thread of the standby. When the task is cancelled, `work` is ended, and then waited for.

    It is ended by setting its interrupt, `grace` seconds after the cancellation; `wake` is called then. What it brings
    all the same is undone by `undo`.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()

    def run(interrupt: Interrupt) -> None:
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
        standby.interrupt.set()
        if wake is not None:
            wake()

    standby.hand(run)
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
    standby.recall()  # nothing is left for it to do
    result, error = done.result()
    if cancelled is not None:
        if error is None and undo is not None:
            await _although_cancelled(lambda: undo(result), standby)  # type: ignore[arg-type]
        raise cancelled from error
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


async def _although_cancelled(work: Callable[[], object], standby: StandbyThread) -> None:
    try:
        await on_standby(standby, lambda _: work(), grace=GIVE_UP)
    except asyncio.CancelledError:
        pass  # once more: it is told to the caller in any case


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call it in the event loop, from any thread. A loop that was closed meanwhile has nobody to tell."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass
