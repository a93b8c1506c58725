"""--json: the documents that programs read, for every operation and every kind of error."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import time
from typing import Any, Callable

import pytest

from distlock_core.testing import Proxy
from tests.support.processes import Process
from tests.support.realm_view import BOUND, Holding, RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]
Hold = Callable[..., Holding]

# Documented, and so not to be taken away; what is added here has to be documented too.
HOLDER = {
    "lock",
    "owner",
    "since",
    "held_seconds",
    "token",
    "lifetime",
    "ttl_left",
    "host",
    "pid",
    "reason",
    "value",
    "state",
    "slot",
    "shared",
    "run",
    "taker",
    "keeper",
    "expect",
    "overdue",
    "beat",
}
LIFE = {"process", "machine", "keeper_process"}  # of --show
LOCK = {*HOLDER, "waiters", "waiting", "last", "frozen", "freezes", "policy"}
WAITER = {"owner", "host", "since", "reason", "rank", "shared"}


def locks(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The locks of a result that is nothing else, in one line on stdout."""
    assert (done.returncode, done.stderr) == (0, ""), done
    document = json.loads(one_line(done.stdout))
    assert list(document)[:1] == ["locks"]
    assert set(document) <= {"locks", "frozen"}  # the realm, in a list
    found: list[dict[str, Any]] = document["locks"]
    for lock in found:
        assert set(lock) == LOCK | (LIFE if "--show" in done.args else set())
        assert all(set(waiter) == WAITER for waiter in lock["waiters"])
    return found


def error(text: str) -> dict[str, Any]:
    """The error of a document that is nothing else, in one line."""
    document = json.loads(one_line(text))
    assert list(document) == ["error"]
    found: dict[str, Any] = document["error"]
    assert set(found) <= {"kind", "message", "hints", "locks", "run"}
    assert found["message"].isprintable()
    return found


@pytest.mark.parametrize("operation", ["--list", "--show"])
def test_list_and_show_give_holders_and_waiters(
    hold: Hold, spawn_distlock: Spawn, run_distlock: Run, realm: RealmView, operation: str
) -> None:
    before = int(time.time())
    holder = hold("--lock-name=x", "--id=node-1", "--reason=Upgrade \u00fc")
    waiters = [spawn_distlock("--lock-name=x", f"--id=w{n}", f"--reason=r{n}", "--", "true") for n in (1,)]
    assert waiters[0].stderr.readline()
    (lock,) = locks(run_distlock(operation, *(["--lock-name=x"] if operation == "--show" else []), "--json"))
    (waiter,) = lock.pop("waiters")
    since, held = lock.pop("since"), lock.pop("held_seconds")
    assert before <= since <= time.time()
    assert 0 <= held <= time.time() - since
    assert re.fullmatch("[0-9a-f]{32}", lock.pop("run"))
    assert lock == {
        "lock": "x",
        "owner": "node-1",
        "token": holder.token,
        "lifetime": "persistent",
        "ttl_left": None,
        "host": socket.gethostname(),
        "pid": holder.process.pid,
        "reason": "Upgrade \u00fc",
        "value": None,
        "state": "held",
        "slot": 0,
        "shared": False,
        "waiting": 1,
        "keeper": None,
        "taker": None,
        "last": None,
        "frozen": None,
        "freezes": [],
        "policy": None,
        "expect": None,
        "overdue": False,
        "beat": None,
        **({"process": "alive", "machine": "here", "keeper_process": None} if "--show" in operation else {}),
    }
    assert before <= waiter.pop("since") <= time.time()
    found = {"owner": "w1", "host": socket.gethostname(), "reason": "r1", "rank": 50, "shared": False}
    assert waiter == found


def test_a_free_lock_has_no_owner(run_distlock: Run) -> None:
    (lock,) = locks(run_distlock("--lock-name=x", "--show", "--json"))
    assert lock == {**dict.fromkeys(LOCK | LIFE), "lock": "x", "waiters": [], "waiting": 0, "freezes": []}


