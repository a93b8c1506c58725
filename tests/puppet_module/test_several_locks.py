"""lock_names: several locks for a resource, a command or a whole run of Puppet, all or none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.puppet_module.test_type import look, looked
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, CHANGED_AND_FAILED, FAILED, UNCHANGED

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
BOTH, REVERSED = "['rack', 'web']", "['web', 'rack']"
LOCK = f"distlock {{ 'take': lock_names => {BOTH} }}"
UNLOCK = f"distlock {{ 'give': ensure => unlocked, lock_names => {REVERSED} }}"


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_a_resource_locks_all_another_unlocks_all_and_each_says_so(
    node: ModuleNode, seen: Etcd, realm: Realm, tmp_path: Path
) -> None:
    code, said = node.apply(f"{LOCK} -> exec {{ 'look': command => {look(tmp_path / 'during', 'rack', 'web')} }}")
    assert code == CHANGED, said
    during = looked(tmp_path / "during")
    assert {lock["owner"] for lock in during.values()} == {"puppet:db1"}
    token = during["rack"]["token"]
    assert f"rack and web are locked by puppet:db1, token {token}" in said
    # The next run goes on with them, in any order.
    code, said = node.apply(f"distlock {{ 'again': lock_names => {REVERSED} }}")
    assert code == UNCHANGED, said
    assert [state.holders[0].token for state in realm.show_all(["rack", "web"])] == [token, token]
    code, said = node.apply(UNLOCK)
    assert code == CHANGED, said
    assert "web and rack, which were held by puppet:db1, are unlocked" in said
    assert node.apply(UNLOCK)[0] == UNCHANGED
    assert seen.keys() == []


def test_none_is_locked_while_one_is_held_and_none_is_unlocked_either(node: ModuleNode, seen: Etcd) -> None:
    seen.lock("web", "node-3", "Upgrade RPMs")
    code, said = node.apply(f"{LOCK} -> notify {{ 'work': }}")
    assert code == FAILED, said
    assert re.search(r'web is held by node-3 since .*: "Upgrade RPMs"', said)
    assert "rack is" not in said
    seen.lock("rack", "puppet:db1")
    code, said = node.apply(UNLOCK)
    assert code == FAILED, said
    assert "none of the locks was unlocked" in said
    assert seen.keys() == ["rack", "web"]


def test_a_noop_run_shows_what_would_be_in_the_way_and_plans_each(node: ModuleNode, seen: Etcd) -> None:
    code, said = node.apply(f"{LOCK} -> distlock {{ 'one': lock_name => 'web' }} -> {UNLOCK}", "--noop")
    assert code == UNCHANGED, said
    assert re.search(r"Distlock\[take\]/ensure: current_value '?unlocked'?, should be '?locked'?", said)
    assert "Distlock[one]/ensure" not in said
    assert "Distlock[give]/ensure" in said
    assert seen.found() == {}


def test_two_nodes_that_name_them_in_opposite_orders_take_turns(
    new_node: Callable[..., ModuleNode], seen: Etcd, tmp_path: Path
) -> None:
    """Each takes and releases them four times; mkdir fails when the other is inside."""
    runs = []
    for certname, names in (("db1", BOTH), ("db2", REVERSED)):
        steps = [
            f"distlock {{ 'take {turn}': lock_names => {names}, timeout => 200 }}"
            f" -> exec {{ 'work {turn}': command => ['/bin/sh', '-c', 'mkdir {tmp_path}/in && rmdir {tmp_path}/in'] }}"
            f" -> distlock {{ 'give {turn}': ensure => unlocked, lock_names => {names} }}"
            for turn in range(4)
        ]
        runs.append(new_node(certname).start(" -> ".join(steps)))
    for run in runs:
        assert run.wait() == CHANGED, run.said
    assert seen.keys() == []


def test_they_end_with_the_run(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    lock = f"distlock {{ 'both': lock_names => {BOTH}, until => run_end }}"
    code, said = node.apply(f"{lock} -> exec {{ 'look': command => {look(tmp_path / 'during', 'rack', 'web')} }}")
    assert code == CHANGED, said
    assert {found["lifetime"] for found in looked(tmp_path / "during").values()} == {"bound"}
    wait_until(lambda: seen.keys() == [] and seen.new_leases() == set(), "both end with the run", 60)


def test_a_command_runs_under_all_and_keeps_or_freezes_all_when_it_fails(
    node: ModuleNode, seen: Etcd, realm: Realm, tmp_path: Path
) -> None:
    def upgrade(command: str, **words: str) -> str:
        words = {"program": f"'{BIN}/distlock-puppet'", "path": f"split('{node.env['PATH']}', ':')", **words}
        given = "".join(f", {word} => {value}" for word, value in words.items())
        return f"distlock::exec {{ 'any text, with / in it': lock_names => {BOTH}, command => {command}{given} }}"

    code, said = node.apply(upgrade(look(tmp_path / "during", "rack", "web")))
    assert code == CHANGED, said
    assert {found["owner"] for found in looked(tmp_path / "during").values()} == {"puppet:db1"}
    assert seen.keys() == []
    assert node.apply(upgrade("['/bin/false']", on_failure="'keep'"))[0] == FAILED
    assert {state.holders[0].record.state for state in realm.show_all(["rack", "web"])} == {"kept"}
    realm.unlock_all(["rack", "web"])
    assert node.apply(upgrade("['/bin/false']", on_failure="'freeze'"))[0] == FAILED
    assert all(state.frozen is not None and not state.holders for state in realm.show_all(["rack", "web"]))
    code, said = node.apply(upgrade("['/bin/true']"))
    assert code == FAILED, said
    assert "rack is frozen by puppet:db1" in said
    assert "web is frozen by puppet:db1" in said


def test_protect_takes_all_before_the_first_change_and_leaves_all_after_a_failure(
    node: ModuleNode, seen: Etcd, tmp_path: Path
) -> None:
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }}
        -> exec {{ 'during': command => {look(tmp_path / "during", "rack", "web")}, creates => '{tmp_path}/during' }}
        -> exec {{ 'restart': command => '/usr/bin/test -e {tmp_path}/repaired', unless => '/bin/false' }}
        distlock::protect {{ 'rack and cluster':
          lock_names => {BOTH},
          resources  => [File['{tmp_path}/package'], Exec['restart']],
        }}
    """
    seen.lock("web", "node-3")
    code, said = node.apply(text)
    assert not (tmp_path / "package").exists()
    assert "web is held by node-3 since" in said
    assert seen.keys() == ["web"]
    seen.unlock("web")
    code, said = node.apply(text)
    assert code == CHANGED_AND_FAILED, said
    assert {found["owner"] for found in looked(tmp_path / "during").values()} == {"puppet:db1"}
    assert seen.keys() == ["rack", "web"]
    (tmp_path / "repaired").touch()
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert "rack and web are already held by this node" in said
    assert "rack and web, which were held by puppet:db1, are unlocked" in said
    assert seen.keys() == []


