"""The state module, by salt-call: what it returns, what it changes, and what is left when states fail."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Holder, Realm, connect
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until
from tests.support.salt_minions import Minion, states

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def holder(realm: Realm, name: str = "x") -> Holder | None:
    return next(iter(realm.show(name).holders), None)


def test_a_second_run_finds_its_own_lock_and_changes_nothing(minion: Minion, realm: Realm) -> None:
    first = minion.single("distlock.locked", "name=x", "reason=upgrade")
    assert (first.result, first.changes) == (True, {"x": {"old": None, "new": "salt:m0"}})
    before = holder(realm)
    second = minion.single("distlock.locked", "name=x", "reason=again")
    assert (second.result, second.changes) == (True, {})
    after = holder(realm)
    assert before is not None
    assert after is not None
    assert (after.owner, after.token, after.since, after.reason) == ("salt:m0", before.token, before.since, "upgrade")
    # The run that it was taken for has ended: it is the second one's now, and no third one enters beside that.
    assert after.record.details["taker"] != before.record.details["taker"]


def test_each_state_opens_one_connection(new_minion: Callable[..., Minion], realm_prefix: str, proxy: Proxy) -> None:
    minion = new_minion(distlock={"endpoints": [proxy.url], "prefix": realm_prefix})
    kinds = ("locked", "held", "unlocked", "unlocked")
    done = minion.steps(**{f"s{place}": (f"distlock.{kind}", {"name": "x"}) for place, kind in enumerate(kinds)})
    assert [state.result for state in done.values()] == [True] * len(kinds)
    assert proxy.accepted == len(kinds)


def test_busy_names_holder_time_reason_and_number_of_waiters(minion: Minion, realm: Realm, keys: Etcd) -> None:
    keys.lock("x", owner="node-3", reason="Upgrade RPMs")
    state = minion.single("distlock.locked", "name=x")
    assert (state.result, state.changes) == (False, {})
    assert state.comment.startswith("x is held by node-3 since ")
    assert '"Upgrade RPMs"' in state.comment
    assert state.comment.endswith("See: distlock.show x")


def test_another_owners_lock_is_unlocked_only_by_force(minion: Minion, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    done = minion.steps(
        plain=("distlock.unlocked", {"name": "x"}),
        quoted=("distlock.unlocked", {"name": "x", "force": "False"}),
        forced=("distlock.unlocked", {"name": "x", "force": True}),
        again=("distlock.unlocked", {"name": "x"}),
    )
    assert (done["plain"].result, done["plain"].changes) == (False, {})
    advice = r"To break it: distlock\.break x token=\d+ reason=WHY\. See: distlock\.show x"
    assert re.search(advice, done["plain"].comment)
    assert done["quoted"].result is False
    assert (done["forced"].result, done["forced"].changes) == (True, {"x": {"old": "node-3", "new": None}})
    assert (done["again"].result, done["again"].changes) == (True, {})


def test_a_cooldown_keeps_it_taken_for_a_while(minion: Minion, realm: Realm) -> None:
    done = minion.steps(
        take=("distlock.locked", {"name": "x"}),
        give=("distlock.unlocked", {"name": "x", "cooldown": 300}),
        again=("distlock.unlocked", {"name": "x", "cooldown": 300}),
        held=("distlock.held", {"name": "x"}),
    )
    give, again = done["give"], done["again"]
    assert (give.result, give.changes) == (True, {"x": {"old": "salt:m0", "new": "salt:m0 (cooling)"}})
    assert (again.result, again.changes) == (True, {})
    assert done["held"].result is False
    cooling = holder(realm)
    assert cooling is not None
    assert cooling.record.state == "cooling"


def test_held_fails_unless_this_owner_holds_it(minion: Minion) -> None:
    done = minion.steps(
        free=("distlock.held", {"name": "x"}),
        take=("distlock.locked", {"name": "x"}),
        mine=("distlock.held", {"name": "x"}),
        others=("distlock.held", {"name": "x", "owner": "salt:other"}),
    )
    assert {step: state.result for step, state in done.items()} == {
        "free": False,
        "take": True,
        "mine": True,
        "others": False,
    }
    assert "not by salt:other" in done["others"].comment


WHOLE = """
take:
  distlock.locked: [{name: x}]
check:
  distlock.held: [{name: x}]
give:
  distlock.unlocked: [{name: x}]
