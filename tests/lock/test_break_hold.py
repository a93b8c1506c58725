"""Breaking a hold: only exactly as it was shown, in whatever state it is, and with a reason that stays."""

from __future__ import annotations

import pytest

from distlock_core import LockLost, LockNotFound, NotHolder
from distlock_core.errors import ConfigError
from distlock_core.lock.lock import Lock
from distlock_core.model.state import Holder
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, TXN, Scene, deletes, puts

WHY = "node-9 is down"


def shown(scene: Scene, name: str = "web") -> Holder:
    return scene.realm().show(name).holders[0]


def test_a_broken_hold_leaves_who_has_broken_it_and_why(scene: Scene) -> None:
    lock = scene.realm().lock("web", "node-9", "Upgrade", ttl=60).acquire(0)
    holder = scene.realm().break_hold(shown(scene), WHY, "admin")
    assert (holder.owner, holder.token) == ("node-9", lock.token)
    assert scene.get("web") is None
    ended = scene.realm().show("web").last
    assert ended is not None
    assert (ended.how, ended.by, ended.why, ended.owner) == ("broken", "admin", WHY, "node-9")
    assert scene.record("__last/web").text("reason") == "Upgrade"
    with pytest.raises(LockLost, match=rf'it was broken by admin at [\d:]+: "{WHY}"'):
        lock.acquire(0)


def test_the_note_is_written_in_the_transaction_that_deletes(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    scene.realm(proxy.url).break_hold(shown(scene), WHY)
    bodies = proxy.wait_for_requests(TXN)
    assert [deletes(scene.key("web"))(body) and puts(scene.key("__last/web"))(body) for body in bodies] == [True]


@pytest.mark.parametrize("record", ['{"state":"held","reason":"new"}', '{"state":"kept"}', '{"state":"settling"}'])
def test_a_record_that_has_changed_since_it_was_shown_is_left_alone(scene: Scene, record: str) -> None:
    scene.put("web", "1;node-9;{}")
    holder = shown(scene)
    scene.put("web", f"1;node-9;{record}")
    before = scene.under()
    with pytest.raises(NotHolder, match="its record has changed since it was shown"):
        scene.realm().break_hold(holder, WHY)
    assert scene.under() == before


def test_a_hold_that_was_replaced_since_it_was_shown_is_left_alone(scene: Scene) -> None:
    scene.put("web", "1;node-9;{}")
    holder = shown(scene)
    scene.replace("web", "2;node-10;{}")
    before = scene.under()
    with pytest.raises(NotHolder, match=r"held by node-10.*ended since it was shown"):
        scene.realm().break_hold(holder, WHY)
    assert scene.under() == before
    scene.delete("web")
    with pytest.raises(LockNotFound, match="ended since it was shown"):
        scene.realm().break_hold(holder, WHY)


@pytest.mark.parametrize("replaced", [False, True], ids=["rewritten", "replaced"])
def test_the_transaction_itself_compares_what_was_shown(scene: Scene, proxy: Proxy, replaced: bool) -> None:
    """What changes while the request is on its way is not broken either."""
    scene.put("web", "1;node-9;{}")
    holder = shown(scene)
    held = proxy.hold_request(TXN, deletes(scene.key("web")))
    breaking = scene.start(lambda: scene.realm(proxy.url).break_hold(holder, WHY))
    held.wait()
    (scene.replace if replaced else scene.put)("web", '1;node-9;{"state":"kept"}')
    before = scene.under()
    held.release()
    with pytest.raises(NotHolder):
        breaking.result(BOUND)
    assert scene.under() == before


def test_a_lost_reply_is_resolved(scene: Scene, proxy: Proxy) -> None:
    scene.put("web", "1;node-9;{}")
    holder = shown(scene)
    proxy.lose_reply(TXN, deletes(scene.key("web")))
    scene.realm(proxy.url).break_hold(holder, WHY)
    assert scene.get("web") is None


def test_the_mutex_of_the_original_is_respected_and_does_not_count_as_a_change(scene: Scene) -> None:
    scene.put("web", "1;node-9;{}")
    scene.put("__internal_lock/694d")
    scene.realm().break_hold(shown(scene), WHY)
    assert scene.get("web") is None


def test_every_state_of_a_hold_can_be_broken(scene: Scene) -> None:
    def kept(lock: Lock) -> None:
        lock.keep("failed")

    def cooling(lock: Lock) -> None:
        lock.cool(600)

    for leave in (kept, cooling):
        leave(scene.realm().lock("web", "node-9", ttl=60).acquire(0))
        scene.realm().break_hold(shown(scene), WHY)
        scene.assert_clean()
        newer = scene.realm().lock("web").acquire(0)
        newer.release()
    scene.realm().lock("web", step=True).acquire(0)
    scene.realm().break_hold(shown(scene), WHY)
    scene.assert_clean()


def test_only_one_slot_of_several_is_broken(scene: Scene) -> None:
    realm = scene.realm()
    locks = [realm.lock("web", f"node-{number}", slots=3).acquire(0) for number in range(3)]
    realm.break_hold(realm.show("web").holders[1], WHY)
    assert [lock.verify() for lock in locks] == [True, False, True]


def test_a_break_that_was_the_fastest_wins_over_the_holders_own_release(scene: Scene) -> None:
    lock = scene.realm().lock("web", "node-9").acquire(0)
    scene.realm().break_hold(shown(scene), WHY)
    with pytest.raises(LockLost):
        lock.release()
    ended = scene.realm().show("web").last
    assert ended is not None
    assert ended.how == "broken"


@pytest.mark.parametrize(("why", "words"), [("", "not broken without a reason"), ("\ud800", "not valid UTF-8")])
def test_a_bad_reason_breaks_nothing(scene: Scene, why: str, words: str) -> None:
    scene.put("web", "1;node-9;{}")
    with pytest.raises(ConfigError, match=words):
        scene.realm().break_hold(shown(scene), why)
    with pytest.raises(ConfigError):
        scene.realm().break_hold(shown(scene), WHY, "bad;owner")
    assert scene.get("web") is not None


def test_a_value_that_is_no_record_can_be_broken(scene: Scene) -> None:
    scene.put("web", "by hand")
    assert scene.realm().break_hold(shown(scene), WHY).owner is None
    assert scene.get("web") is None
