"""--break: another's hold is shown, confirmed and ended, exactly as it was shown, and the reason stays."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.doc_blocks import json_documents, recipe, with_stand_ins
from tests.support.processes import Process
from tests.support.pseudo_terminal import CTRL_C, CTRL_D, Terminal
from tests.support.realm_view import BOUND, Holding, RealmView, eventually, one_line
from tests.support.scene import Scene

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]
Hold = Callable[..., Holding]
OpenTerminal = Callable[..., Terminal]

DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
HOST = socket.gethostname()
FAR = '{"reason":"Upgrade","run":"r","kind":"run","host":"far","pid":7,"boot":"b","start":1,"machine":"0badcafe"}'
YES = ("--yes", "--reason=node-9 is down")
BREAK = ("--lock-name=x", "--break")


@pytest.fixture
def at_terminal(distlock_env: dict[str, str]) -> Iterator[OpenTerminal]:
    """at_terminal(*args) runs distlock on a new terminal."""
    terminals: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        terminals.append(Terminal([DISTLOCK, *arguments], distlock_env))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def last(realm: RealmView, name: str = "x") -> dict[str, Any]:
    _, by, details = realm.all_keys()[f"__last/{name}"].decode().split(";", 2)
    return {**json.loads(details), "by": by}


# At a terminal.


def test_it_shows_asks_and_breaks(at_terminal: OpenTerminal, run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    terminal = at_terminal(*BREAK, "--id=admin")
    card = terminal.until(r"(?s)(.*)Why\? The reason is left for all to see: ")
    for line in (
        "x\n  held by   node-9",
        "  reason    Upgrade",
        f"  token     {realm.token('x')}",
        "  host      far, pid 7",
        "  process   unknown: it is on another host",
        "  machine   another one: more is known on far",
        "  waiting   0",
    ):
        assert f"{line}\n" in card, line
    terminal.type("node-9 is down\n")
    terminal.until(r"Break it\? \[y/N\] ")
    assert "x" in realm.entries()
    terminal.type("y\n")
    terminal.until(r'distlock: broke x, which was held by node-9 since [^"]*"Upgrade"')
    assert terminal.process.wait(BOUND) == 0
    assert realm.entries() == {}
    note = last(realm)
    assert (note["how"], note["by"], note["why"], note["owner"]) == ("broken", "admin", "node-9 is down", "node-9")
    assert re.search(
        r'  last      broken by admin at [\d:]+, was held by node-9: "node-9 is down"\n',
        run_distlock("--lock-name=x", "--show").stdout,
    )


@pytest.mark.parametrize("answer", ["n\n", "\n", "nope\n", CTRL_D])
def test_any_other_answer_leaves_it_alone(at_terminal: OpenTerminal, realm: RealmView, answer: str) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    terminal = at_terminal(*BREAK, "--reason=node-9 is down")
    terminal.until(r"Break it\? ")
    terminal.type(answer)
    terminal.until("distlock: x is left alone")
    assert terminal.process.wait(BOUND) == 1
    assert list(realm.all_keys()) == ["x"]


def test_no_reason_leaves_it_alone(at_terminal: OpenTerminal, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    terminal = at_terminal(*BREAK)
    terminal.until(r"Why\? ")
    terminal.type("\n")
    terminal.until("x is left alone: no reason was given")
    assert terminal.process.wait(BOUND) == 1
    assert list(realm.all_keys()) == ["x"]


def test_ctrl_c_at_the_question_leaves_it_alone(at_terminal: OpenTerminal, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    terminal = at_terminal(*BREAK, "--reason=node-9 is down")
    terminal.until(r"Break it\? ")
    terminal.type(CTRL_C)
    assert terminal.process.wait(BOUND) == -signal.SIGINT
    assert list(realm.all_keys()) == ["x"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda realm: realm.put("x", '1500000000;node-9;{"reason":"other"}'), "its record has changed since"),
        (lambda realm: (realm.delete("x"), realm.put("x", f"1500000000;node-9;{FAR}")), "ended since it was shown"),
        (lambda realm: realm.delete("x"), "x is no longer locked: the hold ended since it was shown"),
    ],
    ids=["changed", "replaced", "ended"],
)
def test_what_changes_between_question_and_answer_is_left_alone(
    at_terminal: OpenTerminal, realm: RealmView, change: Callable[[RealmView], object], words: str
) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    terminal = at_terminal(*BREAK, "--reason=node-9 is down")
    terminal.until(r"Break it\? ")
    change(realm)
    before = realm.all_keys()
    terminal.type("y\n")
    terminal.until(words)
    assert terminal.process.wait(BOUND) == 1
    assert realm.all_keys() == before


# In a script.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "this is no terminal: add --yes, or --dry-run"),
        (["--reason=why"], "this is no terminal: add --yes, or --dry-run"),
        (["--json", "--reason=why"], "--break --json asks nobody: add --yes"),
        (["--yes"], "--break needs a reason, which is left for all to see: --reason=TEXT"),
        (["--yes", "--reason=why", "--force"], "--force goes with --unlock or --freeze"),
        (["--yes", "--reason=why", "--lock-name=y"], "--break is about one lock, but x and y are named"),
        (["--unlock"], "mutually exclusive"),
    ],
)
def test_it_breaks_nothing_without_an_answer_and_a_reason(
    run_distlock: Run, realm: RealmView, arguments: list[str], words: str
) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    done = run_distlock(*BREAK, *arguments)
    assert done.returncode == 1
    assert words in (json.loads(done.stdout)["error"]["message"] if "--json" in arguments else one_line(done.stderr))
    assert list(realm.all_keys()) == ["x"]


def test_file_and_environment_give_no_reason(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    done = run_distlock(*BREAK, "--yes", env={"DISTLOCK_REASON": "Upgrade RPMs"})
    assert "--break needs a reason" in one_line(done.stderr)
    assert list(realm.all_keys()) == ["x"]


def test_yes_and_a_reason_break_it(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    done = run_distlock(*BREAK, *YES)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("x\n  held by   node-9\n")
    assert done.stderr.splitlines()[-1].startswith("distlock: broke x, which was held by node-9 since ")
    assert realm.entries() == {}
    assert (last(realm)["by"], last(realm)["why"]) == (HOST, "node-9 is down")


def test_quiet_says_nothing(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    done = run_distlock(*BREAK, *YES, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert realm.entries() == {}


def test_what_is_not_locked_cannot_be_broken(run_distlock: Run, realm: RealmView) -> None:
    done = run_distlock(*BREAK, *YES)
    assert (done.returncode, one_line(done.stderr)) == (1, "distlock: x is not locked")
    assert realm.all_keys() == {}


def test_the_json_is_that_of_the_page(run_distlock: Run, realm: RealmView) -> None:
    (page,) = (document["broken"] for document in json_documents() if "broken" in document)
    realm.put("x", f"1500000000;node-9;{FAR}")
    for more in (["--dry-run"], ["--yes"]):
        done = run_distlock(*BREAK, "--reason=node-9 is down", "--id=admin", "--json", *more)
        assert (done.returncode, done.stderr) == (0, "")
        broken = json.loads(done.stdout)["broken"]
        assert set(broken) == set(page)
        assert (broken["owner"], broken["by"], broken["why"]) == ("node-9", "admin", "node-9 is down")
        assert (broken["process"], broken["machine"], broken["keeper_process"]) == ("unknown", "elsewhere", None)
        assert broken["dry_run"] is ("--dry-run" in more)
    assert realm.entries() == {}
    shown = json.loads(run_distlock("--lock-name=x", "--show", "--json").stdout)
    assert shown["locks"][0]["last"]["why"] == "node-9 is down"


def test_a_dry_run_shows_the_same_and_writes_nothing(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", f"1500000000;node-9;{FAR}")
    revision = realm.revision()
    done = run_distlock(*BREAK, "--dry-run")
    assert done.returncode == 0
    assert done.stderr.startswith("x\n  held by   node-9\n")
    assert "distlock: would break x, which is held by node-9 since" in done.stderr
    assert realm.revision() == revision


def test_of_several_holders_the_token_chooses_one(run_distlock: Run, realm: RealmView) -> None:
    for owner in ("node-1", "node-2"):
        assert run_distlock("--lock-name=x", "--lock", "--slots=2", f"--id={owner}").returncode == 0
    tokens = [realm.token("x"), realm.token("x/slot/1")]
    done = run_distlock(*BREAK, *YES)
    assert done.returncode == 1
    assert f"Choose one with --token ({tokens[0]}, {tokens[1]})" in one_line(done.stderr)
    assert run_distlock(*BREAK, *YES, f"--token={tokens[1]}").returncode == 0
    assert list(realm.entries()) == ["x"]
    done = run_distlock(*BREAK, *YES, f"--token={tokens[1]}")
    assert f"with token {tokens[0]}, not {tokens[1]}: left alone" in one_line(done.stderr)


def test_the_next_in_the_queue_is_let_in(
    run_distlock: Run, spawn_distlock: Spawn, hold: Hold, realm: RealmView, tmp_path: Path
) -> None:
    holder = hold("--lock-name=x", "--id=node-1")
    told = tmp_path / "told"
    # Its own end would be the newer note.
    waiter = spawn_distlock("--lock-name=x", "--", "sh", "-c", f"until [ -e {told} ]; do sleep 0.05; done; echo ran")
    assert "x is held by node-1" in waiter.stderr.readline()
    assert run_distlock(*BREAK, *YES, "--id=admin").returncode == 0
    assert "it was broken by admin at" in (said := holder.process.stderr.readline())
    assert '"node-9 is down"' in said
    told.touch()
    assert waiter.communicate(timeout=BOUND)[0] == "ran\n"
    assert holder.let_go() == 2


# What is known about the life behind a hold.


def test_a_living_process_of_this_machine_is_warned_of(run_distlock: Run, hold: Hold) -> None:
    holder = hold("--lock-name=x")
    done = run_distlock(*BREAK, "--dry-run")
    assert "  process   running\n" in done.stderr
    assert "  machine   this one, not restarted since\n" in done.stderr
    warning = next(line for line in done.stderr.splitlines() if "warning" in line)
    assert "running on this machine. Breaking the lock does not stop it" in warning
    broken = json.loads(run_distlock(*BREAK, "--dry-run", "--json").stdout)["broken"]
    assert (broken["process"], broken["machine"]) == ("alive", "here")
    holder.process.kill()
    holder.process.wait(BOUND)
    done = run_distlock(*BREAK, "--dry-run")
    assert re.search(r"  process   running: process \d+, which runs under it, is running\n", done.stderr)
    holder.process.stdin.close()
    eventually(lambda: "  process   gone\n" in run_distlock(*BREAK, "--dry-run").stderr, "it is gone", BOUND)
    assert "warning" not in run_distlock(*BREAK, "--dry-run").stderr


def test_the_keeper_of_a_bound_lock_is_shown(run_distlock: Run, realm: RealmView) -> None:
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        assert run_distlock("--lock-name=x", "--lock", f"--while-pid={sleeper.pid}").returncode == 0
        keeper = realm.record("x")[1]["keeper"]
        said = run_distlock(*BREAK, "--dry-run").stderr
        assert f"  keeper    process {keeper}, running\n" in said
        assert run_distlock(*BREAK, *YES).returncode == 0
        assert realm.entries() == {}
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_machine_that_was_restarted_and_a_hold_without_a_host(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock("--lock-name=x", "--lock").returncode == 0
    owner, details = realm.record("x")
    realm.put("x", f"1500000000;{owner};{json.dumps({**details, 'boot': 'earlier'})}")
    # A container may have no machine id, and without one, another boot may be that of another machine.
    told = "this one, restarted since" if details.get("machine") else "unknown"
    assert f"  machine   {told}\n" in run_distlock(*BREAK, "--dry-run").stderr
    realm.put("x", "1500000000;node-9;by the original")
    said = run_distlock(*BREAK, "--dry-run").stderr
    assert "  process   unknown: no process is named\n" in said
    assert "  machine   unknown\n" in said
    realm.put("x", "no record")
    assert run_distlock(*BREAK, *YES).returncode == 0
    assert realm.entries() == {}


def test_kept_settling_and_cooling_holds_are_broken(run_distlock: Run, realm: RealmView, scene: Scene) -> None:
    assert run_distlock("--lock-name=x", "--on-failure=keep", "--", "false").returncode == 1
    done = run_distlock(*BREAK, *YES)
    assert "  state     kept\n" in done.stderr
    assert run_distlock("--lock-name=x", "--cooldown=600", "--", "true").returncode == 0
    done = run_distlock(*BREAK, *YES)
    assert "  state     cooling\n" in done.stderr
    realm.put("x", '1500000000;node-9;{"state":"settling"}')
    done = run_distlock(*BREAK, *YES)
    assert "  state     settling\n" in done.stderr
    assert realm.entries() == {}
    scene.assert_clean()


# The page.


def test_the_runbooks_commands_work(
    at_terminal: OpenTerminal, run_distlock: Run, realm: RealmView, etcd: Cluster
) -> None:
    realm.put("percona_prod", f"1500000000;node-9;{FAR}")
    token = realm.token("percona_prod")
    line = with_stand_ins(recipe("break"), ("--token=17", f"--token={token}"))
    where = f'distlock() {{ "{DISTLOCK}" --endpoints={etcd.endpoints[0]} --prefix={realm.prefix} "$@"; }}; '
    done = subprocess.run(["sh", "-c", where + line], capture_output=True, text=True, timeout=BOUND, check=False)
    assert done.returncode == 0, done.stderr
    assert last(realm, "percona_prod")["why"] == "node-1 was rolled back"
    realm.put("percona_prod", f"1500000000;node-9;{FAR}")
    terminal = at_terminal(*recipe("break at a terminal").split()[1:])
    terminal.until(r"Why\?")
    terminal.type("again\n")
    terminal.until(r"Break it\?")
    terminal.type("yes\n")
    terminal.until("broke percona_prod")
    assert realm.entries() == {}
