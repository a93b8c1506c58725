"""The recipes in docs/salt.md work as printed, with stand-ins only for changes of packages and services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_fixtures import commits
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until
from tests.support.salt_minions import BIN, Minion, states

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def section(etcd: Cluster, realm_prefix: str) -> str:
    """The settings of the page, with the etcd and the prefix of the test."""
    mine = [(f"http://10.0.0.{number}:2379", etcd.endpoints[0]) for number in (1, 2)]
    return with_stand_ins(recipe("Salt settings"), *mine, ("/distlock/", realm_prefix))


@pytest.fixture
def node(new_minion: Callable[..., Minion], section: str) -> Minion:
    return new_minion(**yaml.safe_load(section))


def step(folder: Path, name: str) -> str:
    """A program that notes its name, and whether the lock keeps out others; without a shell its path is one word."""
    program = folder / name
    other = f"env -u DISTLOCK_HELD -u DISTLOCK_TOKEN {BIN}/distlock --config= --prefix=$PREFIX --endpoints=$ENDPOINT"
    program.write_text(f"""#!/bin/sh
PREFIX=$(cat {folder}/prefix) ENDPOINT=$(cat {folder}/endpoint)
{other} --lock-name=percona_prod --nowait --quiet -- true 2>/dev/null
echo {name} $? >>{folder}/notes
""")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def steps(tmp_path: Path, etcd: Cluster, realm_prefix: str) -> Callable[[str], str]:
    (tmp_path / "prefix").write_text(realm_prefix)
    (tmp_path / "endpoint").write_text(etcd.endpoints[0])
    return lambda name: step(tmp_path, name)


def noted(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def all_true(done: dict[str, Any]) -> bool:
    return all(state["result"] is True for state in done.values())


def test_with_prereq_the_lock_is_asked_for_only_where_there_is_something_to_do(
    node: Minion, realm: Realm, tmp_path: Path
) -> None:
    managed = f"file.managed:\n    - name: {tmp_path}/package\n    - contents: new"
    text = with_stand_ins(recipe("Salt prereq"), ("pkg.latest: []", managed), ("- pkg:", "- file:"))
    done = node.apply("prereq", text=text)
    assert all_true(done), done
    assert [done[name].changes["percona_prod"]["new"] for name in ("one node at a time", "next one, please")] == [
        "salt:m0",
        None,
    ]
    with realm.lock("percona_prod", "node-3"):  # it would wait for this one
        done = node.apply("prereq")
    assert all_true(done), done
    assert [state.changes for state in done.values()] == [{}, {}, {}]


def test_a_nightly_run_without_work_is_no_commit(
    new_minion: Callable[..., Minion], quiet_etcd: Cluster, tmp_path: Path
) -> None:
    minion = new_minion(distlock={"endpoints": list(quiet_etcd.endpoints)})
    managed = f"file.managed:\n    - name: {tmp_path}/package\n    - contents: new"
    text = with_stand_ins(recipe("Salt prereq"), ("pkg.latest: []", managed), ("- pkg:", "- file:"))
    command = "\nupgrade:\n  distlock.run: [{name: y}, {cmd: 'true'}, {unless: 'true'}]\n"
    before = commits(quiet_etcd)
    assert all_true(minion.apply("nightly", text=text + command))
    assert commits(quiet_etcd) - before == 2  # the lock and its release
    before = commits(quiet_etcd)
    assert all_true(minion.apply("nightly"))
    assert commits(quiet_etcd) == before


def test_with_prereq_and_run_end_the_lock_is_held_until_the_end_of_a_run_that_has_work(
    node: Minion, realm: Realm, keys: Etcd, steps: Callable[[str], str], tmp_path: Path
) -> None:
    text = f"""
one node at a time:
  distlock.locked:
    - name: percona_prod
    - until: run_end
    - prereq:
      - file: {tmp_path}/package
{tmp_path}/package:
  file.managed:
    - contents: new
{steps("look")}:
  cmd.run:
    - require: [{{file: {tmp_path}/package}}]
