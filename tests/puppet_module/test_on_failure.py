"""What becomes of a lock when a run of Puppet fails: run_lock and protect keep or freeze it."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Holder, Realm, connect
from distlock_core.model.freeze import Freeze
from distlock_core.process.while_alive import LOOK
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.processes import present, wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, CHANGED_AND_FAILED, FAILED, UNCHANGED, Guarded, quoted

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
BOUND = 90.0  # seconds for a run to come to its command
FAILS = "exec { 'fails': command => '/bin/false --password=secret' }"


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    folder = tmp_path / "guarded"
    folder.mkdir()
    return Guarded(folder)


def run_lock(**words: str) -> str:
    given = "".join(f", {word} => {value}" for word, value in words.items())
    return (
        f"class {{ 'distlock::run_lock': lock_name => 'x', program => '{BIN}/distlock-puppet', reason => 'nightly'"
        f"{given} }} "
    )


def frozen(realm: Realm) -> Freeze | None:
    return realm.frozen("x")


def holder(realm: Realm) -> Holder | None:
    return next(iter(realm.show("x").holders), None)


def until_frozen(realm: Realm) -> Freeze:
    wait_until(lambda: frozen(realm), "the lock is frozen", BOUND)
    assert holder(realm) is None
    return present(frozen(realm))


def test_a_failed_run_freezes_its_lock_and_one_that_succeeds_releases_it(
    node: ModuleNode, realm: Realm, seen: Etcd
) -> None:
    lock = run_lock(on_failure="freeze", slots="2", expect="'20m'", window="'!2020-01-01'", cooldown="1")
    assert node.apply(lock)[0] == CHANGED
    written = [line for line in (node.confdir / "puppet.conf").read_text().splitlines() if "distlock" in line]
    more = "--slots=2 --expect=20m --on-failure=freeze --window='!2020-01-01' --reason='nightly'"
    assert written == [
        f"prerun_command = {BIN}/distlock-puppet acquire {more} x",
        f"postrun_command = {BIN}/distlock-puppet release --on-failure=freeze --cooldown=1 x",
    ]
    code, said = node.apply(lock)
    assert code == UNCHANGED, said
    assert frozen(realm) is None
    wait_until(lambda: seen.keys() == [], "the cooldown is over")

    code, said = node.apply(lock + FAILS)
    assert code in (FAILED, CHANGED_AND_FAILED), said
    freeze = until_frozen(realm)
    assert freeze.by == "puppet:db1"
    assert re.fullmatch(r"Puppet's run on \S+: failed: Exec\[fails\] \(nightly\)", freeze.reason)
    code, said = node.apply(lock)
    assert code == 1, said
    assert "x is frozen by puppet:db1 since " in said


def test_a_title_that_is_a_command_line_is_not_shown_whole(node: ModuleNode, realm: Realm) -> None:
    lock = run_lock(on_failure="keep")
    node.apply(lock)
    code, said = node.apply(lock + "exec { '/bin/false --password=secret': }")
    assert code in (FAILED, CHANGED_AND_FAILED), said
    held = holder(realm)
    assert held is not None
    assert (held.record.state, held.lifetime, held.owner) == ("kept", "persistent", "puppet:db1")
    assert re.fullmatch(r"Puppet's run on \S+: failed: Exec\[/bin/false \.\.\.\] \(nightly\)", held.reason)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_that_is_killed_or_told_to_stop_has_failed(
    node: ModuleNode, realm: Realm, guarded: Guarded, number: signal.Signals
) -> None:
    lock = run_lock(on_failure="freeze")
    assert node.apply(lock)[0] == CHANGED
    work = f"exec {{ 'work': command => {quoted(guarded.script, 'db1')} }} -> notify {{ 'next': }}"
    run = node.start(lock + work)
    wait_until(lambda: guarded.began, "it works", BOUND)
    assert holder(realm) is not None
    run.send(number)
    if number == signal.SIGKILL:
        run.wait()
        assert holder(realm) is not None  # its command still runs
    guarded.gate.touch()
    freeze = until_frozen(realm)
    run.wait()
    why = (
        "the run has ended without saying"
        if number == signal.SIGKILL
        else "failed: it ended before the whole catalog was applied"
    )
    assert why in freeze.reason, freeze.reason


def test_a_process_that_a_run_leaves_behind_holds_the_lock_and_is_no_failure(
    node: ModuleNode, realm: Realm, seen: Etcd, guarded: Guarded
) -> None:
    lock = run_lock(on_failure="freeze")
    assert node.apply(lock)[0] == CHANGED
    script = f"{guarded.script} db1 > /dev/null 2>&1 < /dev/null & sleep {2 * LOOK}"
    code, said = node.apply(lock + f"exec {{ 'work': command => {quoted('/bin/sh', '-c', script)} }}")
    assert code == CHANGED, said
    wait_until(lambda: guarded.began, "it works")
    assert holder(realm) is not None
    guarded.gate.touch()
    wait_until(lambda: seen.keys() == [], "the lock is released", BOUND)
    assert frozen(realm) is None


@pytest.mark.parametrize("on_failure", ["keep", "freeze"])
def test_a_failed_run_keeps_or_freezes_all_of_its_locks(node: ModuleNode, realm: Realm, on_failure: str) -> None:
    lock = run_lock(on_failure=on_failure, lock_names="['x', 'y']").replace("lock_name => 'x', ", "")
    assert node.apply(lock)[0] == CHANGED
    assert node.apply(lock)[0] == UNCHANGED
    assert [state.holders for state in realm.show_all(["x", "y"])] == [(), ()]
    code, said = node.apply(lock + FAILS)
    assert code in (FAILED, CHANGED_AND_FAILED), said
    states = [[one.record.state for one in state.holders] for state in realm.show_all(["x", "y"])]
    assert states == ([["kept"]] * 2 if on_failure == "keep" else [[]] * 2)
    assert [realm.frozen(name) is not None for name in ("x", "y")] == [on_failure == "freeze"] * 2


def test_a_run_of_which_nobody_knows_how_it_has_gone_has_failed(node: ModuleNode, realm: Realm) -> None:
    """The two commands without the class, which notes how runs go."""
    conf = node.confdir / "puppet.conf"
    program = f"{BIN}/distlock-puppet"
    conf.write_text(
        conf.read_text()
        + f"prerun_command = {program} acquire --on-failure=keep x\n"
        + f"postrun_command = {program} release --on-failure=keep x\n"
    )
    assert node.apply("notify { 'x': }")[0] == CHANGED
    held = holder(realm)
    assert held is not None
    assert held.record.state == "kept"
    assert "nobody has seen how it has gone: the catalog needs the class distlock::run_lock" in held.reason


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ({"on_failure": "freeze"}, "frozen"),
        ({"on_failure": "freeze", "until": "run_end"}, "frozen"),
        ({"on_failure": "keep"}, "kept"),
        ({"on_failure": "keep", "until": "run_end"}, "kept"),
        ({}, "held"),
    ],
)
def test_a_protected_resource_that_fails(
    node: ModuleNode, realm: Realm, tmp_path: Path, words: dict[str, str], state: str
) -> None:
    given = "".join(f", {word} => {value}" for word, value in words.items())
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }} -> {FAILS}
        distlock::protect {{ 'x': resources => [File['{tmp_path}/package'], Exec['fails']], slots => 2{given} }}
    """
    code, said = node.apply(text)
    assert code == CHANGED_AND_FAILED, said
    held, freeze = holder(realm), frozen(realm)
    if state == "frozen":
        assert held is None
        assert freeze is not None
        assert (freeze.by, freeze.reason) == ("puppet:db1", "Exec[fails]")
        assert "x is frozen for a person to look at" in said
        return
    assert held is not None
    assert freeze is None
    assert (held.record.state or "held", held.lifetime) == (state, "persistent")
    assert state == "held" or held.reason == "Exec[fails]"


