"""A lock's policy, by playbooks: set and removed by a module, honoured by the other module and by a strategy."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.playbooks import Played
from tests.support.time_windows import closed_now, open_now

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
POLICY, LOCK = "distlock.distlock.distlock_policy", "distlock.distlock.distlock"
Run = Callable[..., Played]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def play(*tasks: dict[str, Any], **keywords: Any) -> str:
    """A playbook of one play. JSON is YAML."""
    return json.dumps([{"hosts": "all", "gather_facts": False, **keywords, "tasks": list(tasks)}])


def task(called: str, module: str = POLICY, **arguments: Any) -> dict[str, Any]:
    return {"name": called, module: {"name": "x", **arguments}, "ignore_errors": True}


def test_it_is_set_exactly_and_once_and_removed(playbook: Run, realm: Realm) -> None:
    realm.set_policy("x", expect=77)
    words: dict[str, Any] = {"slots": 2, "cooldown": "2m", "window": f"{open_now()}, !2020-01-01", "reason": "agreed"}
    played = playbook(
        play(
            {**task("planned", **words), "check_mode": True},
            task("set", **words),
            task("again", **words),
            task("gone", state="absent"),
            task("still", state="absent"),
        )
    )
    fields = {"slots": 2, "cooldown": 120, "window": f"{open_now()}, !2020-01-01"}
    for called in ("planned", "set"):
        done = played.task(called)
        assert (done["changed"], done["diff"]["before"]) == (True, {"expect": 77})
        assert set(done["policy"]) == set(fields)
        assert done["policy"]["cooldown"] == 120
    assert "policy would be changed" in played.task("planned")["msg"]
    assert "expect removed (was 77s)" in played.task("set")["msg"]
    assert played.task("again")["changed"] is False
    assert (played.task("gone")["changed"], played.task("gone")["policy"]) == (True, None)
    assert played.task("still")["changed"] is False
    assert realm.policies() == []


def test_what_is_wrong_is_said_in_one_line(playbook: Run, realm: Realm) -> None:
    played = playbook(
        play(
            task("none"),
            task("wrong", window="Mo 1-2"),
            task("local", window="Mon local"),
            task("both", state="absent", slots=2),
        )
    )
    said = {"none": "at least one of slots", "wrong": "window: expected windows such as", "local": "on each machine"}
    for called, words in {**said, "both": "removes the whole policy: leave out slots"}.items():
        done = played.task(called)
        assert done["kind"] == "config"
        assert words in done["msg"]
    assert realm.policies() == []


def test_the_module_goes_by_the_policy_and_by_a_window_of_its_own(playbook: Run, realm: Realm) -> None:
    realm.set_policy("x", slots=2, cooldown=60)
    realm.lock("x", "other").acquire(0)
    played = playbook(
        play(
            task("outside", LOCK, window=closed_now()),
            task("take", LOCK, slots=1, expect="1h", window=open_now()),
            task("give", LOCK, state="unlocked"),
            task("nonsense", LOCK, state="unlocked", window=open_now()),
        )
    )
    assert played.task("outside")["kind"] == "window"
    assert "outside the window" in played.task("outside")["msg"]
    assert played.task("take")["changed"] is True
    assert played.task("give")["changed"] is True
    assert "window" in played.task("nonsense")["msg"]
    (cooling,) = (one for one in realm.show("x").holders if one.owner != "other")
    assert (cooling.record.state, cooling.record.limit, cooling.expect) == ("cooling", 2, 3600)


def test_a_play_under_a_lock_cools_down_by_the_policy_and_is_refused_outside_of_its_window(
    playbook: Run, realm: Realm
) -> None:
    ping = {"name": "ping", "ansible.builtin.ping": {}}
    keywords = {"strategy": "distlock.distlock.linear", "vars": {"distlock_name": "x", "distlock_timeout": 0}}
    realm.set_policy("x", cooldown=60)
    assert playbook(play(ping, **keywords)).code == 0
    (holder,) = realm.show("x").holders
    assert holder.record.state == "cooling"
    realm.unlock("x", token=holder.token)
    fail = {"name": "fail", "ansible.builtin.fail": {}}
    assert playbook(play(fail, **keywords)).code == 2
    assert realm.show("x").holders == ()
    realm.set_policy("x", window=closed_now())
    refused = playbook(play(ping, **keywords))
    assert refused.code != 0
    assert "outside its policy's window" in refused.text


def test_the_recipe_of_the_page(playbook: Run, realm: Realm) -> None:
    tasks = yaml.safe_load(recipe("Ansible policy"))
    assert playbook(play(*tasks)).code == 0
    policy = realm.policy("percona_prod")
    assert policy is not None
    window = "Mon-Fri 22:00-04:00 Europe/Berlin"
    assert policy.fields == {"slots": 3, "cooldown": 120, "window": window, "expect": 1200}
