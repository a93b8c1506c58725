"""A real master and real minions: one at a time, and what is left when a run ends in a bad way."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Holder, connect
from distlock_core.process.while_alive import LOOK
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.processes import Process, is_running, present, wait_until
from tests.support.salt_minions import CALL_TIMEOUT, Fleet, State, age, clean_environment, start_salt, states

pytestmark = pytest.mark.timeout(400)

Apply = Callable[..., "Process"]


class Cluster3:
    """The steps of the example's upgrade, and a check that only one node works at a time."""

    def __init__(self, folder: Path, lock: str, prefix: str) -> None:
        self.folder, self.lock, self._prefix = folder, lock, prefix
        self.gate = folder / "gate"
        # mkdir fails when another is at work, and with it the state.
        self._package = f"mkdir {folder}/busy && echo $(basename $PWD) >> {folder}/began"
        self._health = f"rmdir {folder}/busy && echo done >> {folder}/ended"

    def pillar(self, **more: Any) -> str:
        gate = f"while ! test -e {self.gate}; do sleep 0.05; done"
        if more.pop("stubborn", False):
            ignore = f"trap '' TERM; echo $$ > {self.folder}/pid.new; mv {self.folder}/pid.new {self.folder}/pid; "
            # One process, since Salt's functions fail where one that they are about to signal has just ended.
            wait = self.folder / "wait.py"
            wait.write_text(f"import os, time\nwhile not os.path.exists({str(self.gate)!r}):\n    time.sleep(0.05)\n")
            # Below a shell that does not ignore it.
            gate = f"sh -c {shlex.quote(f'{ignore}exec {sys.executable} -IS {wait}')}; true"
        steps = {"package": self._package, "service": gate, "health": self._health}
        upgrade = {"lock": self.lock, **steps, **more}
        return "pillar=" + json.dumps({"upgrade": upgrade, "distlock": {"prefix": self._prefix}})

    @property
    def worker(self) -> int | None:
        """The process of the stubborn command."""
        path = self.folder / "pid"
        return int(path.read_text()) if path.exists() else None

    def count(self, what: str) -> int:
        path = self.folder / what
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def nodes(tmp_path: Path, lock_name: str, realm_prefix: str) -> Iterator[Cluster3]:
    nodes = Cluster3(tmp_path, lock_name, realm_prefix)
    yield nodes
    nodes.gate.touch()  # nothing that a failed test has left waits for ever


@pytest.fixture
def holder(etcd: Cluster, realm_prefix: str, lock_name: str) -> Callable[[], Holder | None]:
    realm = connect(etcd.endpoints, realm_prefix)
    return lambda: next(iter(realm.show(lock_name).holders), None)


