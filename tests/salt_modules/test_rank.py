"""A rank, by salt-call: given to the states and to the functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def waited_for(keys: Etcd) -> Etcd:
    """The lock x is free, but somebody with the default rank waits for it, and for something else."""
    keys.lock("x/queue/50/exclusive/0000000000000001", "someone")
    return keys


def test_a_lower_rank_goes_before_a_waiter_and_a_higher_one_does_not(minion: Minion, waited_for: Etcd) -> None:
    done = minion.steps(
        usual=("distlock.locked", {"name": "x"}),
        late=("distlock.run", {"name": "x", "cmd": "true", "rank": 51}),
        run=("distlock.run", {"name": "x", "cmd": "true", "rank": 49}),
        take=("distlock.locked", {"name": "x", "rank": 0}),
    )
    assert [state.result for state in done.values()] == [False, False, True, True]
    for refused in ("usual", "late"):
        assert "x is free, but 1 is waiting" in done[refused].comment


def test_the_functions_take_it_too(minion: Minion, waited_for: Etcd) -> None:
    assert "x is free, but 1 is waiting" in minion.refused("distlock.lock", "x")
    assert minion.call("distlock.run", "x", "true", "rank=10")["retcode"] == 0
    assert minion.call("distlock.lock", "x", "rank=10")["owner"] == "salt:m0"


@pytest.mark.parametrize("rank", ["100", "-1", "soon"])
def test_a_bad_rank_is_said_in_one_line(minion: Minion, realm: Realm, rank: str) -> None:
    state = minion.single("distlock.locked", "name=x", f"rank={rank}")
    assert state.result is False
    assert "rank: expected a whole number from 0 to 99, found" in state.comment
    assert realm.list() == []


def test_the_recipe_of_the_page(minion: Minion, realm: Realm) -> None:
    text = with_stand_ins(recipe("Salt rank"), ("grains['mysql_role']", "'replica'"))
    (state,) = minion.apply("rank", text=text).values()
    assert state.result is True
    assert realm.show("percona_prod").holders[0].owner == "salt:m0"


def test_the_example_for_replicas(minion: Minion, keys: Etcd, tmp_path: Path) -> None:
    text = (ROOT / "examples" / "rollouts" / "replicas" / "upgrade.sls").read_text()
    text = with_stand_ins(
        text,
        (
            "mysql-community-server:\n  pkg.latest: []",
            f"mysql-community-server:\n  file.managed:\n    - name: {tmp_path}/p",
        ),
        ("- pkg:", "- file:"),
        ("- timeout: -1", "- timeout: 2"),
        ("/usr/local/bin/replicas-upgraded", f"test -e {tmp_path}/green"),
    )
    keys.lock("mysql_prod/queue/50/x0000000000000001", "someone")  # the primary is served after it, a replica before
    lock = "one node at a time, the primary last"
    primary, replica = (text.replace("grains['mysql_role']", f"'{role}'") for role in ("primary", "replica"))
    (tmp_path / "green").touch()
    assert minion.apply("primary", text=primary)[lock].result is False
    assert not (tmp_path / "p").exists()
    assert all(state.result is True for state in minion.apply("replica", text=replica).values())
    (tmp_path / "p").unlink()
    keys.unlock("mysql_prod/queue/50/x0000000000000001")
    (tmp_path / "green").unlink()
    assert minion.apply("primary", text=primary)[lock].result is False
    (tmp_path / "green").touch()
    assert all(state.result is True for state in minion.apply("primary", text=primary).values())
    assert (tmp_path / "p").exists()
    assert keys.keys() == []
