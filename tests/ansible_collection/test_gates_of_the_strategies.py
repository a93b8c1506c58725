"""distlock_gate: a strategy acquires no lock, and releases none, before the cluster is healthy."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from distlock_core import Holder, Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import RUN_BOUND, Controller, note, notes
from tests.support.ansible_controller import Gate as Barrier
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.processes import pause, wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
LINEAR, HOST_PINNED = "distlock.distlock.linear", "distlock.distlock.host_pinned"
EACH = pytest.mark.parametrize("strategy", [LINEAR, HOST_PINNED], ids=["linear", "host_pinned"])


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


class Health:
    """A gate that is green while a file is there. Tasks turn it red, and note each question."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "healthy"
        self._folder = folder
        self.gate = f"echo asked >> {folder}/asked; echo; echo lag 12; test -e {self.file}"
        self.turn_red = {"name": "turn red", "ansible.builtin.raw": f"rm -f {self.file}"}

    @property
    def asked(self) -> int:
        return len(notes(self._folder, "asked"))

    def turn_green(self) -> None:
        self.file.touch()


@pytest.fixture
def health(tmp_path: Path) -> Health:
    return Health(tmp_path)


def play(strategy: str, health: Health, *tasks: dict[str, Any], serial: int | None = None, **words: Any) -> list[Any]:
    gate = {"distlock_name": "x", "distlock_gate": health.gate, "distlock_gate_every": 0.1}
    rest = {"hosts": "all", "gather_facts": False, "strategy": strategy, "tasks": list(tasks)}
    batches = {} if serial is None else {"serial": serial}
    return [{"name": "Upgrade", **rest, **batches, "vars": {**gate, **words}}]


def holder(realm: Realm) -> Holder | None:
    return next(iter(realm.show("x").holders), None)


def state(realm: Realm) -> str | None:
    held = holder(realm)
    return None if held is None else held.record.state


def all_gone(keys: Etcd) -> None:
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "nothing left in etcd")


@EACH
def test_a_red_gate_refuses_a_play_that_does_not_wait(
    controller: Controller, keys: Etcd, tmp_path: Path, health: Health, strategy: str
) -> None:
    code, output = controller.run(play(strategy, health, note(tmp_path, "work")))
    assert code == 2, output
    assert "x is free; its gate is red: lag 12" in output
    assert (notes(tmp_path), health.asked) == ([], 1)
    all_gone(keys)


@EACH
def test_nobody_holds_the_lock_while_the_gate_is_red_and_the_play_begins_once_it_is_green(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path, health: Health, strategy: str
) -> None:
    run = controller.start(play(strategy, health, note(tmp_path, "work"), distlock_timeout=-1))
    run.says("waiting: x is free; position 1 of 1 in the queue; its gate is red: lag 12")
    asked = health.asked
    wait_until(lambda: health.asked > asked + 2, "it is asked again", RUN_BOUND)
    assert (notes(tmp_path), holder(realm)) == ([], None)
    health.turn_green()
    assert run.end() == 0, run.output
    assert notes(tmp_path) == ["work"]
    all_gone(keys)


@EACH
def test_the_lock_settles_until_the_gate_is_green_and_only_then_the_next_host_begins(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path, health: Health, strategy: str
) -> None:
    """With a lease that would be over without renewals."""
    health.turn_green()
    tasks = [note(tmp_path, "{{ inventory_hostname }}"), health.turn_red]
    words = {"distlock_timeout": -1, "distlock_ttl": 5, "distlock_scope": "batch"}
    run = controller.start(play(strategy, health, *tasks, serial=1, **words), hosts="h1,h2")
    run.says("x is settling: its gate is red: lag 12")
    wait_until(lambda: state(realm) == "settling", "the state is noted")
    pause(6)
    assert (state(realm), notes(tmp_path)) == ("settling", ["h1"])
    health.turn_green()
    wait_until(lambda: notes(tmp_path) == ["h1", "h2"], "the next host", RUN_BOUND)
    wait_until(lambda: state(realm) == "settling", "the state is noted")
    health.turn_green()
    assert run.end() == 0, run.output
    all_gone(keys)


