"""The recipes in docs/ansible.md work as printed, with stand-ins only for changes of packages and services."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, Run, notes, overlaps
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.playbooks import BIN
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
ENDPOINTS = ("http://10.0.0.1:2379", "http://10.0.0.2:2379")
# A change of one host: it notices when two are at it.
WORK = """\
ansible.builtin.raw: >-
  mkdir {folder}/inside || echo {{{{ inventory_hostname }}}} >>{folder}/overlaps;
  echo {{{{ inventory_hostname }}}} >>{folder}/been; rmdir {folder}/inside
"""


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def start(
    controller: Controller,
    name: str,
    *plays: str,
    hosts: Iterable[str] = ("h1", "h2"),
    arguments: Iterable[str] = (),
    **env: str,
) -> Run:
    """Start these texts, one behind the other, as one playbook for the group db."""
    playbook, inventory = controller.folder / f"{name}.yml", controller.folder / f"{name}.ini"
    playbook.write_text("\n".join(plays))
    inventory.write_text("[db]\n" + "".join(f"{host} ansible_connection=local\n" for host in hosts))
    return controller.start(playbook, "-i", str(inventory), *arguments, **env)


def work(folder: Path, indent: int) -> str:
    return textwrap.indent(WORK.format(folder=folder), " " * indent).lstrip()


def of_the_test(text: str, cluster: Cluster) -> str:
    """With the endpoints of the test in place of those of the page."""
    first, second = ENDPOINTS
    return with_stand_ins(text, (first, cluster.endpoints[0]), (second, cluster.endpoints[0]))


def of_the_modules(cluster: Cluster, prefix: str) -> str:
    text = of_the_test(recipe("Ansible settings of the modules"), cluster)
    return with_stand_ins(text, ("prefix: /distlock/", f"prefix: {prefix}"))


def test_the_collection_is_installed_as_written(controller: Controller, tmp_path: Path) -> None:
    command = recipe("Ansible install")
    build = [str(BIN / "python"), str(ROOT / "tools/build_collection.py"), "--into", str(tmp_path / "dist")]
    subprocess.run(build, check=True, capture_output=True, timeout=60)
    env = {**controller.env, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "there"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    for line in (command, "ansible-doc --list distlock.distlock"):
        done = subprocess.run(
            ["sh", "-euc", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert {"distlock.distlock.distlock", "distlock.distlock.distlock_info"} <= set(done.stdout.split())


def test_the_recipes_with_the_module_take_one_host_at_a_time_and_release(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    check = recipe("Ansible check")
    (controller.folder / "upgrade.yml").write_text(f"{check}\n- name: Upgrade\n  {work(tmp_path, 2)}")
    for_the_run = recipe("Ansible run_end")
    other = f"{BIN}/distlock --lock-name=percona_prod_data --nowait -- true"
    look = f"""
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.raw: "{other}; echo $? >{tmp_path}/exit_code"
"""
    run = start(controller, "module", recipe("Ansible role"), recipe("Ansible plain tasks"), for_the_run, look)
    assert run.end() == 0, run.output
    been = notes(tmp_path, "been")
    assert sorted(been[:2]) == been[2:] == ["h1", "h2"]  # the role takes the hosts as they come
    assert overlaps(tmp_path) == []
    assert notes(tmp_path, "exit_code") == ["1"]  # the run's own lock keeps out everybody else
    wait_until(lambda: keys.keys() == [], "every lock let go")


def test_the_task_of_the_readme_holds_the_lock_until_the_end_of_the_run(
    controller: Controller, etcd: Cluster, keys: Etcd, tmp_path: Path
) -> None:
    del controller.env["DISTLOCK_ENDPOINTS"]
    take = textwrap.indent(of_the_test(recipe("Ansible README"), etcd), " " * 4)
    other = f"{BIN}/distlock --endpoints={etcd.endpoints[0]} --lock-name=percona_prod --nowait -- true"
    look = f'    - ansible.builtin.raw: "{other}; echo $? >{tmp_path}/exit_code"\n'
    run = start(controller, "readme", f"- hosts: db\n  gather_facts: false\n  tasks:\n{take}\n{look}", hosts=["h1"])
    assert run.end() == 0, run.output
    assert notes(tmp_path, "exit_code") == ["1"]
    wait_until(lambda: keys.keys() == [], "the lock let go")


def test_the_recipes_with_a_strategy_wait_and_the_waits_are_listed(
    controller: Controller, etcd: Cluster, realm: Realm, realm_prefix: str, keys: Etcd, tmp_path: Path
) -> None:
    config = tmp_path / "of_the_page.cfg"
    settings = of_the_test(recipe("Ansible settings of the strategies"), etcd)
    config.write_text(f"{recipe('Ansible waits')}\n{settings}\n")
    package = "ansible.builtin.package:\n        name: percona-server-server\n        state: latest"
    service = "ansible.builtin.service:\n        name: mysql\n        state: reloaded"
    by_host = with_stand_ins(recipe("Ansible host_pinned"), (package, work(tmp_path, 6)))
    # The module on the node reads no ansible.cfg.
    hosts, defaults = of_the_modules(etcd, realm_prefix).split("\n", 1)
    by_play = with_stand_ins(recipe("Ansible linear"), (service, work(tmp_path, 6)), (hosts, f"{hosts}\n{defaults}"))
    asked = textwrap.indent(recipe("Ansible ask once more"), " " * 4)
    del controller.env["DISTLOCK_ENDPOINTS"]
    arguments = ("--extra-vars=cluster=percona_prod",)
    with realm.lock("percona_prod", "node-3", "RAM swap"):
        run = start(controller, "strategies", by_host, by_play, asked, arguments=arguments, ANSIBLE_CONFIG=str(config))
        run.says("percona_prod is held by node-3 since")
    assert run.end() == 0, run.output
    assert sorted(notes(tmp_path, "been")) == ["h1", "h1", "h2", "h2"]
    assert overlaps(tmp_path) == []
    wait_until(lambda: keys.keys() == [], "every lock let go")
    who = run.output[run.output.index("Who is at it") :]
    assert re.search(r'"ansible:[^:"]+:\d+\.[0-9a-f]{8}"', who), who
    assert re.search(r"DISTLOCK WAITS \*+\n.*h1: percona_prod: locked after ", who), who


def test_the_settings_of_the_modules_reach_the_etcd_that_they_name(
    controller: Controller, etcd: Cluster, realm: Realm, realm_prefix: str
) -> None:
    text = of_the_modules(etcd, realm_prefix)
    for name in ("DISTLOCK_ENDPOINTS", "DISTLOCK_PREFIX"):
        del controller.env[name]
    tasks = [{"distlock.distlock.distlock": {"name": "x", "reason": "the page"}}]
    run = start(
        controller, "settings", f"{text}\n  tasks: {yaml.safe_dump(tasks, default_flow_style=True)}", hosts=["h1"]
    )
    assert run.end() == 0, run.output
    assert [holder.reason for holder in realm.show("x").holders] == ["the page"]
