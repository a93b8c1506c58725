"""Pruning deletes old notes on ended holds, and lets no claim be applied that had become void."""

from __future__ import annotations

import json
import time
from typing import Any, Callable

import pytest

from distlock_core import ConfigError
from distlock_core.lock import prune as pruning
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, TXN, Scene, deletes, puts

DAY = 86400


def end(scene: Scene, name: str, days: float) -> int:
    """Note that a hold ended that long ago."""
    note = {"how": "released", "owner": "web-1", "token": 7}
    return scene.put(f"__last/{name}", f"{int(time.time() - days * DAY)};web-1;{json.dumps(note)}")


def noted(scene: Scene) -> set[str]:
    found = {kv.key.decode()[len(scene.prefix) :] for kv in scene.under("__last/")}
    return {key.partition("/")[2] for key in found}


def test_it_deletes_what_is_older_and_nothing_else(scene: Scene) -> None:
    end(scene, "old", 31)
    end(scene, "young", 29)
    scene.put("__last/foreign", "no record")
    scene.put("held")
    end(scene, "held", 31)
    before = {kv.key: kv.mod_revision for kv in scene.under()}
    pruned = scene.realm().prune(30 * DAY)
    assert set(pruned.names) == {"old", "held"}
    assert pruned.kept == 2
    assert noted(scene) == {"young", "foreign"}
    after = {kv.key: kv.mod_revision for kv in scene.under()}
    gone = {scene.key("__last/old"), scene.key("__last/held")}
    assert before.keys() - after.keys() == gone
    assert after.keys() - before.keys() == {scene.key("__pruned/at")}
    assert all(after[key] == revision for key, revision in before.items() if key not in gone)


def test_a_dry_run_names_the_same_and_writes_nothing(scene: Scene) -> None:
    end(scene, "old", 31)
    before = scene.under()
    pruned = scene.realm().prune(30 * DAY, dry_run=True)
    assert pruned.names == ("old",)
    assert scene.under() == before


def test_without_anything_old_it_writes_nothing(scene: Scene) -> None:
    end(scene, "young", 1)
    before = scene.under()
    assert scene.realm().prune(30 * DAY).names == ()
    assert scene.under() == before


@pytest.mark.parametrize("age", [0, -1, float("nan")])
def test_an_age_is_above_zero(scene: Scene, age: float) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        scene.realm().prune(age)


def test_more_notes_than_one_read_and_one_transaction_may_have(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PAGE", 7)
    monkeypatch.setattr(pruning, "BATCH", 5)
    names = {f"job-{number:03}" for number in range(23)}
    for name in names:
        end(scene, name, 31)
    assert set(scene.realm().prune(30 * DAY).names) == names
    assert noted(scene) == set()


def test_a_full_transaction_is_within_what_etcd_allows(scene: Scene) -> None:
    for number in range(pruning.BATCH + 1):
        end(scene, f"job-{number:03}", 31)
    assert len(scene.realm().prune(30 * DAY).names) == pruning.BATCH + 1


def test_a_note_that_was_written_after_it_was_read_stays(scene: Scene, proxy: Proxy) -> None:
    for name in ("a", "b", "c"):
        end(scene, name, 31)
    held = proxy.hold_request(TXN, deletes(scene.key("__last/a")))
    prune = scene.start(lambda: scene.realm(proxy.url).prune(30 * DAY))
    held.wait()
    scene.realm().lock("b").acquire(0).release()
    held.release()
    assert set(prune.result(BOUND).names) == {"a", "c"}
    assert noted(scene) == {"b"}
    assert scene.record("__last/b").text("how") == "released"


@pytest.mark.parametrize("what", ["mark", "delete"])
@pytest.mark.parametrize("lost", ["lose_reply", "lose_request"])
def test_a_lost_reply_is_outlasted(scene: Scene, proxy: Proxy, what: str, lost: str) -> None:
    end(scene, "old", 31)
    when = puts(scene.key("__pruned/at")) if what == "mark" else deletes(scene.key("__last/old"))
    getattr(proxy, lost)(TXN, when)
    assert scene.realm(proxy.url).prune(30 * DAY).names == ("old",)
    assert noted(scene) == set()


# A claim that was held up on its way, while notes come and go.


def void_claim(scene: Scene, proxy: Proxy) -> Callable[[], bool]:
    """A first claim of `web` that is held up, is resolved, and so must be void for ever: how to let it arrive."""
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock("web"), 0)
    held.wait()
    held.drop()
    claim.result(BOUND).release()
    return lambda: scene.replay(held.body)


