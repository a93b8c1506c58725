"""The strategies: what runs under which lock, what happens when it is not to be had, or lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Frozen, Holder, Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import RUN_BOUND, Controller, Gate, note, notes
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
LINEAR, HOST_PINNED = "distlock.distlock.linear", "distlock.distlock.host_pinned"
EACH = pytest.mark.parametrize("strategy", [LINEAR, HOST_PINNED], ids=["linear", "host_pinned"])


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def play(strategy: str, *tasks: dict[str, Any], name: str = "Upgrade", **more: Any) -> dict[str, Any]:
    variables = {"distlock_name": "x", **more.pop("vars", {})}
    rest = {"hosts": "all", "gather_facts": False, "strategy": strategy, "vars": variables, "tasks": list(tasks)}
    return {"name": name, **rest, **more}


def holder(realm: Realm, name: str = "x") -> Holder | None:
    return next(iter(realm.show(name).holders), None)


def in_line(keys: Etcd) -> bool:
    return "/queue/" in " ".join(keys.keys())


def all_gone(keys: Etcd) -> None:
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "nothing left in etcd")


@EACH
def test_nothing_of_a_play_runs_while_another_holds_the_lock(
    controller: Controller, keys: Etcd, tmp_path: Path, run_distlock: Callable[..., Any], strategy: str
) -> None:
    """Not the gathering of facts, no section for failures, no later play; a shell is the other one here."""
    run_distlock("--lock", "--lock-name=x", "--id=node-3", "--reason=Replace RAM")
    block = {
        "block": [note(tmp_path, "task")],
        "rescue": [note(tmp_path, "rescue")],
        "always": [note(tmp_path, "always")],
    }
    later = {"hosts": "all", "gather_facts": False, "tasks": [note(tmp_path, "later")]}
    code, output = controller.run([play(strategy, block, gather_facts=True), later], hosts="h1,h2")
    assert code == 2
    assert "x is held by node-3 since " in output
    assert '"Replace RAM"' in output
    assert "Gathering Facts" not in output
    assert notes(tmp_path) == []
    assert keys.keys() == ["x"]


@EACH
def test_a_play_waits_for_its_lock_in_the_queue_and_continues(
    controller: Controller, keys: Etcd, tmp_path: Path, run_distlock: Callable[..., Any], strategy: str
) -> None:
    run_distlock("--lock", "--lock-name=x", "--id=node-3")
    run = controller.start([play(strategy, note(tmp_path, "task"), vars={"distlock_timeout": -1})])
    run.says("waiting: x is held by node-3")
    wait_until(lambda: in_line(keys), "its place in line")
    assert notes(tmp_path) == []
    run_distlock("--unlock", "--lock-name=x", "--id=node-3")
    assert run.end() == 0, run.output
    assert notes(tmp_path) == ["task"]
    all_gone(keys)


@EACH
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_is_ended_while_it_waits_leaves_no_ticket(
    controller: Controller, keys: Etcd, tmp_path: Path, strategy: str, number: signal.Signals
) -> None:
    keys.lock("x")
    run = controller.start([play(strategy, note(tmp_path, "task"), vars={"distlock_timeout": -1})])
    wait_until(lambda: in_line(keys), "its place in line", RUN_BOUND)
    run.send(number)
    run.end()
    wait_until(lambda: keys.keys() == ["x"], "the place given up")
    assert notes(tmp_path) == []


@EACH
def test_handlers_run_under_the_lock_and_tasks_see_its_token(
    controller: Controller, realm: Realm, keys: Etcd, tmp_path: Path, strategy: str
) -> None:
    gate = Gate(tmp_path)
    task = {**note(tmp_path, "{{ distlock_held.token }}"), "notify": "handler"}
    run = controller.start([play(strategy, task, handlers=[{**gate.task(), "name": "handler"}])])
    gate.reached()
    held = holder(realm)
    assert held is not None
    assert notes(tmp_path) == [str(held.token)]
    assert held.reason.startswith("Upgrade")
    assert held.lifetime == "bound"
    gate.open()
    assert run.end() == 0, run.output
    all_gone(keys)


@EACH
def test_check_mode_acquires_nothing_and_reports_what_blocks(
    controller: Controller, keys: Etcd, realm: Realm, strategy: str
) -> None:
    keys.lock("x", owner="node-3")
    before = realm.show("x")
    look = {"ansible.builtin.debug": {"msg": "looked at it"}}
    code, output = controller.run([play(strategy, look)], "--check")
    assert (code, "looked at it" in output) == (0, True)
    assert "a real run would fail now: x is held by node-3" in " ".join(output.split())
    code, output = controller.run([play(strategy, look, vars={"distlock_timeout": -1})], "--check")
    assert code == 0
    assert "a real run would wait now: x is held by node-3" in " ".join(output.split())
    assert realm.show("x") == before
    assert keys.keys() == ["x"]


@EACH
def test_after_a_loss_in_mid_play_no_further_task_starts(
    controller: Controller, keys: Etcd, tmp_path: Path, strategy: str
) -> None:
    gate = Gate(tmp_path)
    inner = {"block": [gate.task(), note(tmp_path, "task")], "rescue": [note(tmp_path, "rescue")]}
    block = {"block": [{**inner, "always": [note(tmp_path, "always")]}], "always": [note(tmp_path, "outer")]}
    later = {"hosts": "all", "gather_facts": False, "tasks": [note(tmp_path, "later")]}
    run = controller.start([play(strategy, block), later])
    gate.reached()
    keys.unlock("x")
    run.says("x was lost: its key was deleted")  # at once, though the task runs on
    keys.lock("x", owner="node-3")
    gate.open()
    assert run.end() == 2, run.output
    assert notes(tmp_path) == []
    assert "failed=1" in run.output
    assert keys.keys() == ["x"]


def test_no_task_starts_on_a_host_that_was_only_waiting_for_a_worker_when_the_lock_was_lost(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    run = controller.start([play(LINEAR, gate.task(), note(tmp_path, "task"))], "--forks=1", hosts="h1,h2,h3")
    gate.reached()
    keys.unlock("x")
    run.says("x was lost")
    gate.open()
    assert run.end() == 2, run.output
    assert len(gate.pids()) == 1
    assert notes(tmp_path) == []
    assert run.output.count("failed=1") == 3


@EACH
def test_a_keeping_process_that_is_killed_counts_as_a_loss(
    controller: Controller, realm: Realm, tmp_path: Path, strategy: str
) -> None:
    gate = Gate(tmp_path)
    run = controller.start([play(strategy, gate.task(), note(tmp_path, "task"), vars={"distlock_ttl": 5})])
    gate.reached()
    held = holder(realm)
    assert held is not None
    assert held.keeper is not None
    os.kill(held.keeper, signal.SIGKILL)
    run.says("x was lost: the process that kept it has ended")
    gate.open()
    assert run.end() == 2, run.output
    assert notes(tmp_path) == []


@pytest.mark.parametrize(("scope", "same"), [("play", True), ("batch", False)])
def test_the_scope_decides_whether_batches_share_one_hold(
    controller: Controller, keys: Etcd, tmp_path: Path, scope: str, same: bool
) -> None:
    task = note(tmp_path, "{{ distlock_held.token }}")
    plays = [play(LINEAR, task, serial=1, vars={"distlock_scope": scope})]
    code, output = controller.run(plays, hosts="h1,h2,h3")
    assert code == 0, output
    tokens = notes(tmp_path)
    assert len(tokens) == 3
    assert (len(set(tokens)) == 1) is same
    all_gone(keys)


def test_under_the_scope_of_a_play_no_one_else_acquires_between_two_batches(
    controller: Controller, keys: Etcd, tmp_path: Path, spawn_distlock: Callable[..., Any]
) -> None:
    gate = Gate(tmp_path)
    first = {**gate.task(), "when": "inventory_hostname == 'h1'"}
    run = controller.start([play(LINEAR, first, note(tmp_path, "batch"), serial=1)], hosts="h1,h2,h3")
    gate.reached()
    other = spawn_distlock("--lock-name=x", "--", "sh", "-c", f"echo other >> {tmp_path / 'notes'}")
    wait_until(lambda: in_line(keys), "the other in line")
    gate.open()
    assert run.end() == 0, run.output
    assert other.wait(30) == 0
    assert notes(tmp_path) == ["batch", "batch", "batch", "other"]


def test_a_later_play_is_free_of_an_earlier_ones_lock(controller: Controller, realm: Realm, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    later = {"hosts": "all", "gather_facts": False, "tasks": [gate.task()]}
    run = controller.start([play(LINEAR, note(tmp_path, "task")), later])
    gate.reached()
    assert holder(realm) is None
    gate.open()
    assert run.end() == 0, run.output


@pytest.mark.parametrize(
    ("strategy", "words", "failing", "state"),
    [
        (LINEAR, {"distlock_on_failure": "keep"}, True, "kept"),
        (HOST_PINNED, {"distlock_on_failure": "keep"}, True, "kept"),
        (LINEAR, {"distlock_on_failure": "keep"}, False, None),
        (LINEAR, {"distlock_cooldown": 300}, False, "cooling"),
        (HOST_PINNED, {"distlock_cooldown": 300}, False, "cooling"),
        (LINEAR, {"distlock_cooldown": 300}, True, None),
    ],
)
def test_what_happens_to_the_lock_can_be_set(
    controller: Controller,
    realm: Realm,
    keys: Etcd,
    strategy: str,
    words: dict[str, Any],
    failing: bool,
    state: str | None,
) -> None:
    task = {"ansible.builtin.raw": "false" if failing else "true"}
    code, output = controller.run([play(strategy, task, vars=words)])
    assert code == (2 if failing else 0), output
    held = holder(realm)
    assert (held.record.state if held else None) == state
    if state == "kept":
        assert held is not None
        assert held.reason.endswith("failed on h1")
        assert held.lifetime == "persistent"
    if state is None:
        all_gone(keys)


def test_hosts_go_on_while_another_host_of_the_run_waits(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    keys.lock("b", owner="node-3")
    gate = Gate(tmp_path)
    only_c = {**gate.task(), "when": "inventory_hostname == 'c'"}
    variables = {"distlock_name": "{{ inventory_hostname }}", "distlock_timeout": -1}
    task = note(tmp_path, "{{ inventory_hostname }}")
    run = controller.start([play(HOST_PINNED, task, task, only_c, vars=variables)], hosts="a,b,c")
    run.says("b: waiting: b is held by node-3")
    wait_until(lambda: sorted(notes(tmp_path)) == ["a", "a", "c", "c"], "the others through", RUN_BOUND)
    wait_until(lambda: set(keys.keys()) & {"a", "b", "c"} == {"b", "c"}, "a's lock released", RUN_BOUND)
    keys.unlock("b")
    wait_until(lambda: notes(tmp_path).count("b") == 2, "b's turn, while c is still at work", RUN_BOUND)
    gate.open()
    assert run.end() == 0, run.output
    all_gone(keys)


def test_a_host_that_is_refused_its_lock_fails_and_the_others_go_on(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    keys.lock("a", owner="node-3")
    variables = {"distlock_name": "{{ inventory_hostname }}"}
    code, output = controller.run(
        [play(HOST_PINNED, note(tmp_path, "{{ inventory_hostname }}"), vars=variables)], hosts="a,b"
    )
    assert code == 2
    assert "a: a is held by node-3" in output
    assert notes(tmp_path) == ["b"]
    assert keys.keys() == ["a"]


@EACH
@pytest.mark.parametrize("failing", [True, False])
def test_a_failed_play_freezes_the_lock_for_everybody(
    controller: Controller, realm: Realm, keys: Etcd, strategy: str, failing: bool
) -> None:
    task = {"ansible.builtin.raw": "false" if failing else "true"}
    variables = {"distlock_on_failure": "freeze", "distlock_slots": 2}
    code, output = controller.run([play(strategy, task, vars=variables)])
    assert code == (2 if failing else 0), output
    assert holder(realm) is None
    freeze = realm.frozen("x")
    assert (freeze is not None) is failing
    if freeze is None:
        all_gone(keys)
        return
    assert freeze.reason.endswith("failed on h1")
    assert (freeze.by or "").startswith("ansible:")
    with pytest.raises(Frozen, match="x is frozen by ansible:"):
        realm.lock("x", slots=2).acquire(0)
    wait_until(lambda: keys.keys() == ["x/freeze"] and keys.new_leases() == set(), "nothing else left")


def test_a_failed_host_that_freezes_the_lock_stops_the_others_of_its_run(
    controller: Controller, realm: Realm, tmp_path: Path
) -> None:
    fails = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h2'"}
    variables = {"distlock_on_failure": "freeze", "distlock_timeout": -1}
    plays = [play(HOST_PINNED, note(tmp_path, "{{ inventory_hostname }}"), fails, vars=variables)]
    code, output = controller.run(plays, hosts="h1,h2,h3")
    assert code == 2
    assert notes(tmp_path) == ["h1", "h2"]
    assert holder(realm) is None
    freeze = realm.frozen("x")
    assert freeze is not None
    assert (freeze.by or "").startswith("ansible:h2@")
    assert "h3: x is frozen after h2 has failed" in output


def test_a_failed_batch_that_freezes_the_lock_stops_the_next_one(
    controller: Controller, realm: Realm, tmp_path: Path
) -> None:
    fails = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h1'"}
    variables = {"distlock_on_failure": "freeze", "distlock_timeout": -1, "distlock_scope": "batch"}
    tasks = [note(tmp_path, "{{ inventory_hostname }}"), fails]
    plays = [play(LINEAR, *tasks, vars=variables, serial=2, max_fail_percentage=99)]
    code, output = controller.run(plays, hosts="h1,h2,h3")
    assert code == 2
    assert sorted(notes(tmp_path)) == ["h1", "h2"]
    assert realm.frozen("x") is not None
    assert "x is frozen after a failure, so no further batch goes on" in output


def test_a_failed_host_that_keeps_the_lock_blocks_the_others_of_its_run(
    controller: Controller, realm: Realm, tmp_path: Path
) -> None:
    fails = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h2'"}
    variables = {"distlock_on_failure": "keep"}
    plays = [play(HOST_PINNED, note(tmp_path, "{{ inventory_hostname }}"), fails, vars=variables)]
    code, output = controller.run(plays, hosts="h1,h2,h3")
    assert code == 2
    assert notes(tmp_path) == ["h1", "h2"]
    held = holder(realm)
    assert held is not None
    assert (held.owner or "").startswith("ansible:h2@")
    assert "h3: x is left taken after h2 has failed" in output


def test_slots_are_the_number_of_hosts_at_once(controller: Controller, realm: Realm, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    run = controller.start([play(HOST_PINNED, gate.task(), vars={"distlock_slots": 2})], hosts="h1,h2,h3")
    gate.reached(2)
    assert len(realm.show("x").holders) == 2
    gate.open()
    gate.reached(3)
    gate.open()
    assert run.end() == 0, run.output


@EACH
def test_settings_come_from_variables_before_the_environment_before_ansible_cfg(
    controller: Controller, etcd: Cluster, realm: Realm, tmp_path: Path, strategy: str
) -> None:
    gate = Gate(tmp_path)
    config = tmp_path / "own.cfg"
    config.write_text("[distlock]\nname = y\nreason = from the file\nowner = somebody\n")
    plays = [play(strategy, gate.task(), vars={"word": "x", "distlock_name": "{{ word }}"})]
    run = controller.start(plays, ANSIBLE_CONFIG=str(config), DISTLOCK_LOCKNAME="z", DISTLOCK_REASON="environment")
    gate.reached()
    held = holder(realm)
    assert held is not None
    assert (held.lock, held.owner, held.reason) == ("x", "somebody", "environment")
    gate.open()
    assert run.end() == 0, run.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"distlock_name": ""}, "no lock is named: set the variable distlock_name"),
        ({"distlock_endpoints": ["http://127.0.0.1:1"], "distlock_connect_timeout": 0.5}, "no etcd answered within"),
    ],
    ids=["name", "endpoints"],
)
def test_an_error_fails_the_play_in_one_clear_line(
    controller: Controller, keys: Etcd, tmp_path: Path, words: dict[str, Any], said: str
) -> None:
    code, output = controller.run([play(LINEAR, note(tmp_path, "task"), vars=words)])
    assert code == 2, output
    (line,) = [line for line in output.splitlines() if "distlock: " in line]
    assert said in line
    assert "Traceback" not in output
    assert notes(tmp_path) == []
    assert keys.keys() == []


def test_an_error_of_one_host_fails_that_host_in_one_clear_line(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    wrong = {
        "h1": ("distlock_name", "", "no lock is named: set the variable distlock_name"),
        "h2": ("distlock_name", "{{ nowhere }}", "nowhere"),
        "h3": ("distlock_timeout", "soon", "distlock_timeout: expected a number of seconds, found 'soon'"),
        "h4": ("distlock_on_failure", "panic", "panic"),
        "h5": ("distlock_endpoints", "http://127.0.0.1:1", "no etcd answered within"),
        "h6": ("distlock_ttl", 1, "ttl 1s is too short"),
        "h7": ("distlock_owner", "a;b", "owner"),
    }
    inventory = tmp_path / "inventory.yml"
    hosts: dict[str, Any] = {host: {word: value} for host, (word, value, _) in wrong.items()}
    hosts["h5"]["distlock_connect_timeout"] = 0.5
    variables = {"ansible_connection": "local", "distlock_name": "x"}
    inventory.write_text(json.dumps({"all": {"hosts": {**hosts, "good": {}}, "vars": variables}}))
    plays = [{**play(HOST_PINNED, note(tmp_path, "{{ inventory_hostname }}")), "vars": {}}]
    code, output = controller.run(plays, "-i", str(inventory))
    assert code == 2, output
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if "distlock: " in line]
    for host, (_, _, said) in wrong.items():
        (line,) = [line for line in lines if f"distlock: {host}: " in line]
        assert said in line
    assert notes(tmp_path) == ["good"]
    assert keys.keys() == []


def test_under_linear_all_hosts_must_name_the_same_lock(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    variables = {"distlock_name": "{{ inventory_hostname }}"}
    code, output = controller.run([play(LINEAR, note(tmp_path, "task"), serial=1, vars=variables)], hosts="h1,h2")
    assert code == 2
    assert "h1 names the lock h1, h2 names h2" in output
    assert "distlock.distlock.host_pinned" in output
    assert notes(tmp_path) == []
    assert keys.keys() == []
