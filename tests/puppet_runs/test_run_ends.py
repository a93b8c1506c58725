"""The ways in which a run of Puppet ends, and where the whole-run lock is then: the table in docs/puppet.md."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Holder, connect
from distlock_core.process.table import descendants
from distlock_core.process.while_alive import LOOK
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
    """A resource that records the holder of the lock while the run applies its catalog."""
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


def test_a_resource_before_the_unlock_fails(new_node: New, holder: Holding, tmp_path: Path) -> None:
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


NOOP = {
    "distlock::exec": (
        "distlock::exec {{ 'x': lock_name => 'percona_prod', command => {touch}, program => '{program}' }}"
    ),
    "until => run_end": "distlock {{ 'percona_prod': until => run_end }} -> exec {{ 'x': command => {touch} }}",
    "ensure => unlocked": (
        "distlock {{ 'percona_prod': }} -> exec {{ 'x': command => {touch} }}"
        " -> distlock {{ 'end': ensure => unlocked, lock_name => 'percona_prod' }}"
    ),
}


@pytest.mark.parametrize("way", NOOP)
def test_a_noop_run_writes_nothing_however_the_lock_is_used(
    new_node: New, seen: Etcd, tmp_path: Path, way: str
) -> None:
    touch = quoted("/usr/bin/touch", tmp_path / "ran")
    code, said = new_node().apply(NOOP[way].format(touch=touch, program=DISTLOCK_PUPPET), "--noop")
    assert code == UNCHANGED, said
    assert "(noop)" in said
    assert not (tmp_path / "ran").exists()
    assert not seen.found(), "not even the note of a lock that has been released"


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


def test_check_distinguishes_this_runs_lock_from_another_run_of_the_node(
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


def test_pre_and_post_fail_since_etcd_is_away(new_node: New, tmp_path: Path) -> None:
    hooks = {
        word: f"distlock-puppet {verb} percona_prod --endpoints=http://127.0.0.1:9 --connect-timeout=1"
        for word, verb in (("prerun_command", "acquire"), ("postrun_command", "release"))
    }
    code, said = new_node(**hooks).apply(look(tmp_path))
    assert code == 1, said
    for hook in ("prerun_command", "postrun_command"):
        assert re.search(rf"Could not run command from {hook}: .* no etcd answered within", said), said
    assert "Traceback" not in said
    assert not during(tmp_path)


@pytest.mark.parametrize("post", ["/bin/false", "/bin/true"], ids=["fails", "is another command"])
def test_without_a_release_by_post_the_keeper_releases(
    new_node: New, holder: Holding, seen: Etcd, tmp_path: Path, post: str
) -> None:
    node = new_node(whole_run=True, postrun_command=post)
    code, said = node.apply(look(tmp_path))
    assert ("postrun_command" in said) == (post == "/bin/false")
    assert code == (1 if post == "/bin/false" else CHANGED), said
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
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def under_the_lock(way: str, node: PuppetNode, guarded: Guarded, more: str = "") -> str:
    """A manifest that does the guarded part under the lock, in one of the ways there are."""
    command = quoted(guarded.script, node.certname)
    if way == "ensure => unlocked":
        end = "distlock { 'end': ensure => unlocked, lock_name => 'percona_prod' }"
        return f"distlock {{ 'percona_prod': }} -> exec {{ 'upgrade': command => {command} }} -> {end}"
    if way.startswith("distlock::exec"):
        return (
            f"distlock::exec {{ 'upgrade': lock_name => 'percona_prod', command => {command}, "
            f"program => '{DISTLOCK_PUPPET}', timeout => 0{more} }}"
        )
    until = f"distlock {{ 'percona_prod': ensure => locked, until => run_end{more} }} -> "
    held = until if way == "until => run_end" else ""
    return f"{held}exec {{ 'upgrade': command => {command} }}"


def at_work(node: PuppetNode, guarded: Guarded, way: str = "whole run", more: str = "") -> PuppetRun:
    """A run that holds the lock, and is in its guarded part."""
    run = node.start(under_the_lock(way, node, guarded, more))
    wait_until(lambda: guarded.pid, "the run at its command", BOUND)
    return run


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
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
    # The run has ended, but its command continues: no other may begin.
    assert is_running(pid)
    assert (present(holder()).owner, present(holder()).token) == (node.owner, token)
    assert "postrun_command" not in run.said
    guarded.gate.touch()
    wait_until(lambda: not is_running(pid), "the end of the command")
    wait_free(holder, seen)
    wait_until(lambda: keeper is None or not is_running(keeper), "the end of the keeper")


@pytest.mark.parametrize("whole_run", [True, False], ids=["whole run", "exec"])
def test_a_run_that_is_killed_while_it_waits_leaves_the_queue(
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
    # Its child would wait forever, and renew its place in the queue.
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


def test_a_lock_left_by_a_dead_run_without_a_keeper_is_its_nodes_at_once(
    new_node: New, holder: Holding, guarded: Guarded, tmp_path: Path
) -> None:
    # A ttl that is longer than two runs on a busy machine.
    acquire = f"{DISTLOCK_PUPPET} acquire percona_prod --ttl=600"
    nodes = [new_node(name, whole_run=True, prerun_command=acquire) for name in ("db1", "db2")]
    run = at_work(nodes[0], guarded)
    token = present(holder()).token
    keeper = present(present(holder()).keeper)
    for pid in (keeper, run.pid, present(guarded.pid)):
        os.kill(pid, signal.SIGKILL)
    run.wait()
    wait_until(lambda: not os.path.exists(f"/proc/{keeper}"), "its zombie is gone, whose pid counts as a keeper's")
    assert nodes[1].apply(look(tmp_path))[0] == 1
    code, said = nodes[0].apply(look(tmp_path))
    assert code == CHANGED, said
    (taken_over,) = re.findall(r"token +(\d+)", during(tmp_path))
    assert int(taken_over) > token  # what it was handed to refuses the dead run from now on
    assert holder() is None


# The machine dies: all that the run has started is killed at once, with what renews its lease.


def everything_of(run: PuppetRun, *more: int | None) -> set[int]:
    """The run, all that lives below it, and these."""
    below = {pid for pid, _started in descendants(run.pid)}
    return {run.pid, *below, *(pid for pid in more if pid is not None)}


def the_machine_dies(run: PuppetRun, *more: int | None) -> None:
    pids = everything_of(run, *more)
    # Stopped first, or one would see the other's end and tidy up. The kernel ends some with their parent.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    run.wait()
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the end of all of it")


TTL = 8  # seconds: longer than it takes to look, on a busy machine


@pytest.mark.parametrize("way", ["whole run", "until => run_end", "distlock::exec, ttl"])
def test_after_a_machine_crash_others_get_the_lock_after_its_ttl(
    new_node: New, holder: Holding, seen: Etcd, guarded: Guarded, tmp_path: Path, way: str
) -> None:
    hooks = {"prerun_command": f"{DISTLOCK_PUPPET} acquire percona_prod --ttl={TTL}"} if way == "whole run" else {}
    node = new_node(whole_run=way == "whole run", **hooks)
    run = at_work(node, guarded, way, f", ttl => {TTL}")
    held = present(holder())
    assert (held.owner, held.lifetime) == (node.owner, "leased" if way.startswith("distlock::exec") else "bound")
    the_machine_dies(run, guarded.pid, held.keeper)
    assert present(holder()).token == held.token  # no other gets it before its ttl is over
    other = new_node("db2")
    wait = quoted(DISTLOCK_PUPPET, "exec", "percona_prod", "--timeout=60", "--", "touch", tmp_path / "next")
    code, said = other.apply(f"exec {{ 'next': command => {wait} }}")
    assert code == CHANGED, said
    assert (tmp_path / "next").exists()
    wait_free(holder, seen)


@pytest.mark.parametrize("way", ["distlock::exec", "ensure => unlocked"])
def test_after_a_machine_crash_a_lock_without_a_ttl_stays_and_its_node_continues(
    new_node: New, holder: Holding, seen: Etcd, guarded: Guarded, tmp_path: Path, way: str
) -> None:
    nodes = [new_node(name) for name in ("db1", "db2")]
    run = at_work(nodes[0], guarded, way)
    held = present(holder())
    assert (held.owner, held.lifetime) == (nodes[0].owner, "persistent")
    the_machine_dies(run, guarded.pid)
    enter = quoted(DISTLOCK_PUPPET, "exec", "percona_prod", "--", "touch", tmp_path / "ran")
    code, said = nodes[1].apply(f"exec {{ 'enter': command => {enter} }}")
    assert code == FAILED, said
    assert f"percona_prod is held by {nodes[0].owner} since" in said
    assert present(holder()).token == held.token
    code, said = nodes[0].apply(f"exec {{ 'enter': command => {enter} }}")
    assert code == CHANGED, said
    assert (tmp_path / "ran").exists()
    if way == "ensure => unlocked":
        assert present(holder()).token == held.token  # a step: it lasts until what unlocks it
    else:
        wait_free(holder, seen)


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
def test_a_lock_that_the_end_of_the_run_would_unlock_stays_where_the_run_is_ended_by(
    new_node: New, holder: Holding, guarded: Guarded, number: signal.Signals
) -> None:
    node = new_node()
    run = at_work(node, guarded, "ensure => unlocked")
    held = present(holder())
    assert (held.owner, held.lifetime, held.keeper) == (node.owner, "persistent", None)
    run.send(number)
    run.wait()
    guarded.gate.touch()
    wait_until(lambda: not is_running(present(guarded.pid)), "the end of the command")
    assert present(holder()).token == held.token
    assert guarded.ended == [node.certname]


@pytest.mark.parametrize("on_failure", ["release", "keep", "freeze"])
def test_a_command_under_the_lock_fails(new_node: New, holder: Holding, seen: Etcd, on_failure: str) -> None:
    node = new_node()
    code, said = node.apply(
        f"distlock::exec {{ 'upgrade': lock_name => 'percona_prod', command => ['/bin/false'],"
        f" program => '{DISTLOCK_PUPPET}', on_failure => '{on_failure}' }}"
    )
    assert code == FAILED, said
    if on_failure == "release":
        wait_free(holder, seen)
    elif on_failure == "freeze":
        assert holder() is None
        assert seen.keys() == ["percona_prod/freeze"]
        code, said = node.apply("distlock { 'percona_prod': }")
        assert code == FAILED, said
        assert f"percona_prod is frozen by {node.owner}" in said
        assert "false ended with 1 on" in said
    else:
        assert (present(holder()).owner, present(holder()).record.state) == (node.owner, "kept")
        code, said = node.apply("distlock { 'percona_prod': }")
        assert code == FAILED, said
        assert present(holder()).record.state == "kept"


# Processes of a command that remain when Puppet ends it.


def test_release_leaves_the_lock_to_the_keeper_while_something_that_a_timed_out_command_has_left_is_at_work(
    new_node: New, holder: Holding, seen: Etcd, tmp_path: Path
) -> None:
    # Puppet sends SIGTERM to the command of an exec that takes too long, and continues. Its children may live.
    deaf = "trap '' TERM HUP INT; echo $$ > {0}.new; mv {0}.new {0}; until test -e {1}; do sleep 0.1; done"
    pid_file, gate = tmp_path / "pid", tmp_path / "gate"
    script = '/bin/sh -c "$1" & wait'
    words = quoted("/bin/sh", "-c", script, "sh", deaf.format(pid_file, gate))
    node = new_node(whole_run=True, postrun_command=f"/bin/sh {tmp_path}/post")
    (tmp_path / "post").write_text(
        f"PATH={BIN}:$PATH\n{DISTLOCK_PUPPET} release percona_prod >{tmp_path}/released 2>&1\n"
    )
    try:
        code, said = node.apply(f"exec {{ 'slow': command => {words}, timeout => 2 }}")
        assert code == FAILED, said
        assert "Command exceeded timeout" in said
        left = int(pid_file.read_text())
        assert is_running(left)
        released = (tmp_path / "released").read_text()
        (line,) = released.splitlines()
        assert re.search(rf"percona_prod stays taken until process [\d, ]*\b{left}\b", line)
        assert present(holder()).owner == node.owner
        keeper = present(present(holder()).keeper)
        assert is_running(keeper)
    finally:
        gate.touch()
    wait_until(lambda: not is_running(left), "the end of what was left")
    wait_free(holder, seen)
    wait_until(lambda: not is_running(keeper), "the end of the keeper")


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
