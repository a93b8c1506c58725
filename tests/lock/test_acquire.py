"""The conditions under which `acquire()` takes a lock, on both versions of etcd."""

from __future__ import annotations

import subprocess
import time

import pytest

from distlock_core import AcquireTimeout, Frozen, LimitConflict, LockBusy, LockLost, NotHolder
from distlock_core.lock import acquire
from tests.support.needs import need
from tests.support.scene import BOUND, PROMPT, Scene

NEIGHBOURS = ("web-b", "web2", "web0", "web.b", "webb", "we")


def test_a_free_lock_is_one_key_and_its_release_one_record(scene_each: Scene) -> None:
    lock = scene_each.realm().lock("web", "node-1", "Upgrade RPMs").acquire()
    kv = scene_each.get("web")
    assert kv is not None
    assert lock.token == kv.create_revision
    assert kv.lease == 0
    record = scene_each.record("web")
    assert (record.owner, record.text("reason"), record.explicit) == ("node-1", "Upgrade RPMs", True)
    assert record.run
    scene_each.assert_clean("web")
    lock.release()
    scene_each.assert_clean()
    last = scene_each.record("__last/web")
    assert (last.text("how"), last.owner, last.number("token")) == ("released", "node-1", kv.create_revision)


def test_tokens_grow(scene_each: Scene) -> None:
    lock, tokens = scene_each.realm().lock("web"), []
    for _ in range(3):
        with lock:
            tokens.append(lock.token)
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("value", ["1;node-1;{}", "1;node-1;a reason of the original", "no record", ""])
def test_any_value_under_the_name_is_a_lock(scene_each: Scene, value: str) -> None:
    scene_each.put("web", value)
    before = scene_each.get("web")
    with pytest.raises(LockBusy):
        scene_each.realm().lock("web").acquire(0)
    assert scene_each.realm().lock("web").try_acquire() is None
    assert scene_each.get("web") == before


def test_a_lock_with_one_slot_is_free_only_when_no_other_slot_is_held(scene_each: Scene) -> None:
    scene_each.put("web/slot/1")
    with pytest.raises(LockBusy):
        scene_each.realm().lock("web").acquire(0)
    scene_each.delete("web/slot/1")
    assert scene_each.realm().lock("web").acquire(0).held


def test_neighbours_by_name_are_left_alone(scene_each: Scene) -> None:
    for name in NEIGHBOURS:
        scene_each.put(name)
        scene_each.put(f"{name}/slot/1")
        scene_each.put(f"{name}/queue/50/exclusive/0000000000000001")
    before = scene_each.under()
    lock = scene_each.realm().lock("web").acquire(0)
    assert [holder.key for holder in scene_each.realm().show("web").holders] == [scene_each.key("web")]
    lock.release()
    lock.acquire(0)
    scene_each.realm().unlock("web")
    scene_each.delete("__last/web")
    assert scene_each.under() == before


def test_another_realm_is_another_lock(scene_each: Scene) -> None:
    first = scene_each.realm().lock("web").acquire(0)
    other = Scene(scene_each.cluster, scene_each.prefix[:-1] + "x/")
    second = other.realm().lock("web").acquire(0)
    assert first.key != second.key
    second.release()
    other.close()


def test_a_newcomer_does_not_overtake_the_queue_when_the_lock_is_free(scene_each: Scene) -> None:
    scene_each.put("web/queue/50/exclusive/0000000000000001")
    with pytest.raises(LockBusy, match="free, but 1 is waiting"):
        scene_each.realm().lock("web").acquire(0)
    newcomer = scene_each.queue(scene_each.realm().lock("web"))
    assert scene_each.get("web") is None
    scene_each.delete("web/queue/50/exclusive/0000000000000001")
    newcomer.result(PROMPT).release()
    scene_each.assert_clean()


def test_n_slots_admit_n_holders(scene_each: Scene) -> None:
    realm = scene_each.realm()
    first, second = realm.lock("web", slots=2).acquire(0), realm.lock("web", slots=2).acquire(0)
    assert {first.key, second.key} == {scene_each.prefix + "web", scene_each.prefix + "web/slot/1"}
    with pytest.raises(LockBusy):
        realm.lock("web", slots=2).acquire(0)
    third = scene_each.queue(realm.lock("web", slots=2))
    fourth = scene_each.queue(realm.lock("web", slots=2))
    second.release()
    assert third.result(PROMPT).key == scene_each.prefix + "web/slot/1"
    first.release()
    assert fourth.result(PROMPT).key == scene_each.prefix + "web"
    assert third.result().verify()


