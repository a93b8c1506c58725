"""Freezing and thawing by Salt: functions that fail if there is nothing to do, and states that then change nothing."""

from __future__ import annotations

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.mark.parametrize("name", ["x", None])
def test_a_lock_or_the_realm_is_frozen_and_thawed(minion: Minion, realm: Realm, keys: Etcd, name: str | None) -> None:
    which = [] if name is None else [name]
    what = name or "the realm"
    frozen = minion.call("distlock.freeze", *which, "reason=audit", "duration=2h")
    assert (frozen["by"], frozen["reason"], frozen["scope"]) == ("salt:m0", "audit", "lock" if name else "realm")
    assert frozen["until"] - frozen["since"] == 7200
    assert f"{what} is frozen by salt:m0 since " in minion.refused("distlock.lock", "x")
    again = minion.refused("distlock.freeze", *which, "owner=other")
    assert f"{what} is frozen by salt:m0 since " in again
    assert "left as it is. To replace it: force=True" in again
    assert minion.call("distlock.freeze", *which, "owner=other", "force=True")["by"] == "other"
    assert minion.call("distlock.thaw", *which)["by"] == "other"
    assert f"{what} is not frozen" in minion.refused("distlock.thaw", *which)
    keys.assert_nothing_left()


def test_bad_arguments_freeze_nothing(minion: Minion, keys: Etcd) -> None:
    assert "duration: expected a whole number of seconds" in minion.refused("distlock.freeze", "x", "duration=soon")
    assert "illegal lock name" in minion.refused("distlock.freeze", "a/b")
    assert keys.keys() == []


def test_states_freeze_and_thaw_once(minion: Minion, realm: Realm, keys: Etcd) -> None:
    done = minion.steps(
        freeze=("distlock.frozen", {"name": "x", "reason": "audit", "duration": "1h"}),
        again=("distlock.frozen", {"name": "x", "reason": "audit", "duration": "1h"}),
        other=("distlock.frozen", {"name": "x", "reason": "other"}),
        forced=("distlock.frozen", {"name": "x", "reason": "other", "force": True}),
        locked=("distlock.locked", {"name": "x"}),
        thaw=("distlock.thawed", {"name": "x"}),
        gone=("distlock.thawed", {"name": "x"}),
        whole=("distlock.frozen", {"name": "everything", "realm": True}),
        thaw_all=("distlock.thawed", {"name": "everything", "realm": True}),
    )
    results = {step: (state.result, bool(state.changes)) for step, state in done.items()}
    assert results == {
        "freeze": (True, True),
        "again": (True, False),
        "other": (True, False),
        "forced": (True, True),
        "locked": (False, False),
        "thaw": (True, True),
        "gone": (True, False),
        "whole": (True, True),
        "thaw_all": (True, True),
    }
    assert done["freeze"].changes == {"x": {"old": None, "new": "salt:m0"}}
    assert "already: x is frozen by salt:m0 since " in done["other"].comment
    assert "x is frozen by salt:m0 since " in done["locked"].comment
    assert done["thaw"].changes == {"x": {"old": "salt:m0", "new": None}}
    assert "the realm is frozen by salt:m0" in done["whole"].comment
    keys.assert_nothing_left()


def test_a_dry_run_writes_nothing(minion: Minion, realm: Realm, keys: Etcd) -> None:
    dry = minion.single("distlock.frozen", "name=x", "test=True")
    assert (dry.result, dry.changes) == (None, {"x": {"old": None, "new": "salt:m0"}})
    assert keys.keys() == []
    realm.freeze("x", owner="boss")
    dry = minion.single("distlock.thawed", "name=x", "test=True")
    assert (dry.result, dry.changes) == (None, {"x": {"old": "boss", "new": None}})
    assert keys.keys() == ["x/freeze"]


def test_a_failed_command_freezes_its_lock(minion: Minion, realm: Realm) -> None:
    state = minion.single("distlock.run", "name=x", "cmd=/bin/false", "on_failure=freeze")
    assert state.result is False
    freeze = realm.frozen("x")
    assert freeze is not None
    assert (freeze.by, freeze.exit_code) == ("salt:m0", 1)
    refused = minion.single("distlock.run", "name=x", "cmd=/bin/true")
    assert (refused.result, "x is frozen by salt:m0" in refused.comment) == (False, True)


def test_the_recipe_freezes_the_lock_if_the_work_fails(minion: Minion, realm: Realm, keys: Etcd) -> None:
    fails = ("  pkg.latest:\n", "  cmd.run:\n    - name: /bin/false\n")
    text = with_stand_ins(recipe("freeze in Salt"), fails, ("      - pkg: ", "      - cmd: "))
    done = minion.apply("upgrade", text=text)
    assert [state.result for state in done.values()] == [True, False, True, True]
    freeze = realm.frozen("percona_prod")
    assert freeze is not None
    assert (freeze.by, freeze.reason) == ("salt:m0", "the upgrade failed")
    assert keys.keys() == ["percona_prod/freeze"]
    realm.thaw("percona_prod")
    done = minion.apply("again", text=text.replace("/bin/false", "/bin/true"))
    assert realm.frozen("percona_prod") is None
    keys.assert_nothing_left()
