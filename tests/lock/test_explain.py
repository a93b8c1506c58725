"""An explanation agrees with what an attempt would do, and has words for every condition of a claim."""

from __future__ import annotations

import base64
import json
from typing import Any, Callable

import pytest

from distlock_core import Lock
from distlock_core.base.deadline import Patience
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.etcd.values import Compare, Get, KeyValue
from distlock_core.lock.explain import is_met
from distlock_core.lock.topics import TOPICS, topic_of
from distlock_core.model.keys import Keys, ends
from distlock_core.process.identity import trace_of
from distlock_core.testing import Proxy
from tests.support.scene import BOUND, TXN, Scene, gateway, puts
from tests.support.time_windows import closed_now, open_now

Setting = dict[str, Any]
FAR = {"run": "r", "explicit": True, "kind": "run", "host": "far", "pid": 1, "boot": "b", "start": 1}


def step_of_this_process(scene: Scene) -> Lock:
    return scene.realm().lock("web", "me", step=True).acquire(0)


def step_of_another(scene: Scene) -> int:
    return scene.put("web", f"1;me;{json.dumps({**FAR, 'kind': 'lock', 'taker': FAR})}")


def dead_run(scene: Scene) -> int:
    gone = {**trace_of(), "pid": 2**22 - 1, "start": 1}
    return scene.put("web", f"1;me;{json.dumps({**FAR, **gone})}")


def hold_slots(scene: Scene, held: int, slots: int = 3) -> None:
    for number in range(held):
        scene.realm().lock("web", f"node-{number}", slots=slots).acquire(0)


# What there is, how the lock is asked for, and the topics of the conditions that stand in the way.
CASES: dict[str, tuple[Callable[[Scene], Any], Setting, set[str]]] = {
    "free": (lambda scene: None, {}, set()),
    "held": (lambda scene: scene.put("web"), {}, {"holders"}),
    "held by what is no record": (lambda scene: scene.put("web", "x"), {}, {"holders"}),
    "kept": (lambda scene: scene.put("web", '1;a;{"state":"kept"}'), {}, {"holders"}),
    "cooling": (lambda scene: scene.put("web", '1;a;{"state":"cooling"}'), {}, {"holders"}),
    "a slot is free": (lambda scene: hold_slots(scene, 2), {"slots": 3}, set()),
    "all slots are taken": (lambda scene: hold_slots(scene, 3), {"slots": 3}, {"holders"}),
    "another number of slots": (lambda scene: hold_slots(scene, 1), {"slots": 2}, {"holders"}),
    "one slot of several is held": (lambda scene: hold_slots(scene, 1), {}, {"holders"}),
    "others wait": (lambda scene: scene.put("web/queue/50/exclusive/0000"), {}, {"queue"}),
    "others with a higher rank wait": (lambda scene: scene.put("web/queue/51/exclusive/0000"), {}, set()),
    "others with a lower rank wait": (lambda scene: scene.put("web/queue/10/exclusive/0000"), {"rank": 10}, {"queue"}),
    "held, and others wait": (
        lambda scene: (scene.put("web"), scene.put("web/queue/50/exclusive/0")),
        {},
        {"holders", "queue"},
    ),
    "frozen": (lambda scene: scene.realm().freeze("web"), {}, {"freeze"}),
    "the realm is frozen": (lambda scene: scene.realm().freeze(), {}, {"freeze"}),
    "in the mutex": (lambda scene: scene.put("__internal_lock/694d"), {}, {"mutex"}),
    "an open window": (lambda scene: None, {"window": open_now()}, set()),
    "a closed window": (lambda scene: None, {"window": closed_now()}, {"window"}),
    "a policy": (lambda scene: scene.realm().set_policy("web", slots=2, window=open_now()), {}, set()),
    "a policy's closed window": (lambda scene: scene.realm().set_policy("web", window=closed_now()), {}, {"window"}),
    "a policy of a later version": (lambda scene: scene.put("__policy/web", '1;a;{"quorum":3}'), {}, {"policy"}),
    "a step of its own": (step_of_this_process, {"owner": "me"}, set()),
    "a step of its own, frozen": (
        lambda scene: (step_of_this_process(scene), scene.realm().freeze()),
        {"owner": "me"},
        set(),
    ),
    "a step for another process": (step_of_another, {"owner": "me"}, {"holders"}),
    "a dead run of its own": (dead_run, {"owner": "me"}, set()),
    "after a hold": (lambda scene: scene.realm().lock("web").acquire(0).release(), {}, set()),
    "after a prune": (lambda scene: scene.realm().prune(0.0001), {}, set()),
}


@pytest.mark.parametrize("case", CASES)
def test_it_says_what_an_attempt_would_find(scene: Scene, case: str) -> None:
    arrange, setting, blocking = CASES[case]
    arrange(scene)
    before = scene.under()
    realm, wanted = scene.realm(), dict(setting)
    found = realm.explain("web", wanted.pop("owner", None), **wanted)
    assert {one.topic for one in found.conditions if not one.holds} == blocking
    assert found.lets_in is not bool(blocking)
    assert all(one.value for one in found.conditions)
    assert scene.under() == before
    lock: Lock = realm.lock("web", setting.get("owner"), **wanted)
    if found.lets_in:
        (entered,) = [lock.preview()]
        assert found.how == ("new" if entered is None else entered.how)
        lock.acquire(0).release()
    else:
        assert found.how == ""
        with pytest.raises(DistlockError):
            lock.acquire(0)


