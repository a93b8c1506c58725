"""Outside of its windows a lock is not acquired. The clock that they are about is the test's own."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

import pytest

from distlock_core import AcquireTimeout, LockBusy, OutsideWindow
from distlock_core.lock import ruling
from distlock_core.lock.acquire import Waiting
from distlock_core.model.state import LockState
from tests.support.scene import BOUND, PROMPT, Scene, until

NIGHTS = "22:00-04:00"


class Clock:
    """A clock on the wall, which goes on from where it was set."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        moment = datetime.fromisoformat(f"2026-11-30 {text}").replace(tzinfo=timezone.utc)
        self._ahead = moment.timestamp() - time.time()

    def __call__(self) -> float:
        return time.time() + self._ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """At noon."""
    clock = Clock("12:00")
    monkeypatch.setattr(ruling, "wall", clock)
    return clock


class Progress(list[Waiting]):
    def __call__(self, waiting: Waiting) -> None:
        self.append(waiting)


def test_without_a_wait_it_is_refused_and_says_until_when(scene_each: Scene, clock: Clock) -> None:
    lock = scene_each.realm().lock("web", window=NIGHTS)
    with pytest.raises(OutsideWindow) as refused:
        lock.acquire(0)
    assert isinstance(refused.value, LockBusy)
    assert refused.value.kind == "window"
    assert refused.value.message == "web is free; outside the window '22:00-04:00' until Mon 2026-11-30 22:00 UTC"
    assert refused.value.opens_at == datetime(2026, 11, 30, 22, tzinfo=timezone.utc).timestamp()
    assert isinstance(refused.value.state, LockState)
    assert lock.try_acquire() is None
    with pytest.raises(OutsideWindow):
        lock.preview()
    clock.set("22:00")
    assert lock.preview() is None
    assert lock.acquire(0).held
    clock.set("04:00")
    assert lock.verify(), "a hold goes on"


def test_a_held_lock_outside_of_its_window_says_both(scene: Scene, clock: Clock) -> None:
    realm = scene.realm()
    realm.lock("web", "other").acquire(0)
    with pytest.raises(OutsideWindow, match=r"web is held by other .*; outside the window") as refused:
        realm.lock("web", window=NIGHTS).acquire(0)
    assert refused.value.kind == "window"
    with pytest.raises(LockBusy) as busy:
        realm.lock("web", window="Mon-Sun").acquire(0)
    assert busy.value.kind == "busy"


def test_outside_the_policys_window_all_wait_in_their_places(scene_each: Scene, clock: Clock) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", window=NIGHTS)
    progress = Progress()
    first = scene_each.queue(scene_each.realm().lock("web", "a", step=True), progress=progress)
    second = scene_each.queue(scene_each.realm().lock("web", "b", step=True, window="Mon-Sun"))
    until(lambda: len(progress) > 0)
    assert progress[0].position == 1
    assert progress[0].closed is not None
    assert progress[0].closed.for_everybody
    assert progress[0].own == "outside its policy's window '22:00-04:00' until Mon 2026-11-30 22:00 UTC"
    clock.set("22:30")
    realm.set_policy("web", slots=2)  # wakes the first
    assert first.result(PROMPT).holder.slot == 0
    assert second.result(PROMPT).holder.slot == 1


def test_the_first_acquires_when_the_policys_window_opens(scene: Scene, clock: Clock) -> None:
    """By itself, and not only at the next of the reads every ten seconds."""
    realm = scene.realm()
    realm.set_policy("web", window=NIGHTS)
    clock.set("21:59:58")
    started = time.monotonic()
    waiter = scene.queue(realm.lock("web"))
    assert waiter.result(PROMPT).held
    assert time.monotonic() - started > 1
    assert clock() >= datetime(2026, 11, 30, 22, tzinfo=timezone.utc).timestamp()


def test_outside_its_own_window_a_waiter_holds_up_nobody(scene_each: Scene, clock: Clock) -> None:
    realm = scene_each.realm()
    progress = Progress()
    outside = scene_each.acquire(realm.lock("web", "a", window=NIGHTS), progress=progress)
    until(lambda: len(progress) > 0)
    assert progress[0].position == 0
    assert scene_each.line("web") == ()
    with scene_each.realm().lock("web", "b", timeout=0):
        pass
    assert not outside.done()
    scene_each.curtain.set()


