"""The execution module, by salt-call."""

from __future__ import annotations

import os
import re
import sys
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


def test_a_lock_is_taken_shown_verified_and_unlocked(minion: Minion, keys: Etcd) -> None:
    taken = minion.call("distlock.lock", "x", "reason=Replace RAM")
    assert (taken["owner"], taken["lifetime"], taken["reason"]) == ("salt:m0", "persistent", "Replace RAM")
    (shown,) = minion.call("distlock.show", "x")
    assert None not in [*shown.values(), *taken.values()]  # what is unknown is not printed
    assert (shown["token"], shown["waiting"]) == (taken["token"], 0)
    assert [lock["lock"] for lock in minion.call("distlock.list")] == ["x"]
    assert minion.call("distlock.verify", "x") is True
    assert minion.call("distlock.verify", "x", f"token={taken['token'] + 1}") is False
    assert minion.call("distlock.unlock", "x")["token"] == taken["token"]
    keys.assert_nothing_left()


def test_refusals_are_one_line_and_a_return_code(minion: Minion, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    assert "x is held by node-3" in minion.refused("distlock.lock", "x")
    assert "not by salt:m0: left alone" in minion.refused("distlock.unlock", "x")
    assert "y is not locked" in minion.refused("distlock.unlock", "y")
    away = ("endpoints=http://127.0.0.1:1", "connect_timeout=0.3")
    (seconds,) = re.findall(r"no etcd answered within ([\d.]+)s", minion.refused("distlock.lock", "x", *away))
    assert float(seconds) < 5  # the default
    assert "a whole number" in minion.refused("distlock.unlock", "x", "token=abc")
    assert keys.keys() == ["x"]


def test_a_hold_is_broken_by_its_token_and_with_a_reason(minion: Minion, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    (shown,) = minion.call("distlock.show", "x")
    token = f"token={shown['token']}"
    later = f"token={shown['token'] + 1}"
    assert f"no hold of x has {later.replace('=', ' ')}" in minion.refused("distlock.break", "x", later, "reason=y")
    explained = minion.call("distlock.explain", "x")
    holders = explained["conditions"][0]
    assert (explained["lets_in"], explained["owner"], holders["topic"]) == (False, "salt:m0", "holders")
    assert holders["hints"][0]["advice"] == f"To break it: distlock.break x {token} reason=WHY"
    assert "is not broken without a reason" in minion.refused("distlock.break", "x", token, "reason=''")
    assert keys.keys() == ["x"]
    broken = minion.call("distlock.break", "x", token, "reason=node-3 is down")
    assert (broken["owner"], broken["by"], broken["why"]) == ("node-3", "salt:m0", "node-3 is down")
    assert (broken["process"], broken["machine"]) == ("unknown", "unknown")  # the record says nothing of it
    (shown,) = minion.call("distlock.show", "x")
    last = shown["last"]
    assert (last["how"], last["by"], last["why"]) == ("broken", "salt:m0", "node-3 is down")
    keys.assert_nothing_left()


def test_a_command_runs_under_the_lock_and_returns_what_run_all_does(minion: Minion, keys: Etcd) -> None:
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    script = f"echo out $DISTLOCK_HELD; {distlock} --show --lock-name=x; echo err >&2; exit 3"
    done = minion.call("distlock.run", "x", script, "python_shell=True", "env={'A': 'b'}", "beat=1m")
    assert done["retcode"] == 3
    assert done["stdout"].startswith("out /t-")
    assert re.search(r"^  beat      last sign of life .* \(one every 1m00s\)$", done["stdout"], re.MULTILINE)
    assert done["stderr"] == "err"
    assert isinstance(done["pid"], int)
    keys.assert_nothing_left()


def test_a_command_does_not_run_without_the_lock(minion: Minion, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    ran = minion.folder / "ran"
    assert "x is held by node-3" in minion.refused("distlock.run", "x", f"touch {ran}")
    assert not ran.exists()
    assert "cannot start" in minion.refused("distlock.run", "y", "/no/such/program")
    assert keys.keys() == ["x"]


def test_a_command_runs_inside_its_owners_step_and_leaves_it_held(minion: Minion, keys: Etcd) -> None:
    minion.call("distlock.lock", "x")
    assert minion.call("distlock.run", "x", "true")["retcode"] == 0
    assert keys.keys() == ["x"]


def test_a_lock_lost_under_a_command_is_not_reported_as_success(
    minion: Minion, etcd: Cluster, realm_prefix: str, need: Callable[..., str]
) -> None:
    delete = f"{need('etcdctl')} --endpoints {etcd.endpoints[0]} del {realm_prefix}x"
    done = minion.call("distlock.run", "x", delete, "env={'ETCDCTL_API': '3'}")
    assert done["retcode"] == 2
    assert "lost" in done["stderr"]


def test_every_function_has_an_example_of_its_command_line(minion: Minion) -> None:
    documented = minion.call("sys.doc", "distlock")
    named = {name.partition(".")[2] for name in documented}
    policies = {"policy", "set_policy", "clear_policy"}
    others = {"break", "explain", "freeze", "history", "list", "lock", "run", "show", "thaw", "unlock", "verify"}
    assert named == others | policies | {"doctor"}
    for name, text in documented.items():
        assert "CLI Example:" in text, name
        assert name in text
