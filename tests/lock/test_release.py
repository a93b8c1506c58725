"""Letting go: only the lock that was meant, whatever happened to it meanwhile."""

from __future__ import annotations

import time

import pytest

from distlock_core import EtcdUnavailable, Interrupt, LockLost, LockNotFound, NotHolder
from distlock_core.errors import Cancelled
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, PROMPT, TXN, Scene, deletes, puts, until

# By the holder.


def test_a_late_release_keeps_the_newer_holder(scene: Scene) -> None:
    old = scene.realm().lock("web", "old").acquire(0)
    scene.realm().unlock("web")
    new = scene.realm().lock("web", "new").acquire(0)
    before = scene.under()
    with pytest.raises(LockLost):
        old.release()
    assert scene.under() == before
    assert new.verify()
    assert not old.held


def test_a_release_held_up_on_its_way_keeps_the_newer_holder(scene: Scene, proxy: Proxy) -> None:
    old = scene.realm(proxy.url).lock("web", "old").acquire(0)
    held = proxy.hold_request(TXN, deletes(scene.key("web")))
    release = scene.start(old.release)
    held.wait()
    scene.realm().unlock("web")
    new = scene.realm().lock("web", "new").acquire(0)
    held.release()
    with pytest.raises(LockLost):
        release.result(BOUND)
    assert new.verify()


def test_a_release_compares_the_run_and_not_the_token_alone(scene: Scene) -> None:
    """A hold that was taken over keeps its token: the run that it was taken from may not release it any more."""
    lock = scene.realm().lock("web", "node-1").acquire(0)
    kv = scene.get("web")
    assert kv is not None
    scene.put("web", kv.value.decode().replace(scene.record("web").run, "another run"))
    assert scene.get("web").create_revision == lock.token  # type: ignore[union-attr]
    assert not lock.verify()
    with pytest.raises(LockLost):
        lock.release()
    assert scene.record("web").run == "another run"


def test_a_release_compares_the_token_and_not_the_run_alone(scene: Scene) -> None:
    """Deleted and put again by hand, with the same record: another may have held it in between."""
    lock = scene.realm().lock("web").acquire(0)
    kv = scene.get("web")
    assert kv is not None
    scene.replace("web", kv.value.decode())
    assert not lock.verify()
    with pytest.raises(LockLost):
        lock.release()
    assert scene.get("web") is not None


def test_a_release_succeeds_when_only_the_record_was_rewritten(scene: Scene) -> None:
    """With the same token and run, a changed record (kept, a new reason) is the same lock."""
    lock = scene.realm().lock("web").acquire(0)
    kv = scene.get("web")
    assert kv is not None
    scene.put("web", kv.value.decode())
    lock.release()
    scene.assert_clean()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_release_of_a_deleted_lock_reports_lost(scene: Scene, replaced: bool) -> None:
    lock = scene.realm().lock("web").acquire(0)
    scene.delete("web")
    if replaced:
        scene.put("web", "2;newer;by hand")
    before = scene.under()
    with pytest.raises(LockLost):
        lock.release()
    assert scene.under() == before
    with pytest.raises(NotHolder):
        lock.release()


def test_the_end_of_a_hold_is_recorded_in_the_transaction_that_deletes_it(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url).lock("web", "node-1", "Upgrade").acquire(0)
    token = lock.token
    lock.release()
    both = [
        body
        for body in proxy.wait_for_requests(TXN)
        if deletes(scene.key("web"))(body) and puts(scene.key("__last/web"))(body)
    ]
    assert len(both) == 1
    ended = scene.realm().show("web").last
    assert ended is not None
    assert (ended.how, ended.by, ended.owner, ended.token) == ("released", "node-1", "node-1", token)


def test_a_release_respects_the_mutex_for_two_seconds_and_then_deletes(scene: Scene) -> None:
    lock = scene.realm().lock("web").acquire(0)
    scene.put("__internal_lock/694d")
    since = time.monotonic()
    lock.release()
    assert time.monotonic() - since >= 1.8
    assert scene.get("web") is None
    assert scene.get("__last/web") is not None


