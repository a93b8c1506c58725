"""gate: the module distlock acquires no lock, and releases none, before the cluster is healthy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, notes
from tests.support.etcd_view import Etcd
from tests.support.playbooks import Played
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
Run = Callable[..., Played]


def step(called: str, **arguments: Any) -> dict[str, Any]:
    return {"name": called, MODULE: {"name": "x", **arguments}, "ignore_errors": True}


def play(*tasks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]


def gate(folder: Path) -> dict[str, Any]:
    line = f"echo asked >> {folder}/asked; echo lag 12; test -e {folder}/healthy"
    return {"gate": line, "gate_every": 0.1, "gate_timeout": 1}


def test_a_red_gate_refuses_the_lock_and_keeps_one_whose_work_is_done(
    playbook: Run, keys: Etcd, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    green = {"name": "green", "ansible.builtin.raw": f"touch {tmp_path}/healthy"}
    red = {"name": "red", "ansible.builtin.raw": f"rm {tmp_path}/healthy"}
    tasks = [
        step("refused", **gate(tmp_path)),
        green,
        step("taken", **gate(tmp_path)),
        red,
        step("kept", state="unlocked", **gate(tmp_path)),
    ]
    played = playbook(json.dumps(play(*tasks)))
    refused, kept = played.task("refused"), played.task("kept")
    assert (refused.outcome, refused["kind"]) == ("failed", "gate")
    assert "x is free; its gate is red: lag 12" in refused["msg"]
    assert played.task("taken")["changed"] is True
    assert (kept.outcome, kept["kind"]) == ("failed", "gate")
    assert "x: not released: after 1s its gate is red: lag 12" in kept["msg"]
    (holder,) = connect(etcd.endpoints, realm_prefix).show("x").holders
    assert holder.record.state == "kept"


def test_a_task_waits_in_the_queue_until_the_gate_is_green(
    controller: Controller, keys: Etcd, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    realm = connect(etcd.endpoints, realm_prefix)
    run = controller.start(play(step("take", timeout=-1, **gate(tmp_path)), step("give", state="unlocked")))
    run.says("h1: waiting: ")
    asked = len(notes(tmp_path, "asked"))
    wait_until(lambda: len(notes(tmp_path, "asked")) > asked + 2, "it is asked again", 100)
    assert realm.show("x").holders == ()
    (tmp_path / "healthy").touch()
    assert run.end() == 0, run.output
    assert realm.show("x").holders == ()


def test_the_lock_of_a_run_has_a_gate_before_it_is_acquired(playbook: Run, keys: Etcd, tmp_path: Path) -> None:
    played = playbook(json.dumps(play(step("refused", until="run_end", **gate(tmp_path)))))
    assert (played.task("refused").outcome, played.task("refused")["kind"]) == ("failed", "gate")
    assert keys.keys() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"gate_every": 1}, "gate_every is about a gate: it goes with gate"),
        ({"gate": ""}, "gate: expected a line of shell"),
        ({"gate": "true", "gate_every": 0}, "gate_every: expected a number of seconds above 0"),
        ({"gate": "true", "gate_timeout": float("inf")}, "gate_timeout: expected a number of seconds"),
        ({"gate": "true", "gate_for": 700, "state": "unlocked"}, "gate_for must be shorter than gate_timeout"),
        ({"gate": "true", "state": "held"}, "gate cannot be used with state: held"),
    ],
)
def test_bad_settings_take_nothing(playbook: Run, keys: Etcd, words: dict[str, Any], said: str) -> None:
    played = playbook(json.dumps(play(step("bad", **words))).replace("Infinity", "1.0e+999"))
    assert played.task("bad").outcome == "failed"
    assert said in played.task("bad")["msg"]
    assert keys.found() == {}