def test_a_gate_that_stays_red_freezes_the_lock_of_protected_resources(
    node: ModuleNode, realm: Realm, tmp_path: Path
) -> None:
    (tmp_path / "healthy").touch()
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }}
        -> exec {{ 'turn red': command => '/bin/rm {tmp_path}/healthy' }}
        distlock::protect {{ 'x':
          resources    => [File['{tmp_path}/package'], Exec['turn red']],
          on_failure   => freeze,
          gate         => {quoted("/usr/bin/test", "-e", tmp_path / "healthy")},
          gate_timeout => 1,
        }}
    """
    code, said = node.apply(text)
    assert code == CHANGED_AND_FAILED, said
    freeze = frozen(realm)
    assert freeze is not None
    assert holder(realm) is None


def test_protected_resources_outside_their_window_fail(node: ModuleNode, seen: Etcd, tmp_path: Path) -> None:
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }}
        distlock::protect {{ 'x': resources => [File['{tmp_path}/package']], window => '!00:00-24:00', expect => '5m' }}
    """
    code, said = node.apply(text)
    assert code == FAILED, said
    assert "window" in said
    assert not (tmp_path / "package").exists()
    assert seen.found() == {}


def test_what_a_hold_is_expected_to_take_is_in_its_record(node: ModuleNode, realm: Realm, tmp_path: Path) -> None:
    text = f"""
        file {{ '{tmp_path}/package': content => 'new' }} -> {FAILS}
        distlock::protect {{ 'x': resources => [File['{tmp_path}/package'], Exec['fails']], expect => '5m' }}
    """
    assert node.apply(text)[0] == CHANGED_AND_FAILED
    held = holder(realm)
    assert held is not None
    assert held.record.details["expect"] == 300


def test_no_run_begins_outside_the_window(node: ModuleNode, realm: Realm, new_node: Callable[..., ModuleNode]) -> None:
    lock = run_lock(window="'!00:00-24:00'")
    assert node.apply(lock)[0] == CHANGED
    code, said = node.apply(lock)
    assert code == 1, said
    assert "window" in said
    assert holder(realm) is None
