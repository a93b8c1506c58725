"""The module distlock_freeze, and the role guarded that freezes its lock after a failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.playbooks import Played

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock_freeze"
Run = Callable[..., Played]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def step(called: str, **arguments: Any) -> dict[str, Any]:
    return {"name": called, MODULE: arguments, "ignore_errors": True}


def play(*tasks: dict[str, Any], **keywords: Any) -> str:
    return json.dumps([{"hosts": "all", "gather_facts": False, **keywords, "tasks": list(tasks)}])


def test_a_lock_and_the_realm_are_frozen_and_thawed_once(playbook: Run, keys: Etcd) -> None:
    take = {"name": "take", "distlock.distlock.distlock": {"name": "x"}, "ignore_errors": True}
    played = playbook(
        play(
            step("freeze", name="x", reason="audit", duration="2h"),
            step("again", name="x", reason="other"),
            step("force", name="x", reason="other", owner="ops", force=True),
            take,
            step("thaw", name="x", state="thawed"),
            step("gone", name="x", state="thawed"),
            step("whole", reason="maintenance"),
            step("thaw all", state="thawed"),
            step("bad", name="x", reason="audit", duration="soon"),
            step("unexplained", name="x"),
            step("mixed", name="x", state="thawed", reason="why"),
            step("empty", name="", reason="audit"),
        ),
        "--diff",
    )
    freeze = played.task("freeze")
    assert (freeze["changed"], freeze["lock"]) == (True, "x")
    found = freeze["frozen"]
    assert (found["by"], found["reason"], found["scope"]) == ("ansible:h1", "audit", "lock")
    assert found["until"] - found["since"] == 7200
    assert freeze["diff"] == {"before": "x: not frozen\n", "after": "x: frozen by ansible:h1\n"}
    again = played.task("again")
    assert (again["changed"], again["frozen"]["reason"]) == (False, "audit")
    assert again["msg"].startswith("already: x is frozen by ansible:h1 since ")
    force = played.task("force")
    assert (force["changed"], force["frozen"]["by"], force["frozen"]["until"]) == (True, "ops", None)
    assert force["diff"] == {"before": "x: frozen by ansible:h1\n", "after": "x: frozen by ops\n"}
    refused = played.task("take")
    assert (refused["kind"], refused.outcome) == ("frozen", "failed")
    assert "To thaw it: distlock.distlock.distlock_freeze with state: thawed, name: x" in refused["msg"]
    thaw = played.task("thaw")
    assert (thaw["changed"], thaw["frozen"]["by"]) == (True, "ops")
    gone = played.task("gone")
    assert (gone["changed"], gone["frozen"], gone["msg"]) == (False, None, "x is not frozen")
    whole = played.task("whole")
    assert (whole["changed"], whole["lock"], whole["frozen"]["scope"]) == (True, None, "realm")
    assert played.task("thaw all")["changed"] is True
    assert "state is frozen but all of the following are missing: reason" in played.task("unexplained")["msg"]
    for name, words in (
        ("bad", "duration: expected a whole number of seconds"),
        ("mixed", "they go with state: frozen"),
        ("empty", "no lock is named: name is empty"),
    ):
        assert (played.task(name).outcome, played.task(name)["kind"]) == ("failed", "config")
        assert words in played.task(name)["msg"]
    keys.assert_nothing_left()


def test_check_mode_writes_nothing(playbook: Run, realm: Realm, keys: Etcd) -> None:
    realm.freeze("y", owner="boss")
    played = playbook(play(step("freeze", name="x", reason="audit"), step("thaw", name="y", state="thawed")), "--check")
    freeze, thaw = played.task("freeze"), played.task("thaw")
    assert (freeze["changed"], freeze["frozen"]) == (True, None)
    assert freeze["msg"] == "x would be frozen by ansible:h1"
    assert (thaw["changed"], thaw["frozen"]["by"]) == (True, "boss")
    assert "y would be thawed, which was frozen by boss since " in thaw["msg"]
    assert keys.keys() == ["y/freeze"]


@pytest.mark.parametrize(
    ("on_failure", "failing"),
    [("freeze", True), ("freeze", False), ("release", True), ("keep", True), ("keep", False)],
)
def test_the_role_freezes_its_lock_after_a_failure(
    playbook: Run, realm: Realm, keys: Etcd, tmp_path: Path, on_failure: str, failing: bool
) -> None:
    work = tmp_path / "work.yml"
    work.write_text(json.dumps([{"name": "work", "ansible.builtin.raw": "false" if failing else "true"}]))
    variables = {"guarded_name": "x", "guarded_tasks": str(work), "guarded_on_failure": on_failure}
    role = {"ansible.builtin.include_role": {"name": "distlock.distlock.guarded"}, "vars": variables}
    # Twice: what the first time has left behind must not count the second time.
    succeeds = {**variables, "guarded_tasks": str(tmp_path / "fine.yml")}
    (tmp_path / "fine.yml").write_text(json.dumps([{"name": "fine", "ansible.builtin.raw": "true"}]))
    first = {**role, "vars": succeeds}
    played = playbook(play(first, role, name="Upgrade"))
    assert (played.code != 0) is failing, played.text
    freeze = realm.frozen("x")
    assert (freeze is not None) is (failing and on_failure == "freeze")
    if failing and on_failure == "keep":
        assert keys.keys() == ["x"]
        return
    if freeze is None:
        keys.assert_nothing_left()
        return
    assert freeze.reason == "Upgrade: failed on h1"
    assert keys.keys() == ["x/freeze"]


def test_the_recipe_with_the_role(controller: Controller, realm: Realm, keys: Etcd) -> None:
    (controller.folder / "upgrade.yml").write_text(json.dumps([{"name": "work", "ansible.builtin.raw": "false"}]))
    playbook = controller.folder / "role.yml"
    playbook.write_text(
        with_stand_ins(recipe("freeze in Ansible"), ("hosts: db", "hosts: all"), ("timeout: 3600", "timeout: 1"))
    )
    code, output = controller.run(playbook, hosts="h1,h2")
    assert code == 2, output
    freeze = realm.frozen("percona_prod")
    assert freeze is not None
    assert freeze.by == "ansible:h1"
    assert freeze.reason.endswith(": failed on h1")
    assert "percona_prod is frozen by ansible:h1 since " in output  # h2
    assert keys.keys() == ["percona_prod/freeze"]
