"""Who may enter or let go of a hold, in every combination of what can be known, against a model of a few lines.

The other processes are real: one that lives, one that has ended. What cannot be seen is a trace of another place.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from distlock_core import LockBusy, LockNotFound, NotHolder, Realm
from distlock_core.process.fate import ALIVE, GONE, UNKNOWN, fate
from distlock_core.process.identity import is_same, trace_of
from tests.support.processes import Process
from tests.support.scene import Scene

EXAMPLES = 120  # drawn from all combinations
RACES, RACERS = 6, 4

RACER = """
import json, sys
from distlock_core import LockBusy, connect
endpoint, prefix, step, token = json.loads(sys.argv[1])
lock = connect([endpoint], prefix).lock("web", "me", step=step, token=token)
print("ready", flush=True)
sys.stdin.readline()
try:
    print(lock.acquire(0).token, flush=True)
except LockBusy:
    print(0, flush=True)
sys.stdin.readline()
if lock.held:
    lock.release()
"""


class Case(NamedTuple):
    """What holds the lock, and who comes. `taker`, `run` and `command` are the fates of those processes."""

    kind: str  # step, run, or run inside a step
    taker: str
    run: str
    command: str
    explicit: tuple[bool, bool]  # theirs, mine
    same_owner: bool
    state: str
    names_token: str  # no, right, wrong

    @property
    def may_enter(self) -> str:
        """How the model admits it, "" if it does not."""
        if not all(self.explicit) or not self.same_owner or self.state != "held" or self.names_token == "wrong":
            return ""
        if self.kind != "step" and (self.run, self.command) != ("gone", "gone"):
            return ""
        if self.kind == "run":
            return "taken over"
        return "step" if self.taker in ("mine", "gone") or self.names_token == "right" else ""

    @property
    def may_unlock(self) -> bool:
        """By its owner's name."""
        if not self.same_owner or self.names_token == "wrong":
            return False
        return (
            self.kind == "run" or self.state != "held" or self.taker in ("mine", "gone") or self.names_token == "right"
        )


