"""Waiting until a lock is free, idle or thawed takes nothing, writes nothing, and reads only when something changes."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, EtcdUnavailable, Frozen, LockBusy, aio
from distlock_core.errors import Cancelled, ConfigError, LimitConflict, OutsideWindow
from distlock_core.lock.wait_until import UNTIL, Obstacle, Reached
from distlock_core.process.identity import trace_of
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, PROMPT, TXN, WATCH, Scene, until
from tests.support.time_windows import closed_now, open_now


def waiting(scene: Scene, *arguments: Any, **options: Any) -> tuple[Any, list[Obstacle]]:
    """A wait in the background that has met its obstacle, and what it has reported."""
    seen: list[Obstacle] = []
    done = scene.start(lambda: scene.realm().wait(*arguments, timeout=BOUND, progress=seen.append, **options))
    until(lambda: seen or done.done())
    assert not done.done(), done
    return done, seen


def slots_held(scene: Scene, held: int) -> None:
    for number in range(held):
        scene.realm().lock("web", f"node-{number}", slots=3).acquire(0)


Arrange = Callable[[Scene], Any]
# What there is, how the lock is waited for, and which of the conditions are met.
CASES: dict[str, tuple[Arrange, dict[str, Any], set[str]]] = {
    "nothing": (lambda scene: None, {}, {"free", "idle", "thawed"}),
    "held": (lambda scene: scene.put("web"), {}, {"thawed"}),
    "held by what is no record": (lambda scene: scene.put("web", "x"), {}, {"thawed"}),
    "kept": (lambda scene: scene.put("web", '1;a;{"state":"kept"}'), {}, {"thawed"}),
    "cooling": (lambda scene: scene.put("web", '1;a;{"state":"cooling"}'), {}, {"thawed"}),
    "others wait": (lambda scene: scene.put("web/queue/50/exclusive/0"), {}, {"thawed"}),
    "others with a higher rank wait": (lambda scene: scene.put("web/queue/60/exclusive/0"), {}, {"free", "thawed"}),
    "a slot is free": (lambda scene: slots_held(scene, 2), {}, {"free", "thawed"}),
    "a slot is free, and the number given": (lambda scene: slots_held(scene, 2), {"slots": 3}, {"free", "thawed"}),
    "no slot is free": (lambda scene: slots_held(scene, 3), {}, {"thawed"}),
    "frozen": (lambda scene: scene.realm().freeze("web"), {}, {"idle"}),
    "the realm is frozen": (lambda scene: scene.realm().freeze(), {}, {"idle"}),
    "in the mutex": (lambda scene: scene.put("__internal_lock/694d"), {}, {"idle", "thawed"}),
    "a closed window": (lambda scene: None, {"window": closed_now()}, {"idle", "thawed"}),
    "an open window": (lambda scene: None, {"window": open_now()}, {"free", "idle", "thawed"}),
    "a policy's closed window": (
        lambda scene: scene.realm().set_policy("web", window=closed_now()),
        {},
        {"idle", "thawed"},
    ),
    "shared, for a shared one": (
        lambda scene: scene.realm().lock("web", "a", shared=True).acquire(0),
        {"shared": True},
        {"free", "thawed"},
    ),
    "shared, for an exclusive one": (
        lambda scene: scene.realm().lock("web", "a", shared=True).acquire(0),
        {},
        {"thawed"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_condition_is_as_an_attempt_would_find_it(scene: Scene, case: str) -> None:
    arrange, options, met = CASES[case]
    arrange(scene)
    before = scene.under()
    for condition in UNTIL:
        if condition in met:
            reached = scene.realm().wait("web", condition, timeout=0, **options)
            assert (reached.state.name, reached.waited_for) == ("web", "")
            continue
        with pytest.raises((LockBusy, Frozen)) as refused:
            scene.realm().wait("web", condition, timeout=0, **options)
        assert refused.value.state.name == "web"
        assert condition != "thawed" or isinstance(refused.value, Frozen)
        assert condition != "idle" or "frozen" not in refused.value.message
    assert scene.under() == before
    if "free" in met:
        slots = 3 if "slot" in case else None
        scene.realm().lock("web", **{"slots": slots, **options}).acquire(0).release()


@pytest.mark.parametrize(
    ("condition", "block", "clear"),
    [
        ("free", lambda scene: scene.put("web"), lambda scene: scene.delete("web")),
        ("free", lambda scene: scene.realm().freeze(), lambda scene: scene.realm().thaw()),
        ("free", lambda scene: scene.put("web/queue/50/shared/0"), lambda scene: scene.clear("web/queue")),
        ("free", lambda scene: scene.put("__internal_lock/1"), lambda scene: scene.clear("__internal_lock")),
        (
            "free",
            lambda scene: scene.realm().set_policy("web", window=closed_now()),
            lambda scene: scene.realm().clear_policy("web"),
        ),
        ("idle", lambda scene: slots_held(scene, 1), lambda scene: scene.realm().unlock("web")),
        ("idle", lambda scene: scene.put("web/queue/50/shared/0"), lambda scene: scene.clear("web/queue")),
        ("thawed", lambda scene: scene.realm().freeze("web"), lambda scene: scene.realm().thaw("web")),
    ],
)
def test_the_end_of_each_obstacle_wakes_it_at_once(
    scene_each: Scene, condition: str, block: Arrange, clear: Arrange
) -> None:
    scene = scene_each
    block(scene)
    done, (first, *_) = waiting(scene, "web", condition)
    before = scene.under()
    clear(scene)
    reached: Reached = done.result(PROMPT)
    assert first.why.startswith(("web ", "the realm ", "web: "))
    assert reached.waited_for == first.why
    assert reached.waited > 0
    assert scene.new_leases() == set()
    assert set(scene.under()) <= set(before) | set(scene.under("__"))


def test_it_takes_nothing_and_holds_up_nobody(scene: Scene) -> None:
    scene.realm().lock("web", "node-1").acquire(0)
    waits = [waiting(scene, "web", condition)[0] for condition in ("free", "idle")]
    assert scene.line("web") == ()
    scene.realm().unlock("web")
    assert [wait.result(PROMPT).state.holders for wait in waits] == [(), ()]
    scene.realm().lock("web", "node-2").acquire(0)  # nobody is ahead
    assert scene.new_leases() == set()


def test_a_lock_that_is_handed_on_is_not_free_in_between(scene: Scene) -> None:
    holder = scene.realm().lock("web", "node-1").acquire(0)
    following = scene.queue(scene.realm().lock("web", "node-2"))
    done, seen = waiting(scene, "web")
    holder.release()
    until(lambda: any(obstacle.states[0].holders[:1] and "node-2" in obstacle.why for obstacle in seen))
    assert not done.done()
    following.result(PROMPT).release()
    assert done.result(PROMPT).waited_for.startswith("web is held by node-1")


def test_several_locks_are_free_at_the_same_moment(scene: Scene) -> None:
    for name in ("a", "b"):
        scene.put(name)
    done, seen = waiting(scene, ["a", "b", "c"])
    scene.delete("a")
    until(lambda: seen[-1].why.startswith("b "))
    scene.move("b", "a")
    until(lambda: seen[-1].why.startswith("a "))
    scene.delete("a")
    assert [state.name for state in done.result(PROMPT).states] == ["a", "b", "c"]


def test_a_storm_of_changes_costs_a_few_reads_and_no_other_watch(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    done = scene.start(lambda: scene.realm(proxy.url).wait("web", timeout=BOUND))
    proxy.wait_for_requests(WATCH)
    reads = len(proxy.wait_for_requests(TXN))
    for number in range(60):
        scene.put(f"web/queue/50/exclusive/{number:04}")
    scene.clear("web/")
    scene.delete("web")
    done.result(PROMPT)
    assert reads == 1
    assert len(proxy.wait_for_requests(TXN)) < 30
    assert len(proxy.wait_for_requests(WATCH)) == 1


def test_an_outage_is_waited_out_but_for_the_first_contact(scene: Scene, proxy: Proxy) -> None:
    scene.put("web")
    seen: list[Obstacle] = []
    realm = scene.realm(proxy.url, connect_timeout=0.5)
    done = scene.start(lambda: realm.wait("web", timeout=60, progress=seen.append))
    until(lambda: seen)
    proxy.cut()
    until(lambda: seen[-1].away)
    with pytest.raises(EtcdUnavailable):
        scene.realm(proxy.url, connect_timeout=0.2).wait("web")
    scene.delete("web")
    proxy.heal()
    assert done.result(BOUND).state.holders == ()


def test_the_time_is_bounded_and_says_what_was_in_the_way(scene: Scene) -> None:
    scene.realm().lock("web", "node-1", "Upgrade").acquire(0)
    with pytest.raises(
        AcquireTimeout, match=r'^gave up after 0\..s: web is held by node-1 since .*: "Upgrade"'
    ) as late:
        scene.realm().wait("web", timeout=0.3)
    assert late.value.state.holders[0].owner == "node-1"
    with pytest.raises(OutsideWindow, match="outside the window") as shut:
        scene.realm().wait("other", window=closed_now(), timeout=0)
    assert shut.value.opens_at is not None
    with pytest.raises(AcquireTimeout, match="outside the window"):
        scene.realm().wait("other", window=closed_now(), timeout=0.3)


def test_a_cancel_ends_it_also_for_asyncio(scene: Scene) -> None:
    scene.put("web")
    with pytest.raises(Cancelled):
        scene.realm().wait("web", cancel=_set())

    async def both() -> Reached:
        realm = aio.connect(scene.endpoints, scene.prefix)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(realm.wait("web"), 0.3)
        waits = asyncio.create_task(realm.wait("web", "idle"))
        await asyncio.sleep(0)
        scene.delete("web")
        return await asyncio.wait_for(waits, PROMPT)

    assert asyncio.run(both()).state.holders == ()


def test_the_hold_of_a_command_around_it_is_not_waited_for(scene: Scene) -> None:
    outer = scene.realm().lock("web", "me").acquire(0)
    inside = {outer.key.encode(): outer.token}
    for condition in ("free", "idle"):
        with pytest.raises(LockBusy, match="held by the command around this one, so waiting would never end"):
            scene.realm().wait("web", condition, inside=inside)
    with pytest.raises(AcquireTimeout):  # the other slots may become free
        scene.realm().wait("web", timeout=0.1)
    slot = scene.realm().lock("db", "me", slots=2).acquire(0)
    scene.realm().lock("db", "other", slots=2).acquire(0)
    with pytest.raises(AcquireTimeout):
        scene.realm().wait("db", timeout=0.1, inside={slot.key.encode(): slot.token})


def test_what_cannot_become_true_is_refused(scene: Scene) -> None:
    slots_held(scene, 1)
    with pytest.raises(LimitConflict):
        scene.realm().wait("web", slots=2)
    scene.put("__policy/db", '1;admin;{"quorum":3}')
    with pytest.raises(ConfigError, match="its policy cannot be followed"):
        scene.realm().wait("db")
    for wrong in ({"until": "open"}, {"rank": 100}, {"slots": 2, "shared": True}):
        with pytest.raises(ConfigError):
            scene.realm().wait("web", **wrong)
    with pytest.raises(ConfigError):
        scene.realm().wait([])


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_a_record_of_this_process_is_no_command_around_it(scene: Scene) -> None:
    """A program that uses the library may wait for a lock that another of its threads holds."""
    scene.put("web", f"1;me;{json.dumps({**trace_of(), 'kind': 'run', 'run': 'r'})}")
    done, _ = waiting(scene, "web")
    scene.delete("web")
    done.result(PROMPT)
