"""The state module, by salt-call: what it returns, what it changes, and what is left when states fail."""

from __future__ import annotations

from typing import Callable

import pytest
from salted import Minion
from witness import Etcd, wait_until

from distlock_core import Holder, Realm, connect
from distlock_core.testing import Cluster

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
    assert (after.owner, after.token, after.since, after.reason) == ("salt:m0", before.token, before.since, "upgrade")
    # The run that it was taken for has ended: it is the second one's now, and no third one enters beside that.
    assert after.record.details["taker"] != before.record.details["taker"]


def test_busy_says_who_since_when_why_and_how_many_wait(minion: Minion, realm: Realm, keys: Etcd) -> None:
    keys.lock("x", owner="node-3", reason="Upgrade RPMs")
    state = minion.single("distlock.locked", "name=x")
    assert (state.result, state.changes) == (False, {})
    assert state.comment.startswith("x is held by node-3 since ")
    assert '"Upgrade RPMs"' in state.comment
    assert "See: distlock --show --lock-name=x" in state.comment


def test_only_ones_own_lock_is_unlocked_but_by_force(minion: Minion, keys: Etcd) -> None:
    keys.lock("x", owner="node-3")
    done = minion.steps(
        plain=("distlock.unlocked", {"name": "x"}),
        quoted=("distlock.unlocked", {"name": "x", "force": "False"}),
        forced=("distlock.unlocked", {"name": "x", "force": True}),
        again=("distlock.unlocked", {"name": "x"}),
    )
    assert (done["plain"].result, done["plain"].changes) == (False, {})
    assert "force: True" in done["plain"].comment
    assert done["quoted"].result is False
    assert (done["forced"].result, done["forced"].changes) == (True, {"x": {"old": "node-3", "new": None}})
    assert (done["again"].result, done["again"].changes) == (True, {})


def test_a_cooldown_leaves_it_taken_for_a_while(minion: Minion, realm: Realm) -> None:
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


def test_a_dry_run_says_for_whom_it_would_wait_and_fails_where_a_real_one_would(minion: Minion, keys: Etcd) -> None:
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


def test_two_live_runs_of_one_minion_never_share_a_run_end_lock(minion: Minion, realm: Realm, keys: Etcd) -> None:
    (minion.sls / "inner.sls").write_text("inner:\n  distlock.locked: [{name: x}, {until: run_end}]")
    nested = f"""
take:
  distlock.locked: [{{name: x}}, {{until: run_end}}]
other run:
  cmd.run:
    - name: {" ".join(minion.command("state.apply", "inner", "concurrent=True"))}
"""
    done = minion.apply("nested", text=nested)
    assert done["take"].result is True
    assert done["other run"].result is False
    assert "x is held by salt:m0" in done["other run"].changes["stdout"]


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
    "ttl": ({"ttl": 5}, "ttl and on_loss are about a lock that ends with the run: they go with until: run_end"),
    "short_ttl": ({"until": "run_end", "ttl": 1}, "ttl 1s leaves"),
    "no_etcd": ({"endpoints": "http://127.0.0.1:1"}, "no etcd answered within"),
    "ftp": ({"endpoints": "ftp://nowhere"}, "ftp://nowhere"),
    "owner": ({"owner": "a;b"}, "owner"),
    "profile": ({"profile": "nowhere"}, "profile 'nowhere': not in distlock:profiles"),
}


def test_what_is_wrong_is_one_clear_line(minion: Minion, keys: Etcd) -> None:
    done = minion.steps(**{row: ("distlock.locked", {"name": "x", **words}) for row, (words, _) in WRONG.items()})
    for row, (_, said) in WRONG.items():
        assert done[row].result is False, row
        assert said in done[row].comment, row
        assert "\n" not in done[row].comment, row
    assert keys.keys() == []


def test_settings_come_from_minion_config_and_pillar_and_a_profile_picks_others(
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
