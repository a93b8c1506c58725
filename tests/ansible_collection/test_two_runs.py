"""Two controllers at once, on hosts that both of them have: never two hosts in the guarded part."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ansible_controller import Controller, Gate, guarded, notes, overlaps
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
MECHANISMS = ("module", "run_end", "linear", "host_pinned")


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    sshd = Sshd(tmp_path_factory.mktemp("sshd"))
    yield sshd
    sshd.stop()


def play(mechanism: str, tasks: list[dict[str, Any]], timeout: float) -> dict[str, Any]:
    """A play of these tasks, one host after the other, each under the lock x or all of them."""
    base: dict[str, Any] = {"hosts": "all", "gather_facts": False}
    if mechanism in ("linear", "host_pinned"):
        variables = {"distlock_name": "x", "distlock_timeout": timeout}
        serial = {"serial": 1} if mechanism == "linear" else {}
        return {**base, "strategy": f"distlock.distlock.{mechanism}", "vars": variables, **serial, "tasks": tasks}
    lock: dict[str, Any] = {"name": "x", "state": "locked", "timeout": timeout}
    if mechanism == "run_end":
        # For the whole run, so in one name.
        return {**base, "serial": 1, "tasks": [{MODULE: {**lock, "until": "run_end", "owner": "{{ me }}"}}, *tasks]}
    unlock = {MODULE: {"name": "x", "state": "unlocked"}}
    return {**base, "serial": 1, "tasks": [{"block": [{MODULE: lock}, *tasks], "always": [unlock]}]}


def both(controller: Controller, mechanism: str, *arguments: str, hosts: tuple[str, str]) -> None:
    folder = controller.folder
    plays = [play(mechanism, guarded(folder), -1)]
    limits = [("-l", names.replace(",", ":")) if arguments else () for names in hosts]
    runs = [
        controller.start(plays, *arguments, *limit, "-e", f"me=run{number}", hosts=names)
        for number, (names, limit) in enumerate(zip(hosts, limits))
    ]
    for run in runs:
        assert run.end() == 0, run.output
    assert overlaps(folder) == []
    assert sorted(notes(folder, "been")) == sorted(",".join(hosts).split(","))


def refused(controller: Controller, mechanism: str, *arguments: str) -> str:
    """The output of a second run that does not wait, while the first is in the guarded part."""
    gate, been = Gate(controller.folder), notes(controller.folder, "been")
    first = controller.start([play(mechanism, [gate.task()], 0)], *arguments, "-e", "me=run0")
    gate.reached()
    code, output = controller.run([play(mechanism, guarded(controller.folder), 0)], *arguments, "-e", "me=run1")
    assert code == 2, output
    assert notes(controller.folder, "been") == been
    gate.open()
    assert first.end() == 0, first.output
    of_the_run = rf"{first.pid}\.[0-9a-f]{{8}}"
    owner = {"linear": f":{of_the_run}", "run_end": "run0"}.get(mechanism, f"ansible:h1@{_host()}:{of_the_run}")
    assert re.search(f"{owner} since", " ".join(output.split())), output
    return output


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_two_runs_at_once_never_have_two_hosts_in_the_guarded_part(
    controller: Controller, keys: Etcd, mechanism: str
) -> None:
    # With the module a host costs most: three take turns too.
    both(controller, mechanism, hosts=("h1,h2", "h2" if mechanism == "module" else "h2,h3"))
    wait_until(lambda: keys.keys() == [] and keys.new_leases() == set(), "nothing left in etcd")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_second_run_that_does_not_wait_fails_and_names_the_first(
    controller: Controller, keys: Etcd, mechanism: str
) -> None:
    refused(controller, mechanism)
    wait_until(lambda: keys.keys() == [], "the first one's lock released")


def test_over_ssh_to_nodes_that_have_a_bare_python(controller: Controller, keys: Etcd, sshd: Sshd) -> None:
    found = subprocess.run(
        [sshd.python, "-I", "-c", "import distlock_core"], capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError" in found.stderr
    inventory = str(sshd.inventory(["h1", "h2"]))
    both(controller, "module", "-i", inventory, hosts=("h1,h2", "h2"))
    wait_until(lambda: keys.keys() == [], "nothing left in etcd")
    refused(controller, "module", "-i", inventory, "-l", "h1")
    wait_until(lambda: keys.keys() == [], "the first one's lock released")


def test_over_ssh_the_strategies_need_nothing_on_the_nodes(controller: Controller, keys: Etcd, sshd: Sshd) -> None:
    inventory = str(sshd.inventory(["h1", "h2"]))
    both(controller, "host_pinned", "-i", inventory, hosts=("h1,h2", "h2"))
    wait_until(lambda: keys.keys() == [], "nothing left in etcd")


def _host() -> str:
    from distlock_core.process.identity import hostname

    return hostname()
