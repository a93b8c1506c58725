"""The ways in which a run of Puppet ends, and where the whole-run lock is then: the table in docs/puppet.md."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Holder, connect
from distlock_core.process.alive import LOOK
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.processes import is_running, line_of, present, wait_until
from tests.support.puppet_node import (
    BIN,
    CHANGED,
    CHANGED_AND_FAILED,
    DISTLOCK_PUPPET,
    FAILED,
    UNCHANGED,
    Guarded,
    PuppetNode,
    PuppetRun,
    quoted,
)

pytestmark = pytest.mark.timeout(240)

Holding = Callable[[], "Holder | None"]
New = Callable[..., PuppetNode]
BOUND = 60.0  # seconds for a run to come to its command


def look(folder: Path) -> str:
    """A resource that writes down who holds the lock while the run applies its catalog."""
    command = f"distlock --show --lock-name=percona_prod > {folder}/during"
    return f"exec {{ 'look': command => {quoted('/bin/sh', '-c', command)} }}"


def during(folder: Path) -> str:
    path = folder / "during"
    return path.read_text() if path.exists() else ""


def wait_free(holder: Holding, seen: Etcd) -> None:
    wait_until(lambda: holder() is None, "the lock is free")
    wait_until(lambda: not seen.keys() and not seen.new_leases(), "nothing left in etcd")


def test_all_resources_applied(new_node: New, holder: Holding, seen: Etcd, tmp_path: Path) -> None:
    node = new_node(whole_run=True, asked=True)
    inside = quoted(DISTLOCK_PUPPET, "exec", "percona_prod", "--timeout=-1", "--", "touch", tmp_path / "inside")
    check = quoted(DISTLOCK_PUPPET, "check", "percona_prod")
    # A command under the same lock does not wait for the run that it is part of.
    enter = f"exec {{ 'enter': command => {inside}, onlyif => [{check}] }}"
    code, said = node.apply(f"{enter} -> {look(tmp_path)}")
    assert code == CHANGED, said
    assert (tmp_path / "inside").exists()
    assert node.owner in during(tmp_path)
    assert "bound" in during(tmp_path)
    assert holder() is None  # by the postrun_command, before the run has ended
    wait_free(holder, seen)


def test_a_resource_fails(new_node: New, holder: Holding, seen: Etcd, tmp_path: Path) -> None:
    code, said = new_node(whole_run=True).apply(look(tmp_path) + " -> exec { '/bin/false': }")
    assert code == CHANGED_AND_FAILED, said
    assert during(tmp_path)
    assert holder() is None
    wait_free(holder, seen)


def test_a_resource_fails_under_a_lock_until_the_runs_end(
    new_node: New, holder: Holding, seen: Etcd, tmp_path: Path
) -> None:
    held = "distlock { 'percona_prod': ensure => locked, until => run_end }"
    code, said = new_node().apply(f"{held} -> {look(tmp_path)} -> exec {{ '/bin/false': }}")
    assert code == CHANGED_AND_FAILED, said
    assert "bound" in during(tmp_path)
    wait_free(holder, seen)


def test_a_resource_fails_before_what_unlocks(new_node: New, holder: Holding, tmp_path: Path) -> None:
    node = new_node()
    held = "distlock { 'percona_prod': ensure => locked }"
    unlocked = "distlock { 'end': ensure => unlocked, lock_name => 'percona_prod' }"
    code, said = node.apply(f"{held} -> {look(tmp_path)} -> exec {{ '/bin/false': }} -> {unlocked}")
    assert code == CHANGED_AND_FAILED, said
    assert present(holder()).owner == node.owner
    assert present(holder()).lifetime == "persistent"


@pytest.mark.parametrize("how", ["--noop", "puppet.conf", "[user] in puppet.conf"])
def test_a_noop_run(new_node: New, holder: Holding, etcd: Cluster, realm_prefix: str, how: str) -> None:
    connect(etcd.endpoints, realm_prefix).lock("percona_prod", "other", "noop runs beside it").acquire(0)
    node = new_node(whole_run=True, **({"noop": "true"} if how == "puppet.conf" else {}))
    if how.startswith("[user]"):
        with (node.confdir / "puppet.conf").open("a") as conf:
            conf.write("[user]\nnoop = true\n")
    code, said = node.apply("notify { 'x': }", *(["--noop"] if how == "--noop" else ["--verbose"]))
    assert code == UNCHANGED, said
    assert "(noop)" in said
    assert present(holder()).owner == "other"


def test_a_noop_run_takes_the_lock_where_resources_have_noop_false(
    new_node: New, holder: Holding, seen: Etcd, tmp_path: Path
) -> None:
    hooks = {
        "prerun_command": f"{DISTLOCK_PUPPET} acquire --noop-runs percona_prod",
        "postrun_command": f"{DISTLOCK_PUPPET} release percona_prod",
    }
    node = new_node(**hooks)
    code, said = node.apply(look(tmp_path).replace("command", "noop => false, command"), "--noop")
    assert code == CHANGED, said
    assert node.owner in during(tmp_path)
    wait_free(holder, seen)


def test_check_tells_this_runs_lock_from_that_of_another_run_of_the_node(
    new_node: New, distlock_env: dict[str, str], tmp_path: Path
) -> None:
    node = new_node()
    # A step of the same owner, for a shell that lives.
    other = subprocess.Popen(
        ["/bin/sh", "-c", f"{BIN}/distlock --lock-name=percona_prod --lock --id={node.owner} && echo ready && read _"],
        env=distlock_env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert line_of(other) == "ready"
    look = f"{DISTLOCK_PUPPET} check percona_prod; echo $? >> {tmp_path}/codes"
    checks = f"exec {{ 'check': command => {quoted('/bin/sh', '-c', look)} }}"
    code, said = node.apply(checks)
    assert code == CHANGED, said
    code, said = node.apply("distlock { 'percona_prod': }")
    assert code == FAILED, said
    assert f"percona_prod is held by {node.owner} since" in said
    other.communicate("\n", timeout=BOUND)  # a step of one that is gone may be entered
    code, said = node.apply(f"distlock {{ 'percona_prod': }} -> {checks}")
    assert code in (CHANGED, UNCHANGED), said
    assert (tmp_path / "codes").read_text().split() == ["2", "0"]


def test_pre_fails(new_node: New, holder: Holding, etcd: Cluster, realm_prefix: str, tmp_path: Path) -> None:
    lock = connect(etcd.endpoints, realm_prefix).lock("percona_prod", "node-3", "Upgrade RPMs").acquire(0)
    code, said = new_node(whole_run=True).apply(look(tmp_path))
    assert code == 1, said
    assert re.search(r'Could not run command from prerun_command: .* held by node-3 since .*: "Upgrade RPMs"', said)
    assert not during(tmp_path)
    assert lock.verify()  # post has run, and has left it alone


def test_pre_fails_since_etcd_is_away(new_node: New, tmp_path: Path) -> None:
    hooks = {
        word: f"distlock-puppet {verb} percona_prod --endpoints=http://127.0.0.1:9 --connect-timeout=1"
        for word, verb in (("prerun_command", "acquire"), ("postrun_command", "release"))
    }
    code, said = new_node(**hooks).apply(look(tmp_path))
    assert code == 1, said
    assert "no etcd answered within" in said
    assert "Traceback" not in said
    assert not during(tmp_path)


def test_post_fails(new_node: New, holder: Holding, seen: Etcd, tmp_path: Path) -> None:
    node = new_node(whole_run=True, postrun_command="/bin/false")
    code, said = node.apply(look(tmp_path))
    assert "postrun_command" in said
    assert code != UNCHANGED
    assert node.owner in during(tmp_path)
    wait_free(holder, seen)  # by the keeper


def test_post_releases_nothing_that_the_run_has_not_taken(
    new_node: New, holder: Holding, run_distlock: Callable[..., object]
) -> None:
    node = new_node(whole_run=True, prerun_command="/bin/true")
    run_distlock("--lock-name=percona_prod", "--lock", f"--id={node.owner}")
    code, said = node.apply("notify { 'x': }")
    assert code == CHANGED, said
    assert present(holder()).owner == node.owner  # a lock of the node's own, from before this run


def test_the_manifest_does_not_compile(new_node: New, holder: Holding, seen: Etcd) -> None:
    code, said = new_node(whole_run=True).apply("include nothing_of_this_name")
    assert code == 1, said
    assert "Could not find class" in said
    wait_free(holder, seen)


def test_the_catalog_cannot_be_applied(new_node: New, holder: Holding, seen: Etcd, tmp_path: Path) -> None:
    cycle = "notify { 'a': require => Notify['b'] } notify { 'b': require => Notify['a'] }"
    code, said = new_node(whole_run=True).apply(f"{look(tmp_path)} {cycle}")
    assert code == 1, said
    assert "dependency cycle" in said
    assert not during(tmp_path)
    wait_free(holder, seen)


WAYS = ("whole run", "until => run_end", "distlock::exec")


def under_the_lock(way: str, node: PuppetNode, guarded: Guarded) -> str:
    """A manifest that does the guarded part under the lock, in one of the ways there are."""
    command = quoted(guarded.script, node.certname)
    if way == "distlock::exec":
        return (
            f"distlock::exec {{ 'upgrade': lock_name => 'percona_prod', command => {command}, "
            f"program => '{DISTLOCK_PUPPET}', timeout => 0 }}"
        )
    held = "distlock { 'percona_prod': ensure => locked, until => run_end } -> " if way == "until => run_end" else ""
    return f"{held}exec {{ 'upgrade': command => {command} }}"


def at_work(node: PuppetNode, guarded: Guarded, way: str = "whole run") -> PuppetRun:
    """A run that holds the lock, and is in its guarded part."""
    run = node.start(under_the_lock(way, node, guarded))
    wait_until(lambda: guarded.pid, "the run at its command", BOUND)
    return run


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_the_run_is_ended_by(
    new_node: New, holder: Holding, seen: Etcd, guarded: Guarded, number: signal.Signals, way: str
) -> None:
    node = new_node(whole_run=way == "whole run")
    run = at_work(node, guarded, way)
    pid, token, keeper = present(guarded.pid), present(holder()).token, present(holder()).keeper
    assert (keeper is None) == (way == "distlock::exec")
    if number == signal.SIGKILL:
        wait_until(lambda: age(pid) > 2 * LOOK, "a command that the keeper has surely seen")
    run.send(number)
    run.wait()
    # The run has ended, its command goes on: nobody else may begin.
    assert is_running(pid)
    assert (present(holder()).owner, present(holder()).token) == (node.owner, token)
    assert "postrun_command" not in run.said
    guarded.gate.touch()
    wait_until(lambda: not is_running(pid), "the end of the command")
    wait_free(holder, seen)
    wait_until(lambda: keeper is None or not is_running(keeper), "the end of the keeper")


@pytest.mark.parametrize("whole_run", [True, False], ids=["whole run", "exec"])
def test_a_run_that_is_killed_while_it_waits_leaves_the_line(
    new_node: New, seen: Etcd, tmp_path: Path, whole_run: bool
) -> None:
    seen.lock("percona_prod")
    wait = f"{DISTLOCK_PUPPET} acquire percona_prod --timeout=-1"
    node = new_node(whole_run=whole_run, **({"prerun_command": wait} if whole_run else {}))
    under = quoted(DISTLOCK_PUPPET, "exec", "percona_prod", "--timeout=-1", "--", "touch", tmp_path / "ran")
    run = node.start(f"exec {{ 'x': command => {under} }}")
    wait_until(lambda: len(seen.keys()) == 2, "the run in line", BOUND)
    run.send(signal.SIGKILL)
    run.wait()
    # What it has started would wait for ever, and renew its place in the line.
    wait_until(lambda: seen.keys() == ["percona_prod"], "the line is empty")
    seen.unlock("percona_prod")
    wait_until(lambda: not seen.keys() and not seen.new_leases(), "nothing left in etcd")
    assert not (tmp_path / "ran").exists()


def test_two_runs_of_one_node_exclude_each_other(
    new_node: New, holder: Holding, seen: Etcd, guarded: Guarded, tmp_path: Path
) -> None:
    node = new_node(whole_run=True)
    run = at_work(node, guarded)
    code, said = node.apply(look(tmp_path))
    assert code == 1, said
    assert f"held by {node.owner} since" in said
    assert holder() is not None  # its post has left the other run's lock alone
    guarded.gate.touch()
    assert run.wait() == CHANGED, run.said
    assert not during(tmp_path)
    wait_free(holder, seen)


def test_what_a_dead_run_without_a_keeper_has_left_is_its_own_nodes_at_once(
    new_node: New, holder: Holding, guarded: Guarded, tmp_path: Path
) -> None:
    # A ttl that is longer than two runs on a busy machine.
    acquire = f"{DISTLOCK_PUPPET} acquire percona_prod --ttl=600"
    nodes = [new_node(name, whole_run=True, prerun_command=acquire) for name in ("db1", "db2")]
    run = at_work(nodes[0], guarded)
    token = present(holder()).token
    for pid in (present(present(holder()).keeper), run.pid, present(guarded.pid)):
        os.kill(pid, signal.SIGKILL)
    run.wait()
    assert nodes[1].apply(look(tmp_path))[0] == 1
    code, said = nodes[0].apply(look(tmp_path))
    assert code == CHANGED, said
    (taken_over,) = re.findall(r"token +(\d+)", during(tmp_path))
    assert int(taken_over) > token  # what it was handed to refuses the dead run from now on
    assert holder() is None


def age(pid: int) -> float:
    """Seconds since a process was started."""
    with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/uptime", encoding="ascii") as uptime:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
        return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def test_the_run_is_killed_between_two_resources(new_node: New, holder: Holding, seen: Etcd, tmp_path: Path) -> None:
    kill = quoted("/bin/sh", "-c", "kill -KILL $PPID")
    manifest = f"{look(tmp_path)} -> exec {{ 'kill': command => {kill} }}"
    run = new_node(whole_run=True).start(manifest)
    assert run.wait() == -signal.SIGKILL, run.said
    assert during(tmp_path)
    wait_free(holder, seen)