def test_another_number_of_slots_is_refused_with_the_reason(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.lock("web", slots=3).acquire(0)
    for slots in (1, 2):
        with pytest.raises(LimitConflict, match="3 slot"):
            realm.lock("web", slots=slots).acquire(-1)
    scene_each.assert_clean("web")


def test_no_lock_is_acquired_in_a_frozen_realm(scene_each: Scene) -> None:
    scene_each.put("__freeze", '1;boss;{"reason":"audit"}')
    with pytest.raises(Frozen, match=r"boss.*audit"):
        scene_each.realm().lock("web").acquire(0)
    waiter = scene_each.queue(scene_each.realm().lock("web"))
    assert scene_each.get("web") is None
    scene_each.delete("__freeze")
    assert waiter.result(PROMPT).held


def test_a_go_client_in_its_mutex_keeps_a_waiter_out(scene_each: Scene) -> None:
    scene_each.put("__internal_lock/694d")
    waiter = scene_each.queue(scene_each.realm().lock("web"))
    assert scene_each.get("web") is None
    scene_each.delete("__internal_lock/694d")
    assert waiter.result(PROMPT).held


def test_nowait_outlasts_a_go_client_that_leaves_its_mutex_in_time(
    scene_each: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquire, "MUTEX_GRACE", BOUND)  # the second that it is may be over on a busy machine
    scene_each.put("__internal_lock/694d")
    lock = scene_each.realm().lock("web")
    future = scene_each.acquire(lock, 0)
    time.sleep(0.2)  # not to wait for anything: the mutex is to be there for a while
    assert not future.done()
    scene_each.delete("__internal_lock/694d")
    assert future.result(BOUND).held


def test_nowait_is_busy_when_a_go_client_stays_in_its_mutex(scene_each: Scene) -> None:
    scene_each.put("__internal_lock/694d")
    started = time.monotonic()
    with pytest.raises(LockBusy, match="mutex"):
        scene_each.realm().lock("web").acquire(0)
    assert 1.0 <= time.monotonic() - started < BOUND
    scene_each.assert_clean()


def test_nowait_does_not_wait_for_the_mutex_of_a_lock_that_is_held(scene_each: Scene) -> None:
    scene_each.put("__internal_lock/694d")
    scene_each.put("web")
    with pytest.raises(LockBusy, match="held by someone"):
        scene_each.realm().lock("web").acquire(0)


def test_the_mutex_is_the_one_that_etcdctl_lock_takes(scene_each: Scene) -> None:
    argv = [need("etcdctl"), f"--endpoints={scene_each.cluster.endpoints[0]}", "lock"]
    process = subprocess.Popen(
        [*argv, scene_each.prefix + "__internal_lock"], env={"ETCDCTL_API": "3"}, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it holds it now
        waiter = scene_each.queue(scene_each.realm().lock("web"))
        assert scene_each.get("web") is None
        process.terminate()
        assert waiter.result(PROMPT).held
    finally:
        process.kill()
        process.communicate()


def test_a_named_mutex_is_respected(scene_each: Scene) -> None:
    scene_each.put("mine/694d")
    assert scene_each.realm().lock("a").acquire(0).held
    with pytest.raises(LockBusy, match="mutex"):
        scene_each.realm(mutex="mine").lock("b").acquire(0)


def test_a_timeout_leaves_nothing_behind(scene_each: Scene) -> None:
    scene_each.put("web")
    started = time.monotonic()
    with pytest.raises(AcquireTimeout, match="held by someone"):
        scene_each.realm().lock("web").acquire(1.5)
    assert 1.5 <= time.monotonic() - started < BOUND
    scene_each.assert_clean("web")


def test_a_block_never_runs_without_the_lock(scene_each: Scene) -> None:
    scene_each.put("web")
    ran = False
    with pytest.raises(AcquireTimeout), scene_each.realm().lock("web", timeout=1):
        ran = True
    assert not ran


def test_a_held_lock_is_verified_and_not_acquired_twice(scene_each: Scene) -> None:
    lock = scene_each.realm().lock("web").acquire(0)
    token = lock.token
    assert lock.acquire(0).token == token
    scene_each.replace("web")
    assert not lock.verify()
    with pytest.raises(LockLost):
        lock.acquire(0)


def test_a_lock_that_is_not_held_has_no_token(scene: Scene) -> None:
    lock = scene.realm().lock("web")
    for ask in (lambda: lock.token, lambda: lock.key, lambda: lock.since, lock.release):
        with pytest.raises(NotHolder):
            ask()
    assert not lock.verify()


def test_a_waiter_takes_over_at_once_when_the_key_is_deleted_by_any_means(scene_each: Scene) -> None:
    scene_each.put("web")
    waiter = scene_each.queue(scene_each.realm().lock("web"))
    scene_each.cluster.etcdctl("del", scene_each.prefix + "web")
    lock = waiter.result(PROMPT)
    assert lock.verify()
    lock.release()
    scene_each.assert_clean()
