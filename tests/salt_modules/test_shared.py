"""Shared locks, by salt-call."""

from __future__ import annotations

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_states_share_a_lock_with_others(minion: Minion, realm: Realm) -> None:
    other = realm.lock("x", "other", shared=True).acquire(0)
    done = minion.steps(
        take=("distlock.locked", {"name": "x", "shared": True}),
        again=("distlock.locked", {"name": "x", "shared": True}),
        held=("distlock.held", {"name": "x", "shared": True}),
        alone=("distlock.held", {"name": "x"}),
        alas=("distlock.locked", {"name": "x"}),
        run=("distlock.run", {"name": "x", "cmd": "true", "shared": True}),
        give=("distlock.unlocked", {"name": "x"}),
        bound=("distlock.locked", {"name": "x", "shared": True, "until": "run_end"}),
        more=("distlock.locked", {"name": "x", "shared": True, "until": "run_end"}),
    )
    results = {name: state.result for name, state in done.items()}
    good = dict.fromkeys(("take", "again", "held", "run", "give", "bound", "more"), True)
    assert results == {**good, "alone": False, "alas": False}
    assert done["again"].changes == {}
    assert "shared, and not exclusively" in done["alone"].comment
    assert "a shared step of the same owner, which cannot become exclusive" in done["alas"].comment
    assert done["more"].changes == {}
    assert other.verify()
    other.release()


def test_a_lock_that_this_run_shares_until_its_end_is_not_waited_for(minion: Minion, realm: Realm) -> None:
    done = minion.steps(
        bound=("distlock.locked", {"name": "x", "shared": True, "until": "run_end"}),
        alas=("distlock.locked", {"name": "x", "until": "run_end", "timeout": 60}),
    )
    assert done["bound"].result is True
    assert done["alas"].result is False
    assert "held shared by this run until its end" in done["alas"].comment


def test_an_exclusive_holder_keeps_it_out_in_one_line(minion: Minion, realm: Realm) -> None:
    realm.lock("x", "upgrade").acquire(0)
    done = minion.steps(
        take=("distlock.locked", {"name": "x", "shared": True}),
        run=("distlock.run", {"name": "x", "cmd": "true", "shared": True}),
        both=("distlock.locked", {"name": "y", "shared": True, "slots": 3}),
        odd=("distlock.locked", {"name": "y", "shared": "perhaps"}),
    )
    assert [state.result for state in done.values()] == [False] * 4
    assert all("x is held by upgrade" in done[name].comment for name in ("take", "run"))
    assert "slots and shared contradict each other" in done["both"].comment
    assert "shared: expected" in done["odd"].comment
    assert realm.list()[0].name == "x"
    assert len(realm.list()) == 1


def test_the_functions_of_the_module(minion: Minion, realm: Realm) -> None:
    other = realm.lock("x", "other", shared=True).acquire(0)
    assert minion.call("distlock.lock", "x", "shared=True")["owner"] == "salt:m0"
    assert sorted(holder.owner or "" for holder in realm.show("x").holders) == ["other", "salt:m0"]
    minion.call("distlock.unlock", "x")
    assert minion.call("distlock.run", "x", "true", "shared=True")["retcode"] == 0
    assert other.verify()


def test_the_recipe_of_the_page(minion: Minion, realm: Realm) -> None:
    other = realm.lock("percona_prod", "other", shared=True).acquire(0)
    text = with_stand_ins(recipe("Salt shared"), ("/usr/local/sbin/backup:", "/bin/true:"))
    done = minion.apply("backup", text=text)
    assert [state.result for state in done.values()] == [True, True]
    assert other.verify()
