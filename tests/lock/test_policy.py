"""A policy applies to everybody who acquires a lock, from one revision on."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distlock_core import ConfigError, Interrupt, LimitConflict, LockBusy, OutsideWindow
from distlock_core.base import warn_once
from distlock_core.base.deadline import Patience
from distlock_core.errors import Cancelled
from distlock_core.model.keys import Keys, ends
from distlock_core.model.record import HoldEnd
from distlock_core.testing import Proxy
from tests.support.racing import race
from tests.support.scene import BOUND, PROMPT, TXN, Scene, gateway, puts, until
from tests.support.time_windows import closed_now, open_now


def slots(scene: Scene) -> set[str]:
    """The keys of the holders."""
    keys = Keys(scene.prefix, "web")
    return {kv.key.decode()[len(scene.prefix) :] for kv in scene.under("web") if keys.is_held_by(kv.key)}


# What a policy says comes before what a caller says.


def test_its_number_of_slots_applies_whatever_callers_say(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", slots=2)
    realm.lock("web", "a", slots=7).acquire(0)
    realm.lock("web", "b").acquire(0)
    for number in (None, 1, 3):
        with pytest.raises(LockBusy):
            realm.lock("web", "c", slots=number).acquire(0)
    assert slots(scene_each) == {"web", "web/slot/1"}
    assert [holder.record.limit for holder in realm.show("web").holders] == [2, 2]


def test_holders_with_another_number_of_slots_are_no_conflict_under_a_policy(scene_each: Scene) -> None:
    realm = scene_each.realm()
    first = realm.lock("web", "a", slots=3).acquire(0)
    with pytest.raises(LimitConflict):
        realm.lock("web", "b", slots=2).acquire(0)
    realm.set_policy("web", slots=2)
    second = realm.lock("web", "b", slots=5).acquire(0)
    realm.clear_policy("web")
    with pytest.raises(LimitConflict):
        realm.lock("web", "c", slots=2).acquire(0)
    first.release()
    assert second.holder.record.limit == 2
    realm.lock("web", "c", slots=2).acquire(0)


def test_fewer_slots_throw_nobody_out_and_let_nobody_in_until_there_is_room(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", slots=3)
    held = [realm.lock("web", owner).acquire(0) for owner in "abc"]
    realm.set_policy("web", slots=2)
    assert all(lock.verify() for lock in held)
    held[0].release()  # slot 0 is free, and two are held in slots 1 and 2
    with pytest.raises(LockBusy):
        realm.lock("web", "d").acquire(0)
    held[1].release()
    assert realm.lock("web", "d").acquire(0).held
    assert slots(scene_each) == {"web", "web/slot/2"}


def test_one_slot_is_not_claimed_while_a_slot_of_before_is_held(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", slots=3)
    first, second = (realm.lock("web", owner).acquire(0) for owner in "ab")
    realm.set_policy("web", slots=1)
    first.release()
    waiter = scene_each.queue(realm.lock("web", "c"))
    second.release()
    assert waiter.result(PROMPT).holder.slot == 0


def test_the_first_in_the_queue_notices_more_slots_at_once_and_so_do_those_behind_it(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.lock("web", "a").acquire(0)
    waiters = [scene_each.queue(scene_each.realm().lock("web", owner)) for owner in "bcd"]
    realm.set_policy("web", slots=3)
    assert all(waiter.result(PROMPT).held for waiter in waiters[:2])
    assert not waiters[2].done()
    realm.set_policy("web", slots=4)
    assert waiters[2].result(PROMPT).held


def test_a_waiter_that_follows_one_slot_claims_under_the_policy_of_the_moment(scene_each: Scene) -> None:
    """The first waiter claims without a read when the lock is released. A policy in between must not be missed."""
    realm = scene_each.realm()
    holder = realm.lock("web", "a").acquire(0)
    waiter = scene_each.queue(realm.lock("web", "b"))
    realm.set_policy("web", expect=77)
    holder.release()
    assert waiter.result(PROMPT).holder.expect == 77


# A change is compared in the claim.


@pytest.mark.parametrize("before", [False, True])
def test_a_claim_on_its_way_is_refused_when_the_policy_changes(
    scene_each: Scene, proxy_each: Proxy, before: bool
) -> None:
    if before:
        scene_each.put("__policy/web", '1;admin;{"slots":2}')
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web")))
    claim = scene_each.acquire(scene_each.realm(proxy_each.url).lock("web"), 0)
    held.wait()
    scene_each.realm().set_policy("web", window=closed_now(), replace=True)
    held.release()
    with pytest.raises(OutsideWindow) as refused:
        claim.result(BOUND)
    assert refused.value.kind == "window"
    assert scene_each.get("web") is None


def test_a_claim_on_its_way_is_refused_when_the_policy_is_removed(scene_each: Scene, proxy_each: Proxy) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", slots=2)
    realm.lock("web", "a").acquire(0)
    held = proxy_each.hold_request(TXN, puts(scene_each.key("web/slot/1")))
    claim = scene_each.acquire(scene_each.realm(proxy_each.url).lock("web", "b", slots=3), 0)
    held.wait()
    realm.clear_policy("web")
    held.release()
    with pytest.raises(LimitConflict):
        claim.result(BOUND)
    assert scene_each.get("web/slot/1") is None


# A policy that this version cannot follow.


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ('1;admin;{"slots":2,"quorum":true}', "does not know its field quorum"),
        ('1;admin;{"slots":0}', "its slots: expected a whole number from 1 to 1000"),
        ('1;admin;{"slots":true}', "its slots: expected a whole number"),
        ('1;admin;{"window":"Mon 25:00-26:00"}', "25:00 is not a time"),
        ('1;admin;{"window":"Mon local"}', "local is another one on each machine"),
        ('1;admin;{"window":"Mon Mars/Phobos"}', "it has no Mars/Phobos"),
        ('1;admin;{"window":7}', "its window: expected a text"),
        ("garbage \x1b[31m", "not a record of distlock"),
        ('1;admin;{"slots":2', "not a record of distlock"),  # cut off
        ("1;admin;[]", "not a record of distlock"),
        ("1;admin;plain text", None),
        ('1;admin;{"reason":"{as agreed}"}', None),
    ],
)
def test_nobody_acquires_under_a_policy_that_cannot_be_followed(scene: Scene, stored: str, said: str | None) -> None:
    realm = scene.realm()
    scene.put("__policy/web", stored)
    if said is None:  # a record without any field but a reason
        assert realm.lock("web").acquire(0).held
        return
    with pytest.raises(ConfigError, match="its policy cannot be followed") as refused:
        realm.lock("web").acquire(0)
    assert said in refused.value.message
    assert refused.value.message.isprintable()
    with pytest.raises(ConfigError):
        realm.lock("web").acquire(BOUND)
    assert scene.line("web") == ()
    found = realm.policy("web")
    assert found is not None
    assert said in found.trouble
    with pytest.raises(ConfigError, match="not changed in part"):
        realm.set_policy("web", slots=2)
    realm.set_policy("web", slots=2, replace=True)
    assert realm.lock("web").acquire(0).held


def test_its_own_hold_is_entered_again_whatever_the_policy_says(scene: Scene) -> None:
    realm = scene.realm()
    realm.lock("web", "me", step=True).acquire(0)
    scene.put("__policy/web", '1;admin;{"unheard-of":1}')
    with realm.lock("web", "me") as inner:
        assert inner.held
    realm.set_policy("web", window=closed_now(), replace=True)
    with realm.lock("web", "me") as inner:
        assert inner.held


# Setting, changing and removing one.


def test_fields_that_are_not_named_stay_unless_it_is_replaced(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", slots=3, window="Mon-Fri 22:00-04:00 Europe/Berlin", reason="summer")
    change = realm.set_policy("web", slots=2, owner="admin")
    assert change.changed
    assert change.after is not None
    assert change.after.fields == {"slots": 2, "window": "Mon-Fri 22:00-04:00 Europe/Berlin"}
    assert (change.after.by, change.after.reason) == ("admin", "summer")
    assert realm.policy("web") == change.after
    change = realm.set_policy("web", slots=2, replace=True)
    assert change.after is not None
    assert change.after.fields == {"slots": 2}


def test_what_is_set_already_is_not_written_again(scene_each: Scene) -> None:
    realm = scene_each.realm()
    first = realm.set_policy("web", slots=3, expect=60)
    again = realm.set_policy("web", expect=60)
    assert not again.changed
    assert again.after == first.after == realm.policy("web")
    assert not realm.clear_policy("db").changed


def test_a_dry_run_changes_nothing(scene: Scene) -> None:
    realm = scene.realm()
    assert realm.set_policy("web", slots=3, dry_run=True).changed
    assert realm.policies() == []
    realm.set_policy("web", slots=3)
    assert realm.clear_policy("web", dry_run=True).after is None
    assert [policy.lock for policy in realm.policies()] == ["web"]


def test_a_change_whose_reply_is_lost_is_made_once(scene_each: Scene, proxy_each: Proxy) -> None:
    realm = scene_each.realm(proxy_each.url)
    proxy_each.lose_reply(TXN, puts(scene_each.key("__policy/web")))
    change = realm.set_policy("web", slots=3)
    assert change.changed
    assert change.before is None
    policy = realm.policy("web")
    assert policy is not None
    assert policy.slots == 3


@pytest.mark.parametrize(
    "wrong",
    [{}, {"slots": 0}, {"slots": True}, {"cooldown": -1}, {"window": "Mon local"}, {"window": ""}, {"expect": 1.5}],
)
def test_a_wrong_policy_is_not_written(scene: Scene, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        scene.realm().set_policy("web", **wrong)
    assert scene.under() == ()


# Cooldown, expected length, and what it says.


def test_a_with_block_cools_down_as_the_policy_has_it_but_not_after_a_failure(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.set_policy("web", cooldown=60)
    with pytest.raises(ZeroDivisionError), realm.lock("web", "a"):
        raise ZeroDivisionError
    assert scene_each.get("web") is None
    with realm.lock("web", "a", cooldown=5):
        pass
    (holder,) = realm.show("web").holders
    assert holder.record.state == "cooling"
    assert holder.ttl_left is not None
    assert holder.ttl_left > 30


def test_an_unlock_by_its_owner_cools_down_and_a_broken_or_cooling_lock_does_not(scene: Scene) -> None:
    realm = scene.realm()
    realm.set_policy("web", cooldown=60)
    realm.lock("web", "a", step=True).acquire(0)
    realm.unlock("web", "a")
    (holder,) = realm.show("web").holders
    assert holder.record.state == "cooling"
    realm.unlock("web", "a")
    realm.lock("web", "a", step=True).acquire(0)
    realm.unlock("web", "admin", force=True)
    assert scene.get("web") is None


def test_a_difference_is_told_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    realm, name = scene.realm(), f"web-{secrets.token_hex(4)}"  # a process is told once about each name
    realm.set_policy(name, slots=3, cooldown=1, window=open_now())
    told: list[str] = []
    monkeypatch.setattr(warn_once, "tell", told.append)
    for _ in range(2):
        realm.lock(name, slots=1, expect=60).acquire(0).release()
    realm.lock(name, slots=3).acquire(0).release()
    realm.lock(name).acquire(0).release()
    assert told == [f"{name} has a policy with slots=3: 1 is not used"]


def test_a_hold_is_overdue_as_its_holder_or_the_policy_expects(scene_each: Scene) -> None:
    realm = scene_each.realm()
    realm.lock("web", "a", expect=3600).acquire(0)
    (holder,) = realm.show("web").holders
    assert holder.expect == 3600
    assert not holder.is_overdue(time.time())
    assert holder.is_overdue(time.time() + 3602)
    realm.set_policy("web", expect=20)
    for state in (realm.show("web"), *realm.list()):
        (holder,) = state.holders
        assert holder.expect == 20
        assert holder.is_overdue(time.time() + 22)
    assert realm.show("web").holders[0].is_overdue(time.time() + 22)


# How long the last holds took.


def took(scene: Scene, name: str = "web") -> tuple[int, ...]:
    note = scene.get(f"__last/{name}")
    return () if note is None else HoldEnd.parse(note.value).took


def backdate(scene: Scene, seconds: int) -> None:
    record = scene.record("web")
    assert record.since is not None
    kv = scene.get("web")
    assert kv is not None
    scene.put("web", record._replace(since=record.since - seconds).encode().decode(), kv.lease)


def test_the_last_eight_are_kept_with_the_note_about_the_last_end(scene_each: Scene) -> None:
    realm = scene_each.realm()
    for seconds in range(10, 120, 10):
        lock = realm.lock("web", "a").acquire(0)
        backdate(scene_each, seconds)
        lock.release()
    times = took(scene_each)
    assert len(times) == 8
    assert all(expected <= found <= expected + 8 for found, expected in zip(times, range(40, 120, 10)))


def test_an_unlock_by_its_owner_counts_and_one_by_another_leaves_them(scene_each: Scene) -> None:
    realm = scene_each.realm()
    for seconds, how in ((100, "a"), (200, "another")):
        realm.lock("web", "a", step=True).acquire(0)
        backdate(scene_each, seconds)
        realm.unlock("web", how, force=True)
        assert len(took(scene_each)) == 1
    realm.lock("web", "a").acquire(0)
    scene_each.delete("web")  # by hand
    realm.lock("web", "a").acquire(0).keep("look at it")
    realm.unlock("web", "a")
    assert len(took(scene_each)) == 1


def test_a_run_inside_a_step_leaves_them_to_the_step(scene: Scene) -> None:
    realm = scene.realm()
    realm.lock("web", "me").acquire(0).release()
    realm.lock("web", "me", step=True, expect=60).acquire(0)
    with realm.lock("web", "me"):
        assert scene.record("web").details["took"] == list(took(scene))
        assert scene.record("web").details["expect"] == 60
    realm.unlock("web", "me")
    assert len(took(scene)) == 2


# The race.


class History:
    """The holders of a lock and its policy, revision by revision, as etcd reports them."""

    def __init__(self, scene: Scene, slots: int) -> None:
        self._slots = slots
        self.keys = Keys(scene.prefix, "web")
        self.events: list[tuple[int, tuple[bytes, bool, bytes]]] = []
        self._stop = Interrupt()
        etcd = gateway(*scene.cluster.endpoints)
        ranges = [(self.keys.lock, None), ends(self.keys.slots), (self.keys.policy, None)]
        self._watch = etcd.watch(ranges, 0, Patience.lasting(BOUND))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while True:
                for deleted, kv in self._watch.wait(Patience(cancel=self._stop)) or ():
                    self.events.append((kv.mod_revision, (kv.key, deleted, kv.value)))
        except Cancelled:
            self._watch.close()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(BOUND)

    def counts(self) -> Iterator[tuple[int, int, int, bool]]:
        """For each revision: the revision, the policy's slots before it, the holders after it, whether one entered."""
        holders: set[bytes] = set()
        limit = self._slots
        by_revision: dict[int, list[tuple[bytes, bool, bytes]]] = {}
        for revision, event in sorted(self.events):
            by_revision.setdefault(revision, []).append(event)
        for revision, events in by_revision.items():
            before, was = len(holders), limit
            for key, deleted, value in events:
                if key == self.keys.policy:
                    limit = int(value.partition(b'"slots":')[2].partition(b"}")[0])
                elif deleted:
                    holders.discard(key)
                else:
                    holders.add(key)
            yield revision, was, len(holders), len(holders) > before


