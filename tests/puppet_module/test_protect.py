"""distlock::protect: the lock is acquired right before a protected resource is changed, and in no other run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.puppet_module.test_type import look, looked
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_fixtures import commits
from tests.support.etcd_view import Etcd
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, CHANGED_AND_FAILED, UNCHANGED

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


def manifest(folder: Path, *more: str, **words: str) -> str:
    """Two files, a package and its config, under the lock x; before them one that needs no lock."""
    given = "".join(f", {word} => {value}" for word, value in words.items())
    return f"""
        file {{ '{folder}/free': content => 'new' }}
        -> exec {{ 'before': command => {look(folder / "before", "x")}, creates => '{folder}/before' }}
        -> file {{ '{folder}/package': content => 'new' }}
        -> exec {{ 'during': command => {look(folder / "during", "x")}, creates => '{folder}/during' }}
        -> file {{ '{folder}/config': content => 'new' }}
        distlock::protect {{ 'x': resources => [File['{folder}/package'], File['{folder}/config']]{given} }}
        -> exec {{ 'after': command => {look(folder / "after", "x")}, creates => '{folder}/after' }}
        {" ".join(more)}
    """


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in ("free", "package", "config") if (folder / name).exists()}


@pytest.mark.parametrize("until", ["unlocked", "run_end"])
def test_the_lock_is_acquired_before_the_first_change_and_released_after_the_last(
    node: ModuleNode, seen: Etcd, tmp_path: Path, until: str
) -> None:
    code, said = node.apply(manifest(tmp_path, until=until, reason="'Upgrade'"))
    assert code == CHANGED, said
    assert set(contents(tmp_path).values()) == {"new"}
    held = [looked(tmp_path / name)["x"]["owner"] for name in ("before", "during", "after")]
    assert held == [None, "puppet:db1", None]
    assert re.search(r"Distlock_protect\[x\]: x is locked by puppet:db1, token \d+", said)
    assert "x, which was held by puppet:db1, is unlocked" in said
    assert seen.keys() == []


def test_a_run_in_which_all_are_in_sync_acquires_nothing_and_writes_nothing(
    node: ModuleNode, new_node: Callable[..., ModuleNode], seen: Etcd, tmp_path: Path
) -> None:
    assert node.apply(manifest(tmp_path))[0] == CHANGED
    seen.lock("x", "node-3", "in the way of whoever wants it")
    before = seen.found()
    code, said = node.apply(manifest(tmp_path))
    assert code == UNCHANGED, said
    assert seen.found() == before
    # Nor is an etcd needed that is away: it is only missed.
    nowhere = new_node("db2", DISTLOCK_ENDPOINTS="http://127.0.0.1:9")
    code, said = nowhere.apply(manifest(tmp_path))
    assert code == UNCHANGED, said
    assert "unknown whether x is still held from an earlier run" in said


def test_a_nightly_run_without_work_is_no_commit(
    new_node: Callable[..., ModuleNode], quiet_etcd: Cluster, tmp_path: Path
) -> None:
    node = new_node("db1", DISTLOCK_ENDPOINTS=quiet_etcd.endpoints[0])
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }}
        distlock::protect {{ 'x': resources => [File['{tmp_path}/package']] }}
        distlock::exec {{ 'y': command => ['/bin/true'], unless => '/bin/true' }}
    """
    before = commits(quiet_etcd)
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert commits(quiet_etcd) - before == 2  # the lock and its release
    before = commits(quiet_etcd)
    code, said = node.apply(text)
    assert code == UNCHANGED, said
    assert commits(quiet_etcd) == before


