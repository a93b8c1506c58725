"""lock_names: several locks for a task, a role, a play or a host of Ansible, all or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, Gate, guarded, note, notes, overlaps
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.playbooks import Played
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE, INFO = "distlock.distlock.distlock", "distlock.distlock.distlock_info"
LINEAR, HOST_PINNED = "distlock.distlock.linear", "distlock.distlock.host_pinned"
EACH = pytest.mark.parametrize("strategy", [LINEAR, HOST_PINNED], ids=["linear", "host_pinned"])
BOTH, REVERSED = ["rack", "web"], ["web", "rack"]
Run = Callable[..., Played]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def step(called: str, **arguments: Any) -> dict[str, Any]:
    named = {} if "name" in arguments else {"lock_names": BOTH}
    return {"name": called, MODULE: {**named, **arguments}, "ignore_errors": True}


def play(*tasks: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, **keywords, "tasks": list(tasks)}


def all_gone(keys: Etcd) -> None:
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "nothing left in etcd")


def test_one_task_locks_all_another_releases_all_and_each_returns_every_lock(playbook: Run, keys: Etcd) -> None:
    info = {"name": "look", INFO: {"lock_names": REVERSED}}
    steps = (
        step("take", reason="Upgrade"),
        step("again", lock_names=REVERSED),
        step("held", state="held"),
        info,
        step("go", state="unlocked", lock_names=REVERSED),
        step("not there", state="unlocked"),
        step("not held", state="held"),
    )
    played = playbook(json.dumps([play(*steps)]), "--diff")
    take = played.task("take")
    owner = take["owner"]
    assert (take["changed"], take["lock"], take["reason"]) == (True, "rack and web", "Upgrade")
    assert [(one["lock"], one["owner"], one["token"]) for one in take["locks"]] == [
        (name, owner, take["token"]) for name in BOTH
    ]
    assert take["msg"] == f"rack and web are locked by {owner}, token {take['token']}"
    assert take["diff"]["before"] == "rack: not held\nweb: not held\n"
    again = played.task("again")
    assert (again["changed"], [one["lock"] for one in again["locks"]]) == (False, REVERSED)
    assert [one["token"] for one in played.task("held")["locks"]] == [take["token"]] * 2
    assert [one["lock"] for one in played.task("look")["locks"]] == REVERSED
    gone = played.task("go")
    assert gone["msg"] == f"web and rack, which were held by {owner}, are unlocked"
    assert gone["diff"]["after"] == "web: not held\nrack: not held\n"
    assert (played.task("not there")["changed"], played.task("not there")["msg"]) == (
        False,
        "rack and web are not locked",
    )
    assert played.task("not held").outcome == "failed"
    assert keys.keys() == []


def test_none_is_taken_while_one_is_held_and_none_is_released_either(playbook: Run, keys: Etcd) -> None:
    keys.lock("web", owner="node-3", reason="Upgrade RPMs")
    played = playbook(json.dumps([play(step("take"), step("would", timeout=1), step("go", state="unlocked"))]))
    take = played.task("take")
    assert (take.outcome, take["kind"], take["owner"]) == ("failed", "busy", "node-3")
    assert take["msg"].startswith("web is held by node-3 since ")
    assert "rack is" not in take["msg"]
    would = played.task("would")
    assert would["kind"] == "timeout"
    assert "rack: position 1 of 1 in the queue; web: position 1 of 1" in played.text
    assert "none of the locks was unlocked" in played.task("go")["msg"]
    assert keys.keys() == ["web"]


def test_two_runs_that_name_them_in_opposite_orders_take_turns(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    def turns(names: list[str]) -> list[dict[str, Any]]:
        take = {MODULE: {"lock_names": names, "timeout": 200}}
        return [play(*([take, *guarded(tmp_path), {MODULE: {"lock_names": names, "state": "unlocked"}}] * 4))]

    runs = [controller.start(turns(BOTH), hosts="h1"), controller.start(turns(REVERSED), hosts="h2")]
    for run in runs:
        assert run.end() == 0, run.output
    assert overlaps(tmp_path) == []
    assert sorted(notes(tmp_path, "been")) == ["h1"] * 4 + ["h2"] * 4
    assert keys.keys() == []


def test_hosts_that_share_one_of_several_locks_are_not_taken_through_a_task_side_by_side(
    playbook: Run, keys: Etcd
) -> None:
    names = {"lock_names": ["{{ inventory_hostname }}", "cluster"]}
    played = playbook(json.dumps([play(step("take", timeout=-1, **names))]), hosts=("h1", "h2"))
    assert "h1 and cluster: h2 would wait for it in the same task, as another owner" in played.task("take")["msg"]
    apart = {"lock_names": ["{{ inventory_hostname }}", "{{ inventory_hostname }}-x"]}
    steps = (step("take", timeout=-1, **apart), step("go", state="unlocked", **apart))
    assert playbook(json.dumps([play(*steps)]), hosts=("h1", "h2")).task("go", "h2")["changed"]
    assert keys.keys() == []


def test_they_end_with_the_run(controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    take = {MODULE: {"lock_names": BOTH, "until": "run_end"}}
    again = {MODULE: {"lock_names": REVERSED, "until": "run_end", "timeout": -1}}
    run = controller.start([play(take, again, {MODULE: {"name": "web", "state": "held"}}, gate.task())])
    gate.reached()
    assert {state.holders[0].lifetime for state in realm.show_all(BOTH)} == {"bound"}
    gate.open()
    assert run.end() == 0, run.output
    all_gone(keys)


def test_check_mode_plans_each_of_them(controller: Controller, keys: Etcd) -> None:
    tasks = (
        {MODULE: {"lock_names": BOTH}},
        {MODULE: {"lock_names": REVERSED, "state": "held"}},
        {MODULE: {"name": "web", "state": "held"}},
        {MODULE: {"lock_names": REVERSED, "state": "unlocked"}},
    )
    code, output = controller.run([play(*tasks)], "--check")
    assert code == 0, output
    assert keys.found() == {}


@EACH
def test_a_strategy_takes_all_and_shows_them_to_its_tasks(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path, strategy: str
) -> None:
    asserted = ["distlock_held.lock == 'rack and web'", "distlock_held.lock_names | list == ['rack', 'web']"]
    gate = Gate(tmp_path)
    inner = {MODULE: {"lock_names": REVERSED, "state": "held", "token": "{{ distlock_held.token }}"}}
    tasks = ({"ansible.builtin.assert": {"that": asserted}}, inner, gate.task())
    words = {"distlock_lock_names": BOTH}
    run = controller.start([play(*tasks, strategy=strategy, vars=words)], DISTLOCK_LOCKNAME="another")
    gate.reached()
    assert keys.keys() == BOTH
    gate.open()
    assert run.end() == 0, run.output
    all_gone(keys)
    checks = ({"ansible.builtin.assert": {"that": asserted}}, {MODULE: {"lock_names": REVERSED, "state": "held"}})
    code, output = controller.run([play(*checks, strategy=strategy, vars=words)], "--check")
    assert code == 0, output


@EACH
def test_nothing_of_a_play_runs_while_one_of_its_locks_is_held(
    controller: Controller, keys: Etcd, tmp_path: Path, strategy: str
) -> None:
    keys.lock("web", owner="node-3")
    words = {"distlock_lock_names": BOTH}
    code, output = controller.run([play(note(tmp_path, "task"), strategy=strategy, vars=words)])
    assert code == 2
    assert "web is held by node-3 since " in " ".join(output.split())
    assert notes(tmp_path) == []
    assert keys.keys() == ["web"]


@EACH
@pytest.mark.parametrize("on_failure", ["keep", "freeze"])
def test_a_failure_of_a_play_keeps_or_freezes_all_of_them(
    controller: Controller, keys: Etcd, realm: Realm, strategy: str, on_failure: str
) -> None:
    words = {"distlock_lock_names": BOTH, "distlock_on_failure": on_failure}
    code, output = controller.run([play({"ansible.builtin.raw": "false"}, strategy=strategy, vars=words)])
    assert code == 2, output
    for state in realm.show_all(BOTH):
        if on_failure == "keep":
            assert [holder.record.state for holder in state.holders] == ["kept"]
        else:
            assert (state.holders, state.frozen is not None) == ((), True)


def test_hosts_with_a_lock_in_common_take_turns_and_others_do_not_wait(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path
) -> None:
    """h1 and h2 are in one rack, h3 is in another; the cluster has room for two."""
    realm.set_policy("cluster", slots=2)
    first, second = Gate(tmp_path, "first"), Gate(tmp_path, "second")
    rack = "{{ 'rack-2' if inventory_hostname == 'h3' else 'rack-1' }}"
    words = {"distlock_lock_names": [rack, "cluster"], "distlock_timeout": 200}
    tasks = (
        {"ansible.builtin.raw": f"mkdir {tmp_path}/{rack}"},
        {**first.task(), "when": "inventory_hostname != 'h2'"},
        {**second.task(), "when": "inventory_hostname == 'h2'"},
        {"ansible.builtin.raw": f"rmdir {tmp_path}/{rack}"},
    )
    run = controller.start([play(*tasks, strategy=HOST_PINNED, vars=words)], "--forks=3", hosts="h1,h2,h3")
    first.reached(2)
    assert second.pids() == []
    first.open()
    second.reached()
    second.open()
    assert run.end() == 0, run.output
    wait_until(lambda: keys.keys() == ["__policy/cluster"], "nothing else left in etcd")


def test_linear_wants_the_same_locks_for_all_hosts_in_any_order(controller: Controller, keys: Etcd) -> None:
    order = "{{ ['rack', 'web'] if inventory_hostname == 'h1' else ['web', 'rack'] }}"
    tasks = [{"ansible.builtin.raw": "true"}]
    code, output = controller.run([play(*tasks, strategy=LINEAR, vars={"distlock_lock_names": order})], hosts="h1,h2")
    assert code == 0, output
    words = {"distlock_lock_names": ["{{ inventory_hostname }}", "web"]}
    code, output = controller.run([play(*tasks, strategy=LINEAR, vars=words)], hosts="h1,h2")
    assert code != 0
    assert "h1 names the lock h1 and web, h2 names h2 and web" in " ".join(output.split())
    all_gone(keys)


def test_the_role_takes_all_and_freezes_all_after_a_failure(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path
) -> None:
    def role(**words: Any) -> dict[str, Any]:
        given = {"guarded_lock_names": BOTH, "guarded_tasks": str(tmp_path / "work.yml"), **words}
        return play({"ansible.builtin.include_role": {"name": "distlock.distlock.guarded"}, "vars": given})

    work = [{MODULE: {"lock_names": REVERSED, "state": "held"}}, note(tmp_path, "work")]
    (tmp_path / "work.yml").write_text(yaml.safe_dump(work))
    code, output = controller.run([role()])
    assert (code, notes(tmp_path)) == (0, ["work"]), output
    assert keys.keys() == []
    (tmp_path / "work.yml").write_text(yaml.safe_dump([{"ansible.builtin.raw": "false"}]))
    code, output = controller.run([role(guarded_on_failure="freeze")])
    assert code == 2, output
    assert [state.frozen is not None for state in realm.show_all(BOTH)] == [True, True]
    assert keys.keys() == ["rack/freeze", "web/freeze"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"name": "x", "lock_names": BOTH}, "parameters are mutually exclusive: name|lock_names"),
    "twice": ({"lock_names": ["rack", "rack"]}, "the lock 'rack' is named twice: name it once"),
    "none": ({"lock_names": []}, "lock_names: expected a list of names, found []"),
    "many": ({"lock_names": [f"n{number}" for number in range(17)]}, "17 locks are named: at most "),
    "list": ({"name": "['rack', 'web']"}, "is a list, and a name is a string: name several with lock_names"),
}


def test_bad_names_are_refused_in_one_line(playbook: Run, keys: Etcd) -> None:
    tasks = [step(called, **words) for called, (words, _) in WRONG.items()]
    nothing = {"name": "nothing", MODULE: {"state": "held"}, "ignore_errors": True}
    played = playbook(json.dumps([play(*tasks, nothing)]))
    for called, (_, said) in WRONG.items():
        assert played.task(called).outcome == "failed", called
        assert said in played.task(called)["msg"]
    assert "one of the following is required: name, lock_names" in played.task("nothing")["msg"]
    assert keys.found() == {}


def test_the_recipe_of_the_page(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    package = ("ansible.builtin.package:", "ansible.builtin.copy:")
    words = ("name: percona-server-server\n        state: latest", f"dest: {tmp_path}/p\n        content: new")
    text = with_stand_ins(recipe("Ansible lock_names"), package, words, ("hosts: db", "hosts: all"))
    playbook = controller.folder / "several.yml"
    playbook.write_text(text)
    keys.lock("rack-7", owner="node-3")
    code, output = controller.run(playbook, "-e", "distlock_timeout=0")
    assert (code, (tmp_path / "p").exists()) == (2, False), output
    keys.unlock("rack-7")
    code, output = controller.run(playbook)
    assert code == 0, output
    assert (tmp_path / "p").read_text() == "new"
    all_gone(keys)
