"""lock_names: the steps that Salt, Ansible and Puppet take with several locks, all or none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import ConfigError, LockBusy, LockLost, LockNotFound, NotHolder, NotSettled
from distlock_core.adapters import acquire, check, release
from distlock_core.adapters.run_holds import holds_around
from distlock_core.adapters.settings import read_settings
from distlock_core.process.identity import trace_of
from distlock_core.rollout.gate import Gate, settle_steps
from distlock_core.settings.options import Settings
from tests.adapters.conftest import NewRun, end
from tests.support.scene import Scene, until

Read = Callable[..., Settings]
BOTH = ("rack", "web")


@pytest.fixture
def read(scene: Scene) -> Read:
    def read(*names: str, owner: str = "tool:node-1", **arguments: Any) -> Settings:
        realm = {"endpoints": scene.cluster.endpoints, "prefix": scene.prefix}
        return read_settings({"lock_names": list(names or BOTH), **realm, **arguments}, owner)

    return read


def tokens(scene: Scene) -> dict[str, int]:
    return {name: kv.create_revision for name in BOTH for kv in [scene.get(name)] if kv is not None}


def test_they_are_taken_together_and_released_together(scene: Scene, read: Read) -> None:
    run = trace_of()
    taken = acquire.take(read(reason="why"), taker=run)
    assert taken.changed
    assert [holder.lock for holder in taken.holders] == [*BOTH]
    token = taken.holders[0].token
    assert tokens(scene) == {"rack": token, "web": token}  # one transaction
    again = acquire.take(read("web", "rack"), taker=run)
    assert (again.changed, [holder.lock for holder in again.holders]) == (False, ["web", "rack"])
    assert [holder.token for holder in check.check(read(), taker=run)] == [token, token]
    ended = release.release(read("web", "rack"), taker=run)
    assert [holder.lock for holder in ended] == ["web", "rack"]
    assert release.release(read(), taker=run) == ()
    scene.assert_clean()


@pytest.mark.parametrize("bound", [False, True])
def test_none_is_taken_while_one_is_held_and_it_is_named(
    scene: Scene, read: Read, new_run: NewRun, bound: bool
) -> None:
    other = scene.realm().lock("web", "node-3", "Upgrade RPMs").acquire(0)
    run = new_run()
    with pytest.raises(LockBusy) as busy:
        acquire.take(read(), run=run.pid, bound=bound)
    assert str(busy.value).startswith("web is held by node-3 since ")
    assert "rack" not in str(busy.value)
    assert [state.name for state in busy.value.states] == [*BOTH]
    scene.assert_clean("web")
    other.release()


def test_a_dry_run_says_what_it_would_wait_for_and_takes_nothing(scene: Scene, read: Read) -> None:
    assert acquire.take(read(), dry_run=True) == ((), True, (), None, None)
    other = scene.realm().lock("web", "node-3").acquire(0)
    found = acquire.take(read(timeout=-1), dry_run=True)
    assert (found.holders, found.changed) == ((), True)
    assert "web is held by node-3" in str(found.waits)
    with pytest.raises(LockBusy):
        acquire.take(read(), dry_run=True)
    other.release()
    scene.assert_clean()


def test_opposite_orders_do_not_wait_for_each_other(scene: Scene, read: Read) -> None:
    inside: list[str] = []

    def turns(owner: str, *names: str) -> None:
        for _ in range(25):
            acquire.take(read(*names, owner=owner, timeout=60))
            inside.append(owner)
            assert len(inside) == 1
            inside.remove(owner)
            assert len(release.release(read(*names, owner=owner))) == 2

    first = scene.start(lambda: turns("a", "rack", "web"))
    second = scene.start(lambda: turns("b", "web", "rack"))
    first.result(120)
    second.result(120)
    scene.assert_clean()


def test_the_rest_is_taken_with_a_step_of_ones_own_in_one_transaction(scene: Scene, read: Read) -> None:
    run = trace_of()
    acquire.take(read("web"), taker=run)
    before = tokens(scene)
    taken = acquire.take(read(), taker=run)
    assert taken.changed
    assert [holder.token for holder in taken.holders] == [tokens(scene)["rack"], before["web"]]
    assert scene.record("web").run == scene.record("rack").run
    assert len(release.release(read(), taker=run)) == 2
    scene.assert_clean()


def test_nobody_waits_for_the_rest_while_holding(scene: Scene, read: Read) -> None:
    run = trace_of()
    acquire.take(read("web"), taker=run)
    other = scene.realm().lock("rack", "node-3").acquire(0)
    with pytest.raises(LockBusy, match="this owner holds web, and waiting while holding could block others for ever"):
        acquire.take(read(timeout=-1), taker=run)
    other.release()
    release.release(read(), taker=run)
    scene.assert_clean()


def test_a_step_does_not_go_together_with_locks_that_end_with_the_run(
    scene: Scene, read: Read, new_run: NewRun
) -> None:
    run = new_run()
    acquire.take(read("web"), run=run.pid)
    with pytest.raises(LockBusy, match="until it is unlocked, while rack and web are to end with this run"):
        acquire.take(read(), run=run.pid, bound=True)
    scene.assert_clean("web")
    bound = acquire.take(read("rack", owner="other"), run=run.pid, bound=True)
    assert bound.changed
    with pytest.raises(LockBusy, match=r"that is this run, which does not hold free: .*name all of them"):
        acquire.take(read("rack", "free", owner="other", timeout=-1), run=run.pid, bound=True)
    end(run)
    until(lambda: scene.get("rack") is None)


def test_they_end_with_the_run_and_are_taken_once_by_it(scene: Scene, read: Read, new_run: NewRun) -> None:
    run = new_run()
    taken = acquire.take(read(), run=run.pid, bound=True)
    assert {holder.lifetime for holder in taken.holders} == {"bound"}
    assert len({holder.lease for holder in taken.holders}) == 1
    again = acquire.take(read("web", "rack", timeout=-1), run=run.pid, bound=True)
    assert (again.changed, [holder.lock for holder in again.holders]) == (False, ["web", "rack"])
    end(run)
    until(lambda: not tokens(scene) and not scene.new_leases())


def test_steps_of_a_dead_run_are_continued_and_belong_to_this_one(scene: Scene, read: Read, new_run: NewRun) -> None:
    first, second = new_run(), new_run()
    token = acquire.take(read(), taker=trace_of(first.pid)).holders[0].token
    with pytest.raises(LockBusy, match=f"taken for process {first.pid} on "):
        acquire.take(read(), taker=trace_of(second.pid))
    with pytest.raises(NotHolder, match="none of the locks was unlocked"):
        release.release(read(), taker=trace_of(second.pid))
    end(first)
    found = acquire.take(read(), taker=trace_of(second.pid))
    assert (found.changed, [holder.token for holder in found.holders]) == (False, [token, token])
    for name in BOTH:
        assert scene.record(name).details["taker"] == trace_of(second.pid)
    assert len(release.release(read(), taker=trace_of(second.pid), token=token)) == 2
    scene.assert_clean()


def test_none_is_released_if_one_is_anothers_and_those_that_are_free_do_no_harm(scene: Scene, read: Read) -> None:
    run = trace_of()
    acquire.take(read("web"), taker=run)
    scene.realm().lock("rack", "node-3", step=True).acquire(0)
    with pytest.raises(NotHolder, match=r"rack is held by node-3 .*; none of the locks was unlocked"):
        release.release(read(), taker=run)
    with pytest.raises(NotHolder, match="rack is held by node-3"):
        check.check(read(), taker=run)
    scene.assert_clean("rack", "web")
    scene.realm().unlock("rack")
    with pytest.raises(LockNotFound, match="rack is not locked"):
        check.check(read(), taker=run)
    assert [holder.lock for holder in release.release(read(), taker=run)] == ["web"]
    scene.assert_clean()


def test_the_locks_of_a_command_around_are_left_to_it_only_if_they_are_all(scene: Scene) -> None:
    realm = scene.realm()
    lock = realm.lock("rack").acquire(0)
    held, token = lock.key, lock.token
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTLOCK_HELD", held)
        patch.setenv("DISTLOCK_TOKEN", str(token))
        assert [holder.lock for holder in holds_around(["rack"], realm)] == ["rack"]
        with pytest.raises(NotHolder, match="by the command around this run, which releases it: name the others"):
            holds_around(BOTH, realm)
    assert holds_around(BOTH, realm) == ()
    lock.release()


def test_all_settle_and_all_are_kept_if_the_gate_stays_red(scene: Scene, read: Read) -> None:
    holders = acquire.take(read(reason="Upgrade")).holders
    release.release(read(gate="true"))
    scene.assert_clean()
    holders = acquire.take(read(reason="Upgrade")).holders
    states: list[str] = []

    def look() -> bool:
        states.append(" ".join(scene.record(name).state for name in BOTH))
        return False

    with pytest.raises(NotSettled, match=r"rack and web: not released: after 1s .*: the locks are left taken"):
        settle_steps(scene.realm(), holders, Gate(look, timeout=1, every=0.1))
    assert set(states[:-1]) == {"settling settling"}  # the last look may take longer than it is waited for
    for name in BOTH:
        assert scene.record(name).state == "kept"
        assert scene.record(name).text("reason").endswith("(Upgrade)")


def test_the_others_are_kept_if_one_is_lost_while_they_settle(scene: Scene, read: Read) -> None:
    holders = acquire.take(read()).holders
    asked = threading.Event()

    def look() -> bool:
        if not asked.is_set():
            asked.set()
            scene.delete("web")
        return False

    with pytest.raises(LockLost, match="web was lost while it settled"):
        settle_steps(scene.realm(), holders, Gate(look, timeout=60, every=0.1))
    assert scene.record("rack").state == "kept"
    assert "web was lost" in scene.record("rack").text("reason")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lockname": "x", "lock_names": ["y"]}, "name and lock_names: the locks are named twice"),
        ({"lockname": ["x", "y"], "lock_names": None}, "lockname: x and y are named: name several with lock_names"),
        ({"lockname": ["x", "y"]}, "lockname: x and y are named: only one is possible here"),
        ({"lockname": "['x', 'y']", "lock_names": None}, "is a list, and a name is a string: name several with lock_n"),
        ({"lock_names": "x"}, "lock_names: expected a list of names, found 'x'"),
        ({"lock_names": []}, "lock_names: expected a list of names, found \\[\\]"),
        ({"lock_names": ["x", ""]}, "lock_names: expected a list of names"),
        ({"lock_names": ["x", 5]}, "lock_names: expected"),
        ({"lock_names": ["x", "y", "x"]}, "the lock 'x' is named twice: name it once"),
        ({"lock_names": [f"n{number}" for number in range(17)]}, "17 locks are named: at most "),
        ({"lock_names": ["x", "a/b"]}, "illegal lock name 'a/b'"),
    ],
)
def test_bad_names_are_refused_in_one_line(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        read_settings(arguments, "tool:node-1")
    assert "\n" not in str(refused.value)


def test_what_a_file_names_is_not_what_a_call_for_one_lock_is_about(tmp_path: Path) -> None:
    path = str(tmp_path / "distlock.yaml")
    Path(path).write_text("lockname: [rack, web]\n")
    assert read_settings({"lockname": None, "config": path}, "tool:node-1").lock_names == ()
    assert read_settings({"lockname": None, "lock_names": None, "config": path}, "tool:node-1").lock_names == BOTH
    assert read_settings({"lockname": "x", "config": path}, "tool:node-1").lock_names == ("x",)
