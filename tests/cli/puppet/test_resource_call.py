"""`distlock-puppet resource`, which the native type calls: one request as JSON in, one answer as JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Callable

import pytest

from distlock_core import connect
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.processes import Process, python, wait_until

Ask = Callable[..., "tuple[int, dict[str, Any]]"]


@pytest.fixture
def ask(run_distlock: Callable[..., subprocess.CompletedProcess[str]]) -> Ask:
    """ask("locked", field=value..., setting=value...) -> exit code and answer."""

    def ask(want: str, fields: dict[str, Any] | None = None, **settings: Any) -> tuple[int, dict[str, Any]]:
        request = {"want": want, "owner": "puppet:db1", "run": os.getpid(), **(fields or {})}
        text = json.dumps({**request, "settings": {"lockname": "x", **settings}}) + "\n"
        done = run_distlock("resource", input=text, command="distlock-puppet")
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    return ask


def test_locked_is_no_change_the_second_time_and_unlocked_neither(ask: Ask) -> None:
    code, answer = ask("locked", reason="it's $(odd)")
    holder = answer["locked"]["holder"]
    assert (code, answer["locked"]["changed"], holder["reason"]) == (0, True, "it's $(odd)")
    code, answer = ask("locked")
    assert (code, answer["locked"]["changed"], answer["locked"]["holder"]["token"]) == (0, False, holder["token"])
    assert ask("unlocked")[1]["unlocked"]["holder"]["token"] == holder["token"]
    free = {"changed": False, "owner": "puppet:db1", "holder": None, "holders": [], "around": None}
    assert ask("unlocked") == (0, {"unlocked": free})


def test_each_request_opens_one_connection(ask: Ask, proxy: Proxy) -> None:
    for number, want in enumerate(("locked", "locked", "unlocked", "unlocked"), start=1):
        assert ask(want, endpoints=proxy.url)[0] == 0
        assert proxy.accepted == number


def test_a_look_and_the_change_after_it_need_one_process_and_one_connection(
    distlock_env: dict[str, str], proxy: Proxy, seen: Etcd
) -> None:
    command = os.path.join(os.path.dirname(sys.executable), "distlock-puppet")
    request = {"owner": "puppet:db1", "run": os.getpid(), "settings": {"lockname": "x", "endpoints": proxy.url}}
    with subprocess.Popen(
        [command, "resource"], env=distlock_env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for want, dry_run in (("locked", True), ("locked", False), ("unlocked", True)):
            process.stdin.write(json.dumps({**request, "want": want, "dry_run": dry_run, "more": True}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())[want]["changed"]
            assert len(seen.keys()) == (0 if want == "locked" and dry_run else 1)
        process.stdin.close()
        assert process.wait(20) == 0
        assert process.stdout.read() == ""
    assert proxy.accepted == 1


def test_without_more_the_first_answer_is_the_last(ask: Ask, run_distlock: Any) -> None:
    line = json.dumps({"want": "locked", "owner": "puppet:db1", "run": os.getpid(), "settings": {"lockname": "x"}})
    done = run_distlock("resource", input=f"{line}\n{line}\n", command="distlock-puppet")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_a_dry_run_writes_nothing_and_reports_the_same(ask: Ask, seen: Etcd) -> None:
    code, answer = ask("locked", {"dry_run": True})
    assert (code, answer["locked"]["changed"], answer["locked"]["holder"]) == (0, True, None)
    assert seen.keys() == []
    seen.lock("x", "node-3")
    code, answer = ask("locked", {"dry_run": True}, timeout=5)
    assert (code, answer["locked"]["changed"]) == (0, True)
    assert answer["locked"]["waits"].startswith("x is held by node-3")
    code, answer = ask("locked", {"dry_run": True})
    assert (code, answer["error"]["kind"]) == (1, "busy")
    code, answer = ask("unlocked", {"dry_run": True, "force": True})
    assert answer["unlocked"]["holder"]["owner"] == "node-3"
    assert ask("unlocked")[1]["error"]["kind"] == "not_holder"
    assert seen.keys() == ["x"]


def test_a_lock_bound_to_one_run_is_not_another_runs(ask: Ask) -> None:
    first, second = (subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2))
    try:
        code, answer = ask("locked", {"bound": True, "run": first.pid})
        assert (code, answer["locked"]["holder"]["lifetime"]) == (0, "bound")
        assert ask("locked", {"bound": True, "run": first.pid})[1]["locked"]["changed"] is False
        assert ask("locked", {"bound": True, "run": second.pid})[1]["error"]["kind"] == "busy"
        assert ask("locked", {"run": second.pid})[1]["error"]["kind"] == "busy"
        first.communicate(timeout=30)
        code, answer = ask("locked", {"bound": True, "run": second.pid}, timeout=30)
        assert (code, answer["locked"]["holder"]["pid"]) == (0, second.pid)
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_the_place_in_the_queue_is_given_up_when_the_run_has_ended(
    spawn_distlock: Callable[..., Process], seen: Etcd, etcd: Cluster, realm_prefix: str
) -> None:
    seen.lock("x", "node-3")
    realm = connect(etcd.endpoints, realm_prefix)
    run = subprocess.Popen(python("input()"), stdin=subprocess.PIPE)
    waits = spawn_distlock("resource", command="distlock-puppet", stdin=subprocess.PIPE)
    settings = {"lockname": "x", "timeout": -1}
    request = {"want": "locked", "owner": "puppet:db1", "run": run.pid, "settings": settings}
    assert waits.stdin is not None
    waits.stdin.write(json.dumps(request) + "\n")
    waits.stdin.flush()
    try:
        wait_until(lambda: realm.show("x").waiting == 1, "it stands in line")
    finally:
        run.kill()
        run.communicate()
    answer = json.loads(waits.communicate(timeout=60)[0])
    assert answer["error"]["kind"] == "interrupted"
    assert realm.show("x").waiting == 0
    assert not seen.new_leases()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one line of JSON"),
        ("nonsense\n", "one line of JSON"),
        ("[1]\n", "one line of JSON"),
        ('{"want": "stolen"}\n', "one line of JSON"),
        ('{"want": "locked"}\n', "required"),
        ('{"want": "locked", "owner": "o", "run": 1, "settings": {}}\n', "required"),
        ('{"want": "locked", "owner": "o", "run": "1", "settings": {"lockname": "x"}}\n', "run"),
        ('{"want": "locked", "owner": "o", "run": 1, "odd": 1, "settings": {"lockname": "x"}}\n', "odd"),
        ('{"want": "locked", "owner": "o", "run": 1, "settings": {"lockname": "a/b"}}\n', "a/b"),
        ('{"want": "locked", "owner": "o", "run": 1, "settings": {"lockname": "x", "ttl": "soon"}}\n', "ttl"),
        ('{"want": "locked", "owner": "o", "run": 1, "settings": {"lockname": "x", "odd": 1}}\n', "odd"),
        ('{"want": "locked", "owner": "o", "run": 2147483646, "settings": {"lockname": "x"}}\n', "no process"),
        ('{"want": "locked", "owner": "o;", "run": 1, "settings": {"lockname": "x"}}\n', "owner"),
    ],
)
def test_an_unreadable_request_is_one_error(
    run_distlock: Callable[..., subprocess.CompletedProcess[str]], seen: Etcd, text: str, said: str
) -> None:
    done = run_distlock("resource", input=text, command="distlock-puppet")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"], done.stderr) == (1, "config", "")
    assert said in error["message"]
    assert seen.keys() == []
