"""The cost of a lock for etcd, by etcd's count of raft commits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Callable

import pytest

from distlock_core import ConfigError, Lock
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_servers import ENDS
from tests.support.scene import BOUND, Scene


@pytest.fixture(params=ENDS)
def quiet(start_etcd: Callable[..., Cluster], realm_prefix: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene in an etcd that does nothing else."""
    with start_etcd(version=request.param) as cluster:
        scene = Scene(cluster, realm_prefix)
        yield scene
        scene.close()


def commits(scene: Scene) -> float:
    return scene.cluster.members[0].metric("etcd_server_proposals_committed_total")


def test_a_lock_and_an_unlock_are_two_commits(quiet: Scene) -> None:
    before = commits(quiet)
    with quiet.realm().lock("web"):
        pass
    assert commits(quiet) - before == 2


def test_a_command_under_an_id_costs_no_more_though_its_record_names_it(
    quiet: Scene, distlock_env: dict[str, str]
) -> None:
    env = {**distlock_env, "DISTLOCK_ENDPOINTS": quiet.cluster.endpoints[0]}
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    command = [distlock, "--lock-name=web", "--id=me", "--", "/bin/true"]
    before = commits(quiet)
    subprocess.run(command, env=env, timeout=BOUND, check=True)
    assert commits(quiet) - before == 2


def test_a_refused_nowait_and_all_looking_is_no_commit(quiet: Scene) -> None:
    realm = quiet.realm()
    realm.lock("web").acquire(0)
    before = commits(quiet)
    assert realm.lock("web").try_acquire() is None
    realm.list()
    realm.show("web")
    assert commits(quiet) == before


def test_an_acquisition_from_the_queue_is_at_most_six_commits(quiet: Scene) -> None:
    waiters = 10
    realm = quiet.realm()
    holder = realm.lock("web").acquire(0)
    before = commits(quiet)

    def take_turn(lock: Lock) -> None:
        with lock:
            pass

    turns = []
    for number in range(waiters):
        lock = realm.lock("web", timeout=BOUND)
        turns.append(quiet.start(partial(take_turn, lock)))
        quiet.until_in_line("web", number + 1)
    holder.release()
    for turn in turns:
        turn.result(BOUND)
    # The first release is the holder's own.
    assert (commits(quiet) - before - 1) / waiters <= 6


def test_a_policy_and_a_window_cost_no_commit_more(quiet: Scene) -> None:
    realm = quiet.realm()
    before = commits(quiet)
    realm.set_policy("web", slots=2, window="Mon-Sun", expect=60)
    assert commits(quiet) - before == 1
    before = commits(quiet)
    realm.set_policy("web", slots=2)  # as it is
    realm.policy("web")
    realm.policies()
    with realm.lock("web", window="Sat", expect=5):
        pass
    assert commits(quiet) - before == 2
    with pytest.raises(ConfigError):
        realm.set_policy("web", slots=0)
    assert commits(quiet) - before == 2


def test_a_policy_and_a_window_cost_no_request_more(scene: Scene) -> None:
    with Proxy(scene.cluster.endpoints[0]) as proxy:
        realm = scene.realm(proxy.url)
        asked = []
        for window in (None, "Mon-Sun"):
            with proxy.changed:
                before = len(proxy.requests)
            with realm.lock("web", window=window):
                pass
            with proxy.changed:
                asked.append(len(proxy.requests) - before)
            scene.realm().set_policy("web", slots=2, expect=60)
        assert asked[1] <= asked[0]
