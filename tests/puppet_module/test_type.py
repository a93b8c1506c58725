"""The native type, in real runs of Puppet against a real etcd."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import LockState, connect
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.playbooks import BIN
from tests.support.processes import wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, CHANGED_AND_FAILED, UNCHANGED, quoted

pytestmark = pytest.mark.timeout(240)

BOUND = 90.0  # seconds for a run to come to where it is to be
Show = Callable[[str], LockState]


@pytest.fixture
def show(etcd: Cluster, realm_prefix: str) -> Show:
    return connect(etcd.endpoints, realm_prefix).show


def look(file: Path, *locks: str) -> str:
    """The command that records the holders as JSON."""
    command = "; ".join(f"distlock --json --show --lock-name={lock} >> {file}" for lock in locks)
    return quoted("/bin/sh", "-c", command)


def looked(file: Path) -> dict[str, Any]:
    found = [json.loads(line)["locks"][0] for line in file.read_text().splitlines()]
    return {lock["lock"]: lock for lock in found}


def test_a_time_may_have_a_unit(node: ModuleNode, etcd: Cluster, realm_prefix: str) -> None:
    realm = connect(etcd.endpoints, realm_prefix)
    code, said = node.apply("distlock { 'x': timeout => '0.5s', connect_timeout => '1m30s' }")
    assert code == CHANGED, said
    code, said = node.apply("distlock { 'x': ensure => unlocked, cooldown => '2m' }")
    assert (code, "is unlocked in 120 s" in said) == (CHANGED, True), said
    assert 60 < (realm.show("x").holders[0].ttl_left or 0) <= 120
    code, said = node.apply("distlock { 'y': timeout => '5 minutes' }")
    assert "timeout: expected a number of seconds, got" in said
    code, said = node.apply(
        f"""
        distlock::exec {{ 'z':
          command => ['/bin/true'], timeout => '1m30s', lock_timeout => '10s', cooldown => '2m',
          path    => split('{node.env["PATH"]}', ':'),
        }}
        """
    )
    assert code == CHANGED, said
    assert 60 < (realm.show("z").holders[0].ttl_left or 0) <= 120


def test_a_run_locks_finds_its_own_lock_again_and_unlocks(node: ModuleNode, show: Show, tmp_path: Path) -> None:
    reason = 'it\'s "odd"; $(id) `id` ä \\\\ %'
    lock = f"distlock {{ 'percona_prod': reason => '{reason.replace(chr(39), chr(92) + chr(39))}' }}"
    code, said = node.apply(f"{lock} -> exec {{ 'look': command => {look(tmp_path / 'during', 'percona_prod')} }}")
    assert code == CHANGED, said
    during = looked(tmp_path / "during")["percona_prod"]
    assert (during["owner"], during["lifetime"], during["state"]) == ("puppet:db1", "persistent", "held")
    assert during["reason"] == reason.replace("\\\\", "\\")
    assert f"percona_prod is locked by puppet:db1, token {during['token']}" in said

    # The lock has outlived its run, and the next one goes on with it.
    code, said = node.apply(lock)
    assert code == UNCHANGED, said
    assert [holder.token for holder in show("percona_prod").holders] == [during["token"]]

    code, said = node.apply(
        f"{lock} -> notify {{ 'last step': }}"
        " -> distlock { 'next one, please': ensure => unlocked, lock_name => 'percona_prod' }"
    )
    assert code == CHANGED, said
    assert "percona_prod, which was held by puppet:db1, is unlocked" in said
    assert not show("percona_prod").holders


def test_a_resource_starts_one_process_whether_it_changes_something_or_not(
    node: ModuleNode, show: Show, tmp_path: Path
) -> None:
    log, program = tmp_path / "started", tmp_path / "bin/distlock-puppet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$$" >> {log}\nexec {BIN}/distlock-puppet "$@"\n')
    program.chmod(0o755)
    node.env["PATH"] = f"{program.parent}:{node.env['PATH']}"
    locked = "distlock { 'web': }"
    for number, expected in enumerate((CHANGED, UNCHANGED), start=1):
        code, said = node.apply(locked)
        assert code == expected, said
        assert len(log.read_text().split()) == number
    code, said = node.apply("distlock { 'web': ensure => unlocked }")
    assert code == CHANGED, said
    started = log.read_text().split()
    assert len(started) == 3
    assert not show("web").holders
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_noop_changes_nothing_and_reports_what_a_run_would_do(node: ModuleNode, seen: Etcd) -> None:
    seen.lock("taken", "node-3", "Upgrade RPMs")
    before = seen.keys()
    code, said = node.apply(
        """
        distlock { 'percona_prod': } -> notify { 'step': }
        -> distlock { 'done': ensure => unlocked, lock_name => 'percona_prod' }
        distlock { 'not mine': ensure => unlocked, lock_name => 'never_held' }
        distlock { 'taken': until => run_end }
        distlock { 'in line': lock_name => 'taken', timeout => -1 }
        """,
        "--noop",
    )
    assert code == UNCHANGED, said
    assert seen.keys() == before
    assert not seen.new_leases()
    told = dict(re.findall(r"Distlock\[([^]]+)\]/ensure: (.*)", said))
    assert told["percona_prod"] == "current_value 'unlocked', should be 'locked' (noop)"
    assert told["done"] == "current_value 'locked', should be 'unlocked' (noop)"  # as a real run would find it
    assert "not mine" not in told
    assert "taken is held by node-3 since" in told["taken"]
    assert '"Upgrade RPMs"' in told["taken"]
    assert "it would wait first: taken is held by node-3" in told["in line"]


def test_another_nodes_lock_fails_skips_what_requires_it_and_is_left_alone(
    node: ModuleNode, seen: Etcd, show: Show, run_distlock: Callable[..., Any]
) -> None:
    for name in ("busy", "not_mine", "broken"):
        seen.lock(name, "puppet:db2", "Upgrade RPMs")
    run_distlock("--lock-name=own", "--lock", "--id=puppet:db1")
    run_distlock("--lock-name=spanning", "--lock", "--id=everywhere")
    code, said = node.apply(
        """
        distlock { 'busy': } -> notify { 'guarded': }
        distlock { 'not_mine': ensure => unlocked }
        distlock { 'broken': ensure => unlocked, force => true }
        distlock { 'own': ensure => unlocked, cooldown => 60 }
        distlock { 'spanning': owner => 'everywhere' }
        distlock { 'of two': lock_name => 'two', slots => 2 }
        distlock { 'unreachable': endpoints => ['http://127.0.0.1:9'], connect_timeout => 0.5 }
        distlock { 'a/b': }
        """
    )
    assert code == CHANGED_AND_FAILED, said
    assert re.search(r'Distlock\[busy\]/ensure: .*busy is held by puppet:db2 since .*: "Upgrade RPMs"', said)
    assert "Notify[guarded]: Skipping because of failed dependencies" in said
    refused = re.search(r"not_mine is held by puppet:db2 .*, not by puppet:db1: left alone\. (.*)", said)
    assert refused is not None
    assert refused[1].startswith("To break it: distlock --break --lock-name=not_mine --token=")
    assert "broken, which was held by puppet:db2, is unlocked" in said
    assert "own, which was held by puppet:db1, is unlocked in 60 s" in said
    assert "Distlock[spanning]/ensure" not in said
    assert re.search(r"Distlock\[unreachable\]: Could not evaluate: no etcd answered within", said)
    assert re.search(r"Distlock\[a/b\]: Could not evaluate: .*a/b", said)
    assert "Traceback" not in said
    holders = {name: [holder.owner for holder in show(name).holders] for name in ("busy", "not_mine", "broken")}
    assert holders == {"busy": ["puppet:db2"], "not_mine": ["puppet:db2"], "broken": []}
    assert [holder.record.state for holder in show("own").holders] == ["cooling"]
    assert [holder.record.limit for holder in show("two").holders] == [2]


def test_it_waits_for_its_turn_and_releases_at_the_end_of_the_run(
    node: ModuleNode, seen: Etcd, show: Show, tmp_path: Path
) -> None:
    seen.lock("percona_prod", "node-3")
    during = tmp_path / "during"
    run = node.start(
        "distlock { 'percona_prod': timeout => -1, until => run_end, ttl => 20 }"
        " -> distlock { 'again': lock_name => 'percona_prod', until => run_end }"
        f" -> exec {{ 'look': command => {look(during, 'percona_prod')} }}"
    )
    wait_until(lambda: show("percona_prod").waiting == 1, "it stands in line", BOUND)
    assert not during.exists()
    seen.unlock("percona_prod")
    assert run.wait() == CHANGED, run.said
    held = looked(during)["percona_prod"]
    assert (held["owner"], held["lifetime"], held["pid"]) == ("puppet:db1", "bound", run.pid)
    assert "waits for its turn: percona_prod is held by node-3" in run.said
    assert re.search(r"until this run ends, after .* in the queue from position 1, behind node-3 since", run.said)
    assert "until this run ends" in run.said
    assert "Distlock[again]/ensure" not in run.said
    wait_until(lambda: not show("percona_prod").holders, "the end of the lock")
    wait_until(lambda: not seen.new_leases(), "the end of its lease")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_run_that_is_ended_while_it_waits_gives_up_its_place(
    node: ModuleNode, seen: Etcd, show: Show, number: signal.Signals
) -> None:
    seen.lock("percona_prod", "node-3")
    run = node.start("distlock { 'percona_prod': timeout => -1 }")
    wait_until(lambda: show("percona_prod").waiting == 1, "it stands in line", BOUND)
    run.send(number)
    run.wait()
    wait_until(lambda: show("percona_prod").waiting == 0, "the place is given up")
    wait_until(lambda: not seen.new_leases(), "nothing left in etcd")
    assert [holder.owner for holder in show("percona_prod").holders] == ["node-3"]


def test_run_end_releases_the_lock_of_a_killed_run(node: ModuleNode, show: Show, seen: Etcd, tmp_path: Path) -> None:
    during = tmp_path / "during"
    kill = quoted("/bin/sh", "-c", "kill -KILL $PPID")
    run = node.start(
        "distlock { 'bound': until => run_end } distlock { 'stays': } -> Exec <| |>"
        f" exec {{ 'look': command => {look(during, 'bound', 'stays')} }} -> exec {{ 'kill': command => {kill} }}"
        " Distlock['bound'] -> Exec['look']"
    )
    assert run.wait() == -signal.SIGKILL, run.said
    assert {name: lock["owner"] for name, lock in looked(during).items()} == dict.fromkeys(
        ("bound", "stays"), "puppet:db1"
    )
    wait_until(lambda: not show("bound").holders, "the end of the lock that ends with the run")
    assert [holder.owner for holder in show("stays").holders] == ["puppet:db1"]


def test_puppet_resource_lists_the_locks_and_unlocks_those_of_this_node(
    node: ModuleNode, seen: Etcd, show: Show, run_distlock: Callable[..., Any]
) -> None:
    seen.lock("taken", "node-3", "it's $(odd)")
    run_distlock("--lock-name=own", "--lock", "--id=puppet:db1", "--reason=Replace RAM")

    def resource(*words: str) -> str:
        places = ["--confdir", str(node.confdir), "--vardir", str(node.vardir), *node.places]
        done = subprocess.run(
            ["puppet", "resource", "--color=false", *places, "distlock", *words],
            env=node.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    listed = resource()
    own, taken = (listed.partition(f"distlock {{ '{name}':")[2].partition("}")[0] for name in ("own", "taken"))
    assert re.search(r"ensure +=> 'locked'", own)
    assert re.search(r"held_by +=> 'puppet:db1'", own)
    assert re.search(r"held_reason +=> 'Replace RAM'", own)
    assert re.search(r"lifetime +=> 'persistent'", own)
    assert re.search(r"ensure +=> 'held'", taken)
    assert re.search(r"held_by +=> 'node-3'", taken)
    assert re.search(r"""held_reason +=> .*it.*s \\?\$\(odd\)""", taken)
    # One by its name, free, or held: the state as it is.
    free = resource("free")
    assert re.search(r"ensure +=> 'unlocked'", free)
    assert re.search(r"waiting +=> 0", free)
    assert "unlocked" in resource("own", "ensure=unlocked")
    assert not show("own").holders


GUARDED = "distlock { 'percona_prod': } -> exec { 'work': command => %s } -> notify { 'after': }"


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        (("--no-noop", "--tags", "exec"), "", "Exec[work] without the lock percona_prod: add distlock to --tags"),
        (("--no-noop", "--skip_tags", "distlock"), "", "Exec[work], Notify[after] without the lock percona_prod"),
        (("--noop",), "noop => false", "Exec[work] without the lock percona_prod: let the lock have noop"),
    ],
    ids=["tags", "skip_tags", "noop => false"],
)
def test_a_run_that_leaves_the_lock_out_and_not_what_requires_it_is_refused_before_it_applies_anything(
    node: ModuleNode, seen: Etcd, tmp_path: Path, options: tuple[str, ...], more: str, said: str
) -> None:
    manifest = GUARDED % quoted("/usr/bin/touch", tmp_path / "ran")
    if more:
        manifest = manifest.replace("command =>", f"{more}, command =>")
    code, output = node.apply(manifest, *options)
    assert code == 1, output
    assert f"this run would apply {said}" in output
    assert not (tmp_path / "ran").exists()
    assert seen.keys() == []


def test_a_run_whose_tags_include_the_lock_continues(node: ModuleNode, show: Show, tmp_path: Path) -> None:
    manifest = GUARDED % quoted("/usr/bin/touch", tmp_path / "ran")
    code, said = node.apply(manifest, "--no-noop", "--tags", "exec,distlock")
    assert code == CHANGED, said
    assert (tmp_path / "ran").exists()
    assert [holder.owner for holder in show("percona_prod").holders] == ["puppet:db1"]
