"""A lock's policy, by salt-call: set as a state, honoured by the other states, and by the module."""

from __future__ import annotations

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.salt_minions import Minion
from tests.support.time_windows import closed_now, open_now

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_a_state_sets_exactly_what_it_names_and_changes_nothing_the_second_time(minion: Minion, realm: Realm) -> None:
    realm.set_policy("x", expect=77)
    words = {"name": "x", "slots": 2, "cooldown": "2m", "window": [open_now(), "!2020-01-01"]}
    done = minion.steps(
        first=("distlock.policy", words),
        again=("distlock.policy", words),
        gone=("distlock.policy_absent", {"name": "x"}),
        still=("distlock.policy_absent", {"name": "x"}),
    )
    fields = {"slots": 2, "cooldown": 120, "window": f"{open_now()}, !2020-01-01"}
    assert done["first"].result is True
    assert done["first"].changes["x"]["old"] == {"expect": 77}
    assert done["first"].changes["x"]["new"]["cooldown"] == 120
    assert set(done["first"].changes["x"]["new"]) == set(fields)
    assert "expect removed (was 77s)" in done["first"].comment
    assert (done["again"].result, done["again"].changes) == (True, {})
    assert done["gone"].changes["x"]["new"] is None
    assert (done["still"].result, done["still"].changes) == (True, {})
    assert realm.policies() == []


def test_the_recipe_of_the_page(minion: Minion, realm: Realm) -> None:
    (state,) = minion.apply("policy", text=recipe("Salt policy")).values()
    assert state.result is True
    policy = realm.policy("percona_prod")
    assert policy is not None
    window = "Mon-Fri 22:00-04:00 Europe/Berlin"
    assert policy.fields == {"slots": 3, "cooldown": 120, "window": window, "expect": 1200}


def test_a_dry_run_says_what_would_change_and_writes_nothing(minion: Minion, realm: Realm) -> None:
    state = minion.single("distlock.policy", "name=x", "slots=2", "test=True")
    assert (state.result, state.changes) == (None, {"x": {"old": None, "new": {"slots": 2}}})
    assert state.comment == "x: policy would be set: slots 2"
    assert realm.policy("x") is None


def test_what_is_wrong_is_said_in_one_line(minion: Minion, realm: Realm) -> None:
    done = minion.steps(
        none=("distlock.policy", {"name": "x"}),
        wrong=("distlock.policy", {"name": "x", "window": "Mo 1-2"}),
        local=("distlock.policy", {"name": "x", "window": "Mon local"}),
        other=("distlock.policy", {"name": "x", "slots": 2, "ttl": 5}),
    )
    assert [state.result for state in done.values()] == [False] * 4
    assert "at least one of slots, cooldown, window, expect" in done["none"].comment
    assert "window: expected windows such as" in done["wrong"].comment
    assert "local is another one on each machine" in done["local"].comment
    assert "ttl" in done["other"].comment
    assert realm.policies() == []


def test_the_other_states_go_by_the_policy(minion: Minion, realm: Realm) -> None:
    realm.set_policy("x", slots=2, cooldown=60)
    realm.lock("x", "other").acquire(0)
    done = minion.steps(
        take=("distlock.locked", {"name": "x", "slots": 1, "expect": "1h"}),
        give=("distlock.unlocked", {"name": "x"}),
    )
    assert [state.result for state in done.values()] == [True, True]
    (cooling,) = (one for one in realm.show("x").holders if one.owner == "salt:m0")
    assert (cooling.record.state, cooling.record.limit, cooling.expect) == ("cooling", 2, 3600)
    realm.set_policy("x", slots=3, window=closed_now())
    for kind, *words in (("locked",), ("run", "cmd=true")):
        state = minion.single(f"distlock.{kind}", "name=x", "owner=new", *words)
        assert state.result is False
        assert "outside its policy's window" in state.comment


def test_a_window_of_its_own(minion: Minion, realm: Realm) -> None:
    done = minion.steps(
        shut=("distlock.locked", {"name": "x", "window": closed_now()}),
        run=("distlock.run", {"name": "x", "cmd": "true", "window": closed_now()}),
        now=("distlock.run", {"name": "x", "cmd": "true", "window": open_now(), "expect": 60}),
    )
    assert [state.result for state in done.values()] == [False, False, True]
    assert "outside the window" in done["shut"].comment
    assert "outside the window" in done["run"].comment


def test_the_functions_of_the_module(minion: Minion, realm: Realm) -> None:
    assert minion.call("distlock.policy") == {}
    set_now = minion.call("distlock.set_policy", "x", "slots=3", "expect=20m", "owner=admin", "reason=agreed")
    assert set_now == {"changed": True, "policy": {"slots": 3, "expect": 1200}}
    shown = minion.call("distlock.policy", "x")["x"]
    assert {word: shown[word] for word in ("slots", "expect", "by", "reason")} == {
        "slots": 3,
        "expect": 1200,
        "by": "admin",
        "reason": "agreed",
    }
    assert minion.call("distlock.clear_policy", "x") is True
    assert minion.call("distlock.clear_policy", "x") is False
    assert realm.policies() == []
