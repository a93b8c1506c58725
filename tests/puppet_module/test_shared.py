"""Shared locks in real runs of Puppet: `distlock::exec`, the type, and protected resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, UNCHANGED

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_the_recipe_shares_the_lock(node: ModuleNode, realm: Realm) -> None:
    other = realm.lock("percona_prod", "other", shared=True).acquire(0)
    text = with_stand_ins(recipe("Puppet shared"), ("['/usr/local/sbin/backup']", "['/bin/true']"))
    where = f"Distlock::Exec {{ path => split('{node.env['PATH']}', ':') }}\n"
    code, said = node.apply(where + text)
    assert code == CHANGED, said
    assert other.verify()
    other.release()
    realm.lock("percona_prod", "upgrade").acquire(0)
    code, said = node.apply(where + text.replace("200", "0"))
    assert code not in (UNCHANGED, CHANGED)
    assert "percona_prod is held by upgrade" in said


def test_the_type_shares_the_lock(node: ModuleNode, realm: Realm) -> None:
    other = realm.lock("x", "other", shared=True).acquire(0)
    code, said = node.apply("distlock { 'x': shared => true }")
    assert code == CHANGED, said
    assert all(holder.is_shared for holder in realm.show("x").holders)
    code, said = node.apply("distlock { 'x': shared => true }")
    assert code == UNCHANGED, said
    code, said = node.apply("distlock { 'x': ensure => unlocked }")
    assert code == CHANGED, said
    assert [holder.owner for holder in realm.show("x").holders] == ["other"]
    code, said = node.apply("distlock { 'x': }")
    assert "x is held by other (shared)" in said
    code, said = node.apply("distlock { 'x': shared => true, slots => 3 }")
    assert "slots and shared contradict each other" in said
    code, said = node.apply("distlock { 'x': ensure => unlocked, shared => true }")
    assert "shared: goes with ensure => locked" in said
    assert other.verify()


def test_protected_resources_share_the_lock(node: ModuleNode, realm: Realm, tmp_path: Path) -> None:
    other = realm.lock("x", "other", shared=True).acquire(0)
    text = f"""
    file {{ '{tmp_path}/p': content => 'new' }}
    distlock::protect {{ 'x': resources => [File['{tmp_path}/p']], shared => true }}
    """
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert (tmp_path / "p").read_text() == "new"
    assert other.verify()
    assert [holder.owner for holder in realm.show("x").holders] == ["other"]