@pytest.fixture
def start(fleet: Fleet) -> Iterator[Apply]:
    """start(target, *words) -> `salt` in the background; surely ended."""
    started: list[Process] = []

    def start(target: str, *words: str) -> Process:
        started.append(start_salt(fleet.command(target, *words)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def all_true(returned: dict[str, State]) -> bool:
    return all(state.result is True for state in returned.values())


def test_the_example_has_one_minion_at_work_at_every_moment(fleet: Fleet, nodes: Cluster3) -> None:
    nodes.gate.touch()
    returned = fleet.salt("m*", "state.apply", "upgrade", nodes.pillar(timeout=-1))
    for name in ("m0", "m1", "m2"):
        assert all_true(states(returned[name])), returned[name]
    assert (nodes.count("began"), nodes.count("ended")) == (3, 3)


def test_the_example_with_run_end_has_one_minion_at_work_too(
    fleet: Fleet, nodes: Cluster3, holder: Callable[[], Holder | None]
) -> None:
    nodes.gate.touch()
    returned = fleet.salt("m*", "state.apply", "upgrade_run_end", nodes.pillar(timeout=-1))
    for name in ("m0", "m1", "m2"):
        assert all_true(states(returned[name])), returned[name]
    assert (nodes.count("began"), nodes.count("ended")) == (3, 3)
    wait_until(lambda: holder() is None, "the end of the last keeper")


def test_without_waiting_one_succeeds_and_the_others_name_it_until_all_are_done(
    fleet: Fleet, nodes: Cluster3, start: Apply, holder: Callable[[], Holder | None]
) -> None:
    left = {"m0", "m1", "m2"}
    for _ in range(3):
        left -= one_round(fleet, nodes, start, holder, left)
    assert left == set()
    assert nodes.count("ended") == 3


def one_round(
    fleet: Fleet, nodes: Cluster3, start: Apply, holder: Callable[[], Holder | None], left: set[str]
) -> set[str]:
    """Run all of these at once, without waiting; return the one that has succeeded."""
    nodes.gate.unlink(missing_ok=True)
    before = nodes.count("began")
    command = start(",".join(sorted(left)), "--list", "state.apply", "upgrade", nodes.pillar())
    held = wait_until(lambda: nodes.count("began") > before and holder(), "somebody at work", CALL_TIMEOUT)
    others = {f"salt:{name}" for name in left} - {held.owner}
    wait_until(lambda: others <= said_busy(fleet, held), "the others refused", CALL_TIMEOUT)
    nodes.gate.touch()
    returned = json.loads(command.communicate(timeout=CALL_TIMEOUT)[0])
    succeeded = {name for name, run in returned.items() if all_true(states(run))}
    assert {f"salt:{name}" for name in succeeded} == {held.owner}
    for name in returned.keys() - succeeded:
        failed = states(returned[name])
        assert held.owner in failed["one node at a time"].comment
        assert failed["upgrade the package"].result is False
        assert "requisite failed" in failed["upgrade the package"].comment
    return succeeded


def said_busy(fleet: Fleet, held: Holder) -> set[str]:
    return {f"salt:{name}" for name in fleet.names if f"{held.lock} is held by {held.owner}" in fleet.log(name)}


KILL = "SIGKILL to the job's process"
ENDINGS = (KILL, "saltutil.term_job", "saltutil.kill_job")


def end_job(fleet: Fleet, pid: int, way: str) -> None:
    """End the only job of m0, whose process is `pid`; with Salt's functions all that it has started too."""
    if way == KILL:
        os.kill(pid, signal.SIGKILL)
    else:
        (job,) = fleet.salt("m0", "saltutil.running")["m0"]
        fleet.salt("m0", way, str(job["jid"]))


@pytest.mark.parametrize("way", ENDINGS)
def test_a_job_that_is_ended_under_run_end_keeps_the_lock_for_its_command_and_not_for_the_ttl(
    fleet: Fleet, nodes: Cluster3, start: Apply, holder: Callable[[], Holder | None], way: str
) -> None:
    start("m0", "state.apply", "upgrade_run_end", nodes.pillar(ttl=300, stubborn=True))
    held = wait_until(lambda: nodes.worker and holder(), "m0 at work", CALL_TIMEOUT)
    pid = held.record.number("pid")
    wait_until(lambda: age(present(nodes.worker)) > 2 * LOOK, "a command that the keeper has surely seen")
    # The command ignores SIGTERM.
    end_job(fleet, pid, way)
    wait_until(lambda: not is_running(pid), "the end of the job")
    if way != "saltutil.kill_job":
        assert is_running(present(nodes.worker))
        since = age(present(nodes.worker))
        wait_until(
            lambda: age(present(nodes.worker)) > since + 4 * LOOK, "time in which a keeper that does not wait lets go"
        )
        assert [held.token] == [found.token for found in [holder()] if found is not None]
        nodes.gate.touch()
    wait_until(lambda: not is_running(present(nodes.worker)), "the end of the command")
    wait_until(lambda: holder() is None, "the lock free, long before its ttl is over")


@pytest.mark.parametrize("way", ENDINGS)
def test_a_job_killed_under_unlocked_leaves_the_lock_and_the_same_minion_continues(
    fleet: Fleet, nodes: Cluster3, start: Apply, holder: Callable[[], Holder | None], way: str
) -> None:
    start("m0", "state.apply", "upgrade", nodes.pillar())
    held = wait_until(lambda: nodes.count("began") and holder(), "m0 at work", CALL_TIMEOUT)
    pid = held.record.number("pid")
    end_job(fleet, pid, way)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the job")
    assert holder() == held
    nodes.gate.touch()
    (nodes.folder / "busy").rmdir()
    other = states(fleet.salt("m1", "state.apply", "upgrade", nodes.pillar())["m1"])
    assert "is held by salt:m0" in other["one node at a time"].comment
    again = states(fleet.salt("m0", "state.apply", "upgrade", nodes.pillar())["m0"])
    assert all_true(again), again
    assert again["one node at a time"].changes == {}
    assert holder() is None


def test_a_lost_run_end_lock_kills_the_run_where_that_is_wanted(
    fleet: Fleet, etcd: Cluster, nodes: Cluster3, start: Apply, holder: Callable[[], Holder | None]
) -> None:
    start("m0", "state.apply", "upgrade_run_end", nodes.pillar(ttl=6))
    held = wait_until(lambda: nodes.count("began") and holder(), "m0 at work", CALL_TIMEOUT)
    etcd.etcdctl("del", held.key.decode())
    wait_until(lambda: not os.path.exists(f"/proc/{held.record.number('pid')}"), "the end of the job")
    wait_until(lambda: f"{held.lock}: the lock of process" in fleet.log("m0"), "a word in the minion's log")


def test_a_lost_run_end_lock_is_logged_and_the_run_continues(
    fleet: Fleet, etcd: Cluster, nodes: Cluster3, start: Apply, holder: Callable[[], Holder | None]
) -> None:
    command = start("m0", "state.apply", "upgrade_run_end", nodes.pillar(on_loss="continue"))
    held = wait_until(lambda: nodes.count("began") and holder(), "m0 at work", CALL_TIMEOUT)
    etcd.etcdctl("del", held.key.decode())
    wait_until(
        lambda: any(held.lock in line and "WITHOUT ITS LOCK" in line for line in fleet.log("m0").splitlines()),
        "a word in the minion's log",
    )
    nodes.gate.touch()
    assert all_true(states(json.loads(command.communicate(timeout=CALL_TIMEOUT)[0])["m0"]))


def test_a_minion_whose_runs_are_threads_refuses_to_bind_a_lock_to_one(
    fleet: Fleet, lock_name: str, holder: Callable[[], Holder | None]
) -> None:
    words = ("state.single", "distlock.locked", f"name={lock_name}", "until=run_end")
    (state,) = states(fleet.salt("threaded", *words)["threaded"]).values()
    assert state.result is False
    assert "multiprocessing: false" in state.comment
    assert holder() is None


def test_the_orchestration_upgrades_all_nodes_one_at_a_time(fleet: Fleet, nodes: Cluster3) -> None:
    nodes.gate.touch()
    pillar = json.loads(nodes.pillar()[len("pillar=") :])
    done = fleet.orchestrate("orch.upgrade_cluster", "pillar=" + json.dumps({**pillar, "nodes": "m*"}))
    assert all_true(done), done
    assert (nodes.count("began"), nodes.count("ended")) == (3, 3)


def test_the_orchestration_names_the_holder_when_a_node_has_failed(
    fleet: Fleet, nodes: Cluster3, holder: Callable[[], Holder | None]
) -> None:
    nodes.gate.touch()
    pillar = json.loads(nodes.pillar(health="false", timeout=10)[len("pillar=") :])
    done = fleet.orchestrate("orch.upgrade_cluster", "pillar=" + json.dumps({**pillar, "nodes": "m[01]"}))
    assert done["each node in its turn"].result is False
    assert nodes.count("began") == 1
    # It asks the minions, each by its own config, which names another realm than this test's.
    assert set(done["what is still locked"].changes["ret"]) == {"m0", "m1"}
    held = holder()
    assert held is not None
    assert held.owner in ("salt:m0", "salt:m1")


# Added after the states of the page.
IS_IT_HELD = """
is it held:
  salt.function:
    - name: distlock.show
    - tgt: m0
    - arg: [{lock}]
    - kwarg: {{prefix: {prefix}}}
    - require: [{{distlock: one roll-out at a time}}]
"""


def test_a_lock_until_the_runs_end_in_an_orchestration_ends_with_that(
    fleet: Fleet, etcd: Cluster, lock_name: str, realm_prefix: str, holder: Callable[[], Holder | None]
) -> None:
    where = f"- endpoints: {etcd.endpoints[0]}\n    - prefix: {realm_prefix}"
    text = with_stand_ins(
        recipe("Salt orchestration"),
        ("percona_rollout", lock_name),
        ("- until: run_end", f"- until: run_end\n    {where}"),
        ("'db*'", "m0"),
        ("sls: upgrade", "sls: one_node"),
    )
    (fleet.sls / "one_node.sls").write_text("upgrade:\n  test.succeed_without_changes: []\n")
    (fleet.sls / "roll_out.sls").write_text(text + "\n" + IS_IT_HELD.format(lock=lock_name, prefix=realm_prefix))
    done = fleet.orchestrate("roll_out")
    assert all_true(done), done
    (shown,) = done["is it held"].changes["ret"]["m0"]
    assert shown["owner"].startswith("salt:")
    assert shown["lifetime"] == "bound"
    wait_until(lambda: holder() is None, "the end of the orchestration's lock")


def test_the_commands_by_hand_run_look_and_unlock(fleet: Fleet, etcd: Cluster, lock_name: str) -> None:
    salt = shlex.join(fleet.command("", tool="salt"))
    runs, shows, unlocks, freezes, thaws = recipe("Salt by hand").splitlines()
    realm = connect(etcd.endpoints)
    held = realm.lock(lock_name, "node-3", step=True)

    def by_hand(command: str, *replaced: tuple[str, str]) -> Any:
        command = with_stand_ins(command, ("salt ", f"{salt} "), ("percona_prod", lock_name), *replaced)
        words = ["sh", "-euc", command]
        done = subprocess.run(
            words, env=clean_environment(), capture_output=True, text=True, timeout=CALL_TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["m0"]

    ran = by_hand(runs, ("'db*'", "m0"), ("yum --assumeyes upgrade", "echo upgraded"))
    assert (ran["retcode"], ran["stdout"]) == (0, "upgraded")
    held.acquire(0)
    (shown,) = by_hand(shows, ("db1", "m0"))
    assert (shown["owner"], shown["token"]) == ("node-3", held.token)
    by_hand(unlocks, ("db1", "m0"), ("4711", str(held.token)))
    assert not realm.show(lock_name).holders
    by_hand(freezes, ("db1", "m0"))
    (freeze,) = realm.show(lock_name).freezes
    assert freeze.reason == "Replication lags"
    by_hand(thaws, ("db1", "m0"))
    assert realm.show(lock_name).freezes == ()


def test_the_master_can_list_the_locks_of_all_minions(fleet: Fleet, etcd: Cluster, realm_prefix: str) -> None:
    connect(etcd.endpoints, realm_prefix).lock("listed", "somebody", "by hand", step=True).acquire(0)
    returned = fleet.salt("*", "distlock.list", f"prefix={realm_prefix}")
    assert set(returned) == set(fleet.names)
    for locks in returned.values():
        assert [(lock["lock"], lock["owner"], lock["reason"]) for lock in locks] == [("listed", "somebody", "by hand")]


ROLLOUT = """
take:
  distlock.locked:
    - name: {lock}
    - timeout: {{{{ pillar['upgrade']['timeout'] }}}}
    - gate: &gate test -e {folder}/healthy
    - gate_every: 0.1
    - prereq:
      - file: work
work:
  file.managed:
    - name: {folder}/{{{{ grains['id'] }}}}
    - contents: {{{{ pillar['upgrade']['contents'] }}}}
during:
  cmd.run:
    - name: |
        mkdir {folder}/in-{{{{ grains['id'] }}}}
        ls -d {folder}/in-* | wc -l >> {folder}/together
        sleep 1
        rmdir {folder}/in-{{{{ grains['id'] }}}}
        {{{{ pillar['upgrade']['then'] }}}}
    - onchanges: [{{file: work}}]
give:
  distlock.unlocked:
    - name: {lock}
    - gate: *gate
    - gate_every: 0.1
    - require: [{{cmd: during}}]
    - onchanges: [{{distlock: take}}]
nobody else:
  distlock.frozen:
    - name: {lock}
    - reason: the upgrade failed
    - onfail: [{{cmd: during}}]
"""


def test_a_roll_out_needs_work_and_health_goes_by_the_policy_and_stops_at_a_failure(
    fleet: Fleet, nodes: Cluster3, etcd: Cluster, realm_prefix: str, lock_name: str
) -> None:
    """Needed, gate, policy and freeze, each from the master."""
    realm, folder, names = connect(etcd.endpoints, realm_prefix), nodes.folder, ("m0", "m1", "m2")
    (fleet.sls / "rollout.sls").write_text(ROLLOUT.format(lock=lock_name, folder=folder))

    def apply(contents: str, then: str = "true", timeout: int = -1) -> dict[str, dict[str, State]]:
        words = nodes.pillar(contents=contents, then=then, timeout=timeout)
        return {name: states(found) for name, found in fleet.salt("m*", "state.apply", "rollout", words).items()}

    # Set by one minion, for all: the others' states say nothing of it.
    fleet.salt("m0", "distlock.set_policy", lock_name, "slots=2", f"prefix={realm_prefix}")
    (folder / "healthy").touch()
    done = apply("first")
    assert all(done[name]["give"].changes for name in names), done
    together = [int(line) for line in (folder / "together").read_text().split()]
    assert (len(together), max(together)) == (3, 2)

    (folder / "healthy").unlink()  # nobody asks, as there is no work
    before = realm.show(lock_name)
    done = apply("first")
    assert all(not state.changes for name in names for state in done[name].values()), done
    assert realm.show(lock_name) == before

    done = apply("second", timeout=0)
    assert all("its gate is red" in done[name]["take"].comment for name in names), done

    (folder / "healthy").touch()
    done = apply("second", "exit 1", timeout=20)
    freeze = realm.frozen(lock_name)
    assert freeze is not None
    assert freeze.reason == "the upgrade failed"
    refused = [name for name in names if done[name]["take"].result is False]
    assert len(refused) == 1, done
    assert "is frozen by salt:" in done[refused[0]]["take"].comment
    assert len((folder / "together").read_text().split()) == 5


def test_events_reach_the_master_and_the_reactor_freezes_a_lost_lock(
    fleet: Fleet, etcd: Cluster, lock_name: str, start: Apply
) -> None:
    """The reactor is `freeze_lost_lock`, of docs/salt.md. Its runner has no other realm than that of the config."""
    realm, bus = connect(etcd.endpoints), fleet.listen()
    by_beacon, by_minion = f"salt/beacon/m0/distlock/lock/{lock_name}/", f"distlock/lock/{lock_name}/"

    def told(tag: str) -> dict[str, Any]:
        return present(wait_until(lambda: bus.seen.get(tag), f"{tag}, not {[*bus.seen]}", CALL_TIMEOUT))

    try:
        refused = fleet.salt("m0", "beacons.add", "distlock", json.dumps([{"lock": [lock_name]}]))["m0"]
        assert (refused["result"], "unknown key 'lock'; did you mean locks?" in str(refused)) == (False, True)
        added = fleet.salt("m0", "beacons.add", "distlock", json.dumps([{"locks": [f"{lock_name}*"]}]))["m0"]
        assert added["result"] is True, added

        def has_begun() -> bool:
            with realm.lock(f"{lock_name}-probe"):
                return f"salt/beacon/m0/distlock/lock/{lock_name}-probe/acquired" in bus.seen

        wait_until(has_begun, "the beacon has begun", CALL_TIMEOUT)
        fleet.salt("m1", "distlock.lock", lock_name, "reason=Upgrade")
        assert told(by_minion + "acquired")["owner"] == "salt:m1"
        assert told(by_beacon + "acquired")["reason"] == "Upgrade"
        waits = start("m2", "distlock.lock", lock_name, "timeout=-1")
        assert told(by_minion + "waiting")["holders"] == ["salt:m1"]
        fleet.call("m1", "distlock.unlock", lock_name)
        assert told(by_minion + "released")["ended"] == {"how": "released", "by": "salt:m1"}
        assert told(by_beacon + "released")["owner"] == "salt:m1"
        waits.communicate(timeout=CALL_TIMEOUT)
        (holder,) = realm.show(lock_name).holders
        fleet.runner("distlock.break", lock_name, f"token={holder.token}", "reason=m2 is down")
        lost = told(by_beacon + "lost")
        assert (lost["owner"], lost["ended"]["why"]) == ("salt:m2", "m2 is down")
        assert realm.frozen(lock_name) is None  # somebody has ended it on purpose
        del bus.seen[by_beacon + "lost"]
        lock = realm.lock(lock_name, "node-3", ttl=60, background=False).acquire()
        etcd.etcdctl("lease", "revoke", f"{lock.lease:x}")
        assert "ended" not in told(by_beacon + "lost")
        freeze = present(wait_until(lambda: realm.frozen(lock_name), "the freeze of the reactor", CALL_TIMEOUT))
        assert freeze.by.endswith("_master")
        assert freeze.reason.startswith("node-3 on ")
        assert fleet.runner("distlock.thaw", lock_name)["reason"] == freeze.reason
        assert told(by_beacon + "thawed")["lock"] == lock_name
        assert fleet.salt("m0", "beacons.delete", "distlock")["m0"]["result"] is True
    finally:
        bus.stop()
