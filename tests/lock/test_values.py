"""A lock carries a value: others can look it up, and its holder can change it without a release."""

from __future__ import annotations

import pytest

from distlock_core import ConfigError, EtcdUnavailable, LockLost, LockNotFound, NotHolder, OutcomeUnknown
from distlock_core.testing import Proxy
from tests.support.scene import TXN, Scene, puts

ADDRESS, OTHER = "10.1.1.1", "10.1.1.2"


def test_the_value_of_a_lock_can_be_looked_up_while_it_is_held(scene: Scene) -> None:
    realm = scene.realm()
    with realm.lock("db", value=ADDRESS) as lock:
        assert realm.get("db") == ADDRESS == lock.value
        assert realm.show("db").holders[0].value == ADDRESS
    with pytest.raises(LockNotFound, match="db is not locked"):
        realm.get("db")


@pytest.mark.parametrize("value", ["", 'two\nlines; and {"quotes"}', "\u00fc\u2028\0", "x" * 100_000])
def test_a_value_round_trips(scene: Scene, value: str) -> None:
    with scene.realm().lock("db", value=value) as lock:
        assert scene.realm().get("db") == value
        lock.update(value + "!")
        assert scene.realm().get("db") == value + "!"


def test_a_lock_without_a_value_has_none(scene: Scene) -> None:
    scene.put("gos", "1500000000;node-1;plain text")
    scene.put("odd", "no record at all")
    with scene.realm().lock("db"):
        assert [scene.realm().get(name) for name in ("db", "gos", "odd")] == [None, None, None]


def test_a_value_that_etcd_cannot_hold_is_refused_before_anything_is_sent(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="illegal value"):
        scene.realm().lock("db", value="\ud800")
    with scene.realm().lock("db", value=ADDRESS) as lock:
        with pytest.raises(ConfigError, match="illegal value"):
            lock.update("\ud800")
        assert lock.value == ADDRESS
    scene.assert_clean()


def test_of_several_slots_the_lowest_answers(scene: Scene) -> None:
    first = scene.realm().lock("db", slots=2, value=ADDRESS).acquire()
    second = scene.realm().lock("db", slots=2, value=OTHER).acquire()
    assert scene.realm().get("db") == ADDRESS
    first.release()
    assert scene.realm().get("db") == OTHER
    second.update("10.1.1.3")
    assert scene.realm().get("db") == "10.1.1.3"
    second.release()


@pytest.mark.parametrize("ttl", [None, 10])
def test_an_update_keeps_the_token_the_lease_and_the_rest(scene: Scene, ttl: int | None) -> None:
    lock = scene.realm().lock("db", reason="why", value=ADDRESS, ttl=ttl).acquire()
    before = scene.get("db")
    assert before is not None
    token, record = lock.token, scene.record("db")
    lock.update(OTHER)
    after = scene.get("db")
    assert after is not None
    assert (after.create_revision, after.lease) == (token, before.lease) == (lock.token, lock.lease or 0)
    assert scene.record("db") == record._replace(details={**record.details, "value": OTHER})
    lock.update(reason="another")
    assert (lock.value, lock.holder.reason) == (OTHER, "another")
    assert scene.get("db").value.partition(b";")[2].partition(b";")[2].startswith(b'{"reason":"another"')  # type: ignore[union-attr]
    assert lock.verify()
    lock.release()
    scene.assert_clean()


def test_none_leaves_it_and_an_empty_text_empties_it(scene: Scene) -> None:
    with scene.realm().lock("db", reason="why", value=ADDRESS) as lock:
        lock.update()
        assert (lock.value, lock.holder.reason) == (ADDRESS, "why")
        lock.update("", reason="")
        assert (scene.realm().get("db"), scene.record("db").text("reason")) == ("", "")


def test_the_next_acquire_has_the_value_last_set(scene: Scene) -> None:
    lock = scene.realm().lock("db", value=ADDRESS)
    with lock:
        lock.update(OTHER)
    with lock:
        assert scene.realm().get("db") == OTHER


def test_an_update_of_a_lock_that_is_not_held_raises_not_holder(scene: Scene) -> None:
    with pytest.raises(NotHolder):
        scene.realm().lock("db").update(OTHER)
    scene.assert_clean()


@pytest.mark.parametrize("how", ["deleted", "replaced", "its lease revoked"])
def test_an_update_of_a_lost_lock_raises_and_changes_nothing(scene: Scene, how: str) -> None:
    lock = scene.realm().lock("db", value=ADDRESS, ttl=10, background=False).acquire()
    if how == "deleted":
        scene.delete("db")
    elif how == "replaced":
        scene.replace("db")
    else:
        assert lock.lease is not None
        scene.revoke(lock.lease)
    before = scene.get("db")
    with pytest.raises(LockLost, match="db was lost"):
        lock.update(OTHER)
    assert scene.get("db") == before
    with pytest.raises(LockLost):
        lock.release()


def test_an_update_under_a_run_that_has_entered_raises_not_holder(scene: Scene) -> None:
    step = scene.realm().lock("db", "me", step=True, value=ADDRESS).acquire()
    with scene.realm().lock("db", "me") as guest:
        assert guest.value == ADDRESS  # it stays, for there is no new one
        with pytest.raises(NotHolder, match="db is held by me"):
            step.update(OTHER)
        assert scene.realm().get("db") == ADDRESS
    step.update(OTHER)
    assert scene.realm().get("db") == OTHER
    step.release()


