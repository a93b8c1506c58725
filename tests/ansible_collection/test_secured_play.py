"""An etcd with TLS and users, under Ansible: it works, and the password is in no output, process list or file left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import connect
from tests.support.playbooks import Played
from tests.support.processes import wait_until

MODULE = "distlock.distlock.distlock"
SECRET = "hunter2-of-ansible"
# What anybody on the node may read while the run holds a lock.
PROCESSES = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true"


@pytest.mark.timeout(240)
def test_locks_work_and_the_password_is_nowhere(
    user_of_realm: Callable[[str], dict[str, Any]], playbook: Callable[..., Played], tmp_path: Path
) -> None:
    settings = user_of_realm(SECRET)
    tasks: list[dict[str, Any]] = [
        {"name": "stays", MODULE: {"name": "stays"}},
        {"name": "run", MODULE: {"name": "run", "until": "run_end"}},
        {"name": "look", "ansible.builtin.command": {"argv": ["sh", "-c", PROCESSES]}},
        {"name": "wrong", MODULE: {"name": "x", "password": "{{ wrong }}"}, "ignore_errors": True},
    ]
    defaults = {**settings, "password": "{{ secret }}"}
    keywords = {"module_defaults": {MODULE: defaults}, "gather_facts": False}
    known = {f"distlock_{word}": value for word, value in defaults.items()}
    under = {"hosts": "all", "gather_facts": False, "vars": {**known, "distlock_name": "play"}}
    look: dict[str, Any] = {"ansible.builtin.debug": {"msg": "{{ query('distlock.distlock.holder', 'play') }}"}}
    strategies = [
        {**under, "strategy": f"distlock.distlock.{name}", "tasks": [look]} for name in ("linear", "host_pinned")
    ]
    plays = json.dumps([{"hosts": "all", **keywords, "tasks": tasks}, *strategies])
    secrets = tmp_path / "secrets.json"
    secrets.touch(0o600)
    secrets.write_text(json.dumps({"secret": SECRET, "wrong": f"not-{SECRET}"}))
    # In a home of its own, for what Ansible leaves there; so its process is no fork of one that has it imported.
    alone = {"DISTLOCK_ENDPOINTS": None, "ANSIBLE_HOME": str(tmp_path / "home")}
    played = playbook(plays, "-vvvvv", f"--extra-vars=@{secrets}", env=alone)
    assert played.code == 0, played.text
    assert (played.task("stays")["lifetime"], played.task("run")["lifetime"]) == ("persistent", "bound")
    assert "wrong password, or no such user" in played.task("wrong")["msg"]
    assert "ansible-playbook" in played.task("look")["stdout"]
    assert SECRET not in played.text + json.dumps(played.tasks)
    realm = connect(**settings)
    wait_until(lambda: [state.name for state in realm.list()] == ["stays"], "the keeper to let go")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text("latin-1")] == [secrets]


@pytest.mark.timeout(240)
def test_a_lookup_with_a_wrong_password_ends_with_one_line(
    user_of_realm: Callable[[str], dict[str, Any]], playbook: Callable[..., Played]
) -> None:
    settings = {**user_of_realm(SECRET), "password": f"not-{SECRET}"}
    words = ", ".join(f"{word}={value!r}" for word, value in settings.items())
    task = {"ansible.builtin.debug": {"msg": f"{{{{ query('distlock.distlock.holder', 'x', {words}) }}}}"}}
    played = playbook(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    assert played.code == 2, played.text
    assert "wrong password, or no such user" in " ".join(played.text.split())
    assert "Traceback" not in played.text
