"""The steps that Salt, Ansible and Puppet take: for the process of their run, and for no other of the same name."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from distlock_core import LockBusy, LockNotFound, NotHolder
from distlock_core.adapters import acquire, check, release
from distlock_core.adapters.ansible_run_lock import start_run_keeper
from distlock_core.adapters.settings import read_settings
from distlock_core.process.identity import trace_of
from distlock_core.settings.options import Settings
from tests.adapters.conftest import NewRun, end
from tests.support.scene import Scene

Read = Callable[..., Settings]


@pytest.fixture
def read(scene: Scene) -> Read:
    def read(owner: str = "tool:node-1", **arguments: Any) -> Settings:
        said = {"lockname": "web", "endpoints": scene.cluster.endpoints, "prefix": scene.prefix, **arguments}
        return read_settings(said, owner)

    return read


def test_a_second_run_of_the_same_owner_is_busy_until_the_first_one_is_gone(
    scene: Scene, read: Read, new_run: NewRun
) -> None:
    first, second, third = (new_run() for _ in range(3))
    taken = acquire.take(read(reason="why"), taker=trace_of(first.pid))
    assert taken.changed
    assert taken.holder is not None
    token = taken.holder.token
    again = acquire.take(read(), run=first.pid)
    assert (again.changed, again.holder and again.holder.token) == (False, token)
    for dry_run in (True, False):
        with pytest.raises(LockBusy, match=f"taken for process {first.pid} on .*token={token}"):
            acquire.take(read(), taker=trace_of(second.pid), dry_run=dry_run)
    with pytest.raises(NotHolder, match=f"taken for process {first.pid} on "):
        release.release(read(), taker=trace_of(second.pid))
    with pytest.raises(NotHolder):
        check.check(read(), taker=trace_of(second.pid))
    end(first)
    assert not acquire.take(read(), taker=trace_of(second.pid), dry_run=True).changed
    assert scene.record("web").details["taker"]["pid"] == first.pid
    gone_on = acquire.take(read(reason="other"), taker=trace_of(second.pid))
    assert (gone_on.changed, gone_on.holder and gone_on.holder.token) == (False, token)
    # It is the second one's by now.
    assert scene.record("web").details["taker"] == trace_of(second.pid)
    assert scene.record("web").text("reason") == "why"
    with pytest.raises(LockBusy, match=f"taken for process {second.pid} on "):
        acquire.take(read(), taker=trace_of(third.pid))
    (held,) = check.check(read(), taker=trace_of(second.pid))
    assert held.token == token
    (ended,) = release.release(read(), taker=trace_of(second.pid))
    assert ended.token == token
    scene.assert_clean()


def test_a_run_that_names_the_token_enters_and_releases(scene: Scene, read: Read, new_run: NewRun) -> None:
    first, second = new_run(), new_run()
    taken = acquire.take(read(), taker=trace_of(first.pid))
    assert taken.holder is not None
    token = taken.holder.token
    with pytest.raises(NotHolder, match=f"with token {token}, not {token + 1}"):
        acquire.take(read(), taker=trace_of(second.pid), token=token + 1)
    entered = acquire.take(read(), taker=trace_of(second.pid), token=token)
    assert (entered.changed, entered.holder and entered.holder.token) == (False, token)
    with pytest.raises(NotHolder):
        release.release(read(), taker=trace_of(first.pid))
    assert release.release(read(), taker=trace_of(first.pid), token=token)
    with pytest.raises(LockNotFound):
        acquire.take(read(), taker=trace_of(first.pid), token=token)
    scene.assert_clean()


def test_a_lock_until_the_end_of_the_run_continues_the_step_of_a_dead_run(
    scene: Scene, read: Read, new_run: NewRun
) -> None:
    """Persistent as it was: it ends with no run."""
    first, second = new_run(), new_run()
    taken = acquire.take(read(), taker=trace_of(first.pid))
    end(first)
    bound = acquire.take(read(), run=second.pid, bound=True)
    assert taken.holder is not None
    assert bound.holder is not None
    assert (bound.changed, bound.holder.token, bound.holder.lifetime) == (False, taken.holder.token, "persistent")
    assert scene.record("web").details["taker"] == trace_of(second.pid)


def test_a_hold_with_this_runs_owner_is_its_own_only_by_its_process(scene: Scene, read: Read, new_run: NewRun) -> None:
    """Two containers of one host name, with a run of the same pid in each."""
    owner = "ansible:ci:1"
    mine, theirs = trace_of(new_run().pid), trace_of(new_run().pid)
    acquire.take(read(owner), taker={**theirs, "ns": theirs["ns"] + 1})
    for run_owners in ((), (owner,)):
        with pytest.raises(LockBusy):
            acquire.take(read("ansible:db1@ci:1"), taker=mine, run_owners=run_owners)
    scene.realm().unlock("web")
    acquire.take(read(owner), taker=mine)
    found = acquire.take(read("ansible:db1@ci:1"), taker=mine, run_owners=(owner,))
    assert (found.changed, found.holder and found.holder.owner) == (False, owner)


def test_the_keeper_of_a_run_names_its_run(scene: Scene, read: Read, new_run: NewRun) -> None:
    run = trace_of(new_run().pid)
    keeper = start_run_keeper(read("ansible:ci:1", timeout=0), taker=run)
    while keeper.hold is None and not keeper.over:
        keeper.wait(1)
    found = acquire.take(read("ansible:db1@ci:1"), taker=run, run_owners=("ansible:ci:1",))
    assert not found.changed
    with pytest.raises(LockBusy):
        acquire.take(read("ansible:db1@ci:1"), taker=trace_of(new_run().pid), run_owners=("ansible:ci:1",))
    keeper.end_hold("release")
    while not keeper.over:
        keeper.wait(1)
    scene.assert_clean()


def test_a_release_leaves_a_hold_that_began_after_it_had_read(
    scene: Scene, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = read()
    acquire.take(settings, taker=trace_of())
    look = release._refuse_another_runs

    def meanwhile(*what: Any) -> None:
        look(*what)
        scene.realm().unlock("web", force=True)
        scene.realm().lock("web", "tool:node-1").acquire(0)

    monkeypatch.setattr(release, "_refuse_another_runs", meanwhile)
    with pytest.raises(NotHolder, match="the hold in question ended in the meantime: left alone"):
        release.release(settings, taker=trace_of())
    assert scene.record("web").text("kind") == "run"