def test_it_joins_when_its_own_window_opens(scene: Scene, clock: Clock) -> None:
    clock.set("21:59:58")
    waiter = scene.acquire(scene.realm().lock("web", window=NIGHTS))
    assert waiter.result(PROMPT).held
    assert clock() >= datetime(2026, 11, 30, 22, tzinfo=timezone.utc).timestamp()


def test_a_window_that_closes_while_waiting(scene_each: Scene, clock: Clock) -> None:
    """Its own: it stays until its turn comes, then leaves the queue, and the next one gets the lock."""
    clock.set("03:50")
    realm = scene_each.realm()
    holder = realm.lock("web", "holder").acquire(0)
    progress = Progress()
    first = scene_each.queue(scene_each.realm().lock("web", "a", window=NIGHTS), progress=progress)
    second = scene_each.queue(scene_each.realm().lock("web", "b"))
    clock.set("04:00")
    assert len(scene_each.line("web")) == 2
    holder.release()
    assert second.result(PROMPT).held
    until(lambda: progress[-1].position == 0)
    assert not first.done()
    assert scene_each.line("web") == ()
    scene_each.curtain.set()


def test_a_policys_window_that_closes_while_waiting(scene_each: Scene, clock: Clock) -> None:
    """Its turn comes, and it stays where it is: nobody else may acquire the lock either."""
    clock.set("03:50")
    realm = scene_each.realm()
    realm.set_policy("web", window=NIGHTS)
    holder = realm.lock("web", "holder").acquire(0)
    progress = Progress()
    first = scene_each.queue(scene_each.realm().lock("web", "a"), progress=progress)
    place = scene_each.line("web")
    clock.set("04:00")
    holder.release()
    until(lambda: progress[-1].closed is not None and progress[-1].state.holders == ())
    assert scene_each.get("web") is None
    assert scene_each.line("web") == place
    with pytest.raises(OutsideWindow):
        realm.lock("web", "c").acquire(0)
    realm.clear_policy("web")
    assert first.result(PROMPT).held


def test_the_time_is_up_while_the_window_is_closed(scene: Scene, clock: Clock) -> None:
    realm = scene.realm()
    with pytest.raises(AcquireTimeout, match=r"gave up after 0\.\ds: web is free; outside the window"):
        realm.lock("web", window=NIGHTS).acquire(0.3)
    realm.set_policy("web", window=NIGHTS)
    with pytest.raises(AcquireTimeout, match="web is free; outside its policy's window"):
        realm.lock("web").acquire(0.5)
    assert scene.under("web") == ()


def test_outside_of_its_window_a_waiter_outlasts_an_etcd_that_is_away(scene_each: Scene, clock: Clock) -> None:
    from distlock_core.testing import Proxy

    with Proxy(scene_each.cluster.endpoints[0]) as proxy:
        clock.set("21:59:57")
        waiter = scene_each.acquire(scene_each.realm(proxy.url).lock("web", window=NIGHTS))
        proxy.wait_for_requests("*", 1)
        proxy.cut()
        until(lambda: clock() > datetime(2026, 11, 30, 22, 0, 1, tzinfo=timezone.utc).timestamp())
        assert not waiter.done()
        proxy.heal()
        assert waiter.result(PROMPT).held


def test_its_own_hold_is_entered_again_outside_of_the_window(scene: Scene, clock: Clock) -> None:
    clock.set("23:00")
    realm = scene.realm()
    realm.lock("web", "me", step=True, window=NIGHTS).acquire(0)
    clock.set("12:00")
    with realm.lock("web", "me", window=NIGHTS) as inner:
        assert inner.held


def test_a_waiter_is_told_when_its_turn_is_likely(scene: Scene) -> None:
    realm = scene.realm()
    now = int(time.time())
    scene.put("__last/web", f'{now};a;{{"how":"released","owner":"a","token":1,"took":[200,240,280]}}')
    scene.put("web", f'{now - 40};holder;{{"run":"x"}}')
    progress = Progress()
    scene.queue(realm.lock("web", "a"))
    scene.queue(realm.lock("web", "b"), progress=progress)
    until(lambda: len(progress) > 0)
    from distlock_core.cli.json_output import turn_json
    from distlock_core.cli.progress import sentence

    assert re.search(r"; position 2 of 2 in the queue, about 4m each: likely \d\d:\d\d$", sentence(progress[0]))
    turn = turn_json(progress[0])
    assert turn["each"] == 240
    assert abs(turn["likely_at"] - (now + 200 + 240)) < BOUND