def test_a_refused_lock_fails_what_is_out_of_sync_and_the_rest_goes_on(
    node: ModuleNode, seen: Etcd, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("new")
    seen.lock("x", "node-3", "Upgrade RPMs")
    code, said = node.apply(manifest(tmp_path, f"file {{ '{tmp_path}/other': content => 'new' }}"))
    assert code == CHANGED_AND_FAILED, said
    assert re.search(r'File\[.*/package\].*x is held by node-3 since .*: "Upgrade RPMs"', said)
    assert contents(tmp_path) == {"free": "new", "config": "new"}
    assert (tmp_path / "other").read_text() == "new"
    assert seen.keys() == ["x"]


def test_one_refusal_counts_for_all_and_is_not_waited_for_again(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    seen.lock("x", "node-3")
    files = [f"File['{tmp_path}/{name}']" for name in "abcd"]
    code, said = node.apply(
        "".join(f"file {{ '{tmp_path}/{name}': content => 'new' }} " for name in "abcd")
        + f"distlock::protect {{ 'x': resources => [{', '.join(files)}], timeout => 3 }}"
    )
    assert code in (4, CHANGED_AND_FAILED), said
    assert len(set(re.findall(r"gave up after ([\d.]+)s", said))) == 1


def test_a_failure_leaves_the_lock_and_a_later_run_releases_it(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }}
        -> exec {{ 'restart': command => '/usr/bin/test -e {tmp_path}/repaired', unless => '/bin/false' }}
        distlock::protect {{ 'x': resources => [File['{tmp_path}/package'], Exec['restart']] }}
    """
    code, said = node.apply(text)
    assert code == CHANGED_AND_FAILED, said
    assert seen.keys() == ["x"]
    (tmp_path / "repaired").touch()
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert "x is already held by this node" in said
    assert seen.keys() == []
    # In sync by other means: the lock of an earlier run is released too.
    text = f"file {{ '{tmp_path}/y': ensure => file }} distlock::protect {{ 'y': resources => [File['{tmp_path}/y']] }}"
    (tmp_path / "y").touch()
    seen.lock("y", "puppet:db1")
    assert node.apply(text)[0] == CHANGED
    assert seen.keys() == []


def test_noop_acquires_nothing(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    code, said = node.apply(manifest(tmp_path), "--noop")
    assert code == UNCHANGED, said
    assert "should be" in said
    assert seen.found() == {}
    assert contents(tmp_path) == {}


def test_a_refresh_needs_the_lock_and_one_that_would_do_nothing_does_not(
    node: ModuleNode, seen: Etcd, tmp_path: Path
) -> None:
    def text(changed: str, only_if: str) -> str:
        return f"""
            file {{ '{tmp_path}/conf': content => '{changed}' }}
            ~> exec {{ 'restart':
              command     => {look(tmp_path / "restart", "x")},
              refreshonly => true,
              onlyif      => '{only_if}',
            }}
            distlock::protect {{ 'x': resources => [Exec['restart']] }}
        """

    seen.lock("x", "node-3")
    code, said = node.apply(text("a", "/bin/false"))
    assert code == CHANGED, said
    code, said = node.apply(text("b", "/bin/true"))
    assert code == CHANGED_AND_FAILED, said
    assert not (tmp_path / "restart").exists()
    seen.unlock("x")
    code, said = node.apply(text("c", "/bin/true"))
    assert code == CHANGED, said
    assert looked(tmp_path / "restart")["x"]["owner"] == "puppet:db1"
    assert seen.keys() == []


def test_a_class_stands_for_all_that_it_contains_and_a_folder_for_its_files(
    node: ModuleNode, seen: Etcd, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("new")
    (tmp_path / "target").mkdir()
    text = f"""
        class inner {{
          file {{ '{tmp_path}/target': ensure => directory, recurse => true, source => '{tmp_path}/source' }}
        }}
        class outer {{ contain inner }}
        include outer
        distlock::protect {{ 'x': resources => [Class['outer']] }}
    """
    seen.lock("x", "node-3")
    code, said = node.apply(text)
    assert "x is held by node-3" in said
    assert not (tmp_path / "target" / "file").exists()
    seen.unlock("x")
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert (tmp_path / "target" / "file").read_text() == "new"
    assert seen.keys() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("distlock::protect { 'x': resources => [] }", "parameter 'resources' expects size to be at least 1"),
        ("distlock_protect { 'x': resources => 'File[/no]' }", r"resources: File\[/no\] is not in the catalog"),
        (
            "notify { 'a': } distlock::protect { 'x': resources => [Notify['a']], ttl => 9 }",
            "ttl, on_loss: about a lock that ends with the run",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_applied(node: ModuleNode, seen: Etcd, text: str, why: str) -> None:
    code, said = node.apply(f"notify {{ 'never': }} {text}")
    assert code == 1, said
    assert re.search(why, said)
    assert "never" not in said
    assert seen.found() == {}


def test_a_run_whose_tags_leave_out_the_release_is_refused(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    code, said = node.apply(manifest(tmp_path), "--tags=file", "--no-noop")
    assert code == 1, said
    assert "and never release the lock x: add distlock to --tags" in said
    assert contents(tmp_path) == {}
    assert seen.found() == {}


def test_the_recipe_of_the_page(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    package = "package { 'percona-server-server':\n  ensure => latest,", f"file {{ '{tmp_path}/p':\n  ensure => file,"
    text = with_stand_ins(
        recipe("Puppet protect"), package, ("Package['percona-server-server']", f"File['{tmp_path}/p']")
    )
    code, said = node.apply(text)
    assert code == CHANGED, said
    assert "percona_prod is locked by puppet:db1" in said
    seen.lock("percona_prod", "node-3")
    code, said = node.apply(text)
    assert code == UNCHANGED, said