gone:
  distlock.held: [{name: x}]
"""


def test_a_dry_run_writes_nothing_and_its_changes_are_those_of_a_real_run(minion: Minion, keys: Etcd) -> None:
    dry = minion.apply("whole", "test=True", text=WHOLE)
    keys.assert_nothing_left()
    real = minion.apply("whole")
    assert {name: state.changes for name, state in dry.items()} == {name: state.changes for name, state in real.items()}
    assert [state.result for state in dry.values()] == [None, True, None, False]
    assert [state.result for state in real.values()] == [True, True, True, False]


def test_a_dry_run_names_whom_it_would_wait_for_and_fails_as_a_real_one(minion: Minion, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    waits = minion.single("distlock.locked", "name=x", "timeout=60", "test=True")
    assert waits.result is None
    assert waits.comment.startswith("would wait: x is held by node-3")
    assert waits.changes == {"x": {"old": None, "new": "salt:m0"}}
    assert minion.single("distlock.locked", "name=x", "test=True").result is False
    assert keys.keys() == ["x"]


RUN_END = """
take:
  distlock.locked:
    - name: x
    - until: run_end
{more}
look:
  module.run:
    - distlock.verify: [x]
{after}
"""


@pytest.mark.parametrize(
    ("more", "after"),
    [
        ("", ""),
        ("", "broken:\n  cmd.run: [{name: 'false'}]"),
        ("broken:\n  cmd.run: [{name: 'false'}, {failhard: True}]", "never:\n  cmd.run: [{name: 'true'}]"),
    ],
    ids=["success", "failure", "failhard"],
)
def test_a_run_end_lock_ends_with_the_run(minion: Minion, keys: Etcd, more: str, after: str) -> None:
    done = minion.apply("ends", text=RUN_END.format(more=more, after=after))
    assert done["take"].result is True
    assert "until this run ends" in done["take"].comment
    assert ("never" in done) is False
    wait_until(lambda: keys.keys() == [], "the lock gone")
    wait_until(lambda: keys.new_leases() == set(), "its lease gone")


def test_a_run_end_lock_is_one_lock_for_all_of_its_run(minion: Minion, keys: Etcd) -> None:
    twice = """
first:
  distlock.locked: [{name: x}, {until: run_end}]
second:
  distlock.locked: [{name: x}, {until: run_end}]
third:
  distlock.locked: [{name: x}]
check:
  distlock.held: [{name: x}]
give:
  distlock.unlocked: [{name: x}]
"""
    done = minion.apply("twice", text=twice)
    assert [(state.result, bool(state.changes)) for state in done.values()] == [
        (True, True),
        (True, False),
        (True, False),
        (True, False),
        (True, True),
    ]
    wait_until(lambda: keys.keys() == [], "the lock gone")


def test_a_run_end_state_that_runs_in_parallel_is_bound_to_the_run_and_not_to_itself(
    minion: Minion, keys: Etcd
) -> None:
    parallel = """
take:
  distlock.locked: [{name: x}, {until: run_end}, {parallel: True}]
check:
  distlock.held:
    - name: x
    - require: [{distlock: take}]
later:
  cmd.run:
    - name: sleep 1
    - require: [{distlock: check}]
still:
  distlock.held:
    - name: x
    - require: [{cmd: later}]
"""
    done = minion.apply("parallel", text=parallel)
    assert [state.result for state in done.values()] == [True] * 4, done
    wait_until(lambda: keys.keys() == [], "the lock gone")


OUTER = """
run end:
  distlock.locked: [{{name: x}}, {{until: run_end}}]
step:
  distlock.locked: [{{name: y}}]
work:
  cmd.run: [{{name: 'touch {folder}/began; while ! test -e {folder}/gate; do sleep 0.05; done'}}]
give:
  distlock.unlocked: [{{name: y}}]
