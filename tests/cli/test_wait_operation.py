"""`--wait`: wait until a lock is free, idle or thawed, and take nothing."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.cli.command_line import parse
from distlock_core.cli.option_rules import UsageError
from distlock_core.testing import Cluster
from tests.support.advice_site import BIN
from tests.support.doc_blocks import json_documents
from tests.support.processes import Process
from tests.support.realm_view import BOUND, RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def locks(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def begun(process: Process) -> str:
    """The first line of a wait."""
    return process.stderr.readline()


def test_it_waits_for_the_release_and_reports_what_it_has_seen(
    spawn_distlock: Callable[..., Process], locks: Realm, realm: RealmView
) -> None:
    locks.lock("x", "node-1", "Upgrade").acquire(0)
    text = spawn_distlock("--lock-name=x", "--wait", "--verbose")
    objects = spawn_distlock("--lock-name=x", "--wait", "--until=idle", "--json")
    assert re.match(r'distlock: waiting until x is free: x is held by node-1 since .*: "Upgrade"\n', begun(text))
    waiting = json.loads(begun(objects))["waiting"]
    assert (waiting["until"], waiting["locks"][0]["owner"]) == ("idle", "node-1")
    revision = realm.revision()
    locks.unlock("x")
    out, err = text.communicate(timeout=BOUND)
    assert (text.returncode, out) == (0, "")
    assert re.fullmatch(r"distlock: x is free after \d+s\n", err)
    out, err = objects.communicate(timeout=BOUND)
    assert (objects.returncode, err) == (0, "")
    reached = json.loads(out)["reached"]
    by_kind = {kind: document[kind] for document in json_documents() for kind in document}
    assert set(reached) == set(by_kind["reached"])
    assert set(waiting) == {"until", "locks", "away", "opens_at"}
    assert (reached["until"], reached["locks"][0]["owner"], reached["waited"] > 0) == ("idle", None, True)
    assert reached["waited_for"].startswith("x is held by node-1 since ")
    assert realm.revision() == revision + 1  # the unlock, and nothing else


def test_the_exit_codes(run_distlock: Run, locks: Realm) -> None:
    def code(*options: str) -> tuple[int, str]:
        done = run_distlock("--lock-name=x", "--wait", *options)
        assert done.stdout == ""
        return done.returncode, done.stderr

    assert code("--nowait") == (0, "")
    locks.lock("x", "node-1").acquire(0)
    late, message = code("--timeout=0.2", "--quiet", "--busy-exit-code=75")
    assert late == 75
    assert one_line(message).startswith("distlock: gave up after 0.2s: x is held by node-1 since ")
    assert code("--nowait", "--busy-exit-code=75")[0] == 75
    assert code("--until=thawed", "--nowait")[0] == 0
    locks.freeze()
    frozen, message = code("--until=thawed", "--nowait")
    assert frozen == 1
    assert "To thaw it: distlock --thaw" in one_line(message)
    assert code("--endpoints=http://127.0.0.1:1", "--connect-timeout=0.2", "--unreachable-exit-code=69")[0] == 69


def test_a_signal_and_the_end_of_the_reader_end_it(spawn_distlock: Callable[..., Process], locks: Realm) -> None:
    locks.lock("x", "node-1").acquire(0)
    told = spawn_distlock("--lock-name=x", "--wait")
    unread = spawn_distlock("--lock-name=x", "--wait")
    for process in (told, unread):
        begun(process)
    told.send_signal(signal.SIGTERM)
    assert told.wait(BOUND) == 128 + signal.SIGTERM
    assert told.stderr.read() == "distlock: ended by SIGTERM: the wait has ended\n"
    unread.stderr.close()
    assert unread.wait(BOUND) == 128 + signal.SIGHUP


def test_the_lock_around_it_is_refused_at_once(run_distlock: Run) -> None:
    inner = shlex.join([f"{BIN}/distlock", "--lock-name=x", "--wait"])
    done = run_distlock("--lock-name=x", "--", "sh", "-c", f"unset DISTLOCK_HELD; {inner}")
    assert done.returncode == 1
    assert "held by the command around this one, so waiting would never end" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wait"], "no lock is named"),
        (["--wait", "--lock-name=x", "--", "true"], "--wait runs no command, but 'true' is given: a command waits for"),
        (["--wait", "--lock-name=x", "--until=open"], "option --until: expected "),
        (["--wait", "--lock-name=x", "--until=idle", "--slots=2"], "--slots is about a lock that is free"),
        (["--wait", "--lock-name=x", "--until=thawed", "--shared"], "--shared is about a lock that is free"),
        (["--show", "--lock-name=x", "--until=free"], "--until goes with --wait"),
        (["--wait", "--lock-name=x", "--ttl=9"], "--ttl goes with"),
        (["--wait", "--lock-name=x", "--id=me"], "--id goes with"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(arguments)
    assert words in refused.value.message


def test_the_settings_of_the_environment_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTLOCK_LOCKNAME", "x")
    monkeypatch.setenv("DISTLOCK_TIMEOUT", "7")
    request = parse(["--wait", "--until=idle"])
    found: Any = (request.operation, request.until, request.settings.lock_names, request.settings.timeout)
    assert found == ("wait", "idle", ("x",), 7)
