"""gate: distlock::exec, distlock::protect and the native type wait until the cluster is healthy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import connect
from distlock_core.model.state import LockState
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, CHANGED_AND_FAILED, quoted

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
PATH = quoted(str(BIN), "/usr/bin", "/bin")
FAILED = 4  # the exit code of a run without a change


@pytest.fixture
def show(etcd: Cluster, realm_prefix: str) -> Callable[[], LockState]:
    return lambda: connect(etcd.endpoints, realm_prefix).show("x")


def gate(folder: Path) -> str:
    """A gate that is green while `healthy` is there, and has odd characters in its words."""
    script = folder / "it's; a $(gate)"
    script.write_text(f'#!/bin/sh\necho "$1 $2"\nexec test -e {folder}/healthy\n')
    script.chmod(0o755)
    return f"gate => {quoted(str(script), 'lag', '$(id)')}, gate_every => 0.1"


@pytest.mark.parametrize("kind", ["exec", "protect", "type"])
def test_a_red_gate_refuses_the_lock_and_a_green_one_does_not(
    node: ModuleNode, seen: Etcd, show: Callable[[], LockState], tmp_path: Path, kind: str
) -> None:
    done = tmp_path / "done"
    work = {
        "exec": f"distlock::exec {{ 'x': path => {PATH}, command => ['/usr/bin/touch', '{done}'], {gate(tmp_path)} }}",
        "protect": f"file {{ '{done}': ensure => file }}"
        f" distlock::protect {{ 'x': resources => [File['{done}']], {gate(tmp_path)} }}",
        "type": f"distlock {{ 'x': {gate(tmp_path)} }} -> file {{ '{done}': ensure => file }}"
        f" -> distlock {{ 'y': ensure => unlocked, lock_name => 'x', {gate(tmp_path)} }}",
    }[kind]
    code, said = node.apply(work)
    assert code in (FAILED, CHANGED_AND_FAILED), said
    assert re.search(r"x is free; its gate is red: lag \$\(id\)", said)
    assert not done.exists()
    assert seen.keys() == []
    (tmp_path / "healthy").touch()
    code, said = node.apply(work)
    assert code == CHANGED, said
    assert done.exists()
    assert seen.keys() == []


@pytest.mark.parametrize("kind", ["exec", "protect", "type"])
def test_a_gate_that_is_red_after_the_work_keeps_the_lock(
    node: ModuleNode, seen: Etcd, show: Callable[[], LockState], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "healthy").touch()
    asks = f"{gate(tmp_path)}, gate_timeout => 1"
    work = {
        "exec": f"distlock::exec {{ 'x': path => {PATH}, command => ['/bin/rm', '{tmp_path}/healthy'], {asks} }}",
        "protect": f"file {{ '{tmp_path}/healthy': ensure => absent }}"
        f" distlock::protect {{ 'x': resources => [File['{tmp_path}/healthy']], {asks} }}",
        "type": f"distlock {{ 'x': {asks} }} -> file {{ '{tmp_path}/healthy': ensure => absent }}"
        f" -> distlock {{ 'y': ensure => unlocked, lock_name => 'x', {asks} }}",
    }[kind]
    code, said = node.apply(work)
    assert code in (FAILED, CHANGED_AND_FAILED), said
    assert re.search(r"x: not released: after 1s its gate is red: lag", said)
    (holder,) = show().holders
    assert holder.record.state == "kept"
    assert "its gate is red: lag $(id)" in holder.reason


def test_the_recipe_of_the_page(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    (tmp_path / "gate").write_text(f"#!/bin/sh\ntest -e {tmp_path}/healthy\n")
    (tmp_path / "gate").chmod(0o755)
    text = with_stand_ins(
        recipe("Puppet gate"),
        ("package { 'percona-server-server':\n  ensure => latest,", f"file {{ '{tmp_path}/p':\n  ensure => file,"),
        ("Package['percona-server-server']", f"File['{tmp_path}/p']"),
        ("/usr/local/bin/all-nodes-synced", f"{tmp_path}/gate"),
        ("timeout      => 600", "timeout      => 0"),
    )
    code, said = node.apply(text)
    assert code == FAILED, said
    assert "its gate is red" in said
    (tmp_path / "healthy").touch()
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert seen.keys() == []


def test_the_example_for_percona(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    (tmp_path / "gate").write_text(f"#!/bin/sh\ntest -e {tmp_path}/healthy\n")
    (tmp_path / "gate").chmod(0o755)
    text = with_stand_ins(
        (ROOT / "examples" / "rollouts" / "percona" / "upgrade.pp").read_text(),
        ("package { 'percona-server-server':\n    ensure => latest,", f"file {{ '{tmp_path}/p':\n    ensure => file,"),
        ("Package['percona-server-server']", f"File['{tmp_path}/p']"),
        ("/usr/local/bin/all-nodes-synced", f"{tmp_path}/gate"),
        ("timeout      => 3600", "timeout      => 0"),
        ("gate_for     => 10", "gate_for     => 0"),
    )
    code, said = node.apply(f"{text} include percona_upgrade")
    assert code == FAILED, said
    assert "its gate is red" in said
    (tmp_path / "healthy").touch()
    code, said = node.apply(f"{text} include percona_upgrade")
    assert code == CHANGED, said
    assert seen.keys() == []


def test_a_whole_run_begins_only_while_the_cluster_is_healthy(
    node: ModuleNode, seen: Etcd, show: Callable[[], LockState], tmp_path: Path
) -> None:
    """The prerun_command that distlock::run_lock sets, in a run of its own."""
    (tmp_path / "gate").write_text(f"#!/bin/sh\necho lag 12\ntest -e {tmp_path}/healthy\n")
    (tmp_path / "gate").chmod(0o755)
    conf = tmp_path / "puppet.conf"
    code, said = node.apply(
        f"class {{ 'distlock::run_lock': lock_name => 'x', gate => '{tmp_path}/gate', puppet_conf => '{conf}',"
        f" program => '{BIN}/distlock-puppet' }}"
    )
    assert code == CHANGED, said
    (prerun,) = re.findall(r"^\s*prerun_command *= *(.*)$", conf.read_text(), re.MULTILINE)
    assert f"--gate={tmp_path}/gate" in prerun
    text = f"file {{ '{tmp_path}/work': ensure => file }}"
    (node.confdir / "puppet.conf").write_text(conf.read_text())
    code, said = node.apply(text)
    assert "x is free; its gate is red: lag 12" in said
    assert not (tmp_path / "work").exists()
    (tmp_path / "healthy").touch()
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert (tmp_path / "work").exists()