"""


def test_a_second_run_of_the_same_minion_neither_enters_nor_unlocks_what_the_first_one_holds(
    minion: Minion, keys: Etcd, tmp_path: Path
) -> None:
    (minion.sls / "outer.sls").write_text(OUTER.format(folder=tmp_path))
    first = minion.start("state.apply", "outer")
    try:
        wait_until((tmp_path / "began").exists, "the first run at work", 100)
        text = "".join(
            f"{verb} {name}:\n  distlock.{verb}: [{{name: {name}}}]\n"
            for name in ("x", "y")
            for verb in ("locked", "held", "unlocked")
        )
        second = minion.apply("second", "concurrent=True", text=text)
        assert [state.result for state in second.values()] == [False] * 6, second
        assert keys.keys() == ["x", "y"]
        assert "--" not in "".join(state.comment for state in second.values())
        (tmp_path / "gate").touch()
        done = states(json.loads(first.communicate(timeout=100)[0])["local"])
        assert [state.result for state in done.values()] == [True] * 4, done
    finally:
        (tmp_path / "gate").touch()
        first.kill()
        first.communicate()
    wait_until(lambda: keys.keys() == [], "both locks gone")


def test_a_command_in_a_run_is_under_its_lock_and_a_nested_run_is_separate(minion: Minion, keys: Etcd) -> None:
    (minion.sls / "inner.sls").write_text("inner:\n  distlock.locked: [{name: x}]")
    nested = f"""
take:
  distlock.locked: [{{name: x}}, {{until: run_end}}]
other run:
  cmd.run:
    - name: {" ".join(minion.command("state.apply", "inner", "concurrent=True"))}
  distlock.run: [{{name: x}}, {{cmd: echo inside}}]
"""
    (minion.sls / "nested.sls").write_text(nested)
    done = minion.call("state.apply", "nested")
    results = {key.partition("_|-")[0] + key.rpartition("_|-")[2]: state["result"] for key, state in done.items()}
    assert results == {"distlocklocked": True, "cmdrun": False, "distlockrun": True}, done
    wait_until(lambda: keys.keys() == [], "the lock gone")


ORDER = """
take:
  distlock.locked: [{name: x}]
broken:
  cmd.run:
    - name: 'false'
    - require: [{distlock: take}]
give:
  distlock.unlocked: [{name: x}, {order: last}]
