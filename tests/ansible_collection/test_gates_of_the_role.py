"""guarded_gate: the role begins no work, and releases no lock, before the cluster is healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from tests.support.ansible_controller import Controller, note, notes
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """play(*work, **variables) -> a play with the role, whose gate is green while `healthy` is there."""

    def make(*work: dict[str, Any], **variables: Any) -> dict[str, Any]:
        (tmp_path / "work.yml").write_text(yaml.safe_dump([note(tmp_path, "work"), *work]))
        script = f"echo asked >> {tmp_path}/asked; echo lag 12; test -e {tmp_path}/healthy"
        asks = [{"ansible.builtin.command": {"argv": ["sh", "-c", script]}}]
        given = {
            "guarded_name": "x",
            "guarded_tasks": str(tmp_path / "work.yml"),
            "guarded_gate": asks,
            "guarded_gate_every": 0.2,
            "guarded_gate_timeout": 3,
        }
        role = {"name": "distlock.distlock.guarded"}
        task = {"ansible.builtin.include_role": role, "vars": {**given, **variables}}
        return {"hosts": "all", "gather_facts": False, "tasks": [task]}

    return make


def test_no_work_begins_while_the_gate_is_red_and_the_lock_is_released(
    controller: Controller, keys: Etcd, tmp_path: Path, play: Callable[..., dict[str, Any]]
) -> None:
    code, output = controller.run([play()])
    assert code == 2, output
    assert "Not healthy within 3 s: ansible.builtin.command: lag 12" in output
    assert len(notes(tmp_path, "asked")) > 1
    assert notes(tmp_path) == []
    assert keys.keys() == []


def test_the_work_waits_for_a_gate_that_turns_green(
    controller: Controller, keys: Etcd, tmp_path: Path, play: Callable[..., dict[str, Any]]
) -> None:
    run = controller.start([play(guarded_gate_timeout=100)])
    wait_until(lambda: len(notes(tmp_path, "asked")) > 1, "the gate is asked", 100)
    assert keys.keys() == ["x"]
    assert notes(tmp_path) == []
    (tmp_path / "healthy").touch()
    assert run.end() == 0, run.output
    assert notes(tmp_path) == ["work"]
    assert keys.keys() == []


def test_a_gate_that_is_red_after_the_work_leaves_the_lock(
    controller: Controller, keys: Etcd, tmp_path: Path, play: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "healthy").touch()
    code, output = controller.run([play({"ansible.builtin.raw": f"rm {tmp_path}/healthy"})])
    assert code == 2, output
    assert "Not healthy within 3 s: ansible.builtin.command: lag 12" in output
    assert notes(tmp_path) == ["work"]
    assert keys.keys() == ["x"]


def test_check_mode_waits_for_nothing(
    controller: Controller, keys: Etcd, tmp_path: Path, play: Callable[..., dict[str, Any]]
) -> None:
    code, output = controller.run([play()], "--check")
    assert code == 0, output
    assert notes(tmp_path, "asked") == []
    assert keys.found() == {}


def test_the_recipe_of_the_page(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    (controller.folder / "upgrade.yml").write_text(yaml.safe_dump([note(tmp_path, "work")]))
    gate = ("/usr/local/bin/all-nodes-synced", f"ls {tmp_path}/healthy")
    soon = ("guarded_gate_timeout: 1800", "guarded_gate_timeout: 1")
    text = with_stand_ins(recipe("Ansible guarded_gate"), gate, soon, ("hosts: db", "hosts: all"))
    playbook = controller.folder / "gate.yml"
    playbook.write_text(text)
    assert controller.run(playbook)[0] == 2
    (tmp_path / "healthy").touch()
    code, output = controller.run(playbook)
    assert code == 0, output
    assert notes(tmp_path) == ["work"]
    assert keys.keys() == []


def test_the_example_for_percona(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    """upgrade.yml, with a file in place of the package of upgrade_tasks.yml."""
    example = ROOT / "examples" / "rollouts" / "percona"
    package = {"ansible.builtin.package": {"name": "percona-server-server", "state": "latest"}}
    (task,) = yaml.safe_load((example / "upgrade_tasks.yml").read_text())
    assert task == {"name": "Upgrade Percona Server", **package}
    dest = f"{tmp_path}/p-{{{{ inventory_hostname }}}}"
    copy = {"name": "Upgrade", "ansible.builtin.copy": {"content": "new", "dest": dest}}
    (controller.folder / "upgrade_tasks.yml").write_text(yaml.safe_dump([copy, note(tmp_path, "work")]))
    (play,) = yaml.safe_load((example / "upgrade.yml").read_text())
    words = play["tasks"][0]["vars"]
    assert words["guarded_needed"] == [package]
    words["guarded_needed"] = [copy]
    words["guarded_gate"] = [{"ansible.builtin.command": f"ls {tmp_path}/healthy"}]
    words["guarded_gate_for"] = 0
    playbook = controller.folder / "upgrade.yml"
    playbook.write_text(yaml.safe_dump([play]))
    (tmp_path / "healthy").touch()
    for _ in range(2):
        code, output = controller.run(playbook, "-e", "target=all", hosts="h1,h2,h3")
        assert code == 0, output
        assert notes(tmp_path) == ["work"] * 3
        assert keys.keys() == []