def age_notes(scene: Scene) -> None:
    """The notes look as old as if all that had taken place a year ago."""
    for name in noted(scene):
        end(scene, name, 365)


def test_a_claim_held_up_over_a_prune_is_refused(scene: Scene, proxy: Proxy) -> None:
    """It has read that there is no note. After the prune there is none again."""
    arrive = void_claim(scene, proxy)
    age_notes(scene)
    assert scene.realm().prune(30 * DAY).names == ("web",)
    assert scene.get("__last/web") is None
    before = scene.under()
    assert not arrive()
    assert scene.under() == before


def test_without_the_prune_mark_it_would_be_applied(scene: Scene, proxy: Proxy) -> None:
    """The counterpart: to delete notes by hand is not safe, and the test above does see the difference."""
    arrive = void_claim(scene, proxy)
    scene.delete("__last/web")
    assert arrive()


def test_a_claim_held_up_over_two_prunes_is_refused(scene: Scene, proxy: Proxy) -> None:
    """It has read after the first mark, and before the second."""
    end(scene, "other", 365)
    scene.realm().prune(30 * DAY)
    arrive = void_claim(scene, proxy)
    age_notes(scene)
    assert scene.realm().prune(30 * DAY).names == ("web",)
    assert not arrive()


@pytest.mark.parametrize("moment", ["mark", "delete"])
def test_a_claim_made_in_the_middle_of_a_prune_is_refused_afterwards(scene: Scene, proxy: Proxy, moment: str) -> None:
    """It is based on what there is before the mark is written, or before the note is deleted."""
    end(scene, "web", 365)
    when = puts(scene.key("__pruned/at")) if moment == "mark" else deletes(scene.key("__last/web"))
    with Proxy(scene.endpoints[0]) as slow:
        stopped = slow.hold_request(TXN, when)
        prune = scene.start(lambda: scene.realm(slow.url).prune(30 * DAY))
        stopped.wait()
        held = proxy.hold_request(TXN, puts(scene.key("web")))
        claim = scene.acquire(scene.realm(proxy.url).lock("web"), 0)
        held.wait()
        stopped.release()
        assert prune.result(BOUND).names == ("web",)
    assert not scene.replay(held.body)
    held.drop()
    claim.result(BOUND).release()
    assert not scene.replay(held.body)
    scene.assert_clean()


def test_a_reentry_held_up_over_a_prune_is_refused(scene: Scene, proxy: Proxy) -> None:
    step: Any = scene.realm().lock("web", "me", step=True).acquire(0)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    entry = scene.acquire(scene.realm(proxy.url).lock("web", "me", token=step.token), 0)
    held.wait()
    end(scene, "web", 365)  # as what resolves a lost reply writes
    scene.realm().prune(30 * DAY)
    before = scene.under()
    assert not scene.replay(held.body)
    assert scene.under() == before
    held.drop()
    entry.result(BOUND).release()
    step.release()


def test_a_claim_under_way_during_a_prune_still_gets_the_lock(scene: Scene, proxy: Proxy) -> None:
    """Refused once, it reads again."""
    end(scene, "old", 31)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock("web"), 0)
    held.wait()
    scene.realm().prune(30 * DAY)
    held.release()
    lock = claim.result(BOUND)
    assert lock.verify()
    lock.release()
    scene.assert_clean()


def test_tokens_grow_over_a_prune(scene: Scene) -> None:
    tokens = []
    for _ in range(3):
        lock = scene.realm().lock("web").acquire(0)
        tokens.append(lock.token)
        lock.release()
        age_notes(scene)
        assert scene.realm().prune(30 * DAY).names == ("web",)
    assert tokens == sorted(set(tokens))


def test_a_waiter_and_a_holder_do_not_notice(scene: Scene) -> None:
    end(scene, "web", 365)
    holder = scene.realm().lock("web", ttl=10).acquire(0)
    waiter = scene.queue(scene.realm().lock("web"))
    scene.realm().prune(30 * DAY)
    assert holder.verify()
    assert len(scene.line("web")) == 1
    holder.release()
    waiter.result(BOUND).release()
    scene.assert_clean()