def test_twelve_processes_never_enter_above_the_policy_of_the_moment_and_use_all_its_slots(
    scene: Scene, tmp_path: Path
) -> None:
    realm, stop = scene.realm(), tmp_path / "stop"
    realm.set_policy("web", slots=3)
    history = History(scene, 3)
    try:
        with race("policy_racer", [(scene.cluster.endpoints[0], scene.prefix, str(stop))] * 12) as racers:
            for number in (3, 2, 3, 1, 3, 2, 1, 2, 3):
                change = realm.set_policy("web", slots=number)
                assert change.after is not None
                until(partial(_is_full, history, change.after.mod_revision, number), 60)
            for _ in range(100):  # that claims are on their way when the slots become fewer again
                for number in (3, 1):
                    realm.set_policy("web", slots=number)
                    time.sleep(random.uniform(0, 0.02))
            until(lambda: len(_entries(history)) > 30, 60)
            stop.touch()
            racers.end(60)
    finally:
        history.end()
    assert [pair for pair in _entries(history) if pair[1] > pair[0]] == []
    scene.assert_clean()
    assert realm.show("web").holders == ()


def _entries(history: History) -> list[tuple[int, int]]:
    """For each time that somebody entered: the slots that the policy allowed, and the holders then."""
    return [(limit, count) for _, limit, count, entered in history.counts() if entered]


def _is_full(history: History, since: int, number: int) -> bool:
    """True if after that revision somebody has entered, and all slots were held then."""
    return any(entered and count == number for revision, _, count, entered in history.counts() if revision > since)