@EACH
@pytest.mark.parametrize("on_failure", ["release", "freeze"])
def test_a_gate_that_stays_red_after_the_work_keeps_the_lock_and_stops_the_run(
    controller: Controller,
    keys: Etcd,
    realm: Realm,
    tmp_path: Path,
    health: Health,
    strategy: str,
    on_failure: str,
) -> None:
    health.turn_green()
    tasks = [note(tmp_path, "{{ inventory_hostname }}"), health.turn_red]
    words = {"distlock_timeout": -1, "distlock_gate_timeout": 1, "distlock_scope": "batch"}
    plays = play(strategy, health, *tasks, serial=1, distlock_on_failure=on_failure, **words)
    later = {"hosts": "all", "gather_facts": False, "tasks": [note(tmp_path, "later")]}
    code, output = controller.run([*plays, later], hosts="h1,h2")
    assert code == 2, output
    assert notes(tmp_path) == ["h1"]
    assert "x: not released: after 1s its gate is red: lag 12" in output
    if on_failure == "freeze":
        assert holder(realm) is None
        freeze = realm.frozen("x")
        assert freeze is not None
        reason = freeze.reason
        left = ["x/freeze"]
    else:
        held = holder(realm)
        assert held is not None
        assert (held.record.state, held.lifetime) == ("kept", "persistent")
        reason = held.reason
        left = ["x"]
    assert reason.startswith("not healthy after the work: its gate is red: lag 12 (Upgrade")
    wait_until(lambda: keys.keys() == left and keys.new_leases() == set(), "nothing else left")


def test_a_host_whose_gate_stays_red_stops_the_other_hosts_of_its_run(
    controller: Controller, realm: Realm, tmp_path: Path, health: Health
) -> None:
    health.turn_green()
    tasks = [note(tmp_path, "{{ inventory_hostname }}"), health.turn_red]
    words = {"distlock_timeout": -1, "distlock_gate_timeout": 1}
    code, output = controller.run(play(HOST_PINNED, health, *tasks, **words), hosts="h1,h2,h3")
    assert code == 2, output
    assert notes(tmp_path) == ["h1"]
    for host in ("h2", "h3"):
        assert f"{host}: x is left taken, as its gate was not green after h1, so no other host" in output
    assert output.count("failed=1") == 3
    assert state(realm) == "kept"


@EACH
def test_a_failed_play_asks_the_gate_before_it_releases_and_not_before_it_keeps(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path, health: Health, strategy: str
) -> None:
    health.turn_green()
    fails = {"ansible.builtin.raw": "false"}
    code, output = controller.run(play(strategy, health, fails))
    assert (code, health.asked) == (2, 2), output
    all_gone(keys)
    code, output = controller.run(play(strategy, health, fails, distlock_on_failure="keep"))
    assert (code, health.asked) == (2, 3), output
    held = holder(realm)
    assert held is not None
    assert held.reason.endswith("failed on h1")


@EACH
@pytest.mark.parametrize("at", ["before", "after"])
def test_the_gate_is_asked_at_one_of_the_two_only(
    controller: Controller, keys: Etcd, health: Health, strategy: str, at: str
) -> None:
    health.turn_green()
    code, output = controller.run(play(strategy, health, {"ansible.builtin.raw": "true"}, distlock_gate_at=at))
    assert (code, health.asked) == (0, 1), output
    all_gone(keys)


