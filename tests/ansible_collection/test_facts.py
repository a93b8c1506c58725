"""A node's facts choose no etcd: neither the controller's password nor a lock depends on facts of a node."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller, note, notes
from tests.support.etcd_view import Etcd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
LOOKUP = "{{ query('distlock.distlock.holder', 'x') }}"
SECRET = "hunter2-of-the-controller"


class Trap:
    """A port that a node names as etcd. Whoever connects has fallen for it."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def caught(self) -> bool:
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture
def lying_node(controller: Controller, trap: Trap) -> dict[str, Any]:
    """A play after which the facts of every host say that etcd is at the trap: what a node with any module can do."""
    library = controller.folder / "library"
    library.mkdir()
    facts = {"distlock_endpoints": [trap.url], "etcd": trap.url, "distlock_log_file": str(controller.folder / "log")}
    answer = json.dumps({"changed": False, "ansible_facts": facts})
    (library / "lying.py").write_text(f"#!/usr/bin/python\n# WANT_JSON\nprint({answer!r})\n")
    return {"hosts": "all", "gather_facts": False, "tasks": [{"name": "lie", "lying": {}}]}


LINEAR, HOST_PINNED = ({"strategy": f"distlock.distlock.{name}"} for name in ("linear", "host_pinned"))
NAMED = {"vars": {"distlock_name": "x"}}
DERIVED = {"vars": {"distlock_name": "x", "distlock_endpoints": "{{ etcd }}"}}
THROUGH_HOSTVARS = {
    "vars": {"distlock_name": "x", "distlock_endpoints": "{{ hostvars['h1'].ansible_facts.etcd }}"},
}
DEFAULTS = {"module_defaults": {f"group/{MODULE}": {"endpoints": "{{ distlock_endpoints | default(omit) }}"}}}


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ({**LINEAR, **NAMED}, None),
        ({**HOST_PINNED, **NAMED}, None),
        ({**LINEAR, **DERIVED}, None),
        ({**HOST_PINNED, **THROUGH_HOSTVARS}, None),
        ({}, {"ansible.builtin.debug": {"msg": LOOKUP}}),
        ({"vars": {"distlock_endpoints": "{{ etcd }}"}}, {"ansible.builtin.debug": {"msg": LOOKUP}}),
        ({}, {MODULE: {"name": "x", "until": "run_end", "endpoints": "{{ etcd }}"}}),
        (DEFAULTS, {MODULE: {"name": "x"}}),
        (DEFAULTS, {f"{MODULE}_info": {}}),
        ({}, {MODULE: {"name": "x", "endpoints": "{{ hostvars['h1']['ansible_facts']['etcd'] }}"}}),
    ],
    ids=[
        "linear",
        "host_pinned",
        "linear-derived",
        "host_pinned-hostvars",
        "lookup",
        "lookup-derived",
        "run_end",
        "defaults",
        "info",
        "module-hostvars",
    ],
)
def test_an_etcd_named_by_a_fact_is_refused_and_not_spoken_to(
    controller: Controller,
    lying_node: dict[str, Any],
    trap: Trap,
    keys: Etcd,
    tmp_path: Path,
    words: dict[str, Any],
    task: dict[str, Any] | None,
) -> None:
    play = {"hosts": "all", "gather_facts": False, "tasks": [task or {"ansible.builtin.raw": "true"}], **words}
    play["tasks"].append(note(tmp_path, "inside"))
    secret = {"DISTLOCK_USER": "controller", "DISTLOCK_PASSWORD": SECRET}
    code, output = controller.run([lying_node, play], "-vvvvv", **secret)
    assert not trap.caught()
    assert code != 0, output
    assert "fact" in output, output
    assert "Traceback" not in output
    assert SECRET not in output
    assert notes(tmp_path) == []
    assert keys.keys() == []
    assert not (controller.folder / "log").exists()


def test_facts_may_choose_which_lock_is_taken_but_not_by_the_variables_of_the_strategy(
    controller: Controller, lying_node: dict[str, Any], keys: Etcd, tmp_path: Path
) -> None:
    words = {"distlock_name": "{{ 'of-a-fact' if etcd is defined else 'x' }}", "distlock_endpoints": "{{ real }}"}
    play = {"hosts": "all", "gather_facts": False, **HOST_PINNED, "vars": words}
    task = note(tmp_path, "{{ distlock_held.lock }}")
    lies = dict(lying_node, tasks=[{"name": "lie", "lying": {}}])
    real = controller.env["DISTLOCK_ENDPOINTS"]
    code, output = controller.run([lies, {**play, "tasks": [task]}], "-e", json.dumps({"real": real}))
    assert code == 2, output  # its fact distlock_log_file
    assert "distlock_log_file comes from a fact" in output
    assert notes(tmp_path) == []
    words["distlock_log_file"] = str(tmp_path / "log")
    code, output = controller.run([lies, {**play, "tasks": [task]}], "-e", json.dumps({"real": real}))
    assert code == 0, output
    assert notes(tmp_path) == ["of-a-fact"]
    assert keys.keys() == []


def test_the_controllers_password_travels_only_with_the_endpoints_that_it_belongs_to(
    controller: Controller, etcd: Cluster, tmp_path: Path
) -> None:
    """The input of a node's Python is all that the node gets."""
    given = tmp_path / "given"
    node = tmp_path / "python"
    node.write_text(f"#!/bin/sh\ntee -a {given} | exec {sys.executable} -I -\n")
    node.chmod(0o755)
    endpoints = list(etcd.endpoints)
    own = {"user": "node", "password_file": str(tmp_path / "nowhere")}
    tasks: dict[str, dict[str, Any]] = {
        "controllers-endpoints": {MODULE: {"name": "x", "endpoints": endpoints}},
        "own-endpoints": {MODULE: {"name": "y"}, "environment": {"DISTLOCK_ENDPOINTS": ",".join(endpoints)}},
        "own-credentials": {MODULE: {"name": "x", "endpoints": endpoints, **own}},
        "info-own-endpoints": {f"{MODULE}_info": {}, "environment": {"DISTLOCK_ENDPOINTS": ",".join(endpoints)}},
    }
    seen = {}
    for name, task in tasks.items():
        given.write_text("")
        play = {"hosts": "all", "gather_facts": False, "tasks": [{**task, "ignore_errors": True}]}
        interpreter = ("-e", f"ansible_python_interpreter={node}")
        secret = {"DISTLOCK_USER": "controller", "DISTLOCK_PASSWORD": SECRET, "DISTLOCK_ENDPOINTS": ""}
        _, output = controller.run([play], *interpreter, "-vvvvv", **secret)
        assert "ANSIBALLZ" in given.read_text(), output
        assert SECRET not in output
        seen[name] = SECRET in given.read_text()
    assert seen == {
        "controllers-endpoints": True,
        "own-endpoints": False,
        "own-credentials": False,
        "info-own-endpoints": False,
    }