CASES = [
    Case(*values)
    for values in itertools.product(
        ("step", "run", "run inside a step"),
        ("mine", "alive", "gone", "unknown"),
        ("alive", "gone", "unknown"),
        ("alive", "gone"),
        ((True, True), (True, False), (False, True)),
        (True, False),
        ("held", "kept"),
        ("no", "right", "wrong"),
    )
    if values[0] != "step" or values[2:4] == ("alive", "alive")  # a step has neither
    if values[0] != "run" or values[1] == "mine"  # a run has no taker
]


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, dict[str, Any]]]:
    """The traces of real processes, by their fate."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as gone:
            dead = trace_of(gone.pid)
        alive = trace_of(living.pid)
        elsewhere = {**dead, "ns": dead["ns"] + 1}
        yield {"mine": trace_of(), "alive": alive, "gone": dead, "unknown": elsewhere}


def stored(case: Case, processes: dict[str, dict[str, Any]]) -> str:
    step: dict[str, Any] = {"kind": "lock", "run": "a1", "taker": processes[case.taker], **processes["gone"]}
    details = step
    if case.kind != "step":
        command = {name: processes[case.command][name] for name in ("pid", "start")}
        details = {"kind": "run", "run": "b2", "command": command, **processes[case.run]}
    if case.kind == "run inside a step":
        details["step"] = f"1;me;{json.dumps({**step, 'explicit': True})}"
        details["step_lease"] = 0
    if case.explicit[0]:
        details = {**details, "explicit": True}
    if case.state != "held":
        details = {**details, "state": case.state}
    return f"1;{'me' if case.same_owner else 'another'};{json.dumps(details)}"


@pytest.mark.parametrize("share", range(4))
def test_only_those_that_the_model_admits_enter_and_release(
    scene: Scene, processes: dict[str, dict[str, Any]], share: int
) -> None:
    chosen = random.Random(share).sample(CASES, EXAMPLES // 4)
    for number, case in enumerate(chosen):
        name = f"lock{number}"
        token = scene.put(name, stored(case, processes))
        named = {"no": None, "right": token, "wrong": token + 1}[case.names_token]
        before = scene.get(name)
        realm = scene.realm()
        assert may_unlock(realm, name, named) == case.may_unlock, case
        # Who gives no name cannot name a step either.
        lock = realm.lock(name, "me" if case.explicit[1] else None, token=named if case.explicit[1] else None)
        if not case.may_enter:
            with pytest.raises((LockBusy, NotHolder)) as refused:
                lock.acquire(0)
            assert scene.get(name) == before, case
            if all(case.explicit) and case.same_owner and case.state == "held" and case.names_token != "wrong":
                assert "of the same owner" in str(refused.value), case
            continue
        lock.acquire(0)
        assert lock.verify()
        new = case.may_enter == "taken over"
        assert (lock.token > token) if new else (lock.token == token), case
        assert [holder.token for holder in realm.show(name).holders] == [lock.token], case
        lock.release()
        after = scene.get(name)
        assert (after is None) is new, case
        if after is not None:
            assert realm.show(name).holders[0].token == token, case
            assert scene.record(name).text("kind") == "lock", case


def may_unlock(realm: Realm, name: str, token: int | None) -> bool:
    try:
        realm.to_unlock(name, "me", token=token)
    except (NotHolder, LockNotFound):
        return False
    return True


def test_a_take_over_keeps_its_token_whatever_is_written_afterwards(
    scene: Scene, processes: dict[str, dict[str, Any]]
) -> None:
    realm = scene.realm()
    case = Case("run", "mine", "gone", "gone", (True, True), True, "held", "no")
    born = scene.put("web", stored(case, processes))
    lock = realm.lock("web", "me", "mine", ttl=60, background=False).acquire(0)
    token = lock.token
    assert token > born
    watching = realm.watch("web")
    assert next(watching).token == token

    def is_it() -> bool:
        (holder,) = realm.show("web").holders
        return holder.token == token and lock.token == token and lock.verify() and realm.verify("web", token)

    assert is_it()
    lock.update(value="1")
    realm.update("web", value="2", token=token)
    assert is_it()
    lock.ttl = None
    lock.acquire(0)  # moves to another lease
    assert is_it()
    with pytest.raises(NotHolder):
        realm.update("web", value="3", token=born)
    with pytest.raises(NotHolder):
        realm.unlock("web", token=born)
    assert not realm.verify("web", born)
    assert {next(watching).token for _ in range(3)} == {token}
    watching.close()
    lock.keep("look")
    assert realm.show("web").holders[0].token == token
    ended = realm.unlock("web", token=token)
    assert ended.token == token
    last = realm.show("web").last
    assert last is not None
    assert last.token == token
    scene.assert_clean()


def test_a_step_that_was_taken_over_is_entered_and_put_back_under_its_own_token(
    scene: Scene, processes: dict[str, dict[str, Any]]
) -> None:
    realm = scene.realm()
    case = Case("run", "mine", "gone", "gone", (True, True), True, "held", "no")
    born = scene.put("web", stored(case, processes))
    step = realm.lock("web", "me", step=True).acquire(0)
    token = step.token
    assert token > born
    for number in range(2):
        inner = realm.lock("web", "me").acquire(0)
        assert inner.token == token
        inner.update(value=str(number))
        inner.release()
        assert step.verify()
        assert (step.token, realm.show("web").holders[0].token) == (token, token)
    step.release()
    scene.assert_clean()


def test_a_watch_reports_a_take_over_as_one_hold_ended_and_another_begun(
    scene: Scene, processes: dict[str, dict[str, Any]]
) -> None:
    case = Case("run", "mine", "gone", "gone", (True, True), True, "held", "no")
    born = scene.put("web", stored(case, processes))
    with scene.realm().watch("web") as watching:
        assert (next(watching).token, scene.realm().show("web").holders[0].token) == (born, born)
        lock = scene.realm().lock("web", "me").acquire(0)
        told = [next(watching) for _ in range(2)]
        assert [(event.kind, event.token) for event in told] == [("released", born), ("acquired", lock.token)]
        token = lock.token
        lock.release()
        assert next(watching).token == token


# Races.


def race(scene: Scene, *, step: bool, token: int | None = None) -> list[int]:
    """Several processes of one owner enter at the same moment: the tokens of those that came in, all at once."""
    order = json.dumps([scene.cluster.endpoints[0], scene.prefix, step, token])
    racers = [
        Process([sys.executable, "-c", RACER, order], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(RACERS)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(RACERS) as pool:
            entered = list(pool.map(lambda racer: int(say(racer)), racers))
        for racer in racers:
            say(racer)
        return [token for token in entered if token]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def say(racer: Process) -> str:
    assert racer.stdin is not None
    assert racer.stdout is not None
    racer.stdin.write("\n")
    racer.stdin.flush()
    return racer.stdout.readline() if racer.poll() is None else ""


@pytest.mark.parametrize("what", ["step", "run"])
def test_only_one_process_enters_a_hold_whose_taker_is_gone(
    scene: Scene, processes: dict[str, dict[str, Any]], what: str
) -> None:
    case = Case(what, "gone" if what == "step" else "mine", "gone", "gone", (True, True), True, "held", "no")
    for number in range(RACES):
        token = scene.put("web", stored(case, processes))
        entered = race(scene, step=number % 2 == 0)
        assert len(entered) == 1, entered
        assert entered[0] == token if what == "step" else entered[0] > token
        scene.delete("web")


def test_no_namesake_enters_a_step_while_its_taker_lives(scene: Scene, processes: dict[str, dict[str, Any]]) -> None:
    case = Case("step", "alive", "gone", "gone", (True, True), True, "held", "no")
    token = scene.put("web", stored(case, processes))
    assert race(scene, step=True) == []
    # Of those that name it, one run is inside at a time.
    assert race(scene, step=False, token=token) == [token]


def test_a_note_ends_with_every_way_in_which_a_hold_or_an_attempt_ends(scene: Scene, state_dir: str) -> None:
    realm = scene.realm()

    def notes() -> set[str]:
        return {name for name in os.listdir(state_dir) if name != "pruned"}

    before = notes()
    realm.lock("web", "me").acquire(0).release()
    realm.lock("web", "me").acquire(0).keep("look")
    realm.unlock("web", token=realm.show("web").holders[0].token)
    realm.lock("web", "me", step=True).acquire(0)
    assert len(notes() - before) == 1
    inner = realm.lock("web", "me").acquire(0)
    assert len(notes() - before) == 2
    with pytest.raises(LockBusy):
        realm.lock("web", "me").acquire(0)
    inner.release()
    assert len(notes() - before) == 1
    realm.unlock("web", "me")
    lost = realm.lock("web", "me", ttl=60, background=False).acquire(0)
    scene.delete("web")
    with pytest.raises(Exception, match="lost"):
        lost.release()
    realm.lock("web").acquire(0).release()  # without an explicit owner
    assert notes() == before
    assert Path(state_dir).stat().st_mode & 0o077 == 0


def test_a_process_is_not_confused_with_one_of_another_namespace(processes: dict[str, dict[str, Any]]) -> None:
    assert not is_same(processes["unknown"], processes["gone"])
    assert fate(processes["unknown"])[0] == UNKNOWN
    assert fate(processes["gone"])[0] == GONE
    assert fate(processes["alive"])[0] == ALIVE
