"""Only where there is work: the role `guarded`, and plain tasks, take no lock where nothing would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, note, notes
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_fixtures import commits
from tests.support.etcd_view import Etcd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """work(needed, **variables) -> a play with the role, whose tasks write what `needed` looks at."""

    def play(needed: list[dict[str, Any]], **variables: Any) -> dict[str, Any]:
        tasks = [upgrade(tmp_path), note(tmp_path, "work-{{ query('distlock.distlock.holder', 'x') | length }}")]
        (tmp_path / "work.yml").write_text(yaml.safe_dump(tasks))
        role = {"name": "distlock.distlock.guarded"}
        given = {"guarded_name": "x", "guarded_tasks": str(tmp_path / "work.yml"), "guarded_needed": needed}
        return {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.include_role": role, "vars": {**given, **variables}}],
        }

    return play


def upgrade(folder: Path) -> dict[str, Any]:
    return {"name": "Upgrade", "ansible.builtin.copy": {"content": "new", "dest": str(folder / "package")}}


def test_the_role_takes_no_lock_where_nothing_would_change(
    controller: Controller, keys: Etcd, tmp_path: Path, work: Callable[..., dict[str, Any]]
) -> None:
    same = {"ansible.builtin.file": {"path": str(tmp_path), "state": "directory"}}
    one_by_one = {"guarded_one_by_one": True, "guarded_timeout": -1}
    code, output = controller.run([work([same, upgrade(tmp_path)], **one_by_one)])
    assert code == 0, output
    assert notes(tmp_path) == ["work-1"]  # under the lock
    assert keys.keys() == []
    keys.lock("x", owner="node-3")  # in the way of whoever wants it
    before = keys.found()
    code, output = controller.run([work([same, upgrade(tmp_path)])])
    assert code == 0, output
    assert notes(tmp_path) == ["work-1"]
    assert keys.found() == before  # nothing was written, not even a note
    (tmp_path / "package").write_text("old")
    code, output = controller.run([work([same, upgrade(tmp_path)])])
    assert code == 2, output
    assert "node-3" in output
    assert (tmp_path / "package").read_text() == "old"


def test_a_nightly_run_without_work_is_no_commit(
    controller: Controller, quiet_etcd: Cluster, tmp_path: Path, work: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "package").write_text("new")
    there = {"DISTLOCK_ENDPOINTS": quiet_etcd.endpoints[0]}
    before = commits(quiet_etcd)
    code, output = controller.run([work([upgrade(tmp_path)])], hosts="h1,h2", **there)
    assert code == 0, output
    assert commits(quiet_etcd) == before
    (tmp_path / "package").write_text("old")
    code, output = controller.run([work([upgrade(tmp_path)])], **there)
    assert code == 0, output
    assert notes(tmp_path) == ["work-1"]
    assert commits(quiet_etcd) - before == 2  # the lock and its release, as without the check


@pytest.mark.parametrize(
    ("needed", "why"),
    [
        ({"ansible.builtin.copy": {"src": "/no/such", "dest": "/no"}}, "ansible.builtin.copy has failed: "),
        ({"ansible.builtin.raw": "true"}, "gives no answer: ansible.builtin.raw does not run in check mode"),
        ({"name": "odd", "ansible.builtin.ping": {}, "when": "x"}, "found ansible.builtin.ping and when"),
        ({"no.such.module": {}}, "there is no module no.such.module"),
        ({"name": "empty"}, "expected one module with its arguments, and a name at most; found none"),
    ],
)
def test_a_task_that_gives_no_answer_fails_the_role_and_takes_nothing(
    controller: Controller,
    keys: Etcd,
    tmp_path: Path,
    work: Callable[..., dict[str, Any]],
    needed: dict[str, Any],
    why: str,
) -> None:
    code, output = controller.run([work([needed])])
    assert code == 2, output
    assert why in output
    assert notes(tmp_path) == []
    assert keys.found() == {}


def test_the_same_in_plain_yaml(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    dest = f"copy:\n        content: new\n        dest: {tmp_path}/package"
    (controller.folder / "upgrade.yml").write_text(yaml.safe_dump([upgrade(tmp_path), note(tmp_path, "work")]))
    package = "package:\n        name: percona-server-server\n        state: latest"
    text = with_stand_ins(recipe("Ansible only if needed"), (package, dest), ("hosts: db", "hosts: all"))
    playbook = controller.folder / "plain.yml"
    playbook.write_text(text)
    for _ in range(2):
        code, output = controller.run(playbook)
        assert code == 0, output
        assert notes(tmp_path) == ["work"]
        keys.lock("percona_prod", owner="node-3")  # in the way of the second run, if it wanted it


def test_the_recipe_with_the_role(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    (controller.folder / "upgrade.yml").write_text(yaml.safe_dump([upgrade(tmp_path), note(tmp_path, "work")]))
    package = "package:\n              name: percona-server-server\n              state: latest"
    dest = f"copy:\n              content: new\n              dest: {tmp_path}/package"
    text = with_stand_ins(recipe("Ansible guarded_needed"), (package, dest), ("hosts: db", "hosts: all"))
    playbook = controller.folder / "role.yml"
    playbook.write_text(text)
    for _ in range(2):
        code, output = controller.run(playbook)
        assert code == 0, output
        assert notes(tmp_path) == ["work"]
        keys.lock("percona_prod", owner="node-3")