def test_a_whole_run_takes_all_and_releases_all(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    """The prerun_command and postrun_command that distlock::run_lock sets, in a run of its own."""
    conf = tmp_path / "puppet.conf"
    code, said = node.apply(
        f"class {{ 'distlock::run_lock': lock_names => {BOTH}, puppet_conf => '{conf}',"
        f" program => '{BIN}/distlock-puppet' }}"
    )
    assert code == CHANGED, said
    assert conf.read_text().count("--lock-name=rack --lock-name=web") == 2
    (node.confdir / "puppet.conf").write_text(conf.read_text())
    work = f"exec {{ 'look': command => {look(tmp_path / 'during', 'rack', 'web')} }}"
    code, said = node.apply(work)
    assert code == CHANGED, said
    during = looked(tmp_path / "during")
    assert {(lock["owner"], lock["lifetime"]) for lock in during.values()} == {("puppet:db1", "bound")}
    assert seen.keys() == []
    seen.lock("web", "node-3")
    code, said = node.apply(f"file {{ '{tmp_path}/work': ensure => file }}")
    assert "web is held by node-3 since" in said
    assert not (tmp_path / "work").exists()
    assert seen.keys() == ["web"]


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ("distlock { 'x': lock_name => 'a', lock_names => ['b'] }", "lock_name, lock_names: use one of the two"),
        ("distlock { 'x': lock_names => [] }", "lock_names: expected names"),
        ("distlock { 'x': lock_names => ['a', 'a'] }", "the lock 'a' is named twice: name it once"),
        (
            "distlock { 'x': lock_names => Integer[1, 17].map |$n| { \"n${n}\" } }",
            "17 locks are named: at most ",
        ),
        (
            "distlock::exec { 'x': lock_name => 'a', lock_names => ['b'], command => ['/bin/true'] }",
            "lock_name, lock_names: use one of the two",
        ),
        (
            "distlock::protect { 'x': lock_name => 'a', lock_names => ['b'], resources => [Notify['y']] }",
            "lock_name, lock_names: use one of the two",
        ),
    ],
)
def test_bad_names_are_refused(node: ModuleNode, seen: Etcd, manifest: str, why: str) -> None:
    code, said = node.apply(manifest)
    assert code not in (CHANGED, UNCHANGED)
    assert why in said
    assert seen.found() == {}


def test_the_recipe_of_the_page(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    package = (
        ("package { 'percona-server-server':\n  ensure => latest", f"file {{ '{tmp_path}/p':\n  content => 'new'"),
        ("Package['percona-server-server']", f"File['{tmp_path}/p']"),
        ("timeout    => 600", "timeout    => 0"),
    )
    text = with_stand_ins(recipe("Puppet lock_names"), *package)
    seen.lock("rack-7", "node-3")
    node.apply(text)
    assert not (tmp_path / "p").exists()
    assert seen.keys() == ["rack-7"]
    seen.unlock("rack-7")
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert seen.keys() == []
