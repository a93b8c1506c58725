"""The module, by playbooks with local connections: what it takes, returns, refuses, and leaves alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.playbooks import PLAYBOOK_TIMEOUT, Played
from tests.support.processes import Process, is_running, wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
Run = Callable[..., Played]
Spawn = Callable[..., "Process"]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def step(called: str, task: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """A task of the module for the lock x, with other keywords of a task in `task`."""
    return {"name": called, MODULE: {"name": "x", **arguments}, "ignore_errors": True, **(task or {})}


def play(*tasks: dict[str, Any], **keywords: Any) -> str:
    """A playbook of one play. JSON is YAML."""
    return json.dumps([{"hosts": "all", "gather_facts": False, **keywords, "tasks": list(tasks)}])


def test_a_lock_is_acquired_kept_asserted_and_released(playbook: Run, keys: Etcd, realm: Realm) -> None:
    steps = (
        step("take", reason="Upgrade"),
        step("again", reason="Other"),
        step("held", state="held"),
        step("go", state="unlocked", cooldown=100),
        step("cooling", state="unlocked", cooldown=50),
        step("not held", state="held"),
        step("go on", state="unlocked"),
        step("not there", state="unlocked"),
    )
    played = playbook(play(*steps), "--diff")
    take = played.task("take")
    owner = take["owner"]
    assert owner.startswith("ansible:h1@")
    assert (take["changed"], take["reason"], take["lifetime"], take["position"]) == (True, "Upgrade", "persistent", 0)
    assert take["waited"] < 60
    assert take["diff"] == {"before": "x: not held\n", "after": f"x: held by {owner}\n"}
    again = played.task("again")
    same = ("owner", "token", "since", "reason")
    assert (again["changed"], [again[word] for word in same]) == (False, [take[word] for word in same])
    assert again["msg"].startswith(f"already: x is held by {owner} since")
    assert (played.task("held")["changed"], played.task("held")["token"]) == (False, take["token"])
    go = played.task("go")
    assert (go["changed"], go["msg"]) == (True, f"x, which was held by {owner}, is unlocked in 100s")
    assert not played.task("cooling")["changed"]
    not_held = played.task("not held")
    assert (not_held.outcome, not_held["kind"]) == ("failed", "not_holder")
    assert played.task("go on")["changed"]
    assert (played.task("not there")["changed"], played.task("not there")["msg"]) == (False, "x is not locked")
    assert f"-x: not held\n+x: held by {owner}\n" in played.text
    keys.assert_nothing_left()


def test_anothers_lock_is_named_and_left_alone_without_force(playbook: Run, keys: Etcd, realm: Realm) -> None:
    keys.lock("x", owner="node-3", reason="RAM swap", since=1700000000)
    (theirs,) = realm.show("x").holders
    steps = (
        step("take"),
        step("go", state="unlocked"),
        step("go of mine", state="unlocked", token=theirs.token + 1, owner="node-3"),
        step("held", state="held"),
        step("held with token", state="held", token=theirs.token),
        step("break", state="unlocked", force=True),
    )
    played = playbook(play(*steps))
    take = played.task("take")
    assert (take.outcome, take["kind"], take["owner"]) == ("failed", "busy", "node-3")
    assert (take["since"], take["reason"], take["token"]) == (1700000000, "RAM swap", theirs.token)
    assert (take["waiting"], take["position"]) == (0, 1)
    assert take["msg"].startswith("x is held by node-3 since 2023-11-1")
    assert '"RAM swap"' in take["msg"]
    go = played.task("go")
    assert (go.outcome, go["kind"], go["changed"], go["owner"]) == ("failed", "not_holder", False, "node-3")
    broken = f"{MODULE} with state: broken, name: x, token: {theirs.token}, reason: WHY"
    assert f"left alone. To break it: {broken}" in go["msg"]
    assert (played.task("go of mine").outcome, played.task("go of mine")["changed"]) == ("failed", False)
    for name in ("take", "go", "go of mine", "held"):
        assert "--" not in played.task(name)["msg"], "an option of the command line"
    assert played.task("held").outcome == "failed"
    assert played.task("held with token").outcome == "ok"
    assert (played.task("break")["changed"], played.task("break")["owner"]) == (True, "node-3")
    keys.assert_nothing_left()


def test_a_hold_is_broken_by_its_token_once_and_with_a_reason(playbook: Run, keys: Etcd, realm: Realm) -> None:
    keys.lock("x", owner="node-3")
    token = realm.show("x").holders[0].token
    broken: dict[str, Any] = {"state": "broken", "reason": "node-3 is down"}
    steps = (
        step("no token", **broken),
        step("no reason", state="broken", token=token),
        step("mixed", **broken, token=token, force=True),
        step("another", **broken, token=token + 1),
        step("planned", {"check_mode": True}, **broken, token=token),
        step("break", **broken, token=token),
        step("again", **broken, token=token),
    )
    played = playbook(play(*steps), "--diff")
    for name, words in (
        ("no token", "its token is missing"),
        ("no reason", "is not broken without a reason"),
        ("mixed", "force cannot be used with state: broken"),
    ):
        assert (played.task(name).outcome, played.task(name)["changed"]) == ("failed", False)
        assert words in played.task(name)["msg"]
    assert (played.task("another").outcome, played.task("another")["changed"]) == ("ok", False)
    planned = played.task("planned")
    assert (planned["changed"], planned["msg"]) == (True, "x, which was held by node-3, would be broken")
    done = played.task("break")
    assert (done["changed"], done["owner"], done["token"]) == (True, "node-3", token)
    assert done["diff"] == {"before": "x: held by node-3\n", "after": "x: not held\n"}
    again = played.task("again")
    assert (again["changed"], again["msg"]) == (False, f"no hold of x has token {token}")
    last = realm.show("x").last
    assert last is not None
    assert (last.how, last.why) == ("broken", "node-3 is down")
    assert (last.by or "").startswith("ansible:h1@")
    keys.assert_nothing_left()


def test_in_check_mode_a_broken_lock_is_free_for_the_tasks_behind_it(playbook: Run, keys: Etcd, realm: Realm) -> None:
    keys.lock("x", owner="node-3")
    token = realm.show("x").holders[0].token
    played = playbook(
        play(step("break", state="broken", token=token, reason="it is down"), step("take")),
        "--check",
    )
    assert played.task("break")["changed"]
    assert (played.task("take")["changed"], played.task("take").outcome) == (True, "ok")
    assert keys.keys() == ["x"]


def test_a_waiting_host_queues_and_reports_its_position(spawn_playbook: Spawn, keys: Etcd, realm: Realm) -> None:
    keys.lock("x")
    running = spawn_playbook(play(step("take", timeout=-1, reason="mine")))
    wait_until(lambda: realm.show("x").waiting == 1, "a place in line", PLAYBOOK_TIMEOUT)
    (waiter,) = realm.show("x").waiters
    assert (waiter.owner or "").startswith("ansible:h1@")
    assert waiter.reason == "mine"
    keys.unlock("x")
    take = Played(running).task("take")
    assert (take.outcome, take["position"]) == ("ok", 1)
    assert take["waited"] > 0


def test_a_busy_lock_can_be_tried_for_with_until(spawn_playbook: Spawn, keys: Etcd, tmp_path: Path) -> None:
    keys.lock("x")
    retry = {"register": "taken", "until": "taken is not failed", "retries": 500, "delay": 0, "ignore_errors": False}
    running = spawn_playbook(play(step("take", retry)), env={"RECORDER_FILE": str(tmp_path / "seen")})
    seen = tmp_path / "seen"
    wait_until(lambda: seen.exists() and "\n" in seen.read_text(), "a first try that was refused", PLAYBOOK_TIMEOUT)
    assert json.loads(seen.read_text().splitlines()[0])["outcome"] == "retry"
    keys.unlock("x")
    assert running.wait(PLAYBOOK_TIMEOUT) == 0
    assert keys.keys() == ["x"]


def test_a_timeout_gives_up_the_place_in_the_queue(playbook: Run, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    take = playbook(play(step("take", timeout=3))).task("take")
    assert (take.outcome, take["kind"], take["owner"], take["position"]) == ("failed", "timeout", "node-3", 1)
    assert take["waited"] >= 3
    assert keys.keys() == ["x"]


def test_a_ttl_without_a_run_ends_the_lock_by_itself(playbook: Run, realm: Realm) -> None:
    take = playbook(play(step("take", ttl=100)), env={"DISTLOCK_TTL": "7"}).task("take")
    assert (take.outcome, take["lifetime"]) == ("ok", "leased")
    (holder,) = realm.show("x").holders
    assert holder.ttl_left is not None
    assert 7 < holder.ttl_left <= 100


def test_check_mode_writes_nothing_and_reports_what_a_real_run_would_do(
    playbook: Run, keys: Etcd, realm: Realm
) -> None:
    steps = (
        step("take"),
        step("held", state="held"),
        step("go", state="unlocked"),
        step("gone", state="unlocked"),
        step("not held", state="held"),
        step("take at run end", until="run_end"),
        step("held by the run", state="held"),
        step("left alone", name="theirs", state="unlocked"),
        step("busy", name="theirs"),
        step("waits", name="theirs", timeout=-1),
    )
    keys.lock("theirs", owner="node-3")
    before = realm.show("theirs")
    played = playbook(play(*steps), "--check")
    seen = {task.name: (task.outcome, task["changed"]) for task in played.tasks}
    assert seen == {
        "take": ("ok", True),
        "held": ("ok", False),
        "go": ("ok", True),
        "gone": ("ok", False),
        "not held": ("failed", False),
        "take at run end": ("ok", True),
        "held by the run": ("ok", False),
        "left alone": ("failed", False),
        "busy": ("failed", False),
        "waits": ("ok", True),
    }
    assert "would be locked by ansible:h1@" in played.task("take")["msg"]
    assert played.task("waits")["msg"].startswith("would wait: theirs is held by node-3")
    assert keys.keys() == ["theirs"]
    assert realm.show("theirs") == before


WAITS: dict[str, Any] = {"timeout": -1}
SHARED: dict[str, Any] = {"timeout": -1, "owner": "us"}


REFUSED: dict[str, dict[str, Any]] = {
    "waits": WAITS,
    "waits, of a name in a variable": {"timeout": 60, "name": "{{ group_lock }}"},
    "waits in the name of its host": {"timeout": -1, "owner": "{{ inventory_hostname }}"},
    "waits until the end of the run": {"timeout": -1, "owner": "{{ inventory_hostname }}", "until": "run_end"},
}


def test_a_time_may_have_a_unit(playbook: Run, keys: Etcd, realm: Realm) -> None:
    gate = {"name": "gate", "distlock.distlock.gate": {"tasks": [{"ping": {}}], "timeout": "1m", "every": "0.1s"}}
    wrong = {"name": "wrong gate", "distlock.distlock.gate": {"tasks": [{"ping": {}}], "every": "soon"}}
    played = playbook(
        play(
            step("take", ttl="10m", timeout="0.5s", connect_timeout="1m"),
            step("go", state="unlocked", cooldown="2m"),
            step("busy", timeout="0.5s", owner="other"),
            step("wrong", timeout="5 minutes"),
            gate,
            {**wrong, "ignore_errors": True},
        )
    )
    assert played.task("take")["lifetime"] == "leased"
    assert played.task("go")["msg"].endswith("is unlocked in 120s")
    assert 60 < (realm.show("x").holders[0].ttl_left or 0) <= 120
    assert played.task("busy")["kind"] == "timeout"
    wrong_time = played.task("wrong")
    assert (wrong_time["kind"], wrong_time.outcome) == ("config", "failed")
    assert wrong_time["msg"] == "timeout: expected a number of seconds, found '5 minutes'"
    assert played.task("gate").outcome == "ok"
    assert played.task("wrong gate")["msg"] == "every: expected a number of seconds, found 'soon'"


def test_hosts_that_would_wait_for_each_other_for_ever_are_refused_at_once(playbook: Run, keys: Etcd) -> None:
    steps = [step(row, {"vars": {"group_lock": "x"}}, **arguments) for row, arguments in REFUSED.items()]
    played = playbook(play(*steps), hosts=("h1", "h2"))
    for row, arguments in REFUSED.items():
        for host, other in (("h1", "h2"), ("h2", "h1")):
            task = played.task(row, host)
            assert (row, task.outcome, task["kind"]) == (row, "failed", "config")
            assert task["msg"].startswith(f"x: {other} would wait for it in the same task"), row
            if "until" not in arguments:
                assert "Use serial: 1" in task["msg"], row
                assert "host_pinned" in task["msg"], row
    assert keys.keys() == []


def test_hosts_that_do_not_wait_for_each_other_are_not_refused(playbook: Run, keys: Etcd) -> None:
    steps = (
        step("one", {"when": "inventory_hostname == 'h2'"}, **WAITS),
        step("go", {"when": "inventory_hostname == 'h2'"}, state="unlocked"),
        step("once", {"run_once": True}, **WAITS),
        step("once is over", {"run_once": True}, state="unlocked"),
        step("own", name="{{ inventory_hostname }}", **WAITS),
        step("shared", **SHARED),
        step("slots", name="s", slots=2, **WAITS),
        step("at run end", name="r", until="run_end", **WAITS),
    )
    played = playbook(play(*steps), hosts=("h1", "h2"))
    assert {task.outcome for task in played.tasks} == {"ok", "skipped"}, played.text
    assert played.task("at run end", "h1")["token"] == played.task("at run end", "h2")["token"]
    wait_until(lambda: "r" not in keys.keys(), "the keeper to let go")  # noqa: SIM118 - no dict
    assert keys.keys() == ["h1", "h2", "s", "s/slot/1", "x"]


def test_a_lock_of_an_earlier_task_is_not_waited_for_in_lockstep(playbook: Run, keys: Etcd) -> None:
    steps = (
        step("first", {"when": "inventory_hostname == 'h1'"}),
        step("then", {"when": "inventory_hostname == 'h2'"}, **WAITS),
    )
    then = playbook(play(*steps), hosts=("h1", "h2")).task("then", "h2")
    assert (then.outcome, then["kind"]) == ("failed", "busy")
    assert "That is this run" in then["msg"]
    assert keys.keys() == ["x"]


@pytest.mark.parametrize("strategy", ["linear", "host_pinned"])
def test_a_lock_of_the_play_is_already_held_and_left_to_it(playbook: Run, keys: Etcd, strategy: str) -> None:
    steps = (step("take"), step("held", state="held"), step("go", state="unlocked"), step("still", state="held"))
    keywords = {"strategy": f"distlock.distlock.{strategy}", "vars": {"distlock_name": "x"}}
    played = playbook(play(*steps, **keywords))
    assert [(task.outcome, task["changed"]) for task in played.tasks] == [("ok", False)] * 4, played.text
    assert len({task["token"] for task in played.tasks}) == 1
    assert "for its play: it ends with that" in played.task("go")["msg"]
    assert played.code == 0
    keys.assert_nothing_left()


def test_under_host_pinned_hosts_take_turns(playbook: Run, keys: Etcd) -> None:
    steps = (step("take", **WAITS), step("go", state="unlocked"))
    played = playbook(play(*steps, strategy="host_pinned"), hosts=("h1", "h2", "h3"))
    assert [task.outcome for task in played.tasks] == ["ok"] * 6, played.text
    tokens = {played.task("take", host)["token"] for host in ("h1", "h2", "h3")}
    assert len(tokens) == 3
    keys.assert_nothing_left()


def test_a_waiting_node_gives_up_when_the_run_is_gone(spawn_playbook: Spawn, keys: Etcd, realm: Realm) -> None:
    keys.lock("x")
    running = spawn_playbook(play(step("take", timeout=-1)), env={"ANSIBLE_KEEP_REMOTE_FILES": "0"})
    wait_until(lambda: realm.show("x").waiting == 1, "a place in line", PLAYBOOK_TIMEOUT)
    module = _waiting_process(running.pid)
    worker = _ancestors(module, below=running.pid)[-1]
    running.send_signal(signal.SIGKILL)
    running.wait()
    # The worker lives on in a session of its own; it is what reads from the module.
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: realm.show("x").waiting == 0, "the place in line given up")
    wait_until(lambda: not is_running(module), "the module's end")
    keys.unlock("x")
    assert keys.keys() == []


def test_settings_come_from_the_controllers_environment_and_its_config_file(
    playbook: Run, etcd: Cluster, keys: Etcd, realm_prefix: str, tmp_path: Path
) -> None:
    config = tmp_path / "controller.yaml"
    config.write_text(json.dumps({"endpoints": list(etcd.endpoints), "prefix": "/elsewhere/", "reason": "Night shift"}))
    env = {"DISTLOCK_ENDPOINTS": None, "DISTLOCK_CONFIG": str(config), "DISTLOCK_ID": "us"}
    steps = (step("take"), step("wrong", prefix=""), {"name": "look", f"{MODULE}_info": {"name": "x"}})
    # As if the node were another machine: it has neither that environment nor that file.
    played = playbook(play(*steps, environment=dict.fromkeys(["DISTLOCK_PREFIX", "DISTLOCK_CONFIG"], "")), env=env)
    take = played.task("take")
    assert (take["owner"], take["reason"]) == ("us", "Night shift")
    assert [lock["owner"] for lock in played.task("look")["locks"]] == ["us"]
    assert "the prefix is empty" in played.task("wrong")["msg"]
    assert keys.keys() == ["x"]


def test_an_error_in_the_environment_is_one_clear_line(playbook: Run) -> None:
    played = playbook(play(step("take"), {"name": "look", f"{MODULE}_info": {}}), env={"DISTLOCK_CONNECT_TIMEOUT": "x"})
    for name in ("take", "look"):
        task = played.task(name)
        assert (task.outcome, task["kind"]) == ("failed", "config")
        assert task["msg"] == "DISTLOCK_CONNECT_TIMEOUT: expected a number of seconds, found 'x'"


def test_each_task_opens_one_connection(playbook: Run, proxy: Proxy) -> None:
    kinds = ("locked", "held", "unlocked", "unlocked")
    steps = [step(f"{place}", state=kind, endpoints=proxy.url) for place, kind in enumerate(kinds)]
    played = playbook(play(*steps))
    assert [task.outcome for task in played.tasks] == ["ok"] * len(kinds), played.text
    assert proxy.accepted == len(kinds)


def test_a_node_needs_python_and_nothing_else(playbook: Run, keys: Etcd, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], timeout=60, check=True)
    python = str(tmp_path / "bare/bin/python")
    plain, beyond = tmp_path / "node.yaml", tmp_path / "beyond.yaml"
    plain.write_text("# as Puppet writes it\nprefix: \"/x/\"\nreason: 'from the file'\nslots: 1\n")
    beyond.write_text("{prefix: /x/}\n")
    steps = (
        step("take", config=str(plain)),
        step("from a file", config=str(beyond)),
        step("no file", config=""),
        {"name": "look", f"{MODULE}_info": {}},
    )
    bare = {"PYTHONPATH": None, "COMPILED_PYTHON": None}
    played = playbook(play(*steps, vars={"ansible_python_interpreter": python}), env=bare)
    assert played.task("take")["changed"], played.text
    assert [(lock["lock"], lock["reason"]) for lock in played.task("look")["locks"]] == [("x", "from the file")]
    said = played.task("from a file")["msg"]
    assert said.startswith(f"config file {beyond}: it is not in the plain form")
    assert said.endswith(f"is missing in {python}")
    assert "failed" not in played.task("no file"), played.text
    assert keys.keys() == ["x"]


def _waiting_process(run: int) -> int:
    """The module of this run: the last of the processes below it, one below the other."""
    children = {_parent(int(entry)): int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    found = run
    while found in children:
        found = children[found]
    return found


def _ancestors(pid: int, below: int) -> list[int]:
    """From a process up to the child of another that it descends from."""
    found = [pid]
    while (parent := _parent(found[-1])) != below:
        assert parent > 1, found
        found.append(parent)
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def test_a_password_that_others_can_read_is_warned_about_and_not_shown(playbook: Run, tmp_path: Path) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("user: db\npassword: very-secret\n")
    config.chmod(0o644)
    played = playbook(play(step("take", config=str(config)), step("again", user="db", password="very-secret")), "-vvv")
    assert "has a password in it" in played.text.replace("\n", " ")
    assert "very-secret" not in played.text + json.dumps(played.tasks)
