"""Entering a lock again: the same named owner may, where no two live runs come together by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distlock_core import AcquireTimeout, LockBusy, LockLost
from distlock_core.model.record import Record
from distlock_core.process import identity
from distlock_core.process.identity import trace_of
from distlock_core.testing import Proxy
from tests.support.processes import Process
from tests.support.scene import BOUND, TXN, Scene, deletes, puts


def test_a_step_is_entered_by_its_owner_and_left_held(scene: Scene) -> None:
    realm = scene.realm()
    step = realm.lock("web", "node-1", "outer", step=True).acquire(0)
    before = scene.get("web")
    assert before is not None
    inner = realm.lock("web", "node-1", "inner").acquire(0)
    assert inner.token == step.token
    assert scene.record("web").run != Record.parse(before.value).run
    assert scene.record("web").text("reason") == "inner"
    assert scene.record("web").since == Record.parse(before.value).since
    inner.release()
    after = scene.get("web")
    assert after is not None
    assert (after.value, after.create_revision, after.lease) == (before.value, before.create_revision, 0)
    assert step.verify()
    step.release()
    scene.assert_clean()


def test_a_run_is_not_entered_by_another_that_shares_its_name(scene: Scene) -> None:
    realm = scene.realm()
    holder = realm.lock("web", "node-1").acquire(0)
    with pytest.raises(LockBusy):
        realm.lock("web", "node-1").acquire(0)
    with pytest.raises(LockBusy):
        realm.lock("web", "node-1", step=True).acquire(0)
    assert holder.verify()


@pytest.mark.parametrize("state", ["kept", "cooling"])
def test_a_step_that_is_no_longer_plainly_held_is_not_entered(scene: Scene, state: str) -> None:
    scene.put("web", f'1;node-1;{{"explicit":true,"kind":"lock","run":"r","state":"{state}"}}')
    with pytest.raises(LockBusy):
        scene.realm().lock("web", "node-1").acquire(0)


@pytest.mark.parametrize(
    ("theirs", "owner"),
    [
        ('1;node-1;{"kind":"lock","run":"r"}', "node-1"),  # nobody named it
        ('1;node-2;{"explicit":true,"kind":"lock","run":"r"}', "node-1"),  # another's
        ('1;%s;{"explicit":true,"kind":"lock","run":"r"}', None),  # I am not named
    ],
)
def test_a_step_is_entered_only_where_both_have_named_the_same_owner(
    scene: Scene, theirs: str, owner: str | None
) -> None:
    if owner is None:
        theirs %= scene.realm().lock("web").owner
    scene.put("web", theirs)
    before = scene.under()
    with pytest.raises(LockBusy):
        scene.realm().lock("web", owner).acquire(0)
    assert scene.under() == before


def test_a_nested_run_writes_nothing_and_leaves_it_held(scene: Scene) -> None:
    outer = scene.realm().lock("web", "node-1").acquire(0)
    before = scene.under()
    inner = scene.realm().lock("web", "node-1", inside={outer.key.encode(): outer.token}).acquire(0)
    assert inner.token == outer.token
    assert inner.verify()
    inner.release()
    assert scene.under() == before
    outer.release()


def test_a_nested_run_of_another_owner_does_not_wait_for_itself(scene: Scene) -> None:
    outer = scene.realm().lock("web", "node-1").acquire(0)
    inner = scene.realm().lock("web", "node-2", inside={outer.key.encode(): outer.token})
    with pytest.raises(LockBusy, match="never end"):
        inner.acquire(-1)
    scene.assert_clean("web")


def test_an_old_token_does_not_make_a_process_nested(scene: Scene) -> None:
    outer = scene.realm().lock("web", "node-1").acquire(0)
    old = outer.token
    outer.release()
    scene.realm().lock("web", "node-1").acquire(0)
    with pytest.raises(LockBusy):
        scene.realm().lock("web", "node-1", inside={scene.key("web"): old}).acquire(0)


ACQUIRE = """
import sys
from distlock_core import connect
print(connect([sys.argv[1]], sys.argv[2]).lock("web", "node-1", "before the reboot").acquire(0).token, flush=True)
sys.stdin.read()
"""


def another_run(scene: Scene) -> Process:
    """A process that holds the lock."""
    return Process(
        [sys.executable, "-c", ACQUIRE, scene.cluster.endpoints[0], scene.prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_dead_run_is_taken_over_and_its_successor_releases_it(scene: Scene) -> None:
    process = another_run(scene)
    assert process.stdout is not None
    token = int(process.stdout.readline())
    with pytest.raises(LockBusy):
        scene.realm().lock("web", "node-1").acquire(0)  # it lives
    process.kill()
    process.communicate()
    with pytest.raises(LockBusy):
        scene.realm().lock("web", "node-2").acquire(0)
    lock = scene.realm().lock("web", "node-1").acquire(0)
    assert lock.token > token
    assert scene.realm().verify("web", lock.token)
    assert not scene.realm().verify("web", token)
    lock.release()
    scene.assert_clean()


def test_a_dead_run_whose_keeper_lives_is_not_taken_over(scene: Scene) -> None:
    """The keeper waits for what the run has left running."""
    process = another_run(scene)
    keeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.stdout is not None
    token = int(process.stdout.readline())
    record = scene.record("web")
    scene.put("web", Record(record.since, record.owner, {**record.details, "keeper": keeper.pid}).encode().decode())
    process.kill()
    process.communicate()
    with pytest.raises(LockBusy):
        scene.realm().lock("web", "node-1").acquire(0)
    assert keeper.stdin is not None
    keeper.stdin.close()
    os.waitid(os.P_PID, keeper.pid, os.WEXITED | os.WNOWAIT)  # not reaped, as where the first process reaps nothing
    lock = scene.realm().lock("web", "node-1").acquire(0)
    assert lock.token > token
    lock.release()
    keeper.wait()


def test_a_run_of_before_the_reboot_is_taken_over_where_this_machine_remembers_it(
    scene: Scene, state_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_machine", lambda: "5d41402a")  # a bare system has no /etc/machine-id
    lock = scene.realm().lock("web", "node-1").acquire(0)
    record = scene.record("web")
    # Its keeper is gone too, although another process has its pid by now.
    details = {**record.details, "boot": "another boot", "keeper": os.getpid()}
    scene.put("web", Record(record.since, record.owner, details).encode().decode())
    # A clone, a pod or a container of that name shows another boot too.
    with pytest.raises(LockBusy, match="another boot, and this machine has no note"):
        scene.realm().lock("web", "node-1").acquire(0)
    note = Path(state_dir, record.run)
    assert json.loads(note.read_text())["boot"] == record.text("boot")
    note.write_text(json.dumps({"boot": "another boot", "machine": []}))
    again = scene.realm().lock("web", "node-1").acquire(0)
    assert again.token > lock.token
    again_run = scene.record("web").run
    assert Path(state_dir, again_run).exists()
    with pytest.raises(LockLost):
        lock.release()
    assert not note.exists()
    assert again.verify()
    again.release()
    assert not Path(state_dir, again_run).exists()
    scene.assert_clean()


def test_without_a_machine_id_a_run_of_before_the_reboot_is_not_called_dead(
    scene: Scene, state_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_machine", lambda: "")
    lock = scene.realm().lock("web", "node-1").acquire(0)
    record = scene.record("web")
    scene.put("web", Record(record.since, record.owner, {**record.details, "boot": "another boot"}).encode().decode())
    Path(state_dir, record.run).write_text(json.dumps({"boot": "another boot", "machine": []}))
    with pytest.raises(LockBusy, match=r"it ran before another boot, and there is no /etc/machine-id"):
        scene.realm().lock("web", "node-1").acquire(0)
    assert scene.record("web").run == record.run
    lock.release()


def test_a_run_on_another_host_is_never_called_dead(scene: Scene) -> None:
    scene.realm().lock("web", "node-1").acquire(0)
    record = scene.record("web")
    elsewhere = {**record.details, "boot": "another boot", "host": "elsewhere"}
    scene.put("web", Record(record.since, record.owner, elsewhere).encode().decode())
    with pytest.raises(LockBusy):
        scene.realm().lock("web", "node-1").acquire(0)


def test_of_two_that_enter_at_once_the_second_is_busy(scene: Scene, proxy: Proxy) -> None:
    """Both have read the step; the one whose request comes later finds another record than it has read."""
    scene.realm().lock("web", "node-1", step=True).acquire(0)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    late = scene.acquire(scene.realm(proxy.url).lock("web", "node-1"), 0)
    held.wait()
    first = scene.realm().lock("web", "node-1").acquire(0)
    held.release()
    with pytest.raises(LockBusy):
        late.result(BOUND)
    assert first.verify()


def lost(proxy: Proxy, scene: Scene, what: str) -> None:
    getattr(proxy, f"lose_{what}")(TXN, puts(scene.key("web")))


@pytest.mark.parametrize("what", ["reply", "request"])
def test_a_lost_entry_and_a_lost_exit_are_resolved(scene: Scene, proxy: Proxy, what: str) -> None:
    step = scene.realm().lock("web", "node-1", step=True).acquire(0)
    lost(proxy, scene, what)
    inner = scene.realm(proxy.url).lock("web", "node-1").acquire(0)
    assert inner.token == step.token
    assert inner.verify()
    lost(proxy, scene, what)
    inner.release()
    assert step.verify()


def test_an_entry_that_arrives_late_is_void(scene: Scene, proxy: Proxy) -> None:
    step = scene.realm().lock("web", "node-1", step=True).acquire(0)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    inner = scene.acquire(scene.realm(proxy.url).lock("web", "node-1"), 2.0)
    held.wait()
    with pytest.raises(AcquireTimeout):
        inner.result(BOUND)
    assert not scene.replay(held.body)
    assert step.verify()


def test_a_caller_cancelled_while_it_enters_leaves_the_step_as_it_was(scene: Scene, proxy: Proxy) -> None:
    step = scene.realm().lock("web", "node-1", step=True).acquire(0)
    before: Any = scene.get("web")
    reply = proxy.hold_reply(TXN, puts(scene.key("web")))
    inner = scene.acquire(scene.realm(proxy.url).lock("web", "node-1"))
    reply.wait()
    scene.curtain.set()
    with pytest.raises(Exception, match="interrupted"):
        inner.result(BOUND)
    assert scene.get("web").value == before.value  # type: ignore[union-attr]
    assert step.verify()


def test_a_release_after_the_step_was_broken_reports_lost(scene: Scene, proxy: Proxy) -> None:
    scene.realm().lock("web", "node-1", step=True).acquire(0)
    inner = scene.realm(proxy.url).lock("web", "node-1").acquire(0)
    scene.realm().unlock("web")
    newer = scene.realm().lock("web", "node-2").acquire(0)
    with pytest.raises(LockLost):
        inner.release()
    assert newer.verify()
    assert not any(deletes(scene.key("web"))(body) for body in proxy.wait_for_requests(TXN))


def test_a_command_whose_start_time_is_unreadable_is_not_provably_gone(scene: Scene) -> None:
    run = subprocess.Popen(["sleep", "60"])
    details = {**trace_of(run.pid), "kind": "run", "explicit": True, "run": "5" * 32}
    run.kill()
    run.wait()
    command = subprocess.Popen(["sleep", "60"])
    try:
        scene.put("web", f"1;node-1;{json.dumps({**details, 'command': {'pid': command.pid}})}")
        with pytest.raises(LockBusy, match="which may be running"):
            scene.realm().lock("web", "node-1").acquire(0)
    finally:
        command.kill()
        command.wait()
