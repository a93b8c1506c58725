"""distlock::policy in real runs of Puppet against a real etcd, and runs under a policy."""

from __future__ import annotations

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, CHANGED_AND_FAILED, UNCHANGED
from tests.support.time_windows import closed_now, open_now

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def policy(node: ModuleNode, words: str) -> str:
    return f"distlock::policy {{ 'x': {words}, path => split('{node.env['PATH']}', ':') }}"


def test_it_is_set_exactly_and_once_and_removed(node: ModuleNode, realm: Realm) -> None:
    realm.set_policy("x", expect=77)
    words = f"slots => 2, cooldown => '2m', window => '{open_now()}, !2020-01-01', reason => 'it\\'s; $(agreed)'"
    code, said = node.apply(policy(node, words), "--noop")
    assert code == UNCHANGED, said
    assert "noop" in said
    found = realm.policy("x")
    assert found is not None
    assert found.fields == {"expect": 77}
    code, said = node.apply(policy(node, words))
    assert code == CHANGED, said
    found = realm.policy("x")
    assert found is not None
    assert (found.slots, found.cooldown, found.expect) == (2, 120, None)
    assert (found.by, found.reason) == ("puppet:db1", "it's; $(agreed)")
    code, said = node.apply(policy(node, words))
    assert code == UNCHANGED, said
    for expected in (CHANGED, UNCHANGED):
        code, said = node.apply(policy(node, "ensure => absent"))
        assert code == expected, said
    assert realm.policies() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ensure => present", "it needs at least one of slots"),
        ("ensure => absent, slots => 2", "removes the whole policy: leave out slots"),
        ("slots => 0", "slots"),
        ("window => 'Mo 1-2'", "window: expected windows such as"),
        ("window => 'Mon local'", "local is another one on each machine"),
    ],
)
def test_what_is_wrong_fails_and_is_said(node: ModuleNode, realm: Realm, words: str, said: str) -> None:
    code, output = node.apply(policy(node, words))
    assert code not in (UNCHANGED, CHANGED)
    assert said in output
    assert realm.policies() == []


def test_a_command_and_the_type_go_by_it_and_by_a_window_of_their_own(node: ModuleNode, realm: Realm) -> None:
    realm.set_policy("x", slots=2, cooldown=60)
    realm.lock("x", "other").acquire(0)
    run = "distlock::exec {{ 'run': lock_name => 'x', command => ['/bin/true'], {}, path => split('{}', ':') }}"
    code, said = node.apply(run.format(f"window => '{closed_now()}'", node.env["PATH"]))
    assert code == CHANGED_AND_FAILED or code not in (UNCHANGED, CHANGED), said
    assert "outside the window" in said
    code, said = node.apply(run.format(f"slots => 1, expect => '1h', window => '{open_now()}'", node.env["PATH"]))
    assert code == CHANGED, said
    (cooling,) = (one for one in realm.show("x").holders if one.owner != "other")
    assert (cooling.record.state, cooling.record.limit, cooling.expect) == ("cooling", 2, 3600)
    realm.unlock("x", token=cooling.token)
    code, said = node.apply(f"distlock {{ 'x': window => '{closed_now()}' }}")
    assert "outside the window" in said
    code, said = node.apply(f"distlock {{ 'x': window => '{open_now()}', expect => '2h' }}")
    assert code == CHANGED, said
    (mine,) = (one for one in realm.show("x").holders if one.owner != "other")
    assert mine.expect == 7200


def test_the_recipe_of_the_page(node: ModuleNode, realm: Realm) -> None:
    text = recipe("Puppet policy").replace("slots ", f"path => split('{node.env['PATH']}', ':'), slots ", 1)
    code, said = node.apply(text)
    assert code == CHANGED, said
    found = realm.policy("percona_prod")
    assert found is not None
    window = "Mon-Fri 22:00-04:00 Europe/Berlin"
    assert found.fields == {"slots": 3, "cooldown": 120, "window": window, "expect": 1200}
