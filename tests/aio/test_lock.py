"""asyncio: the same verbs, and a task that is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import time
from collections.abc import Awaitable, Iterator
from typing import Any, Callable, TypeVar

import pytest

from distlock_core import AcquireTimeout, DistlockError, Frozen, LockNotFound, NotHolder, aio
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, TXN, Scene, puts

Result = TypeVar("Result")
PROMPTLY = 8.0  # seconds for what is to happen at once, cleaning up included, on a busy machine


def run(main: Callable[[], Awaitable[Result]]) -> Result:
    async def bounded() -> Result:
        return await asyncio.wait_for(main(), BOUND * 2)

    return asyncio.run(bounded())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()  # a lock that was never released ends its thread when it is collected
    deadline = time.monotonic() + BOUND
    while left := [thread.name for thread in threading.enumerate() if thread.name.startswith("distlock")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def realm(scene: Scene, *endpoints: str, **options: Any) -> aio.AsyncRealm:
    return aio.connect(list(endpoints) or scene.endpoints, scene.prefix, **options)


async def eventually(check: Callable[[], Any]) -> None:
    deadline = time.monotonic() + BOUND
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


def test_the_verbs_do_the_same_as_without_asyncio(scene: Scene) -> None:
    async def main() -> None:
        async with realm(scene) as locks:
            async with locks.lock("db", "me", reason="why", value="10.1.1.1") as lock:
                assert lock.held
                assert (lock.name, lock.value, lock.holder.reason) == ("db", "10.1.1.1", "why")
                assert await lock.verify()
                assert await locks.verify("db", lock.token)
                assert await locks.get("db") == "10.1.1.1"
                await lock.update("10.1.1.2")
                assert await locks.get("db") == "10.1.1.2"
                assert (await locks.update("db", "10.1.1.3", owner="me")).token == lock.token
                assert (await locks.show("db")).holders[0].value == "10.1.1.3"
                assert [state.name for state in await locks.list()] == ["db"]
                assert await locks.lock("db").try_acquire() is None
                with pytest.raises(AcquireTimeout):
                    await locks.lock("db").acquire(1)
            with pytest.raises(LockNotFound):
                await locks.get("db")
            with pytest.raises(NotHolder):
                await lock.release()
            taken = await locks.lock("db").try_acquire()
            assert taken is not None
            assert (await locks.unlock("db")).token == taken.token

    run(main)
    scene.assert_clean()


def test_a_policy_is_set_and_honoured(scene: Scene) -> None:
    async def main() -> None:
        async with realm(scene) as locks:
            change = await locks.set_policy("db", slots=2, cooldown=60)
            assert change.changed
            assert await locks.policy("db") == change.after
            with pytest.raises(ZeroDivisionError):
                async with locks.lock("db", "me"):
                    raise ZeroDivisionError
            assert (await locks.show("db")).holders == ()
            async with locks.lock("db", "me"):
                pass
            (holder,) = (await locks.show("db")).holders
            assert holder.record.state == "cooling"
            assert (await locks.clear_policy("db")).changed
            assert await locks.policies() == []

    run(main)


def test_a_lock_is_frozen_and_thawed(scene: Scene) -> None:
    async def main() -> None:
        async with realm(scene) as locks:
            told = []
            lock = await locks.lock("db", "me").acquire()
            async with locks.watch("db", freezes=True) as watch:
                async for event in watch:
                    told.append((event.kind, event.lock, event.owner))
                    if event.kind == "acquired":
                        await lock.freeze("failed", exit_code=7)
                    if len(told) == 3:
                        break
            assert sorted(told) == [("acquired", "db", "me"), ("frozen", "db", "me"), ("released", "db", "me")]
            with pytest.raises(Frozen, match="failed"):
                await locks.lock("db").acquire(0)
            found = await locks.frozen("db")
            assert found is not None
            assert found.exit_code == 7
            assert (await locks.thaw("db")).run == found.run
            assert (await locks.freeze(reason="audit", seconds=60)).lock is None
            assert await locks.lock("db").try_acquire() is None
            await locks.thaw()

    run(main)
    scene.assert_clean()


def test_a_watch_is_an_async_iterator(scene: Scene) -> None:
    async def main() -> None:
        locks = realm(scene)
        told = []
        lock = await locks.lock("db", value="1").acquire()
        async with locks.watch("db") as watch:
            async for event in watch:
                told.append((event.kind, event.value))
                if event.kind == "acquired":
                    await lock.update("2")
                elif event.kind == "changed":
                    await lock.release()
                else:
                    break
        assert told == [("acquired", "1"), ("changed", "2"), ("released", "2")]

    run(main)
    scene.assert_clean()


def test_closing_a_watch_ends_the_task_that_reads_it(scene: Scene) -> None:
    async def main() -> None:
        watch = realm(scene).watch()

        async def read() -> list[Any]:
            return [event.lock async for event in watch]

        scene.put("db")
        task = asyncio.ensure_future(read())
        await asyncio.sleep(0.1)
        await watch.aclose()
        assert set(await task) <= {"db"}

    run(main)


def test_a_task_cancelled_in_a_watch_misses_nothing(scene: Scene) -> None:
    async def main() -> None:
        lock = scene.realm().lock("db")
        told, made = [], []
        async with realm(scene).watch("db") as watch:
            token = scene.put("db")
            assert (await watch.__anext__()).token == token
            scene.delete("db")
            assert (await watch.__anext__()).kind == "released"
            for number in range(30):
                reading = asyncio.ensure_future(watch.__anext__())
                await asyncio.sleep(number / 3000)
                with lock:  # in the middle of it
                    made.append(lock.token)
                reading.cancel()
                try:
                    told.append((await reading).token)
                except asyncio.CancelledError:
                    pass
            while len(told) < 2 * len(made):
                told.append((await watch.__anext__()).token)
        assert told == [token for token in made for _ in range(2)]

    run(main)


def test_a_cancelled_task_gives_up_its_place_in_the_queue(scene: Scene) -> None:
    async def main() -> None:
        with scene.realm().lock("db"):
            task = asyncio.ensure_future(realm(scene).lock("db", ttl=10).acquire())
            await eventually(lambda: scene.line("db"))
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < PROMPTLY
            assert scene.line("db") == ()
            assert scene.new_leases() == set()

    run(main)
    scene.assert_clean()


@pytest.mark.parametrize("ttl", [None, 10])
def test_a_task_cancelled_at_whatever_moment_leaves_nothing(scene: Scene, ttl: int | None) -> None:
    async def main() -> None:
        locks = realm(scene)
        for number in range(40):
            lock = locks.lock("db", ttl=ttl)
            task = asyncio.ensure_future(lock.acquire())
            await asyncio.sleep(number / 2000)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert not lock.held
            else:
                await lock.release()
            assert [kv.key for kv in scene.under("db")] == []

    run(main)
    scene.assert_clean()


def test_a_task_cancelled_while_its_claim_goes_through_does_not_have_the_lock(scene: Scene, proxy: Proxy) -> None:
    async def main() -> None:
        held = proxy.hold_reply(TXN, puts(scene.key("db")))
        lock = realm(scene, proxy.url).lock("db", ttl=10)
        task = asyncio.ensure_future(lock.acquire())
        await eventually(lambda: scene.get("db"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.release()
        assert not lock.held

    run(main)
    scene.assert_clean()


def test_cancelling_twice_is_no_more_than_once(scene: Scene, proxy: Proxy) -> None:
    async def main() -> None:
        with scene.realm().lock("db"):
            task = asyncio.ensure_future(realm(scene, proxy.url).lock("db").acquire())
            await eventually(lambda: scene.line("db"))
            proxy.delay(0.1)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await task
            proxy.heal()

    run(main)
    scene.assert_clean()


def test_a_wait_can_have_a_timeout_of_asyncios(scene: Scene) -> None:
    async def main() -> None:
        with scene.realm().lock("db"), pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(realm(scene).lock("db").acquire(), 0.2)

    run(main)
    scene.assert_clean()


def test_a_hundred_tasks_that_wait_leave_the_loop_and_its_executor_free(scene: Scene) -> None:
    async def main() -> None:
        locks = realm(scene)
        holder = scene.realm().lock("db").acquire()
        tasks = [asyncio.ensure_future(locks.lock("db").acquire()) for _ in range(100)]
        await eventually(lambda: len(scene.line("db")) == 100)
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, lambda: 7) == 7
        assert await locks.get("db") is None
        async with locks.lock("other"):
            pass
        assert time.monotonic() - started < PROMPTLY
        holder.release()
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await next(iter(first)).result().release()
        for task in tasks:
            task.cancel()
        for lock in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(lock, aio.AsyncLock) and lock.held:
                await lock.release()

    run(main)
    scene.assert_clean()


def test_a_loss_is_reported_in_the_loop(scene: Scene) -> None:
    async def main() -> None:
        told: list[tuple[str, int]] = []
        me = threading.get_ident()
        lock = realm(scene).lock("db", ttl=10, on_lost=lambda loss: told.append((loss.why, threading.get_ident())))
        await lock.acquire()
        ownership = lock.ownership()
        assert await ownership.__anext__() is True
        assert not lock.lost.is_set()
        scene.delete("db")
        await asyncio.wait_for(lock.lost.wait(), BOUND)
        assert await ownership.__anext__() is False
        assert [thread for _, thread in told] == [me]
        await ownership.aclose()
        with pytest.raises(Exception, match="db"):
            await lock.release()
        async with lock:
            assert not lock.lost.is_set()

    run(main)
    scene.assert_clean()


def test_a_manager_stands_for_a_lock(scene: Scene) -> None:
    async def main() -> None:
        locks = realm(scene)
        notices: list[Any] = []
        async with locks.manager("db", value="10.1.1.1", listener=notices.append) as manager:
            async with manager.ownership() as ownership:
                async for mine in ownership:
                    if mine:
                        break
            assert manager.have_lock()
            assert await locks.get("db") == "10.1.1.1"
            assert await manager.update("10.1.1.2")
            assert await locks.get("db") == "10.1.1.2"
        assert not manager.have_lock()
        await eventually(lambda: len(notices) >= 2)
        assert [notice.kind for notice in notices] == ["ACQUIRED", "REMOVED"]

    run(main)
    scene.assert_clean()


def test_a_hold_is_monitored_and_released_without_a_new_thread(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without a descriptor more: both are there before the claim."""

    async def main() -> None:
        here = realm(scene)
        lock = await here.lock("web", ttl=9).acquire()
        manager = here.manager("other", ttl=9)
        await eventually(manager.have_lock)

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        def refuse_too(*_: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patched:
            for name in ("_start_new_thread", "_start_joinable_thread"):  # before Python 3.13, and since
                patched.setattr(threading, name, refuse, raising=False)
            patched.setattr("_thread.start_new_thread", refuse)
            patched.setattr("os.pipe", refuse_too)
            assert await lock.verify()
            await lock.update("a value")
            await lock.release()
            await manager.shutdown()
            with pytest.raises(DistlockError, match="no descriptor is left"):
                await here.lock("web", ttl=9).try_acquire()
        assert not lock.held

    run(main)
    scene.assert_clean()


def test_a_history_is_an_async_iterator_that_ends_with_the_present(scene: Scene) -> None:
    async def main() -> list[Any]:
        locks = realm(scene)
        async with locks.lock("db", "a", "Upgrade"):
            pass
        async with locks.history("db") as history:
            return [entry async for entry in history]

    reach, hold = run(main)
    assert reach.kind == "reach"
    assert (hold.owner, hold.reason, hold.ended.how) == ("a", "Upgrade", "released")


def test_closing_a_history_that_follows_ends_the_task_that_reads_it(scene: Scene) -> None:
    async def main() -> list[Any]:
        locks = realm(scene)
        history = locks.history(follow=True)
        found: list[Any] = []

        async def read() -> None:
            found.extend([entry async for entry in history])

        reader = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        async with locks.lock("db", "a"):
            pass
        await history.aclose()
        await asyncio.wait_for(reader, PROMPTLY)
        return found

    assert {entry.kind for entry in run(main)} <= {"reach", "hold"}
