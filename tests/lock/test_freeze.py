"""A freeze of a lock or of its realm: nobody acquires until it is thawed, or until its time is over."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, Frozen, LockBusy, LockNotFound, NotFrozen, OutcomeUnknown
from distlock_core.model.wording import taken
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, GRANT, PROMPT, REVOKE, TXN, Scene, deletes, puts, until

KEYS = {None: "__freeze", "web": "web/freeze"}
both = pytest.mark.parametrize("name", KEYS, ids=["realm", "lock"])


@pytest.fixture(params=["reply", "request"])
def lose(request: pytest.FixtureRequest, proxy: Proxy) -> Callable[..., None]:
    return proxy.lose_reply if request.param == "reply" else proxy.lose_request


@both
def test_nobody_acquires_until_it_is_thawed(scene_each: Scene, name: str | None) -> None:
    realm = scene_each.realm()
    freeze = realm.freeze(name, reason="audit", owner="boss")
    assert (freeze.lock, freeze.by, freeze.reason, freeze.until) == (name, "boss", "audit", None)
    for slots in (1, 2):
        with pytest.raises(Frozen, match=r'frozen by boss since .*: "audit"') as refused:
            realm.lock("web", slots=slots).acquire(0)
        assert refused.value.state.frozen.by == "boss"
        assert realm.lock("web", slots=slots).try_acquire() is None
    other = realm.lock("other").try_acquire()
    assert (other is None) is (name is None)
    assert realm.frozen(name) == freeze
    thawed = realm.thaw(name)
    assert thawed.record == freeze.record
    assert realm.frozen(name) is None
    realm.lock("web").acquire(0)


@both
def test_a_waiter_keeps_its_place_and_says_who_has_frozen_it(scene: Scene, name: str | None) -> None:
    realm = scene.realm()
    seen: list[Any] = []
    realm.freeze(name, owner="boss", seconds=600)
    first = scene.queue(scene.realm().lock("web", "first"), progress=seen.append)
    second = scene.queue(scene.realm().lock("web", "second"))
    places = scene.line("web")
    until(lambda: seen)
    assert re.search(r"frozen by boss since .*, until .* left\)", taken(seen[0].state))
    assert scene.line("web") == places
    realm.thaw(name)
    lock = first.result(PROMPT)
    assert not second.done()
    lock.release()
    assert second.result(PROMPT).held


@both
def test_holders_go_on_and_release(scene: Scene, name: str | None) -> None:
    realm = scene.realm()
    leased = realm.lock("web", "me", ttl=3).acquire(0)
    realm.freeze(name)
    leased.update("still here")
    leased.acquire()  # renews it
    assert leased.verify()
    leased.release()
    assert scene.get("web") is None
    with pytest.raises(Frozen):
        realm.lock("web", "me").acquire(0)


@both
def test_a_step_is_entered_again_while_frozen(scene: Scene, name: str | None) -> None:
    realm = scene.realm()
    step = realm.lock("web", "me", step=True).acquire(0)
    realm.freeze(name)
    with realm.lock("web", "me", timeout=0) as inside:
        assert inside.token == step.token
    assert step.verify()


@both
def test_its_time_is_over_by_itself_and_never_early(scene: Scene, name: str | None) -> None:
    begun = time.time()
    freeze = scene.realm().freeze(name, seconds=3)
    assert freeze.until is not None
    assert freeze.until >= int(begun) + 3
    waiter = scene.acquire(scene.realm().lock("web"))
    assert waiter.result(BOUND).held
    assert time.time() >= begun + 3 - 0.05
    assert scene.get(KEYS[name]) is None
    waiter.result().release()
    scene.assert_clean()


@both
def test_a_second_freeze_leaves_the_first(scene: Scene, name: str | None) -> None:
    realm = scene.realm()
    realm.freeze(name, reason="audit", owner="boss", seconds=600)
    before = scene.get(KEYS[name])
    with pytest.raises(Frozen, match=r'frozen by boss .*left\): "audit": left as it is') as refused:
        realm.freeze(name, reason="mine", owner="me", seconds=60)
    assert "force" in str(refused.value)
    assert before is not None
    assert scene.get(KEYS[name]) == before
    assert scene.new_leases() == {before.lease}


@both
def test_a_freeze_is_replaced_by_force_and_its_lease_is_revoked(scene: Scene, name: str | None) -> None:
    realm = scene.realm()
    first = realm.freeze(name, owner="boss", seconds=600)
    second = realm.freeze(name, owner="me", seconds=300, force=True)
    assert scene.new_leases() == {second.kv.lease}
    third = realm.freeze(name, owner="me", force=True)
    assert scene.new_leases() == set()
    assert scene.get(KEYS[name]) == third.kv
    assert len({first.run, second.run, third.run}) == 3


@both
def test_thawing_what_is_not_frozen_says_so(scene: Scene, name: str | None) -> None:
    realm = scene.realm()
    with pytest.raises(NotFrozen, match="web is not frozen" if name else "the realm is not frozen"):
        realm.thaw(name)
    realm.freeze(None if name else "web")  # the other one
    with pytest.raises(NotFrozen):
        realm.thaw(name)
    assert len(scene.under()) == 1


def test_a_thaw_leaves_no_lease(scene: Scene) -> None:
    realm = scene.realm()
    realm.freeze("web", seconds=600)
    realm.thaw("web")
    scene.assert_clean()


def test_a_lock_frozen_twice_is_acquired_when_both_are_thawed(scene: Scene) -> None:
    realm = scene.realm()
    realm.freeze("web", owner="mine")
    realm.freeze(owner="theirs")
    with pytest.raises(Frozen, match=r"web: the realm is frozen by theirs .* and web is frozen by mine"):
        realm.lock("web").acquire(0)
    realm.thaw()
    with pytest.raises(Frozen, match="web is frozen by mine"):
        realm.lock("web").acquire(0)
    realm.thaw("web")
    realm.lock("web").acquire(0)


def test_a_frozen_lock_without_holders_is_listed_and_a_prune_leaves_it(scene: Scene) -> None:
    realm = scene.realm()
    realm.freeze("web", owner="boss")
    realm.lock("db").acquire(0)
    db, web = realm.list()
    assert (web.name, web.holders, web.waiting) == ("web", (), 0)
    assert web.frozen is not None
    assert (web.frozen.by, db.frozen) == ("boss", None)
    scene.put("__last/web", '1;x;{"how":"released"}')
    assert realm.prune(1).names == ("web",)
    assert realm.frozen("web") is not None


def test_unlocking_and_breaking_do_not_thaw(scene: Scene) -> None:
    realm = scene.realm()
    realm.lock("web", "me").acquire(0)
    realm.freeze("web")
    realm.unlock("web", "me")
    with pytest.raises(AcquireTimeout):
        realm.lock("web").acquire(0.2)


# Lost replies, and others at the same time.


@both
def test_a_lost_freeze_and_a_lost_thaw_are_resolved(
    scene: Scene, proxy: Proxy, lose: Callable[..., None], name: str | None
) -> None:
    realm = scene.realm(proxy.url)
    lose(TXN, puts(scene.key(KEYS[name])))
    freeze = realm.freeze(name, seconds=600)
    kv = scene.get(KEYS[name])
    assert kv == freeze.kv
    lose(TXN, deletes(scene.key(KEYS[name])))
    assert realm.thaw(name).kv == kv
    scene.assert_clean()


@pytest.mark.parametrize("path", [GRANT, REVOKE])
def test_a_lost_lease_request_leaves_one_lease(
    scene: Scene, proxy: Proxy, lose: Callable[..., None], path: str
) -> None:
    realm = scene.realm(proxy.url)
    if path == REVOKE:
        realm.freeze("web", seconds=600)
        lose(path)
        realm.freeze("web", force=True)
        until(lambda: scene.new_leases() == set())
        return
    lose(path)
    freeze = realm.freeze("web", seconds=600)
    assert scene.new_leases() == {freeze.kv.lease}


def test_a_freeze_without_an_answer_is_unknown(scene: Scene, proxy: Proxy) -> None:
    realm = scene.realm(proxy.url, connect_timeout=1.0)
    held = proxy.hold_request(TXN, puts(scene.key("web/freeze")))
    frozen = scene.start(lambda: realm.freeze("web"))
    held.wait()
    proxy.cut()
    held.drop()
    with pytest.raises(OutcomeUnknown, match="unknown whether"):
        frozen.result(BOUND)


@both
def test_a_thaw_spares_a_newer_freeze(scene_each: Scene, proxy_each: Proxy, name: str | None) -> None:
    realm = scene_each.realm()
    realm.freeze(name, owner="old")
    held = proxy_each.hold_request(TXN, deletes(scene_each.key(KEYS[name])))
    thaw = scene_each.start(lambda: scene_each.realm(proxy_each.url).thaw(name))
    held.wait()
    newer = realm.freeze(name, owner="newer", force=True)
    held.release()
    with pytest.raises(NotFrozen, match=r"frozen by newer .* left as it is"):
        thaw.result(BOUND)
    assert scene_each.get(KEYS[name]) == newer.kv


@both
def test_of_two_freezes_at_the_same_time_one_is_told(scene_each: Scene, proxy_each: Proxy, name: str | None) -> None:
    held = proxy_each.hold_request(TXN, puts(scene_each.key(KEYS[name])))
    late = scene_each.start(lambda: scene_each.realm(proxy_each.url).freeze(name, owner="late"))
    held.wait()
    first = scene_each.realm().freeze(name, owner="first")
    held.release()
    with pytest.raises(Frozen, match="frozen by first"):
        late.result(BOUND)
    assert scene_each.get(KEYS[name]) == first.kv


def test_among_many_contenders_nothing_is_acquired_between_a_freeze_and_its_thaw(scene: Scene) -> None:
    """By etcd's own revisions: the tokens of eight contenders against 20 freezes of the lock and of the realm."""
    over = threading.Event()
    tokens: list[int] = []

    def contend(number: int) -> None:
        realm = scene.realm()
        while not over.is_set():
            try:
                with realm.lock("web", f"c{number}", slots=3, timeout=0.5 if number % 2 else 0) as lock:
                    tokens.append(lock.token)
            except (LockBusy, Frozen, AcquireTimeout):
                pass

    contenders = [scene.start(partial(contend, number)) for number in range(8)]
    spans = []
    realm = scene.realm()
    for turn in range(20):
        name = ("web", None)[turn % 2]
        freeze = realm.freeze(name)
        time.sleep(0.03)  # for claims that are on their way
        seen = scene.get(KEYS[name])
        assert seen is not None
        assert seen.create_revision == freeze.kv.create_revision
        thawed = scene.put("mark")  # a revision at which it is still frozen
        spans.append((freeze.kv.create_revision, thawed))
        before = len(tokens)
        realm.thaw(name)
        until(lambda: len(tokens) > before)  # noqa: B023 - called at once
    over.set()
    for contender in contenders:
        contender.result(BOUND)
    assert [token for token in tokens for first, last in spans if first <= token <= last] == []


def test_what_is_no_record_is_a_freeze_too(scene: Scene) -> None:
    scene.put("web/freeze", "closed")
    with pytest.raises(Frozen, match='web is frozen by an unknown owner: "closed"'):
        scene.realm().lock("web").acquire(0)
    assert scene.realm().thaw("web").by is None
    scene.assert_clean()


@pytest.mark.parametrize("how", ["update", "unlock"])
def test_a_freeze_is_no_hold(scene: Scene, how: str) -> None:
    realm: Any = scene.realm()
    realm.freeze("web", owner="me")
    with pytest.raises(LockNotFound, match="web is not locked"):
        getattr(realm, how)("web", owner="me")
    assert realm.frozen("web") is not None
