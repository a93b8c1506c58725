"""Blocking work for a task, done in a separate thread, and ended with the task."""

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
    """Do `work` in a new thread, as by `on_standby()`. Raises `DistlockError` if none can be started."""
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
    """Do `work` in the standby's thread. If the task is cancelled, the work is interrupted, and then waited for.

    Its interrupt is set `grace` seconds after the cancellation, and `wake` is called. If the work still succeeds,
    `undo` undoes its result.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[Result | None, BaseException | None]] = loop.create_future()

    def run(interrupt: Interrupt) -> None:
        outcome: tuple[Result | None, BaseException | None]
        try:
            outcome = (work(interrupt), None)
        except BaseException as error:  # noqa: BLE001 - raised in the task
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(done.set_result, outcome)
        except RuntimeError:
            pass  # the loop was closed before its tasks had ended

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
    standby.recall()  # its work is done
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
        pass  # a second cancellation: the caller learns of the first one in any case


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call `callback` in the event loop, from any thread. Does nothing if the loop was closed meanwhile."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass
