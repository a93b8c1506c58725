"""A rank, in real runs of Puppet: of distlock::exec, distlock::protect, distlock::run_lock and the type."""

from __future__ import annotations

from pathlib import Path

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, UNCHANGED

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def waited_for(seen: Etcd) -> Etcd:
    """The lock x is free, but somebody with the default rank waits for it, and for something else."""
    seen.lock("x/queue/50/exclusive/0000000000000001", "someone")
    return seen


def manifests(node: ModuleNode, folder: Path) -> dict[str, str]:
    """Each with a place for more parameters."""
    path = f"path => split('{node.env['PATH']}', ':')"
    return {
        "exec": f"distlock::exec {{ 'x': command => ['/bin/true'], {path}, %s }}",
        "protect": f"file {{ '{folder}/new': content => 'new' }} "
        f"distlock::protect {{ 'x': resources => [File['{folder}/new']], %s }}",
        "type": "distlock { 'x': ensure => locked, %s }",
    }


@pytest.mark.parametrize("what", ["exec", "protect", "type"])
def test_a_lower_rank_goes_before_a_waiter(node: ModuleNode, waited_for: Etcd, tmp_path: Path, what: str) -> None:
    manifest = manifests(node, tmp_path)[what]
    for rank in ("reason => 'usual'", "rank => 51"):
        code, said = node.apply(manifest % rank)
        assert code not in (UNCHANGED, CHANGED)
        assert "x is free, but 1 is waiting" in said
    code, said = node.apply(manifest % "rank => 10")
    assert code == CHANGED, said


@pytest.mark.parametrize("rank", ["100", "-1", "'soon'"])
@pytest.mark.parametrize("what", ["exec", "type"])
def test_a_bad_rank_is_refused(node: ModuleNode, realm: Realm, tmp_path: Path, what: str, rank: str) -> None:
    code, said = node.apply(manifests(node, tmp_path)[what] % f"rank => {rank}")
    assert code not in (UNCHANGED, CHANGED)
    assert "rank" in said
    assert realm.list() == []


def test_the_run_lock_hands_it_to_the_command_before_each_run(node: ModuleNode) -> None:
    code, said = node.apply(
        "class { 'distlock::run_lock': lock_name => 'x', program => '/usr/local/bin/distlock-puppet', rank => 90 }"
    )
    assert code == CHANGED, said
    assert "acquire --rank=90 " in (node.confdir / "puppet.conf").read_text()


def test_the_recipe_of_the_page(node: ModuleNode, realm: Realm) -> None:
    text = with_stand_ins(
        recipe("Puppet rank"),
        ("['/usr/bin/yum', '--assumeyes', 'update']", f"['/bin/true'], path => split('{node.env['PATH']}', ':')"),
        ("$facts['mysql_role']", "'primary'"),
    )
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert realm.show("percona_prod").last is not None


def test_the_example_for_replicas(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    text = with_stand_ins(
        (ROOT / "examples" / "rollouts" / "replicas" / "upgrade.pp").read_text(),
        (
            "package { 'mysql-community-server':\n    ensure => latest,",
            f"file {{ '{tmp_path}/p':\n    content => 'new',",
        ),
        ("Package['mysql-community-server']", f"File['{tmp_path}/p']"),
        ("timeout   => 3600", "timeout   => 2"),
        ("'/usr/local/bin/replicas-upgraded'", f"'/usr/bin/test', '-e', '{tmp_path}/green'"),
    )
    (tmp_path / "green").touch()
    seen.lock("mysql_prod/queue/50/x0000000000000001", "someone")  # the primary is served after it, a replica before
    code, said = node.apply(f"{text} class {{ 'mysql_upgrade': primary => true }}")
    assert code not in (UNCHANGED, CHANGED), said
    assert not (tmp_path / "p").exists()
    code, said = node.apply(f"{text} class {{ 'mysql_upgrade': primary => false }}")
    assert code == CHANGED, said
    (tmp_path / "p").unlink()
    seen.unlock("mysql_prod/queue/50/x0000000000000001")
    (tmp_path / "green").unlink()
    code, said = node.apply(f"{text} class {{ 'mysql_upgrade': primary => true }}")
    assert code not in (UNCHANGED, CHANGED), said
    (tmp_path / "green").touch()
    code, said = node.apply(f"{text} class {{ 'mysql_upgrade': primary => true }}")
    assert code == CHANGED, said
    assert seen.keys() == []
