"""The manifests in examples/puppet work, with stand-ins for what they would change."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core import LockState, connect
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, FAILED, UNCHANGED, quoted

pytestmark = pytest.mark.timeout(240)

EXAMPLES = ROOT / "examples" / "puppet"


@pytest.fixture
def show(etcd: Cluster, realm_prefix: str) -> Callable[[str], LockState]:
    return connect(etcd.endpoints, realm_prefix).show


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.pp").read_text()


def step(folder: Path, name: str, more: str = "true") -> str:
    """A stand-in that writes down its name."""
    return quoted("/bin/sh", "-c", f"echo {name} >> {folder}/steps; {more}")


def steps(folder: Path) -> list[str]:
    path = folder / "steps"
    return path.read_text().split() if path.exists() else []


def test_the_upgrade_takes_one_node_after_the_other(node: ModuleNode, seen: Etcd, show: Any, tmp_path: Path) -> None:
    package = step(tmp_path, "package", f"distlock --show --lock-name=percona_prod > {tmp_path}/during")
    due = (
        f"class {{ 'upgrade_node': due => true, package => {package}, service => {step(tmp_path, 'service')},"
        f" health => {step(tmp_path, 'health')} }}"
    )
    seen.lock("percona_prod", "puppet:db2", "Upgrade of Percona Server")
    code, said = node.apply(example("upgrade") + due)
    assert code == FAILED, said
    assert "percona_prod is held by puppet:db2" in said
    assert steps(tmp_path) == []
    seen.unlock("percona_prod")
    code, said = node.apply(example("upgrade") + due)
    assert code == CHANGED, said
    assert steps(tmp_path) == ["package", "service", "health"]
    assert re.search(r"held by +puppet:db1", (tmp_path / "during").read_text())
    assert not show("percona_prod").holders
    assert node.apply(example("upgrade") + "include upgrade_node")[0] == UNCHANGED


def test_whole_run_guards_the_next_run(node: ModuleNode, show: Any, tmp_path: Path, etcd: Cluster) -> None:
    config = tmp_path / "distlock.yaml"
    user = f"config_owner => {os.getuid()}, config_group => {os.getgid()}"
    own = f"{{ install => 'none', config_file => '{config}', {user} }}"
    run_lock = f"{{ program => '{BIN}/distlock-puppet' }}"
    whole = f"class {{ 'whole_run': endpoints => ['{etcd.endpoints[0]}'], distlock => {own}, run_lock => {run_lock} }}"
    assert node.apply(example("whole_run") + whole)[0] == CHANGED
    assert yaml.safe_load(config.read_text()) == {"endpoints": etcd.endpoints[:1]}
    look = quoted("/bin/sh", "-c", f"distlock --show --lock-name=percona_prod > {tmp_path}/during")
    code, said = node.apply(f"{example('whole_run')} {whole} exec {{ 'look': command => {look} }}")
    assert code == CHANGED, said
    assert re.search(r"held by +puppet:db1", (tmp_path / "during").read_text())
    assert "Puppet run" in (tmp_path / "during").read_text()
    wait_until(lambda: not show("percona_prod").holders, "the end of the run's lock")


def test_after_a_reboot_in_the_middle_the_node_continues_with_its_lock(
    node: ModuleNode, show: Any, tmp_path: Path
) -> None:
    # The stand-in for a reboot is the sudden end of Puppet.
    reboot = step(tmp_path, "reboot", f"touch {tmp_path}/rebooted; kill -KILL $PPID")
    manifest = (
        example("reboot")
        + f"class {{ 'reboot_node': is_done => {quoted('/usr/bin/test', '-e', f'{tmp_path}/rebooted')},"
        f" install => {step(tmp_path, 'install')}, reboot => {reboot}, health => {step(tmp_path, 'health')} }}"
    )
    run = node.start(manifest)
    assert run.wait() == -signal.SIGKILL, run.said
    assert steps(tmp_path) == ["install", "reboot"]
    (held,) = show("percona_prod").holders
    assert (held.owner, held.lifetime) == ("puppet:db1", "persistent")

    code, said = node.apply(manifest)
    assert code == CHANGED, said
    assert steps(tmp_path) == ["install", "reboot", "health"]
    assert "Distlock[percona_prod]/ensure" not in said  # it was its own already
    assert f"percona_prod, which was held by {held.owner}, is unlocked" in said
    assert not show("percona_prod").holders
