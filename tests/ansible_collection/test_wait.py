"""The module distlock_wait, and distlock_info with `explain: true`: both only look."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Callable

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.docs.test_fields import returned
from tests.support.ansible_controller import EXAMPLES
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.playbooks import Played
from tests.support.processes import Process
from tests.support.time_windows import closed_now

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
WAIT, INFO = "distlock.distlock.distlock_wait", "distlock.distlock.distlock_info"


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def step(called: str, module: str = WAIT, **arguments: Any) -> dict[str, Any]:
    return {"name": called, module: arguments, "ignore_errors": True}


def play(*tasks: dict[str, Any]) -> str:
    return json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}])


def test_it_waits_until_the_lock_is_released_and_says_whom_it_waits_for(
    spawn_playbook: Callable[..., Process], realm: Realm, keys: Etcd
) -> None:
    realm.lock("x", "node-3", "RAM swap").acquire(0)
    realm.lock("slotted", "node-4", slots=2).acquire(0)
    (documented,) = yaml.safe_load(recipe("Ansible wait"))
    (freeze,) = yaml.safe_load(recipe("Ansible freeze"))
    (report,) = yaml.safe_load((EXAMPLES / "report.yml").read_text())
    with realm.lock("percona_prod", "node-1"):
        pass
    process = spawn_playbook(
        play(
            step("wait", name="x", timeout=None),  # as not given
            step("slot", name="slotted", timeout="1m"),
            step("several", lock_names=["x", "slotted", "y"], until="thawed", timeout=0),
            {**documented, "name": "documented"},
            {**freeze, "name": "freeze"},
            *report["tasks"],
        )
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if "waiting" in line)
    assert line.startswith("distlock: h1: waiting: x is held by node-3 since ")
    assert keys.keys() == ["slotted", "x"]  # no place in the queue
    realm.unlock("x")
    played = Played(process)
    assert played.code == 0, played.text
    wait = played.task("wait")
    assert (wait["changed"], wait["reached"], wait["until"], wait["msg"]) == (False, True, "free", "x is free")
    assert wait["waited_for"].startswith("x is held by node-3 since ")
    assert '"RAM swap"' in wait["waited_for"]
    assert wait["waited"] > 0
    (lock,) = wait["locks"]
    assert (lock["lock"], lock["owner"], lock["last"]["owner"]) == ("x", None, "node-3")
    assert wait["revision"] >= lock["last"]["token"]
    slot = played.task("slot")
    assert (slot["waited_for"], [lock["owner"] for lock in slot["locks"]]) == ("", ["node-4"])
    assert [lock["lock"] for lock in played.task("several")["locks"]] == ["x", "slotted", "y"]
    assert played.task("documented")["until"] == "idle"
    assert played.task("freeze")["frozen"]["reason"] == "Replication lags"
    assert "node-1 waited 0 s, began at " in played.text
    assert played.task("Fail if a hold was broken or has expired").outcome == "ok"
    assert set(wait) >= set(returned("distlock_wait")) - {"kind"}


def test_what_is_not_reached_fails_and_check_mode_only_looks(
    playbook: Callable[..., Played], realm: Realm, run_distlock: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    realm.lock("x", "node-3").acquire(0)
    realm.freeze("y", owner="admin")
    looks = {**step("look", name="x"), "check_mode": True}
    background = {**step("background", name="z"), "async": 30, "poll": 1}
    (documented,) = yaml.safe_load(recipe("Ansible explain"))
    command = run_distlock("--explain", "--lock-name=y", "--id=me", "--json")
    away = step("away", name="x", endpoints=["http://127.0.0.1:1"], connect_timeout=0.2)
    played = playbook(
        play(
            looks,
            background,
            away,
            step("late", name="x", timeout=0.5),
            step("busy", name="x", timeout=0),
            step("frozen", name="y", until="thawed", timeout=0),
            step("idle", name="y", until="idle", timeout=0),
            step("window", name="z", window=closed_now(), timeout=0),
            step("slots", name="x", until="idle", slots=3),
            step("empty", name=""),
            step("time", name="x", timeout="soon"),
            step("explained", INFO, name="x", explain=True, owner="me", rank=10),
            step("free", INFO, name="free", explain=True),
            {**documented, "name": "documented", INFO: {**documented[INFO], "name": "y", "owner": "me"}},
            step("unexplained", INFO, name="x", owner="me"),
            step("nameless", INFO, explain=True),
        )
    )
    look = played.task("look")
    assert (look.outcome, look["changed"], look["reached"]) == ("ok", False, False)
    assert look["msg"].startswith("would wait: x is held by node-3 since ")
    assert played.task("background")["reached"] is True
    assert played.task("idle")["reached"] is True
    said = {
        "away": ("unreachable", "no etcd answered"),
        "late": ("timeout", "gave up after 0."),
        "busy": ("busy", "x is held by node-3 since "),
        "frozen": ("frozen", 'To thaw it: distlock.distlock.distlock_freeze with state: thawed, name: "y"'),
        "window": ("window", "outside the window"),
        "slots": ("config", "slots is about a lock that is free: it goes with until: free"),
        "empty": ("config", "no lock is named: name is empty"),
        "time": ("config", "timeout: expected a number of seconds"),
        "unexplained": ("config", "owner is about an attempt to acquire the lock: it needs explain: true"),
        "nameless": ("config", "explain is about one lock: it needs name"),
    }
    for called, (kind, words) in said.items():
        task = played.task(called)
        assert (task.outcome, task["kind"]) == ("failed", kind), called
        assert words in task["msg"]
    assert played.task("late")["locks"][0]["owner"] == "node-3"
    assert played.task("late")["waited"] >= 0.5
    found = played.task("explained")["explained"]
    assert (found["lock"], found["owner"], found["lets_in"], found["how"]) == ("x", "me", False, None)
    (failing,) = [one for one in found["conditions"] if not one["holds"]]
    assert failing["topic"] == "holders"
    assert "with state: broken, name: x, token: " in failing["hints"][0]["advice"]
    assert set(found) == set(returned("distlock_info")["explained"]["contains"])
    assert played.task("free")["explained"]["lets_in"] is True
    documented = played.task("documented")["explained"]
    for mine, theirs in zip(documented["conditions"], json.loads(command.stdout)["explained"]["conditions"]):
        assert set(mine) == set(theirs)
        assert (mine["topic"], mine["holds"], mine["who"]) == (theirs["topic"], theirs["holds"], theirs["who"])