def test_a_release_continues_as_soon_as_the_mutex_is_free(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    scene.put("__internal_lock/694d")
    asked = len(proxy.wait_for_requests(TXN))
    since = time.monotonic()
    release = scene.start(lock.release)
    proxy.wait_for_requests(TXN, asked + 2)  # it was refused, and reads
    assert scene.get("web") is not None
    scene.delete("__internal_lock/694d")
    release.result(BOUND)
    writes = [body for body in proxy.wait_for_requests(TXN) if deletes(scene.key("web"))(body)]
    assert len(writes) == 2
    assert scene.get("web") is None
    assert time.monotonic() - since < PROMPT


def test_a_release_outlasts_an_outage(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    proxy.cut()
    release = scene.start(lock.release)
    proxy_down_for(0.5)
    assert not release.done()
    proxy.heal()
    release.result(BOUND)
    scene.assert_clean()


def test_a_release_outlasts_an_outage_that_begins_with_its_own_reply(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    reply = proxy.hold_reply(TXN, deletes(scene.key("web")))
    release = scene.start(lock.release)
    reply.wait()
    proxy.cut()
    proxy_down_for(0.3)
    proxy.heal()
    release.result(BOUND)
    scene.assert_clean()


def proxy_down_for(seconds: float) -> None:
    """Let an outage last: the passing of time itself is tested."""
    time.sleep(seconds)


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
def test_a_release_gives_up_after_its_timeout_and_can_be_tried_again(scene: Scene, proxy: Proxy, silent: bool) -> None:
    lock = scene.realm(proxy.url, release_timeout=2.0).lock("web").acquire(0)
    if silent:
        proxy.blackhole()
    else:
        proxy.cut()
    since = time.monotonic()
    with pytest.raises(EtcdUnavailable):
        lock.release()
    assert 1.9 <= time.monotonic() - since < 12
    assert lock.held
    assert scene.get("web") is not None
    proxy.heal()
    lock.release()
    scene.assert_clean()


def test_a_release_ends_by_a_cancel(scene: Scene, proxy: Proxy) -> None:
    cancel = Interrupt()
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    proxy.cut()
    release = scene.start(lambda: lock.release(cancel))
    cancel.set()
    with pytest.raises(Cancelled):
        release.result(PROMPT)
    assert scene.get("web") is not None


# By name: anyone may, but only what was shown.


def test_unlock_by_name_removes_any_holder(scene: Scene) -> None:
    scene.put("web", "1;node-9;by the original")
    holder = scene.realm().unlock("web")
    assert holder.owner == "node-9"
    assert scene.get("web") is None
    last = scene.record("__last/web")
    assert (last.text("how"), last.text("owner"), last.number("token")) == ("broken", "node-9", holder.token)
    with pytest.raises(LockNotFound):
        scene.realm().unlock("web")


def test_unlock_with_an_owner_refuses_anothers_lock(scene: Scene) -> None:
    scene.put("web", "1;node-9;{}")
    before = scene.under()
    with pytest.raises(NotHolder, match="held by node-9"):
        scene.realm().unlock("web", "node-1")
    assert scene.under() == before
    scene.realm().unlock("web", "node-1", force=True)
    assert scene.get("web") is None


def test_unlock_with_a_token_refuses_a_newer_lock(scene: Scene) -> None:
    token = scene.put("web")
    newer = scene.replace("web")
    with pytest.raises(NotHolder, match=str(token)):
        scene.realm().unlock("web", token=token)
    assert scene.realm().verify("web", newer)
    scene.realm().unlock("web", token=newer)


def test_unlock_rereads_when_only_the_record_was_rewritten(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    held = proxy.hold_request(TXN, deletes(scene.key("web")))
    unlock = scene.start(lambda: scene.realm(proxy.url).unlock("web"))
    held.wait()
    scene.put("web", '1;node-9;{"state":"kept"}')
    held.release()
    unlock.result(BOUND)
    assert scene.get("web") is None


def test_unlock_refuses_a_lock_that_was_replaced_after_it_was_shown(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    held = proxy.hold_request(TXN, deletes(scene.key("web")))
    unlock = scene.start(lambda: scene.realm(proxy.url).unlock("web"))
    held.wait()
    scene.replace("web", "2;node-10;{}")
    before = scene.under()
    held.release()
    with pytest.raises(NotHolder, match=r"held by node-10.*ended in the meantime"):
        unlock.result(BOUND)
    assert scene.under() == before


def test_unlock_reports_a_lock_that_disappeared_meanwhile(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    held = proxy.hold_request(TXN, deletes(scene.key("web")))
    unlock = scene.start(lambda: scene.realm(proxy.url).unlock("web"))
    held.wait()
    scene.delete("web")
    held.release()
    with pytest.raises(LockNotFound, match="ended in the meantime"):
        unlock.result(BOUND)


def test_an_unlock_in_doubt_is_resolved(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    proxy.lose_reply(TXN, deletes(scene.key("web")))
    assert scene.realm(proxy.url).unlock("web").owner == "node-9"
    assert scene.get("web") is None


def test_unlock_in_doubt_keeps_the_lock_that_came_after(scene: Scene, proxy: Proxy) -> None:
    """The request is delayed, the caller asks again, and it arrives when another holds the lock."""
    scene.put("web", "1;node-9;{}")
    held = proxy.hold_request(TXN, deletes(scene.key("web")))
    unlock = scene.start(lambda: scene.realm(proxy.url).unlock("web"))
    held.wait()
    held.drop()
    unlock.result(BOUND)
    newer = scene.realm().lock("web", "newer").acquire(0)
    assert not scene.replay(held.body)
    assert newer.verify()


def test_unlock_of_one_slot_of_several_wants_its_token(scene: Scene) -> None:
    realm = scene.realm()
    first, second = realm.lock("web", slots=2).acquire(0), realm.lock("web", slots=2).acquire(0)
    with pytest.raises(NotHolder, match="token="):
        realm.unlock("web")
    realm.unlock("web", token=second.token)
    until(lambda: not second.verify())
    assert first.verify()