@pytest.mark.parametrize("how", ["by the run", "from outside", "by a run that died"])
def test_an_update_inside_a_step_stays_when_the_run_leaves(scene: Scene, how: str) -> None:
    step = scene.realm().lock("db", "me", "of the step", step=True, value=ADDRESS).acquire()
    guest = scene.realm().lock("db", "me", "of the run").acquire()
    if how == "from outside":
        scene.realm().update("db", OTHER, owner="me")
    else:
        guest.update(OTHER)
    if how == "by a run that died":
        record = scene.record("db")
        dead = record._replace(details={**record.details, "start": 1}).encode().decode()
        scene.put("db", dead)
        guest = scene.realm().lock("db", "me").acquire(0)
    guest.release()
    # The reason that the run brought with it was its own.
    assert (step.name, scene.realm().get("db")) == ("db", OTHER)
    assert scene.record("db").text("reason") == "of the step"
    assert step.verify()
    with scene.realm().lock("db", "me") as guest:
        guest.update(reason="of both")
    assert scene.record("db").text("reason") == "of both"
    assert scene.realm().get("db") == OTHER
    step.release()
    scene.assert_clean()


def test_an_update_keeps_concurrent_changes_of_another(scene: Scene) -> None:
    with scene.realm().lock("db", value=ADDRESS) as lock:
        holder = scene.realm().update("db", reason="from outside", token=lock.token)
        assert (holder.token, holder.value, holder.reason) == (lock.token, ADDRESS, "from outside")
        lock.update(OTHER)
        assert (lock.value, lock.holder.reason) == (OTHER, "from outside")


def test_an_update_whose_reply_is_lost_is_resolved_by_a_read(scene: Scene, proxy: Proxy) -> None:
    with scene.realm(proxy.url).lock("db", value=ADDRESS) as lock:
        proxy.lose_reply(TXN, puts(scene.key("db")))
        lock.update(OTHER)
        assert (lock.value, scene.realm().get("db")) == (OTHER, OTHER)
        revision = scene.get("db").mod_revision  # type: ignore[union-attr]
        lock.update("10.1.1.3")
        assert scene.get("db").mod_revision > revision  # type: ignore[union-attr]


def test_an_update_of_unknown_outcome_reports_it(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url, connect_timeout=2).lock("db", value=ADDRESS).acquire()
    sick = True
    proxy.lose_reply(TXN, lambda _: sick, times=1000)
    with pytest.raises(OutcomeUnknown, match="unknown whether it was changed"):
        lock.update(OTHER)
    sick = False
    lock.update("10.1.1.3")
    assert scene.realm().get("db") == "10.1.1.3"
    lock.release()


def test_an_update_that_was_never_sent_has_changed_nothing(scene: Scene, proxy: Proxy) -> None:
    lock = scene.realm(proxy.url, connect_timeout=1.5).lock("db", value=ADDRESS).acquire()
    proxy.cut()
    with pytest.raises(EtcdUnavailable):
        lock.update(OTHER)
    proxy.heal()
    assert scene.realm().get("db") == ADDRESS == lock.value
    lock.release()


@pytest.mark.parametrize("how", ["keep", "cool"])
def test_a_kept_lock_keeps_concurrent_changes_of_another(scene: Scene, how: str) -> None:
    lock = scene.realm().lock("db", value=ADDRESS).acquire()
    scene.realm().update("db", OTHER, token=lock.token)
    lock.keep("look at it") if how == "keep" else lock.cool(60)
    assert scene.realm().get("db") == OTHER


class TestFromOutside:
    """`realm.update()`, for callers without the `Lock` object."""

    def test_the_owner_may(self, scene: Scene) -> None:
        with scene.realm().lock("db", "me") as lock:
            assert scene.realm().update("db", ADDRESS, owner="me").value == ADDRESS
            assert lock.verify()

    def test_the_host_is_the_default_owner(self, scene: Scene) -> None:
        with scene.realm().lock("db"):
            scene.realm().update("db", ADDRESS)
            assert scene.realm().get("db") == ADDRESS

    def test_another_may_not_unless_it_names_the_token(self, scene: Scene) -> None:
        with scene.realm().lock("db", "me", value=ADDRESS) as lock:
            with pytest.raises(NotHolder, match="not by you: left alone"):
                scene.realm().update("db", OTHER, owner="you")
            with pytest.raises(NotHolder, match=f"with token {lock.token}, not 1: left alone"):
                scene.realm().update("db", OTHER, token=1)
            assert scene.realm().get("db") == ADDRESS
            scene.realm().update("db", OTHER, token=lock.token)
            assert scene.realm().get("db") == OTHER

    def test_a_free_lock_cannot_be_updated(self, scene: Scene) -> None:
        with pytest.raises(LockNotFound, match="db is not locked"):
            scene.realm().update("db", ADDRESS)
        scene.assert_clean()

    def test_the_token_selects_one_of_several_slots(self, scene: Scene) -> None:
        with scene.realm().lock("db", slots=2), scene.realm().lock("db", slots=2) as second:
            with pytest.raises(NotHolder, match="Choose one with token="):
                scene.realm().update("db", OTHER)
            assert scene.realm().update("db", OTHER, token=second.token).slot == 1
            assert [holder.value for holder in scene.realm().show("db").holders] == [None, OTHER]

    def test_a_lock_of_the_go_original_keeps_its_reason(self, scene: Scene) -> None:
        scene.put("db", "1500000000;node-1;plain text")
        scene.realm().update("db", ADDRESS, owner="node-1")
        record = scene.record("db")
        assert (record.since, record.owner, record.text("reason")) == (1500000000, "node-1", "plain text")
        assert scene.realm().get("db") == ADDRESS

    def test_an_invalid_record_is_left_alone(self, scene: Scene) -> None:
        token = scene.put("db", "no record at all")
        with pytest.raises(NotHolder, match="left alone"):
            scene.realm().update("db", ADDRESS, token=token)
        assert scene.get("db").value == b"no record at all"  # type: ignore[union-attr]
