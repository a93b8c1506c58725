"""lock_names: several locks for one step of Salt, all or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until
from tests.support.salt_minions import Minion, states

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
BOTH = {"lock_names": ["rack", "web"]}
REVERSED = {"lock_names": ["web", "rack"]}


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_one_state_locks_all_another_releases_all_and_each_says_so(minion: Minion, realm: Realm, keys: Etcd) -> None:
    done = minion.steps(
        take=("distlock.locked", {**BOTH, "reason": "upgrade"}),
        again=("distlock.locked", REVERSED),
        still=("distlock.held", REVERSED),
        work=("cmd.run", {"name": "true"}),
        give=("distlock.unlocked", REVERSED),
        free=("distlock.unlocked", BOTH),
        gone=("distlock.held", BOTH),
    )
    assert [state.result for state in done.values()] == [True] * 6 + [False], done
    assert done["take"].comment.startswith("rack and web are locked by salt:m0, token ")
    assert done["take"].changes == {name: {"old": None, "new": "salt:m0"} for name in ("rack", "web")}
    assert done["again"].changes == {}
    assert done["again"].comment.count("is held by salt:m0 since ") == 2
    assert done["give"].comment == "web and rack, which were held by salt:m0, are unlocked"
    assert done["give"].changes == {name: {"old": "salt:m0", "new": None} for name in ("web", "rack")}
    assert (done["free"].changes, done["free"].comment) == ({}, "rack and web are not locked")
    assert done["gone"].comment.startswith("rack is not locked, so not held by salt:m0")
    assert keys.keys() == []


def test_none_is_locked_while_one_is_held_and_none_is_unlocked_either(minion: Minion, keys: Etcd) -> None:
    keys.lock("web", owner="node-3", reason="Upgrade RPMs")
    done = minion.steps(take=("distlock.locked", BOTH), give=("distlock.unlocked", BOTH))
    assert done["take"].result is False
    assert done["take"].comment.startswith("web is held by node-3 since ")
    assert done["take"].comment.endswith("See: distlock.show web")
    assert done["give"].result is False
    assert "none of the locks was unlocked" in done["give"].comment
    assert keys.keys() == ["web"]


def test_two_minions_that_name_them_in_opposite_orders_take_turns(
    new_minion: Callable[..., Minion], realm: Realm, keys: Etcd, tmp_path: Path
) -> None:
    """Each of their runs takes and releases them five times; mkdir fails when the other is inside."""
    text = ""
    for turn in range(5):
        text += f"take {turn}:\n  distlock.locked: [{{lock_names: NAMES}}, {{timeout: 200}}]\n"
        text += f"work {turn}:\n  cmd.run: [{{name: 'mkdir {tmp_path}/in && rmdir {tmp_path}/in'}}]\n"
        text += f"give {turn}:\n  distlock.unlocked: [{{lock_names: NAMES}}]\n"
    minions = [new_minion("m1"), new_minion("m2")]
    running = []
    for minion, names in zip(minions, ("[rack, web]", "[web, rack]")):
        (minion.sls / "turns.sls").write_text(text.replace("NAMES", names))
        running.append(minion.start("state.apply", "turns"))
    for process in running:
        out, err = process.communicate(timeout=280)
        done = states(json.loads(out)["local"])
        assert [state.result for state in done.values()] == [True] * 15, (done, err)
    assert keys.keys() == []


def test_they_end_with_the_run_when_it_fails_too(minion: Minion, realm: Realm, keys: Etcd) -> None:
    done = minion.steps(
        take=("distlock.locked", {**BOTH, "until": "run_end", "ttl": 60}),
        inside=("distlock.run", {**REVERSED, "cmd": "env", "output_loglevel": "quiet"}),
        fails=("cmd.run", {"name": "false"}),
    )
    assert [state.result for state in done.values()] == [True, True, False], done
    assert done["take"].comment.endswith(", until this run ends")
    held = done["inside"].changes["stdout"]
    assert "DISTLOCK_HELD=" in held
    assert all(f"{realm.prefix}{name}" in held for name in ("rack", "web"))
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "both end with the run", 60)


def test_a_failed_run_leaves_all_of_them_and_the_next_one_goes_on(minion: Minion, realm: Realm, keys: Etcd) -> None:
    text = """
take:
  distlock.locked: [{lock_names: [rack, web]}]
work:
  cmd.run: [{name: "CMD"}, {require: [{distlock: take}]}]
give:
  distlock.unlocked: [{lock_names: [rack, web]}, {require: [{cmd: work}]}]