"""


def test_order_last_unlocks_after_a_failure_but_not_after_failhard(minion: Minion, realm: Realm) -> None:
    assert minion.apply("order", text=ORDER)["give"].result is True
    assert holder(realm) is None
    hard = minion.apply("hard", text=ORDER.replace("'false'", "'false'\n    - failhard: True"))
    assert "give" not in hard
    assert holder(realm) is not None


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "timeout": ({"timeout": "soon"}, "timeout: expected a number of seconds, found 'soon'"),
    "until": ({"until": "tomorrow"}, "until: expected unlocked or run_end, found 'tomorrow'"),
    "ttl": ({"ttl": 5}, "ttl and on_loss apply to a lock that ends with the run: they go with until: run_end"),
    "short_ttl": ({"until": "run_end", "ttl": 1}, "ttl 1s is too short"),
    "no_etcd": ({"endpoints": "http://127.0.0.1:1"}, "no etcd answered within"),
    "ftp": ({"endpoints": "ftp://nowhere"}, "ftp://nowhere"),
    "owner": ({"owner": "a;b"}, "owner"),
    "profile": ({"profile": "nowhere"}, "profile 'nowhere': not in distlock:profiles"),
}


def test_an_error_is_one_clear_line(minion: Minion, keys: Etcd) -> None:
    done = minion.steps(**{row: ("distlock.locked", {"name": "x", **words}) for row, (words, _) in WRONG.items()})
    for row, (_, said) in WRONG.items():
        assert done[row].result is False, row
        assert said in done[row].comment, row
        assert "\n" not in done[row].comment, row
    assert keys.keys() == []


def test_settings_come_from_minion_config_and_pillar_and_a_profile_selects_others(
    new_minion: Callable[..., Minion], etcd: Cluster, realm_prefix: str
) -> None:
    other = realm_prefix + "other/"
    section = {"endpoints": list(etcd.endpoints), "prefix": realm_prefix, "profiles": {"two": {"prefix": other}}}
    minion = new_minion(distlock=section)
    minion.steps(x=("distlock.locked", {}), y=("distlock.locked", {"profile": "two"}))
    text = "lock:\n  distlock.locked: [{name: z}]"
    minion.apply("one", 'pillar={"distlock": {"id": "from-pillar"}}', text=text)
    mine = {state.name: state.holders[0].owner for state in connect(etcd.endpoints, realm_prefix).list()}
    assert mine == {"x": "salt:m0", "z": "from-pillar"}
    assert [state.name for state in connect(etcd.endpoints, other).list()] == ["y"]
    unknown = minion.apply("one", 'pillar={"distlock": {"endpoint": "http://a"}}')
    assert "unknown key 'endpoint'" in unknown["lock"].comment


def test_every_state_takes_the_time_limit_of_its_first_contact(minion: Minion) -> None:
    away = {"name": "x", "endpoints": "http://127.0.0.1:1", "connect_timeout": 0.3}
    rows: dict[str, dict[str, object]] = {"locked": {}, "unlocked": {}, "held": {}, "run": {"cmd": "true"}}
    done = minion.steps(**{state: (f"distlock.{state}", {**away, **more}) for state, more in rows.items()})
    for state in rows:
        (seconds,) = re.findall(r"no etcd answered within ([\d.]+)s", done[state].comment)
        assert float(seconds) < 5, state  # the default


MEANT_FOR_OTHERS: dict[str, tuple[str, dict[str, object], str]] = {
    "cooldown": (
        "locked",
        {"cooldown": 60},
        "cooldown: not an argument of distlock.locked, only of distlock.unlocked",
    ),
    "timeout": (
        "unlocked",
        {"timeout": 5},
        "timeout: not an argument of distlock.unlocked, only of distlock.locked",
    ),
    "reason": ("unlocked", {"reason": "x"}, "reason: not an argument of distlock.unlocked"),
    "until": ("unlocked", {"until": "run_end"}, "until: not an argument of distlock.unlocked"),
    "force": ("held", {"force": True}, "force: not an argument of distlock.held"),
    "misspelt": ("locked", {"timout": 5}, "timout: not an argument of distlock.locked; did you mean timeout?"),
    "unknown": ("locked", {"colour": "red"}, "colour: not an argument of distlock.locked; known are "),
    "no_cmd": ("run", {}, "cmd: nothing to run"),
}


def test_an_argument_without_effect_fails_and_names_its_place(minion: Minion, keys: Etcd) -> None:
    rows = {row: (f"distlock.{state}", {"name": "x", **words}) for row, (state, words, _) in MEANT_FOR_OTHERS.items()}
    done = minion.steps(**rows)
    for row, (_, _, said) in MEANT_FOR_OTHERS.items():
        assert (done[row].result, done[row].changes) == (False, {}), row
        assert done[row].comment.startswith(said), (row, done[row].comment)
    assert keys.keys() == []


def test_after_a_wait_comment_and_changes_give_holder_duration_and_position(
    minion: Minion, keys: Etcd, realm: Realm
) -> None:
    keys.lock("x", owner="node-3", reason="Upgrade \x1b[2J")
    (minion.sls / "waits.sls").write_text(
        "one:\n  distlock.locked: [{name: x}, {timeout: -1}]\n"
        "two:\n  distlock.run: [{name: y}, {cmd: echo done}, {timeout: -1}]\n"
    )
    keys.lock("y", owner="node-4")

    def wait_for_waiter(name: str) -> None:
        wait_until(lambda: realm.show(name).waiting == 1, "it stands in line", 100)

    run = minion.start("state.apply", "waits")
    try:
        for name in ("x", "y"):
            wait_for_waiter(name)
            keys.unlock(name)
        done = states(json.loads(run.communicate(timeout=100)[0])["local"])
    finally:
        run.kill()
        run.communicate()
    one, two = done["one"], done["two"]
    assert re.search(r'in the queue from position 1, behind node-3 since .*: "Upgrade \\x1b\[2J"$', one.comment)
    change = one.changes["x"]
    assert (change["old"], change["new"], change["position"]) == (None, "salt:m0", 1)
    assert change["waited_for"].startswith("node-3 since ")
    assert 0 <= change["waited"] < 100
    assert re.search(r"the command was run under y, after .* in the queue from position 1, behind node-4", two.comment)
    assert (two.changes["stdout"], two.changes["retcode"], two.changes["position"]) == ("done", 0, 1)
    assert two.changes["stderr"] == ""


def test_a_command_has_its_own_state(minion: Minion, keys: Etcd) -> None:
    keys.lock("busy", owner="node-3")
    dry = minion.single("distlock.run", "name=x", "cmd=true", "test=True")
    assert dry.result is None
    done = minion.steps(
        good=("distlock.run", {"name": "x", "cmd": "echo $DISTLOCK_HELD", "python_shell": True}),
        bad=("distlock.run", {"name": "x", "cmd": "false"}),
        three=("distlock.run", {"name": "x", "cmd": "exit 3", "python_shell": True, "success_retcodes": 3}),
        skipped=("distlock.run", {"name": "busy", "cmd": "true", "unless": "true"}),
        refused=("distlock.run", {"name": "busy", "cmd": "true"}),
        outer=("distlock.locked", {"name": "z", "until": "run_end"}),
    )
    assert done["good"].changes["stdout"].endswith("/x")
    results = {step: state.result for step, state in done.items()}
    assert results == {
        "good": True,
        "bad": False,
        "three": True,
        "skipped": True,
        "refused": False,
        "outer": True,
    }
    assert done["bad"].changes["retcode"] == 1
    assert done["refused"].comment.startswith("busy is held by node-3 since ")
    assert keys.keys() == ["busy"] or wait_until(lambda: keys.keys() == ["busy"], "the end of the run's lock")


LISTEN = """
take:
  distlock.locked: [{name: x}]
