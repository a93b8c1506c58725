"""`distlock-puppet task`: what each of Bolt's tasks does, its result, and its errors."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.adapters.advice import BOLT
from distlock_core.cli.json_output import locks_json
from distlock_core.cli.puppet import task
from distlock_core.cli.puppet.task import PARAMETERS, TASKS
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.process.identity import hostname
from distlock_core.testing import Cluster
from tests.support.doc_blocks import json_documents
from tests.support.etcd_view import Etcd
from tests.support.time_windows import closed_now

Call = Callable[..., dict[str, Any]]
DEFAULT = rf"bolt:{hostname()}"


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Realm:
    monkeypatch.setenv("DISTLOCK_CONFIG", "/dev/null")
    monkeypatch.setenv("DISTLOCK_ENDPOINTS", ",".join(etcd.endpoints))
    monkeypatch.setenv("DISTLOCK_PREFIX", realm_prefix)
    return connect(etcd.endpoints, realm_prefix)


def call(task_name: str, /, **parameters: Any) -> dict[str, Any]:
    return TASKS[task_name](task.read([task_name], json.dumps(parameters).encode()))


def refused(task_name: str, /, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(DistlockError) as error:
        call(task_name, **parameters)
    return error.value.kind, BOLT.said(error.value)


def test_a_lock_is_taken_and_released_by_the_next_task(realm: Realm, in_etcd: Etcd) -> None:
    taken = call("lock", name="x", reason="it's $(odd)", _noop=False, _task="distlock::lock", slots=None)
    (hold,) = taken["locks"]
    assert (taken["changed"], hold["reason"], hold["lifetime"]) == (True, "it's $(odd)", "persistent")
    assert (hold["owner"], hold["token"]) == (taken["owner"], taken["token"])
    assert taken["owner"].startswith(DEFAULT + ".")
    assert taken["msg"].startswith(f"x is locked by {DEFAULT}.")
    again, said = refused("lock", name="x")  # the same target, but another run of Bolt
    assert (again, "x is held by bolt:" in said) == ("busy", True)
    released = call("unlock", name="x")
    assert (released["changed"], released["token"]) == (True, taken["token"])
    assert released["msg"] == f"x, which was held by {taken['owner']}, is unlocked"
    nothing = call("unlock", name="x", token=taken["token"])
    assert (nothing["changed"], nothing["token"], nothing["msg"]) == (False, None, "x is not locked")
    in_etcd.assert_nothing_left()


def test_whose_lock_is_unlocked(realm: Realm) -> None:
    realm.lock("x", "web-1").acquire(0)
    kind, said = refused("unlock", name="x")
    assert kind == "not_holder"
    assert f"not by {DEFAULT}: left alone" in said
    token = realm.show("x").holders[0].token
    assert f"bolt task run distlock::break name=x token={token} reason=WHY" in said
    assert refused("unlock", name="x", owner="web-2")[0] == "not_holder"
    assert refused("unlock", name="x", token=token + 1)[0] == "not_holder"
    assert call("unlock", name="x", token=token, _noop=True)["changed"]
    assert call("unlock", name="x", token=token)["locks"][0]["owner"] == "web-1"
    realm.lock("x", "web-1").acquire(0)
    assert call("unlock", name="x", force=True, cooldown="1m")["changed"]
    assert realm.show("x").holders[0].record.state == "cooling"


def test_two_locks_of_one_target_are_told_apart_by_their_tokens(realm: Realm) -> None:
    tokens = [call("lock", name="x", slots=2)["token"] for _ in range(2)]
    kind, said = refused("unlock", name="x")
    assert (kind, "bolt task run distlock::unlock name=x token=TOKEN" in said) == ("not_holder", True)
    assert call("unlock", name="x", token=tokens[0])["token"] == tokens[0]
    assert call("unlock", name="x")["token"] == tokens[1]


def test_a_named_owner_goes_on_with_its_lock_and_several_are_taken_together(realm: Realm, in_etcd: Etcd) -> None:
    first = call("lock", name="x", owner="deploy", ttl="2m")
    assert first["locks"][0]["lifetime"] == "leased"
    again = call("lock", name="x", owner="deploy")
    assert (again["changed"], again["token"]) == (False, first["token"])
    assert again["msg"].startswith("already: x is held by deploy since ")
    assert call("unlock", name="x", owner="deploy")["changed"]
    both = call("lock", lock_names=["x", "y"])
    assert [(one["lock"], one["token"]) for one in both["locks"]] == [("x", both["token"]), ("y", both["token"])]
    assert call("unlock", lock_names=["x", "y"])["msg"].startswith("x and y, which were held by bolt:")
    in_etcd.assert_nothing_left()


def test_a_gate_is_asked_before_the_lock_is_acquired_and_before_it_is_released(
    realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    green = tmp_path / "green"
    gate = f"test -e {green}"
    assert refused("lock", name="x", gate=gate)[0] == "gate"
    green.touch()
    call("lock", name="x", gate=gate)
    green.unlink()
    kind, said = refused("unlock", name="x", gate=gate, gate_timeout=1, gate_every=0.2)
    assert (kind, "gate" in said) == ("gate", True)
    (holder,) = realm.show("x").holders
    assert holder.record.state == "kept"
    monkeypatch.setenv("DISTLOCK_GATE", "false")  # for locks to be acquired
    assert call("unlock", name="x")["changed"]


def test_show_has_the_fields_of_the_command(realm: Realm) -> None:
    realm.lock("x", "web-1", "Upgrade").acquire(0)
    realm.freeze("y", owner="admin")
    whole = call("show")
    assert whole["frozen"] is None
    assert [lock["lock"] for lock in whole["locks"]] == ["x", "y"]
    (one,) = call("show", name="x")["locks"]
    (expected,) = locks_json(realm.show("x"))
    assert {**one, "held_seconds": 0} == {**expected, "held_seconds": 0}
    assert [lock["owner"] for lock in call("show", lock_names=["x", "z"])["locks"]] == ["web-1", None]


def test_a_freeze_is_put_once_and_ended_once(realm: Realm) -> None:
    frozen = call("freeze", name="x", reason="audit", duration="2h")
    assert (frozen["changed"], frozen["frozen"]["by"], frozen["frozen"]["reason"]) == (True, DEFAULT, "audit")
    assert frozen["frozen"]["until"] - frozen["frozen"]["since"] == 7200
    assert call("freeze", name="x", reason="other")["changed"] is False
    assert call("freeze", name="x", reason="other", force=True)["frozen"]["reason"] == "other"
    assert "the realm is not frozen without a reason" in refused("freeze")[1]
    assert call("freeze", reason="audit", _noop=True) == {
        "changed": True,
        "lock": None,
        "frozen": None,
        "msg": f"the realm would be frozen by {DEFAULT}",
    }
    assert call("freeze", reason="audit")["frozen"]["scope"] == "realm"
    assert "bolt task run distlock::thaw\n" in refused("lock", name="z")[1].replace(" endpoints", "\n endpoints") + "\n"
    assert call("thaw", _noop=True)["changed"]
    assert realm.frozen() is not None
    assert call("thaw")["msg"].startswith(f"the realm is thawed, which was frozen by {DEFAULT} since ")
    assert call("thaw")["changed"] is False
    assert call("thaw", name="x")["frozen"]["reason"] == "other"
    assert call("thaw", name="x")["msg"] == "x is not frozen"


def test_a_hold_is_broken_by_its_token_with_a_reason(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    token = realm.lock("x", "web-1").acquire(0).token
    monkeypatch.setenv("DISTLOCK_REASON", "for locks to be acquired")
    assert "without a reason" in refused("break", name="x", token=token)[1]
    assert "its token is missing" in refused("break", name="x", reason="down")[1]
    assert call("break", name="x", token=token, reason="down", _noop=True)["changed"]
    broken = call("break", name="x", token=token, reason="down")["broken"]
    assert (broken["owner"], broken["why"], broken["machine"]) == ("web-1", "down", "here")
    assert set(broken) == next(set(one["broken"]) for one in json_documents() if "broken" in one)
    last = realm.show("x").last
    assert last is not None
    assert (last.how, last.by, last.why) == ("broken", DEFAULT, "down")
    assert call("break", name="x", token=token, reason="down")["changed"] is False
    entries = call("history", name="x", since="1h")["history"]
    assert [entry["ended"]["how"] for entry in entries if entry["kind"] == "hold"] == ["broken"]


def test_wait_takes_nothing(realm: Realm, in_etcd: Etcd) -> None:
    lock = realm.lock("x", "web-1").acquire(0)
    look = call("wait", name="x", _noop=True)
    assert (look["reached"], look["locks"][0]["owner"]) == (False, "web-1")
    assert look["msg"].startswith("would wait: x is held by web-1 since ")
    assert refused("wait", name="x", timeout=0.1)[0] == "timeout"
    assert refused("wait", name="x", timeout=0)[0] == "busy"
    threading.Timer(0.3, lock.release).start()
    reached = call("wait", name="x", until="idle", timeout="20s")
    assert (reached["reached"], reached["msg"]) == (True, "x is idle")
    assert reached["waited_for"].startswith("x is held by web-1 since ")
    in_etcd.assert_nothing_left()


def test_noop_changes_nothing(realm: Realm, in_etcd: Etcd) -> None:
    for yes in (True, "true", 1):
        assert "would be locked by bolt:" in call("lock", name="x", _noop=yes)["msg"]
    realm.lock("x", "web-1").acquire(0)
    would = call("lock", name="x", timeout=60, _noop=True)
    assert (would["changed"], would["token"]) == (True, None)
    assert would["msg"].startswith("would wait: x is held by web-1 since ")
    assert refused("lock", name="x", _noop=True)[0] == "busy"
    assert in_etcd.keys() == ["x"]


def test_the_environment_of_the_target_counts_but_names_no_lock(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTLOCK_LOCKNAME", "other")
    monkeypatch.setenv("DISTLOCK_REASON", "from the target")
    assert call("lock", name="x")["locks"][0]["reason"] == "from the target"
    for name in ("lock", "unlock", "break", "wait"):
        assert "no lock is named" in refused(name)[1]
    assert [lock["lock"] for lock in call("show")["locks"]] == ["x"]


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("lock", {"name": ""}, "no lock is named: lock needs name (or lock_names)"),
        ("lock", {"name": "x", "lock_names": ["y"]}, "the locks are named twice"),
        ("lock", {"name": "x", "reasn": "why"}, "the task lock has no parameter reasn; did you mean reason?"),
        ("lock", {"name": "x", "timeout": "soon"}, "timeout: expected a number of seconds"),
        ("lock", {"name": "x", "slots": 2, "shared": True}, "contradict"),
        ("lock", {"name": "x", "window": "Mo 1-2"}, "window: expected windows"),
        ("lock", {"name": "a/b"}, "/"),
        ("unlock", {"name": "x", "force": "perhaps"}, "force: expected"),
        ("unlock", {"name": "x", "token": "many"}, "token: expected"),
        ("freeze", {"name": ""}, "no lock is named: name is empty"),
        ("freeze", {"name": ["x"], "reason": "why"}, "name: expected a string, found ['x']"),
        ("history", {"name": ["x"]}, "name: expected a string, found ['x']"),
        ("show", {"name": 7}, "name: expected a string, found 7"),
        ("lock", {"name": "x", "_noop": "perhaps"}, "_noop: expected true or false"),
        ("freeze", {"name": "x", "reason": "why", "duration": "soon"}, "duration: expected"),
        ("wait", {"name": "x", "until": "open"}, "until: expected one of free, idle, thawed"),
        ("wait", {"name": "x", "until": "idle", "rank": 3}, "rank is about a lock that is free"),
        ("wait", {"name": "x", "window": closed_now(), "timeout": 0}, "outside the window"),
        ("show", {"force": True}, "the task show has no parameter force"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(realm: Realm, name: str, parameters: dict[str, Any], words: str) -> None:
    _, said = refused(name, **parameters)
    assert words in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ([], b"{}", "expected the name of a task: lock, unlock"),
        (["open"], b"{}", "expected the name of a task"),
        (["lock", "x"], b"{}", "expected the name of a task"),
        (["lock"], b"", "expected one JSON object"),
        (["lock"], b"[]", "expected one JSON object"),
        (["lock"], b'{"name": "' + b"x" * 2**20 + b'"}', "expected one JSON object"),
    ],
)
def test_input_that_is_no_call_is_refused(words: list[str], text: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        task.read(words, text)


def test_every_task_has_its_parameters() -> None:
    assert set(TASKS) == set(PARAMETERS)
