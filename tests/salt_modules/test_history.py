"""`distlock.history`: what happened, read from etcd's own revisions."""

from __future__ import annotations

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_the_history_has_who_held_what_and_how_it_ended(minion: Minion, realm: Realm) -> None:
    assert recipe("salt history").split()[2:] == ["distlock.history", "percona_prod", "since=2h"]
    for name in ("percona_prod", "other"):
        with realm.lock(name, "node-1", "Upgrade"):
            pass
    reach, hold = minion.call("distlock.history", "percona_prod", "since=2h")
    assert reach["kind"] == "reach"
    assert (hold["lock"], hold["owner"], hold["reason"], hold["waited"]) == ("percona_prod", "node-1", "Upgrade", 0)
    assert hold["ended"] == {"how": "released", "by": "node-1", "why": None, "sure": True}
    assert "since_between" not in hold  # its beginning is known
    whole = minion.call("distlock.history")
    assert [entry.get("lock") for entry in whole] == [None, "percona_prod", "other"]


def test_a_wrong_time_is_an_error_in_one_line(minion: Minion) -> None:
    assert "since: expected a number of seconds" in minion.refused("distlock.history", "since=soon")
