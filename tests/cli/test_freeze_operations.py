"""--freeze and --thaw: nobody acquires a lock, or any lock of the realm, until a person says so."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any, Callable

import pytest

from tests.support.processes import Process
from tests.support.realm_view import BOUND, Holding, RealmView, eventually, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]
Hold = Callable[..., Holding]

SINCE = r"since \d\d:\d\d \(\d+s\)"
WHAT = {"realm": ([], "__freeze", "the realm"), "lock": (["--lock-name=x"], "x/freeze", "x")}


@pytest.fixture(params=WHAT)
def what(request: pytest.FixtureRequest) -> tuple[list[str], str, str]:
    """The options that name it, its key, and what it is called."""
    return WHAT[request.param]


def told(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_freeze_and_a_thaw_say_what_they_do(
    run_distlock: Run, realm: RealmView, what: tuple[list[str], str, str]
) -> None:
    options, key, name = what
    done = run_distlock(*options, "--freeze", "--reason=audit", "--id=boss")
    assert (done.returncode, done.stdout) == (0, "")
    prefix = f"; its prefix is {realm.prefix}" if not options else ""
    assert re.fullmatch(rf'distlock: {name} is frozen by boss {SINCE}: "audit"{prefix}', one_line(done.stderr))
    assert list(realm.entries()) == [key]
    refused = run_distlock("--lock-name=x", "--nowait", "--", "echo", "ran")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{name} is frozen by boss since" in one_line(refused.stderr)
    assert "To thaw it: distlock --thaw" in refused.stderr
    done = run_distlock(*options, "--thaw")
    assert (done.returncode, done.stdout) == (0, "")
    whole = f"the realm {realm.prefix}" if not options else name
    assert re.fullmatch(rf'distlock: thawed {whole}, which was frozen by boss {SINCE}: "audit"', one_line(done.stderr))
    assert realm.entries() == {}
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 0


def test_quiet_says_nothing(run_distlock: Run, what: tuple[list[str], str, str]) -> None:
    for operation in ("--freeze", "--thaw"):
        done = run_distlock(*what[0], operation, "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_advice_of_a_refusal_thaws_it(run_distlock: Run, what: tuple[list[str], str, str]) -> None:
    run_distlock(*what[0], "--freeze")
    refused = run_distlock("--lock-name=x", "--nowait", "--", "true")
    advice = re.search(r"To thaw it: distlock (.*)", refused.stderr)
    assert advice is not None
    assert run_distlock(*advice[1].split()).returncode == 0
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 0


def test_the_owner_is_the_host_unless_an_id_is_given(run_distlock: Run, realm: RealmView) -> None:
    import socket

    run_distlock("--freeze")
    assert realm.record("__freeze")[0] == socket.gethostname()
    run_distlock("--freeze", "--force", env={"DISTLOCK_ID": "ops"})
    assert realm.record("__freeze")[0] == "ops"


def test_for_ends_it_by_itself(run_distlock: Run, spawn_distlock: Spawn, what: tuple[list[str], str, str]) -> None:
    begun = time.time()
    done = run_distlock(*what[0], "--freeze", "--for=3")
    assert re.search(r", until \d\d:\d\d \([0-3]s left\)", one_line(done.stderr))
    waiter = spawn_distlock("--lock-name=x", "--", "echo", "ran")
    assert "frozen by" in waiter.stderr.readline()
    assert waiter.communicate(timeout=BOUND)[0] == "ran\n"
    assert time.time() - begun >= 2.9


def test_a_unit_of_time_is_understood(run_distlock: Run, realm: RealmView) -> None:
    now = int(time.time())
    run_distlock("--freeze", "--for=2h")
    assert now + 7200 <= realm.record("__freeze")[1]["until"] <= now + 7300


def test_a_second_freeze_says_who_has_frozen_it_and_how_to_replace_it(
    run_distlock: Run, realm: RealmView, what: tuple[list[str], str, str]
) -> None:
    options, key, name = what
    run_distlock(*options, "--freeze", "--id=boss", "--reason=audit")
    before = realm.entries()
    done = run_distlock(*options, "--freeze", "--id=me")
    assert done.returncode == 1
    assert re.fullmatch(
        rf'distlock: {name} is frozen by boss {SINCE}: "audit": left as it is. To replace it: --force',
        one_line(done.stderr),
    )
    assert realm.entries() == before
    assert run_distlock(*options, "--freeze", "--id=me", "--force").returncode == 0
    assert realm.record(key)[0] == "me"


def test_thawing_what_is_not_frozen_fails_as_an_unlock_does(
    run_distlock: Run, what: tuple[list[str], str, str]
) -> None:
    options, _, name = what
    done = run_distlock(*options, "--thaw")
    assert (done.returncode, one_line(done.stderr)) == (1, f"distlock: {name} is not frozen")
    failed = told(run_distlock(*options, "--thaw", "--json"))["error"]
    assert (failed["kind"], failed["message"]) == ("not_frozen", f"{name} is not frozen")


def test_json_of_a_freeze_and_a_thaw(run_distlock: Run, realm: RealmView, what: tuple[list[str], str, str]) -> None:
    options, key, _ = what
    frozen = told(run_distlock(*options, "--freeze", "--json", "--for=1h", "--reason=audit", "--id=boss"))["frozen"]
    until = realm.record(key)[1]["until"]
    assert frozen == {
        "lock": "x" if options else None,
        "prefix": realm.prefix,
        "scope": "lock" if options else "realm",
        "by": "boss",
        "since": until - 3600,
        "until": until,
        "ttl_left": None,
        "reason": "audit",
        "exit_code": None,
    }
    failed = told(run_distlock(*options, "--freeze", "--json"))["error"]
    assert failed["kind"] == "frozen"
    assert [hint["code"] for hint in failed["hints"]] == ["replace_freeze"]
    thawed = told(run_distlock(*options, "--thaw", "--json"))["thawed"]
    assert thawed == frozen


def test_show_and_list_name_both_freezes_and_the_time_left(run_distlock: Run) -> None:
    run_distlock("--freeze", "--id=boss", "--reason=audit")
    run_distlock("--freeze", "--lock-name=x", "--id=ops", "--for=1h")
    shown = run_distlock("--show", "--lock-name=x").stdout
    assert re.search(rf'  frozen    the realm, by boss {SINCE}: "audit"\n', shown)
    assert re.search(rf"  frozen    by ops {SINCE}, until ([\d-]+ )?\d\d:\d\d \((59m\d\ds|1h00m) left\)\n", shown)
    (lock,) = told(run_distlock("--show", "--lock-name=x", "--json"))["locks"]
    assert [(one["scope"], one["by"]) for one in lock["freezes"]] == [("realm", "boss"), ("lock", "ops")]
    assert lock["frozen"] == lock["freezes"][0]
    assert 3500 < lock["freezes"][1]["ttl_left"] <= 3600
    listed = run_distlock("--list")
    assert re.search(r"^x \(frozen\) +- +- +- +0$", listed.stdout, re.MULTILINE)
    first, second = listed.stderr.splitlines()
    assert "the realm is frozen by boss" in first
    assert "x is frozen by ops" in second
    document = told(run_distlock("--list", "--json"))
    assert document["frozen"]["by"] == "boss"
    assert [one["lock"] for one in document["locks"]] == ["x"]


def test_a_frozen_realm_without_locks_is_listed_as_frozen(run_distlock: Run) -> None:
    run_distlock("--freeze", "--id=boss")
    listed = run_distlock("--list")
    assert "the realm is frozen by boss" in listed.stderr.splitlines()[0]
    document = told(run_distlock("--list", "--json"))
    assert (document["locks"], document["frozen"]["by"]) == ([], "boss")


def test_a_held_lock_that_is_frozen_shows_both(run_distlock: Run, hold: Hold) -> None:
    holder = hold("--lock-name=x", "--id=node-1")
    run_distlock("--freeze", "--lock-name=x", "--id=boss")
    refused = run_distlock("--lock-name=x", "--nowait", "--", "true")
    assert re.search(rf"x is frozen by boss {SINCE}; held by node-1 {SINCE}", one_line(refused.stderr))
    assert re.search(r"^x \(frozen\) +node-1 ", run_distlock("--list").stdout, re.MULTILINE)
    assert holder.let_go() == 0


def test_file_and_environment_choose_no_lock_and_give_no_reason(run_distlock: Run, realm: RealmView) -> None:
    env = {"DISTLOCK_LOCKNAME": "x", "DISTLOCK_REASON": "Upgrade"}
    done = run_distlock("--freeze", env=env)
    assert "the realm is frozen" in one_line(done.stderr)
    assert list(realm.entries()) == ["__freeze"]
    assert "reason" not in realm.record("__freeze")[1]
    assert run_distlock("--thaw", env=env).returncode == 0
    assert realm.entries() == {}


def test_a_waiter_tells_a_freeze_that_comes_and_goes(
    run_distlock: Run, spawn_distlock: Spawn, hold: Hold, realm: RealmView
) -> None:
    holder = hold("--lock-name=x", "--id=node-1")
    waiter = spawn_distlock("--lock-name=x", "--", "echo", "ran")
    assert "x is held by node-1" in waiter.stderr.readline()
    run_distlock("--freeze", "--lock-name=x", "--id=boss", "--reason=audit")
    assert "x is frozen by boss" in waiter.stderr.readline()
    assert holder.let_go() == 0
    eventually(lambda: "x" not in realm.entries(), "released", BOUND)
    assert "frozen by boss" in waiter.stderr.readline()
    run_distlock("--freeze", "--lock-name=x", "--id=chief", "--force")
    assert "frozen by chief" in waiter.stderr.readline()
    run_distlock("--thaw", "--lock-name=x")
    assert waiter.communicate(timeout=BOUND)[0] == "ran\n"


def test_watch_reports_freezes(run_distlock: Run, spawn_distlock: Spawn, realm: RealmView) -> None:
    whole, one = spawn_distlock("--watch", "--json"), spawn_distlock("--watch", "--lock-name=x")
    for process in (whole, one):
        assert process.poll() is None
    realm.put("x", "1500000000;node-1;{}")
    assert json.loads(whole.stdout.readline())["event"] == "acquired"
    assert " acquired: x is held by node-1" in one.stdout.readline()
    for options, name in ((["--lock-name=x"], "x"), ([], None)):
        run_distlock(*options, "--freeze", "--id=boss", "--reason=audit")
        frozen = json.loads(whole.stdout.readline())
        assert (frozen["event"], frozen["lock"], frozen["by"], frozen["reason"]) == ("frozen", name, "boss", "audit")
        run_distlock(*options, "--thaw")
        thawed = json.loads(whole.stdout.readline())
        assert (thawed["event"], thawed["lock"], thawed["by"]) == ("thawed", name, "boss")
        if options:
            assert re.search(rf' frozen: x is frozen by boss {SINCE}: "audit"\n', one.stdout.readline())
            assert re.search(rf' thawed: x was frozen by boss {SINCE}: "audit"\n', one.stdout.readline())
    run_distlock("--unlock", "--lock-name=x")
    assert " released: x was held by node-1" in one.stdout.readline()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--freeze", "--for=0"], "option --for: expected a whole number of seconds"),
        (["--freeze", "--for=soon"], "option --for: expected a whole number of seconds"),
        (["--thaw", "--for=1h"], "--for goes with --freeze"),
        (["--lock-name=x", "--for=1h", "--", "true"], "--for goes with --freeze"),
        (["--freeze", "--thaw"], "--freeze and --thaw are mutually exclusive"),
        (["--freeze", "--lock-name=a/b"], "illegal lock name"),
        (["--freeze", "percona_prod"], "a lock is named with --lock-name=percona_prod"),
        (["--freeze", "--ttl=5"], "--ttl goes with"),
    ],
)
def test_bad_input_freezes_nothing(run_distlock: Run, realm: RealmView, arguments: list[str], words: str) -> None:
    done = run_distlock(*arguments)
    assert done.returncode == 1
    assert words in one_line(done.stderr)
    assert realm.entries() == {}