def test_a_free_lock_has_its_last_end_and_the_freeze_of_the_realm(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--id=node-1", "--lock")
    token = realm.token("x")
    run_distlock("--lock-name=x", "--id=node-1", "--unlock")
    realm.put("__freeze", "1500000000;boss;not today")
    (lock,) = locks(run_distlock("--lock-name=x", "--show", "--json"))
    assert lock["owner"] is None
    assert (lock["last"]["how"], lock["last"]["by"], lock["last"]["token"]) == ("released", "node-1", token)
    assert (lock["frozen"]["by"], lock["frozen"]["reason"]) == ("boss", "not today")


def test_a_lock_of_the_go_original_and_an_invalid_record(run_distlock: Run, realm: RealmView) -> None:
    realm.put("go", "1500000000;go-host;some; reason")
    realm.put("odd", b"\xffnothing \x1b[31m")
    go, odd = locks(run_distlock("--list", "--json"))
    assert {key: go[key] for key in ("lock", "owner", "since", "reason", "host", "pid", "run")} == {
        "lock": "go",
        "owner": "go-host",
        "since": 1500000000,
        "reason": "some; reason",
        "host": None,
        "pid": None,
        "run": None,
    }
    assert {key: odd[key] for key in ("owner", "since", "held_seconds", "reason")} == {
        "owner": None,
        "since": None,
        "held_seconds": None,
        "reason": "\\xffnothing \x1b[31m",
    }


def test_every_slot_has_its_own_object(run_distlock: Run) -> None:
    for name in ("a", "b"):
        run_distlock("--lock-name=x", "--slots=2", "--lock", f"--id={name}")
    found = locks(run_distlock("--list", "--json"))
    assert [(lock["lock"], lock["slot"], lock["owner"]) for lock in found] == [("x", 0, "a"), ("x", 1, "b")]


def test_a_value_under_json_stays_what_it_was(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", '1500000000;o;{"value":{"a":[1,null,"\u00fc"]},"reason":"r"}')
    (lock,) = locks(run_distlock("--list", "--json"))
    assert lock["value"] == {"a": [1, None, "\u00fc"]}


def test_the_output_is_json_whatever_is_in_etcd(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", '1500000000;o;{"value":[NaN,-Infinity,1e999],"pid":Infinity,"reason":"\\ud800"}')

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(run_distlock("--list", "--json").stdout, parse_constant=refuse)
    assert found["locks"][0]["value"] == ["NaN", "-Infinity", "Infinity"]


def test_lock_verify_and_unlock_answer_with_the_lock(run_distlock: Run, realm: RealmView) -> None:
    (taken,) = locks(run_distlock("--lock-name=x", "--lock", "--json", "--reason=why"))
    assert (taken["lock"], taken["token"], taken["reason"]) == ("x", realm.token("x"), "why")
    verified = run_distlock("--lock-name=x", "--verify", f"--token={taken['token']}", "--json")
    assert json.loads(one_line(verified.stdout)) == {"verified": {"lock": "x", "token": taken["token"]}}
    unlocked = json.loads(one_line(run_distlock("--lock-name=x", "--unlock", "--json").stdout))["unlocked"]
    assert set(unlocked) == HOLDER
    assert (unlocked["lock"], unlocked["token"], unlocked["run"]) == ("x", taken["token"], taken["run"])


def test_a_command_under_the_lock_keeps_its_stdout_and_stderr(run_distlock: Run) -> None:
    done = run_distlock("--json", "--lock-name=x", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")


# Errors of every kind.


def test_busy_shows_who_holds_it(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", "1500000000;go-host;some reason")
    found = error(run_distlock("--json", "--lock-name=x", "--lock", "--nowait").stdout)
    assert found["kind"] == "busy"
    assert found["message"].startswith("x is held by go-host")
    (lock,) = found["locks"]
    assert set(lock) == LOCK
    assert (lock["lock"], lock["owner"], lock["reason"]) == ("x", "go-host", "some reason")


def test_waiting_is_reported_as_json_too(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", "1500000000;go-host;some reason")
    done = run_distlock("--json", "--lock-name=x", "--timeout=1.5", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    first, last = done.stderr.splitlines()
    waiting = json.loads(first)["waiting"]
    assert (waiting["position"], waiting["away"]) == (1, "")
    assert waiting["locks"][0]["owner"] == "go-host"
    found = error(last + "\n")
    assert found["kind"] == "timeout"
    assert found["locks"][0]["owner"] == "go-host"


@pytest.mark.parametrize("operation", ["--lock", "command"])
def test_frozen(run_distlock: Run, realm: RealmView, operation: str) -> None:
    realm.put("__freeze", "1500000000;boss;not today")
    what = ["--lock"] if operation == "--lock" else ["--", "echo", "ran"]
    done = run_distlock("--json", "--lock-name=x", "--nowait", *what)
    found = error(done.stdout if operation == "--lock" else done.stderr)
    assert found["kind"] == "frozen"
    assert done.returncode == 1
    assert "ran" not in done.stdout


def test_limit(run_distlock: Run) -> None:
    run_distlock("--lock-name=x", "--lock", "--slots=2")
    found = error(run_distlock("--json", "--lock-name=x", "--lock").stdout)
    assert found["kind"] == "limit"
    assert found["locks"][0]["lock"] == "x"


def test_not_locked(run_distlock: Run) -> None:
    done = run_distlock("--json", "--lock-name=x", "--unlock")
    assert (done.returncode, error(done.stdout)["kind"]) == (1, "not_locked")


def test_not_holder(run_distlock: Run) -> None:
    run_distlock("--lock-name=x", "--lock", "--id=a")
    done = run_distlock("--json", "--lock-name=x", "--unlock", "--id=b")
    found = error(done.stdout)
    assert (done.returncode, found["kind"], found["locks"][0]["owner"]) == (1, "not_holder", "a")


def test_lost_by_verify(run_distlock: Run) -> None:
    done = run_distlock("--json", "--lock-name=x", "--verify", "--token=1")
    assert (done.returncode, error(done.stdout)["kind"]) == (2, "lost")


def test_lost_by_a_run(hold: Hold, realm: RealmView) -> None:
    holder = hold("--json", "--lock-name=x")
    realm.delete("x")
    assert holder.let_go() == 2
    assert error(holder.process.stderr.read())["kind"] == "lost"


def test_not_started(run_distlock: Run, realm: RealmView) -> None:
    done = run_distlock("--json", "--lock-name=x", "--", "/no/such/command")
    assert (done.returncode, done.stdout, error(done.stderr)["kind"]) == (3, "", "not_started")
    assert realm.entries() == {}


@pytest.mark.parametrize("operation", ["--list", "--lock", "--unlock", "--show", "command"])
def test_unreachable(run_distlock: Run, proxy: Proxy, operation: str) -> None:
    proxy.cut()
    what = ["--", "echo", "ran"] if operation == "command" else [operation]
    env = {"DISTLOCK_ENDPOINTS": proxy.url, "DISTLOCK_RELEASE_TIMEOUT": "0.3"}
    done = run_distlock("--json", "--lock-name=x", "--connect-timeout=0.3", *what, env=env)
    assert done.returncode == 1
    found = error(done.stderr if operation == "command" else done.stdout)
    assert found["kind"] == "unreachable"
    assert proxy.url in found["message"]
    assert "ran" not in done.stdout


def test_unreachable_at_the_release_names_the_remedy_and_keeps_the_commands_code(
    spawn_distlock: Spawn, proxy: Proxy, realm: RealmView
) -> None:
    for code, expected in ((0, 1), (7, 7)):
        process = spawn_distlock(
            "--json",
            "--lock-name=x",
            "--release-timeout=0.3",
            "--",
            "sh",
            "-c",
            f"echo held; read line; exit {code}",
            env={"DISTLOCK_ENDPOINTS": proxy.url},
            stdin=subprocess.PIPE,
        )
        assert process.stdout.readline() == "held\n"
        token = realm.token("x")
        proxy.cut()
        process.communicate("go\n", timeout=BOUND)[1]
        assert process.returncode == expected
        proxy.heal()
        assert realm.token("x") == token
        realm.delete("x")


def test_unknown_names_the_run(run_distlock: Run, proxy: Proxy, realm: RealmView) -> None:
    # Applied, its reply lost, and etcd unreachable afterwards: the outcome is unknown.
    proxy.lose_reply("/v3/kv/txn", when=_is_claim, times=1)
    proxy.lose_request("/v3/kv/txn", when=_is_resolving, times=1000)
    env = {"DISTLOCK_ENDPOINTS": proxy.url}
    done = run_distlock("--json", "--lock-name=x", "--timeout=1.5", "--lock", env=env)
    found = error(done.stdout)
    assert (done.returncode, found["kind"]) == (1, "unknown")
    assert found["run"] == realm.record("x")[1]["run"]
    assert found["run"] in found["message"]
    assert "distlock --unlock --lock-name=x" in found["hints"][0]["advice"]


def _is_claim(body: bytes) -> bool:
    return _first_put(body) is not None and not _is_resolving(body)


def _is_resolving(body: bytes) -> bool:
    key = _first_put(body)
    return key is not None and b"__last/" in base64.b64decode(key)


def _first_put(body: bytes) -> str | None:
    for operation in json.loads(body).get("success", []):
        for word in ("requestPut", "request_put"):
            if word in operation:
                return str(operation[word]["key"])
    return None