def test_whoever_could_change_it_is_named(scene: Scene) -> None:
    scene.put("web", f"1;node-9;{json.dumps(FAR)}")
    scene.realm().freeze("web", owner="boss")
    by_topic = {one.topic: one for one in scene.realm().explain("web").conditions}
    assert by_topic["holders"].who == "node-9 on far, when it is done"
    assert [hint.code for hint in by_topic["holders"].hints] == ["break"]
    assert "the lock is frozen by boss since" in by_topic["freeze"].value
    assert [hint.code for hint in by_topic["freeze"].hints] == ["thaw"]
    assert list(by_topic) == ["holders", "queue", "freeze", "policy", "mutex", "last", "prune"]


def test_a_lock_around_this_process_is_explained(scene: Scene) -> None:
    outer = scene.realm().lock("web", "me").acquire(0)
    inside = {outer.key.encode(): outer.token}
    found = scene.realm().explain("web", "me", inside=inside)
    assert (found.lets_in, found.how, [one.topic for one in found.conditions]) == (True, "nested", ["holders"])
    found = scene.realm().explain("web", inside=inside)
    assert not found.lets_in
    assert "waiting would never end" in found.conditions[0].value
    assert "same_owner" in [hint.code for hint in found.conditions[0].hints]


def test_bad_arguments_are_refused(scene: Scene) -> None:
    for wrong in (Setting(owner="a;b"), Setting(window="sometime")):
        with pytest.raises(ConfigError):
            scene.realm().explain("web", **wrong)
    with pytest.raises(ConfigError):
        scene.realm().explain("a/b")


# The conditions themselves.


def test_every_key_that_a_claim_can_compare_has_a_topic(scene: Scene) -> None:
    keys = Keys(scene.prefix, "web")
    all_of_them = {name: value for name, value in vars(keys).items() if isinstance(value, bytes)}
    assert len(all_of_them) >= 9
    topics = {name: topic_of(keys, key) for name, key in all_of_them.items()}
    assert [name for name, topic in topics.items() if topic not in TOPICS] == []
    assert topic_of(keys, Keys(scene.prefix, "web-2").lock) == ""


def queued(scene: Scene, realm: Any) -> None:
    scene.put("web")
    waiter = scene.queue(realm.lock("web"))
    scene.delete("web")
    waiter.result(BOUND)


CLAIMS: dict[str, Callable[[Scene, Any], Any]] = {
    "free": lambda scene, realm: realm.lock("web").acquire(0),
    "slots": lambda scene, realm: realm.lock("web", slots=3).acquire(0),
    "leased": lambda scene, realm: realm.lock("web", ttl=60).acquire(0),
    "policy": lambda scene, realm: (scene.realm().set_policy("web", slots=2), realm.lock("web").acquire(0)),
    "after a wait": queued,
    "step": lambda scene, realm: (step_of_this_process(scene), realm.lock("web", "me").acquire(0)),
    "take-over": lambda scene, realm: (dead_run(scene), realm.lock("web", "me").acquire(0)),
}


@pytest.mark.parametrize("way", CLAIMS)
def test_every_condition_that_is_sent_is_one_that_is_explained(scene: Scene, proxy: Proxy, way: str) -> None:
    CLAIMS[way](scene, scene.realm(proxy.url))
    keys = Keys(scene.prefix, "web")
    claims = [json.loads(body) for body in proxy.wait_for_requests(TXN) if puts(keys.lock)(body)]
    assert claims
    sent = {topic_of(keys, base64.b64decode(one["key"])) for claim in claims for one in claim["compare"]}
    assert "" not in sent
    scene.clear("web")
    if way in ("step", "take-over"):
        (step_of_this_process if way == "step" else dead_run)(scene)
    explained = scene.realm().explain("web", "me" if way in ("step", "take-over") else None)
    assert sent <= {one.topic for one in explained.conditions}


@pytest.mark.parametrize("target", ["CREATE", "MOD", "VALUE"])
@pytest.mark.parametrize("result", ["EQUAL", "LESS", "GREATER"])
@pytest.mark.parametrize("present", [0, 1, 2])
def test_a_condition_is_compared_as_etcd_does_it(scene: Scene, target: str, result: str, present: int) -> None:
    etcd, patience = gateway(*scene.cluster.endpoints), Patience.lasting(BOUND)
    revisions = [scene.put(f"r/{number}", "b") for number in range(present)]
    revisions += [scene.put("r/0", "b")] if present else []
    key, end = ends(scene.key("r/"))
    operands: list[Any] = [b"a", b"b", b"c"] if target == "VALUE" else [0, *revisions, 10**9]
    for operand in operands:
        for compare in (Compare(target, result, key, operand, end), Compare(target, result, scene.key("r/0"), operand)):
            get = Get(compare.key, compare.range_end)
            outcome = etcd.txn([compare], [get], [get], patience)
            assert is_met(compare, outcome.ranges()[0].kvs) is outcome.succeeded, compare


def test_a_condition_without_a_topic_is_shown_by_its_key() -> None:
    from distlock_core.lock.topics import unknown_condition

    compare = Compare("MOD", "EQUAL", b"/x/new", 0)
    assert is_met(compare, ())
    assert not is_met(compare, [KeyValue(b"/x/new", b"", 4, 4, 0)])
    told = unknown_condition(compare, holds=False)
    assert (told.topic, told.holds, told.value) == ("other", False, "a condition on the key /x/new")