"""
    done = minion.apply("fails", text=text.replace("CMD", "false"))
    assert [state.result for state in done.values()] == [True, False, False]
    assert keys.keys() == ["rack", "web"]
    token = realm.show("rack").holders[0].token
    done = minion.apply("repaired", text=text.replace("CMD", "true"))
    assert [state.result for state in done.values()] == [True, True, True]
    assert done["take"].changes == {}
    assert "rack is held by salt:m0" in done["take"].comment
    assert keys.keys() == []
    assert realm.show("rack").last.token == token  # type: ignore[union-attr]


def test_a_command_runs_under_all_of_them_and_freezes_all_when_it_fails(
    minion: Minion, realm: Realm, keys: Etcd
) -> None:
    state = minion.single("distlock.run", "name=both", "lock_names=[rack, web]", "cmd=/bin/false", "on_failure=freeze")
    assert state.result is False
    assert state.comment == "the command, run under rack and web, ended with 1"
    assert all(found.frozen is not None for found in realm.show_all(["rack", "web"]))
    again = minion.single("distlock.run", "name=both", "lock_names=[web, rack]", "cmd=/bin/true")
    assert "web is frozen by salt:m0" in again.comment
    assert "rack is frozen by salt:m0" in again.comment
    assert all(not found.holders for found in realm.show_all(["rack", "web"]))


def test_a_dry_run_plans_each_of_them(minion: Minion, keys: Etcd) -> None:
    text = """
take:
  distlock.locked: [{lock_names: [rack, web]}]
still:
  distlock.held: [{name: web}]
work:
  distlock.run: [{lock_names: [a, b]}, {cmd: "true"}]
give:
  distlock.unlocked: [{lock_names: [web, rack]}]
"""
    done = minion.apply("plan", "test=True", text=text)
    assert done["take"].comment == "rack and web would be locked by salt:m0"
    assert done["still"].comment == "web would be held by salt:m0 at this point"
    assert done["work"].comment == "the command would be run under a and b"
    assert done["give"].comment == "web and rack, held by salt:m0, would be unlocked"
    assert keys.found() == {}


def test_the_functions_take_show_verify_and_unlock_several(minion: Minion, keys: Etcd) -> None:
    names = "lock_names=[rack, web]"
    taken = minion.call("distlock.lock", names)
    assert [hold["lock"] for hold in taken] == ["rack", "web"]
    shown = minion.call("distlock.show", names)
    assert [hold["owner"] for hold in shown] == ["salt:m0"] * 2
    again = minion.call("distlock.lock", names)
    assert [hold["token"] for hold in again] == [hold["token"] for hold in taken]
    ended = minion.call("distlock.unlock", "lock_names=[web, rack]")
    assert [hold["lock"] for hold in ended] == ["web", "rack"]
    assert "rack and web are not locked" in minion.refused("distlock.unlock", names)
    assert minion.call("distlock.verify", names) is False
    ran = minion.call("distlock.run", "lock_names=[rack, web]", "cmd=env")
    assert f"{keys.prefix}web" in ran["stdout"]
    assert keys.keys() == []


def test_bad_names_are_refused_in_one_line(minion: Minion, keys: Etcd) -> None:
    done = minion.steps(
        both=("distlock.locked", {"name": "x", "lock_names": ["rack"]}),
        text=("distlock.locked", {"lock_names": "rack"}),
        twice=("distlock.locked", {"lock_names": ["rack", "rack"]}),
        many=("distlock.locked", {"lock_names": [f"n{number}" for number in range(17)]}),
        one=("distlock.frozen", {"lock_names": ["rack", "web"]}),
    )
    assert [state.result for state in done.values()] == [False] * 5
    assert "name and lock_names: the locks are named twice: use one of the two" in done["both"].comment
    assert "lock_names: expected a list of names, found 'rack'" in done["text"].comment
    assert "the lock 'rack' is named twice: name it once" in done["twice"].comment
    assert "17 locks are named: at most " in done["many"].comment
    assert "lock_names: not an argument of distlock.frozen, only of distlock.locked and " in done["one"].comment
    assert "no lock is named: name or lock_names is required" in minion.refused("distlock.lock")
    assert keys.found() == {}


def test_the_recipe_of_the_page(minion: Minion, keys: Etcd, tmp_path: Path) -> None:
    package = (("pkg.latest:", f"file.managed:\n    - name: {tmp_path}/p\n    - contents: new"), ("- pkg:", "- file:"))
    text = with_stand_ins(recipe("Salt lock_names"), ("timeout: -1", "timeout: 0"), *package)
    keys.lock("rack-7", owner="node-3")
    assert minion.apply("page", text=text)["alone in the rack and in the cluster"].result is False
    assert (keys.keys(), (tmp_path / "p").exists()) == (["rack-7"], False)
    keys.unlock("rack-7")
    done = minion.apply("page")
    assert [state.result for state in done.values()] == [True] * 3, done
    assert keys.keys() == []
