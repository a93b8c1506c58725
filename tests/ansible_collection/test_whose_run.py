"""Whose lock it is: two runs never share one because of a name, and each knows its own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import (
    EXAMPLES,
    RUN_BOUND,
    Controller,
    Gate,
    extra,
    guarded,
    note,
    notes,
    overlaps,
)
from tests.support.etcd_view import Etcd
from tests.support.needs import need
from tests.support.paths import ROOT
from tests.support.processes import is_running, wait_until
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
PAGE = (ROOT / "docs/ansible.md").read_text(encoding="utf-8")
MODULE = "distlock.distlock.distlock"


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    sshd = Sshd(tmp_path_factory.mktemp("sshd"))
    yield sshd
    sshd.stop()


def play(*tasks: dict[str, Any], **words: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, **words, "tasks": list(tasks)}


def test_a_rolling_upgrade_that_is_started_twice_for_one_host_waits_for_the_first(
    controller: Controller, realm: Realm, keys: Etcd, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    first_steps = [*guarded(tmp_path)[:1], gate.task(), *guarded(tmp_path)[1:]]
    first = controller.start(EXAMPLES / "rolling_upgrade.yml", *extra(tmp_path, *first_steps))
    gate.reached()
    words = extra(tmp_path, *guarded(tmp_path), name="second")
    second = controller.start(EXAMPLES / "rolling_upgrade.yml", *words)
    second.says("h1: waiting: percona_prod is held by ansible:h1 since")
    wait_until(lambda: realm.show("percona_prod").waiting == 1, "the second in line", RUN_BOUND)
    assert notes(tmp_path, "been") == ["h1"]
    gate.open()
    for run in (first, second):
        assert run.end() == 0, run.output
    assert overlaps(tmp_path) == []
    assert notes(tmp_path, "been") == ["h1", "h1"]
    assert keys.keys() == []


def test_over_ssh_a_dead_runs_step_is_continued_and_a_living_ones_is_not(
    controller: Controller, keys: Etcd, sshd: Sshd
) -> None:
    """The host cannot tell whether a process of the controller lives; the controller can."""
    inventory = ("-i", str(sshd.inventory(["h1"])))
    gate = Gate(controller.folder)
    lock = {"name": "x", "owner": "us"}
    first = controller.start([play({MODULE: lock}, gate.task())], *inventory)
    gate.reached()
    code, output = controller.run([play({MODULE: lock})], *inventory)
    assert code == 2, output
    assert "x is held by us since" in " ".join(output.split())
    code, output = controller.run([play({MODULE: {**lock, "state": "unlocked"}})], *inventory)
    assert code == 2, output
    code, output = controller.run([play({MODULE: {**lock, "state": "held"}})], *inventory)
    assert code == 2, output
    gate.open()
    assert first.end() == 0, first.output
    assert keys.keys() == ["x"]
    tasks = [{MODULE: lock}, {MODULE: {**lock, "state": "held"}}, {MODULE: {**lock, "state": "unlocked"}}]
    code, output = controller.run([play(*tasks)], *inventory)
    assert code == 0, output
    assert keys.keys() == []


def container(command: list[str], name: str) -> list[str]:
    """The command as pid 1 of a container with that host name."""
    script = f'mount --make-rprivate / && hostname {name} && exec "$@"'
    return ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "sh", "-c", script, "sh", *command]


@pytest.mark.parametrize("mechanism", ["module", "run_end", "linear"])
def test_two_runs_that_are_pid_1_of_two_containers_with_one_name_are_two_owners(
    controller: Controller, realm: Realm, keys: Etcd, tmp_path: Path, mechanism: str
) -> None:
    need("unshare", "apt-get install util-linux")
    if os.geteuid() != 0:
        pytest.skip("only root makes such containers")
    gate = Gate(tmp_path)
    lock: dict[str, Any] = {"name": "x", **({"until": "run_end"} if mechanism == "run_end" else {})}
    under = {"strategy": "distlock.distlock.linear", "vars": {"distlock_name": "x"}} if mechanism == "linear" else {}
    take = [] if mechanism == "linear" else [{MODULE: lock}]
    controller.wrap = lambda command: container(command, "ci")
    first = controller.start([play(*take, gate.task(), **under)])
    gate.reached()
    (holder,) = realm.show("x").holders
    assert "ci:1." in (holder.owner or "")
    others = {
        "locked": play(*take, note(tmp_path, "inside"), **under),
        "unlocked": play({MODULE: {"name": "x", "state": "unlocked"}}),
        "held": play({MODULE: {"name": "x", "state": "held"}}),
    }
    for name, plays in others.items():
        code, output = controller.run([plays])
        assert code == 2, (name, output)
        assert f"held by {holder.owner}" in " ".join(output.split()), (name, output)
    assert notes(tmp_path) == []
    assert [found.token for found in realm.show("x").holders] == [holder.token]
    with gate.fifo.open("w"):  # its pid means nothing out here
        pass
    assert first.end() == 0, first.output


def test_the_lock_of_a_lost_host_of_this_run_is_released_and_that_of_a_working_one_is_not(
    controller: Controller, realm: Realm, keys: Etcd, tmp_path: Path
) -> None:
    unlock = {MODULE: {"name": "x", "state": "unlocked"}, "ignore_errors": True, "register": "done"}
    first = {MODULE: {"name": "x"}, "when": "inventory_hostname == 'h1'"}
    at_work = {**unlock, "when": "inventory_hostname == 'h2'"}
    lost = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h1'"}
    told = note(tmp_path, "{{ done.failed }}-{{ done.changed }}")
    told_h2 = {**told, "when": "inventory_hostname == 'h2'"}
    code, output = controller.run([play(first, at_work, told_h2, lost, unlock, told)], hosts="h1,h2")
    assert code == 2, output
    assert notes(tmp_path) == ["True-False", "False-True"]
    assert keys.keys() == []


def test_a_lock_taken_once_for_all_hosts_is_released_once_even_if_its_host_is_lost(
    controller: Controller, keys: Etcd
) -> None:
    once = {"run_once": True}
    lost = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h1'"}
    plays = [play({MODULE: {"name": "x"}, **once}, lost, {MODULE: {"name": "x", "state": "unlocked"}, **once})]
    code, output = controller.run(plays, hosts="h1,h2")
    assert code == 2, output
    assert keys.keys() == []


@pytest.mark.parametrize("over", ["local", "ssh"])
@pytest.mark.parametrize("ending", ["SIGKILL", "SIGHUP", "SIGTERM", "SIGINT", "timeout"])
def test_a_run_or_task_that_ends_while_it_waits_gives_up_its_place_and_takes_nothing(
    controller: Controller, realm: Realm, keys: Etcd, request: pytest.FixtureRequest, over: str, ending: str
) -> None:
    inventory = () if over == "local" else ("-i", str(request.getfixturevalue("sshd").inventory(["h1"])))
    keys.lock("x", owner="node-3")
    task: dict[str, Any] = {MODULE: {"name": "x", "timeout": -1}}
    if ending == "timeout":
        task["timeout"] = 15
    run = controller.start([play(task)], *inventory)
    wait_until(lambda: realm.show("x").waiting == 1, "a place in line", RUN_BOUND)
    workers = run.workers()
    assert "h1: waiting: x is held by node-3 since" in run.output
    if ending != "timeout":
        run.send(signal.Signals[ending])
    run.end()
    wait_until(lambda: realm.show("x").waiting == 0, "the place given up")
    wait_until(lambda: not any(is_running(pid) for pid in workers), "the workers gone")
    keys.unlock("x")
    assert keys.keys() == []
    table = PAGE.partition("A module that still *waits*")[2].partition("\n\n## ")[0]
    assert re.search(rf"^\|[^|]*{ending}.*\| gives up its place \| gives up its place \|$", table, re.MULTILINE)
