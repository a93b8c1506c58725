"""The recipes in docs/puppet.md work as printed, with stand-ins only for changes of packages and services."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core import LockState, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, quoted

pytestmark = pytest.mark.timeout(240)
LOCK = "percona_prod"


@pytest.fixture
def show(etcd: Cluster, realm_prefix: str) -> Callable[[], LockState]:
    return lambda: connect(etcd.endpoints, realm_prefix).show(LOCK)


def step(folder: Path, name: str) -> tuple[str, ...]:
    """A command that notes its name, and whether the lock keeps out others."""
    other = f"env -u DISTLOCK_HELD -u DISTLOCK_TOKEN {BIN}/distlock --lock-name={LOCK} --id=other --nowait -- true"
    return "/bin/sh", "-c", f"{other}; echo {name} $? >>{folder}/notes"


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_the_module_that_was_copied_writes_the_settings(
    new_node: Callable[..., ModuleNode], need: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    puppet = tmp_path / "bin/puppet"  # its folders are the test's own
    puppet.write_text(f'#!/bin/sh\nexec {need("puppet")} "$@" --codedir={tmp_path}/code\n')
    puppet.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-euc", recipe("Puppet module")], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    node = new_node()
    node.modules = tmp_path / "code/environments/production/modules"
    config = tmp_path / "distlock.yaml"
    mine = f"config_file => '{config}', config_owner => {os.getuid()}, config_group => {os.getgid()}"
    text = with_stand_ins(recipe("Puppet settings"), ("install   => 'none',", f"install => 'none', {mine},"))
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert yaml.safe_load(config.read_text()) == {
        "endpoints": ["https://etcd-1:2379", "https://etcd-2:2379", "https://etcd-3:2379"],
        "prefix": "/distlock/",
        "cacert": "/etc/distlock/ca.pem",
        "user": "distlock",
        "password": "secret",
        "release_timeout": 60,
    }


def test_one_command_and_several_resources_run_under_the_lock_which_is_then_free(
    node: ModuleNode, show: Callable[[], LockState], tmp_path: Path
) -> None:
    install = quoted("/usr/bin/apt-get", "--yes", "install", "percona-server-server")
    done = quoted("/usr/bin/test", "-e", str(tmp_path / "notes"))
    command = with_stand_ins(
        recipe("Puppet one command"),
        (install, quoted(*step(tmp_path, "command"))),
        ("['/usr/local/sbin/is-upgraded']", done),
    )
    resources = with_stand_ins(
        recipe("Puppet resources"),
        (
            "package { 'percona-server-server':\n  ensure => latest,",
            f"file {{ '{tmp_path}/package':\n  content => 'x',",
        ),
        (quoted("/usr/bin/mysqladmin", "--wait=10", "ping"), quoted(*step(tmp_path, "check"))),
    )
    program = f"Distlock::Exec {{ program => '{BIN}/distlock-puppet' }}"
    code, said = node.apply(f"{program}\n{command}\n-> {resources}")
    assert code == CHANGED, said
    assert notes(tmp_path) == ["command 1", "check 1"]
    assert (tmp_path / "package").read_text() == "x"
    assert not show().holders


def test_the_manifest_of_the_readme_runs_the_command_under_the_lock(
    node: ModuleNode, show: Callable[[], LockState], tmp_path: Path
) -> None:
    package, command = recipe("Puppet README").split("\n\n")
    assert package == recipe("Puppet package")  # which has a test of its own
    text = with_stand_ins(
        command,
        (
            quoted("/usr/bin/apt-get", "--yes", "install", "percona-server-server"),
            quoted(*step(tmp_path, "command")),
        ),
        ("['/usr/local/sbin/is-upgraded']", quoted("/usr/bin/test", "-e", str(tmp_path / "notes"))),
    )
    code, said = node.apply(f"Distlock::Exec {{ program => '{BIN}/distlock-puppet' }}\n{text}")
    assert code == CHANGED, said
    assert notes(tmp_path) == ["command 1"]
    assert not show().holders


def test_the_lock_of_a_run_ends_with_it_and_that_of_the_next_one_is_set(
    node: ModuleNode, show: Callable[[], LockState], tmp_path: Path
) -> None:
    work = f"exec {{ 'work':\n  command => {quoted(*step(tmp_path, 'work'))},"
    run_end = with_stand_ins(
        recipe("Puppet run_end"), ("package { 'percona-server-server':\n  ensure => latest,", work)
    )
    code, said = node.apply(f"{run_end}\n{recipe('Puppet whole runs')}")
    assert code == CHANGED, said
    assert notes(tmp_path) == ["work 1"]
    wait_until(lambda: not show().holders, "the end of the run's lock")
    written = (node.confdir / "puppet.conf").read_text().splitlines()
    section, *lines = recipe("Puppet lines").splitlines()
    assert {section, *lines} <= set(written)


def test_a_lock_is_listed_as_on_the_page(node: ModuleNode, etcd: Cluster, realm_prefix: str) -> None:
    realm = connect(etcd.endpoints, realm_prefix)
    realm.lock(LOCK, "puppet:db1", "Upgrade of Percona Server", step=True).acquire(0)
    places = ["--confdir", str(node.confdir), "--vardir", str(node.vardir), "--modulepath", str(node.modules)]
    command = ["puppet", "resource", "--color=false", *places, "--certname=db2", "distlock"]
    done = subprocess.run(command, env=node.env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed, printed = listing(done.stdout), listing(recipe("Puppet listing"))
    for changing in ("held_since", "token", "waiting"):
        assert listed.pop(changing).isdigit() is printed.pop(changing).isdigit()
    assert listed == printed


def listing(text: str) -> dict[str, Any]:
    assert f"distlock {{ '{LOCK}':" in text
    return dict(re.findall(r"^  (\w+) +=> (.+),$", text, re.MULTILINE))


def test_the_command_is_called_as_the_page_says() -> None:
    done = subprocess.run([BIN / "distlock-puppet", "--help"], capture_output=True, text=True, check=True)
    usage = [line.strip() for line in done.stdout.splitlines() if line.startswith("  distlock-puppet ")]
    assert usage[: len(recipe("Puppet command").splitlines())] == recipe("Puppet command").splitlines()
