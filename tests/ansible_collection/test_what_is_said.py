"""Messages of a play: about waits, useless options, and waits that would never end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import RUN_BOUND, Controller, guarded, note, notes, overlaps
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
LINEAR, HOST_PINNED = "distlock.distlock.linear", "distlock.distlock.host_pinned"
EACH = pytest.mark.parametrize("strategy", [LINEAR, HOST_PINNED], ids=["linear", "host_pinned"])


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def play(*tasks: dict[str, Any], **words: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, **words, "tasks": list(tasks)}


def plain(output: str) -> str:
    return " ".join(output.split())


def test_a_wait_is_reported_while_it_lasts_and_at_its_end(
    controller: Controller, realm: Realm, keys: Etcd, tmp_path: Path, run_distlock: Callable[..., Any]
) -> None:
    """By the module, by a strategy, and by the callback for both."""
    run_distlock("--lock", "--lock-name=x", "--id=node-3", "--reason=RAM swap")
    lock = {MODULE: {"name": "x", "timeout": -1}, "register": "taken"}
    told = note(tmp_path, "'{{ taken.position }};{{ taken.waited_for }};{{ taken.waited > 0 }}'")
    unlock = {MODULE: {"name": "x", "state": "unlocked"}}
    under = play(note(tmp_path, "inside"), strategy=LINEAR, vars={"distlock_name": "y", "distlock_timeout": -1})
    run_distlock("--lock", "--lock-name=y", "--id=node-4")
    callback = {"ANSIBLE_CALLBACKS_ENABLED": "distlock.distlock.waits"}
    run = controller.start([play(lock, told, unlock), under], **callback)
    run.says("distlock: h1: waiting: x is held by node-3 since")
    wait_until(lambda: realm.show("x").waiting == 1, "a place in line", RUN_BOUND)
    assert re.search(r'"RAM swap"; position 1 of 1 in the queue', plain(run.output))
    run_distlock("--unlock", "--lock-name=x")
    run.says("distlock: waiting: y is held by node-4 since")
    assert re.search(r"y is held by node-4 since .*; position 1 of 1 in the queue", plain(run.output))
    run_distlock("--unlock", "--lock-name=y")
    assert run.end() == 0, run.output
    (line,) = [line for line in (tmp_path / "notes").read_text().splitlines() if line.startswith("1;")]
    assert re.match(r"1;node-3 since .*RAM swap.*;True$", line)
    waits = run.output.partition("DISTLOCK WAITS")[2]
    assert re.search(r"h1: x: locked after .* in the queue from position 1, behind node-3 since", waits), run.output
    assert re.search(r"all: y: locked after .*: at first y is held by node-4", waits), run.output


def test_a_refused_lock_is_listed_too_and_no_option_of_the_command_is_named(controller: Controller, keys: Etcd) -> None:
    keys.lock("x", owner="node-3", reason="RAM swap")
    callback = {"ANSIBLE_CALLBACKS_ENABLED": "distlock.distlock.waits"}
    steps = [{MODULE: {"name": "x"}, "ignore_errors": True}]
    under = play({"ansible.builtin.raw": "true"}, strategy=LINEAR, vars={"distlock_name": "x"})
    code, output = controller.run([play(*steps), under], **callback)
    assert code == 2, output
    waits = output.partition("DISTLOCK WAITS")[2]
    assert waits.count("refused: x is held by node-3 since") == 2, output
    assert waits.count('"RAM swap"') == 2
    assert not re.search(r"distlock --|--(show|unlock|lock-name|id|force|token)\b", output), output


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "cooldown": ({"cooldown": 5}, "cooldown cannot be used with state: locked"),
    "force": ({"force": True}, "force cannot be used with state: locked"),
    "timeout": ({"state": "unlocked", "timeout": 5}, "timeout cannot be used with state: unlocked"),
    "reason": ({"state": "unlocked", "reason": "x"}, "reason cannot be used with state: unlocked"),
    "until": ({"state": "unlocked", "until": "run_end"}, "until cannot be used with state: unlocked"),
    "held": ({"state": "held", "timeout": 5}, "timeout cannot be used with state: held"),
}


def test_arguments_that_mean_nothing_are_errors_but_defaults_and_environment_are_for_all_states(
    controller: Controller, keys: Etcd
) -> None:
    tasks: list[dict[str, Any]] = [
        {"name": name, MODULE: {"name": "x", **words}, "ignore_errors": True} for name, (words, _) in WRONG.items()
    ]
    right = [{MODULE: {"name": "y"}}, {MODULE: {"name": "y", "state": "unlocked"}}]
    defaults = {"module_defaults": {f"group/{MODULE}": {"timeout": 5, "reason": "all"}}}
    code, output = controller.run([play(*tasks), play(*right, **defaults)], DISTLOCK_COOLDOWN="", DISTLOCK_SLOTS="1")
    assert code == 0, output
    for _, said in WRONG.values():
        assert said in plain(output)
    assert keys.keys() == []


@EACH
def test_a_misspelt_variable_is_warned_about_with_a_suggestion(
    controller: Controller, keys: Etcd, strategy: str
) -> None:
    words = {"distlock_name": "x", "distlock_timout": 5, "distlock_team": "ours"}
    code, output = controller.run([play({"ansible.builtin.raw": "true"}, strategy=strategy, vars=words)])
    assert code == 0, output
    assert "unknown variable distlock_timout; did you mean distlock_timeout?" in plain(output)
    assert "distlock_team" not in output


@EACH
def test_check_mode_passes_what_the_real_run_would_pass(
    controller: Controller, keys: Etcd, tmp_path: Path, strategy: str
) -> None:
    tasks: list[dict[str, Any]] = [
        {MODULE: {"name": "x", "state": "held"}},
        {MODULE: {"name": "x", "state": "held", "token": "{{ distlock_held.token | default(omit, true) }}"}},
        {MODULE: {"name": "x"}},
        {MODULE: {"name": "x", "state": "unlocked"}},
        {"ansible.builtin.assert": {"that": ["distlock_held.lock == 'x'", "distlock_held.owner is match('ansible:')"]}},
    ]
    plays = [play(*tasks, strategy=strategy, vars={"distlock_name": "x"})]
    for options in ((), ("--check",)):
        code, output = controller.run(plays, *options)
        assert code == 0, output
        assert "changed=0" in output
    assert keys.keys() == []


def test_as_many_waiters_as_workers_are_refused_and_fewer_are_not(
    controller: Controller, keys: Etcd, tmp_path: Path
) -> None:
    tasks = [{MODULE: {"name": "x", "timeout": -1}}, *guarded(tmp_path), {MODULE: {"name": "x", "state": "unlocked"}}]
    plays = [play(*tasks, strategy="free")]
    code, output = controller.run(plays, "--forks=2", hosts="h1,h2,h3")
    assert code == 2, output
    assert "2 hosts would wait for it at once, and under this strategy each of them takes a worker" in plain(output)
    assert notes(tmp_path, "been") == []
    throttled = [play({**tasks[0], "throttle": 1}, *tasks[1:], strategy="free")]
    assert controller.run(throttled, "--forks=3", hosts="h1,h2,h3")[0] == 2  # ended, though h3 was alone at last
    code, output = controller.run(plays, "--forks=3", hosts="h1,h2,h3")
    assert code == 0, output
    assert overlaps(tmp_path) == []
    assert sorted(notes(tmp_path, "been"))[:2] == ["h1", "h2"]
    assert keys.keys() == []


@EACH
def test_after_a_failure_that_keeps_the_lock_the_rest_of_the_run_fails_instead_of_waiting(
    controller: Controller, realm: Realm, tmp_path: Path, strategy: str
) -> None:
    fails = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h1'"}
    words = {"distlock_name": "x", "distlock_on_failure": "keep", "distlock_timeout": -1, "distlock_scope": "batch"}
    serial = {"serial": 1, "max_fail_percentage": 100} if strategy == LINEAR else {}
    plays = [play(fails, note(tmp_path, "{{ inventory_hostname }}"), strategy=strategy, vars=words, **serial)]
    code, output = controller.run(plays, hosts="h1,h2,h3")
    assert code == 2, output
    assert "x is left taken" in plain(output)
    assert notes(tmp_path) == []
    (holder,) = realm.show("x").holders
    assert holder.record.state == "kept"


def test_a_module_does_not_wait_for_the_lock_that_is_held_around_its_run(
    controller: Controller, keys: Etcd, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A host that is another machine knows nothing of it: over ssh no variable of the run gets there."""
    from tests.support.sshd import Sshd

    sshd = Sshd(tmp_path)
    request.addfinalizer(sshd.stop)
    distlock = str(Path(controller.bin) / "distlock")
    controller.wrap = lambda command: [distlock, "--lock-name=x", "--", *command]
    inventory = ("-i", str(sshd.inventory(["h1"])))
    code, output = controller.run([play({MODULE: {"name": "x", "timeout": -1}})], *inventory)
    assert code == 2, output
    assert "the command around this one" in plain(output)
    assert keys.keys() == []


@pytest.mark.parametrize("how", ["module", "linear"])
def test_text_written_by_others_is_escaped_for_terminals(controller: Controller, keys: Etcd, how: str) -> None:
    keys.lock("x", owner="evil\x1b]0;owned\x07", reason="\x1b[2J")
    tasks: list[dict[str, Any]] = [
        {MODULE: {"name": "x"}, "ignore_errors": True},
        {MODULE: {"name": "x", "state": "unlocked", "force": True}},
    ]
    under: dict[str, Any] = {"strategy": LINEAR, "vars": {"distlock_name": "x"}} if how == "linear" else {}
    _, output = controller.run([play(*tasks, **under)], "--diff", "-v")
    assert "owned" in output
    assert "\x1b]" not in output
    assert "\x1b[2J" not in output