"""
    done = node.apply("prereq_run_end", text=text)
    assert all_true(done), done
    assert noted(tmp_path) == ["look 1"]  # nobody else gets it
    wait_until(lambda: not realm.show("percona_prod").holders, "the end of the run to release it", 100)
    before = keys.found()
    with realm.lock("percona_prod", "node-3"):  # in the way of whoever wants it
        done = node.apply("prereq_run_end")
    assert all_true(done), done
    assert [one for one in before if not one.startswith("__last/")] == []
    assert not done["one node at a time"].changes


def test_the_upgrade_is_done_under_the_lock(
    node: Minion, realm: Realm, steps: Callable[[str], str], tmp_path: Path
) -> None:
    upgrade = f"cmd.run:\n    - name: {steps('upgrade')}"
    package = ("pkg.latest:", upgrade), ("- pkg:", "- cmd:")
    text = with_stand_ins(recipe("Salt upgrade"), *package, ("systemctl restart mysql", steps("restart")))
    done = node.apply("upgrade", text=text)
    assert all_true(done), done
    assert noted(tmp_path) == ["upgrade 1", "restart 1"]
    assert not realm.show("percona_prod").holders


def test_a_wait_is_reported_and_all_steps_run_until_the_end_of_the_run(
    node: Minion, realm: Realm, steps: Callable[[str], str], tmp_path: Path
) -> None:
    command = with_stand_ins(
        recipe("Salt one command"),
        ("yum --assumeyes upgrade percona-server-server", steps("upgrade")),
        ("/usr/local/sbin/is-upgraded", "/bin/false"),
    )
    asked = with_stand_ins(recipe("Salt onlyif"), ("systemctl restart mysql", steps("restart")))
    (node.sls / "waits.sls").write_text("\n\n".join((recipe("Salt run_end"), command, asked)))
    with realm.lock("percona_prod", "node-3", "Upgrade RPMs"):
        process = node.start("state.apply", "waits")
        try:
            wait_until(lambda: realm.show("percona_prod").waiting == 1, "the minion to wait", 100)
        except BaseException:
            process.kill()
            raise
    said, complaints = process.communicate(timeout=100)
    done = states(json.loads(said)["local"])
    assert all_true(done), (done, complaints)
    assert noted(tmp_path) == ["upgrade 1", "restart 1"]
    printed = yaml.safe_load(recipe("Salt changes"))["changes"]["percona_prod"]
    changes = done["one node at a time"].changes["percona_prod"]
    assert {name: type(value) for name, value in changes.items()} == {
        name: type(value) for name, value in printed.items()
    }
    assert changes["waited_for"].startswith("node-3 since ")
    wait_until(lambda: not realm.show("percona_prod").holders, "the end of the run's lock")


def test_a_profile_names_the_cluster_and_the_rest_comes_from_beside_it(
    new_minion: Callable[..., Minion], section: str, realm: Realm, etcd: Cluster
) -> None:
    nowhere = "http://127.0.0.1:1"
    text = with_stand_ins(section, (etcd.endpoints[0], nowhere), ("http://10.9.0.1:2379", etcd.endpoints[0]))
    new_minion(**yaml.safe_load(text)).call("distlock.lock", "x", "profile=staging")
    assert [holder.owner for holder in realm.show("x").holders] == ["salt:m0"]


def test_an_etcd_with_tls_and_a_password_from_sdb(
    new_minion: Callable[..., Minion], user_of_realm: Callable[[str], dict[str, Any]], realm_prefix: str
) -> None:
    access = user_of_realm("hunter2")
    text = with_stand_ins(
        recipe("Salt settings with TLS"),
        ("https://etcd-1.example.com:2379", access["endpoints"][0]),
        ("/etc/distlock/ca.pem", access["cacert"]),
        ("user: node", f"user: {access['user']}\n  prefix: {realm_prefix}"),
    )
    # The driver stands in for that of the vault: its secret is a variable of that name.
    minion = new_minion(**yaml.safe_load(text), vault={"driver": "env"})
    env = {"secret/distlock?password": "hunter2"}
    assert minion.call("distlock.lock", "x", env=env)["owner"] == "salt:m0"
