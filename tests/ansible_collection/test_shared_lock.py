"""Shared locks in plays: the module, the role and a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, note, notes
from tests.support.doc_blocks import recipe, with_stand_ins

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def lock(**words: Any) -> dict[str, Any]:
    return {"distlock.distlock.distlock": {"name": "x", **words}}


def play(*tasks: dict[str, Any], **words: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, "tasks": list(tasks), **words}


def test_the_module_shares_a_lock(controller: Controller, realm: Realm) -> None:
    other = realm.lock("x", "other", shared=True).acquire(0)
    refused = {"ignore_errors": True}
    tasks = (
        lock(shared=True),
        lock(shared=True),
        lock(state="held", shared=True),
        {**lock(state="held"), **refused, "register": "held"},
        {**lock(), **refused, "register": "alone"},
        {"ansible.builtin.assert": {"that": ["held is failed", "alone is failed"]}},
        lock(state="unlocked"),
        lock(shared=True, until="run_end"),
        lock(shared=True, until="run_end"),
    )
    code, output = controller.run([play(*tasks)])
    assert code == 0, output
    assert "shared, and not exclusively" in output
    assert other.verify()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"shared": True, "slots": 3}, "slots and shared contradict each other"),
        ({"shared": True, "state": "unlocked"}, "shared cannot be used with state: unlocked"),
        ({"shared": True}, "x is held by upgrade"),
    ],
)
def test_what_is_refused(controller: Controller, realm: Realm, words: dict[str, Any], said: str) -> None:
    upgrade = realm.lock("x", "upgrade").acquire(0)
    code, output = controller.run([play(lock(**words))])
    assert code == 2, output
    assert said in output
    assert upgrade.verify()
    assert len(realm.show("x").holders) == 1


def test_the_recipe_of_the_page(controller: Controller, realm: Realm, tmp_path: Path) -> None:
    (controller.folder / "backup.yml").write_text(yaml.safe_dump([note(tmp_path, "backup")]))
    other = realm.lock("percona_prod", "other", shared=True).acquire(0)
    playbook = controller.folder / "role.yml"
    playbook.write_text(with_stand_ins(recipe("Ansible shared"), ("hosts: db", "hosts: all")))
    code, output = controller.run(playbook)
    assert code == 0, output
    assert set(notes(tmp_path)) == {"backup"}
    assert other.verify()
    assert [holder.owner for holder in realm.show("percona_prod").holders] == ["other"]


@pytest.mark.parametrize("strategy", ["linear", "host_pinned"])
def test_a_play_shares_its_lock(controller: Controller, realm: Realm, tmp_path: Path, strategy: str) -> None:
    other = realm.lock("x", "other", shared=True).acquire(0)
    words: dict[str, Any] = {
        "strategy": f"distlock.distlock.{strategy}",
        "vars": {"distlock_name": "x", "distlock_shared": True},
    }
    code, output = controller.run([play(note(tmp_path, "work"), **words)])
    assert code == 0, output
    assert set(notes(tmp_path)) == {"work"}
    assert other.verify()
    other.release()
    realm.lock("x", "upgrade").acquire(0)
    code, output = controller.run([play(note(tmp_path, "again"), **words)])
    assert code != 0, output
    assert "x is held by upgrade" in output
    assert "again" not in notes(tmp_path)
