"""A rank, by playbooks: given to the module, to the role and to the strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, note, notes
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
STRATEGIES = ["distlock.distlock.linear", "distlock.distlock.host_pinned"]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def waited_for(keys: Etcd) -> Etcd:
    """The lock x is free, but somebody with the default rank waits for it, and for something else."""
    keys.lock("x/queue/50/exclusive/0000000000000001", "someone")
    return keys


def task(called: str, **arguments: Any) -> dict[str, Any]:
    return {"name": called, "distlock.distlock.distlock": {"name": "x", **arguments}}


def play(*tasks: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, **keywords, "tasks": list(tasks)}


def test_the_module_takes_it(controller: Controller, waited_for: Etcd, realm: Realm) -> None:
    code, said = controller.run([play(task("usual"))])
    assert code == 2
    assert "x is free, but 1 is waiting" in said
    code, said = controller.run([play(task("early", rank=10))])
    assert code == 0, said
    assert len(realm.show("x").holders) == 1
    code, said = controller.run([play(task("nonsense", state="unlocked", rank=10))])
    assert code == 2
    assert "rank cannot be used with state: unlocked" in said


def test_a_bad_rank_is_said_in_one_line(controller: Controller, realm: Realm) -> None:
    code, said = controller.run([play(task("bad", rank=100))])
    assert code == 2
    assert "rank: expected a whole number from 0 to 99, found 100" in said
    assert realm.list() == []


def test_the_role_takes_it(controller: Controller, waited_for: Etcd, tmp_path: Path) -> None:
    (tmp_path / "work.yml").write_text(yaml.safe_dump([note(tmp_path, "work")]))
    for rank, expected in ((50, []), (49, ["work"])):
        given = {"guarded_name": "x", "guarded_tasks": str(tmp_path / "work.yml"), "guarded_rank": rank}
        role = {"ansible.builtin.include_role": {"name": "distlock.distlock.guarded"}, "vars": given}
        code, said = controller.run([play(role)])
        assert (code == 0) is bool(expected), said
        assert notes(tmp_path) == expected


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["linear", "host_pinned"])
def test_the_strategies_take_it(controller: Controller, waited_for: Etcd, tmp_path: Path, strategy: str) -> None:
    for rank, expected in ((50, []), (49, ["task"])):
        given = {"distlock_name": "x", "distlock_rank": rank}
        code, said = controller.run([play(note(tmp_path, "task"), strategy=strategy, vars=given)])
        assert (code == 0) is bool(expected), said
        assert notes(tmp_path) == expected


def test_under_host_pinned_the_hosts_of_a_run_go_by_their_rank(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    ranks = {"h1": 90, "h2": 50, "h3": 10, "h4": 10}
    given = {
        "ranks": ranks,
        "distlock_name": "x",
        "distlock_timeout": -1,
        "distlock_rank": "{{ ranks[inventory_hostname] }}",
    }
    tasks = note(tmp_path, "{{ inventory_hostname }}")
    code, said = controller.run([play(tasks, strategy=STRATEGIES[1], vars=given)], hosts="h1,h2,h3,h4")
    assert code == 0, said
    assert notes(tmp_path) == ["h3", "h4", "h2", "h1"]
    wait_until(lambda: keys.keys() == [], "nothing left in etcd")


def test_the_recipe_of_the_page(controller: Controller, tmp_path: Path) -> None:
    text = with_stand_ins(
        recipe("Ansible rank"),
        ("hosts: db", "hosts: all\n  gather_facts: false"),
        ("mysql_role ==", "{'h1': 'primary', 'h2': 'replica'}[inventory_hostname] =="),
        ("ansible.builtin.package:\n        name: percona-server-server\n        state: latest", "X:"),
    )
    (found,) = yaml.safe_load(text)
    found["tasks"] = [note(tmp_path, "{{ inventory_hostname }}")]
    code, said = controller.run([found], hosts="h1,h2")
    assert code == 0, said
    assert notes(tmp_path) == ["h2", "h1"]


def test_the_example_for_replicas(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    text = (ROOT / "examples" / "rollouts" / "replicas" / "upgrade.yml").read_text()
    (found,) = yaml.safe_load(
        with_stand_ins(
            text,
            ("{{ target | default('db') }}", "all"),
            ("mysql_role ==", "{'h1': 'primary'}.get(inventory_hostname, 'replica') =="),
        )
    )
    found["tasks"] = [note(tmp_path, "{{ inventory_hostname }}")]
    code, said = controller.run([found], hosts="h1,h2,h3")
    assert code == 0, said
    assert notes(tmp_path) == ["h2", "h3", "h1"]
    wait_until(lambda: keys.keys() == [], "nothing left in etcd")