change:
  cmd.run: [{name: echo changed}]
restart:
  cmd.run:
    - name: echo restarted
    - listen: [{cmd: change}]
give:
  distlock.unlocked:
    - name: x
    - require: [{cmd: restart}]
late:
  distlock.locked:
    - name: y
    - listen: [{cmd: change}]
free:
  distlock.unlocked:
    - name: y
    - listen: [{cmd: change}]
watches:
  distlock.held:
    - name: y
    - watch: [{cmd: change}]
"""


def test_listen_and_watch_do_what_makes_sense_or_give_the_reason(minion: Minion, keys: Etcd) -> None:
    keys.lock("never", owner="node-3")
    done = minion.apply("listen", text=LISTEN)
    assert "without the lock x: free, late, restart" in done["give"]["warnings"][0]
    late = done["listener_late"]
    assert late.result is False
    assert "after the states that need the lock: let those `require` it" in late.comment
    assert done["listener_free"].result is True
    assert done["watches"].result is False  # `free` has unlocked y before: no second call has made that good
    assert "restarted" in done["listener_restart"].changes["stdout"]
    assert keys.keys() == ["never"]


PREREQ = """
one at a time:
  distlock.locked:
    - name: x
    - prereq: [{{file: {path}}}]
{path}:
  file.managed:
    - contents: new
next one, please:
  distlock.unlocked:
    - name: x
    - require: [{{file: {path}}}]
    - onchanges: [{{distlock: one at a time}}]
"""


def test_a_lock_that_is_a_prereq_is_taken_only_where_something_would_change(
    minion: Minion, keys: Etcd, tmp_path: Path
) -> None:
    text = PREREQ.format(path=tmp_path / "file")
    first = minion.apply("prereq", text=text)
    assert [state.result for state in first.values()] == [True] * 3, first
    assert first["one at a time"].changes
    assert first["next one, please"].changes
    keys.lock("x", owner="node-3")  # in the way of whoever wants it
    second = minion.apply("prereq", text=text)
    assert [state.result for state in second.values()] == [True] * 3, second
    assert not any(state.changes for state in second.values())
    (tmp_path / "file").write_text("old")
    third = minion.apply("prereq", text=text)
    assert third["one at a time"].result is False
    assert (tmp_path / "file").read_text() == "old"
    assert keys.keys() == ["x"]


def test_an_inner_step_leaves_the_lock_of_the_command_around_the_run(
    minion: Minion, run_distlock: Callable[..., subprocess.CompletedProcess[str]], keys: Etcd
) -> None:
    (minion.sls / "inner.sls").write_text(
        "take:\n  distlock.locked: [{name: x}]\n"
        "give:\n  distlock.unlocked: [{name: x}]\n"
        "still:\n  distlock.held: [{name: x}]\n"
    )
    plain, bare = (
        ["--id=salt:m0", "--lock-name=x", "--"],
        ["--id=salt:m0", "--lock-name=x", "--", "env", "-u", "DISTLOCK_HELD"],
    )
    for around in (plain, bare):
        outer = run_distlock(*around, *minion.command("state.apply", "inner"), timeout=100)
        done = states(json.loads(outer.stdout)["local"])
        assert [state.result for state in done.values()] == [True] * 3, done
        assert not any(state.changes for state in done.values())
        assert "by the command around this run, which releases it" in done["give"].comment
        assert keys.keys() == []