@EACH
def test_the_lock_of_a_run_that_was_killed_is_released_once_the_gate_is_green(
    controller: Controller, keys: Etcd, realm: Realm, tmp_path: Path, health: Health, strategy: str
) -> None:
    health.turn_green()
    barrier = Barrier(tmp_path)
    run = controller.start(play(strategy, health, health.turn_red, barrier.task()))
    barrier.reached()
    run.send(signal.SIGKILL)
    barrier.open()
    wait_until(lambda: state(realm) == "settling", "the keeper asks the gate", RUN_BOUND)
    asked = health.asked
    wait_until(lambda: health.asked > asked + 2, "it is asked again")
    assert state(realm) == "settling"
    health.turn_green()
    all_gone(keys)


def test_a_host_cannot_choose_what_the_controller_runs(
    controller: Controller, keys: Etcd, tmp_path: Path, health: Health
) -> None:
    """Facts come from the hosts."""
    library = controller.folder / "library"
    library.mkdir()
    line = f"touch {tmp_path}/chosen"
    answer = json.dumps({"changed": False, "ansible_facts": {"distlock_gate": line, "gate": line}})
    (library / "lying.py").write_text(f"#!/usr/bin/python\n# WANT_JSON\nprint({answer!r})\n")
    lie = {"hosts": "all", "gather_facts": False, "tasks": [{"name": "lie", "lying": {}}]}
    named = play(LINEAR, health, note(tmp_path, "work"))
    del named[0]["vars"]["distlock_gate"], named[0]["vars"]["distlock_gate_every"]
    derived = play(HOST_PINNED, health, note(tmp_path, "work"), distlock_gate="{{ gate }}")
    task = {"distlock.distlock.distlock": {"name": "x", "until": "run_end", "gate": "{{ gate }}"}}
    of_a_task = [{"hosts": "all", "gather_facts": False, "tasks": [task, note(tmp_path, "work")]}]
    for plays in (named, derived, of_a_task):
        code, output = controller.run([lie, *plays])
        assert code == 2, output
        assert "without facts" in output
    assert (notes(tmp_path), keys.keys(), (tmp_path / "chosen").exists()) == ([], [], False)


def test_the_recipe_of_the_page(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    package = (
        "ansible.builtin.package:\n        name: percona-server-server\n        state: latest",
        f"ansible.builtin.raw: echo work >> {tmp_path}/notes",
    )
    gate = ("distlock_gate: /usr/local/bin/all-nodes-synced", f"distlock_gate: test -e {tmp_path}/healthy")
    text = with_stand_ins(recipe("Ansible gate of a strategy"), package, gate, ("hosts: db", "hosts: all"))
    playbook = controller.folder / "gate.yml"
    playbook.write_text(text)
    run = controller.start(playbook)
    run.says("its gate is red")
    (tmp_path / "healthy").touch()
    assert run.end() == 0, run.output
    assert notes(tmp_path) == ["work"]
    all_gone(keys)


def test_check_mode_asks_nothing(controller: Controller, keys: Etcd, tmp_path: Path, health: Health) -> None:
    code, output = controller.run(play(LINEAR, health, note(tmp_path, "work")), "--check")
    assert (code, health.asked) == (0, 0), output
    assert keys.found() == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"distlock_gate_every": 0}, "gate_every: expected a number of seconds above 0"),
        ({"distlock_gate_timeout": -1}, "gate_timeout: expected a number of seconds above 0"),
        ({"distlock_gate_at": "never"}, "distlock_gate_at"),
        ({"distlock_gate": "", "distlock_gate_every": 1}, "gate: expected a line of shell"),
        ({"distlock_gate": None, "distlock_gate_every": 1}, "gate_every is about a gate: it goes with gate"),
        ({"distlock_gate_for": 10, "distlock_gate_timeout": 10}, "gate_for must be shorter than gate_timeout"),
    ],
)
def test_bad_settings_of_a_gate_take_nothing(
    controller: Controller, keys: Etcd, tmp_path: Path, health: Health, words: dict[str, Any], said: str
) -> None:
    code, output = controller.run(play(LINEAR, health, note(tmp_path, "work"), **words))
    assert code == 2, output
    assert said in output
    assert (notes(tmp_path), health.asked, keys.found()) == ([], 0, {})
