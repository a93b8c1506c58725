"""The variables of a hook: those of its own lock, and none that steer another call."""

from __future__ import annotations

import pytest

from distlock_core.etcd.values import KeyValue
from distlock_core.model.keys import Keys
from distlock_core.model.state import Holder
from distlock_core.process.nesting import FOR_THIS_CALL, HOOK_FACTS
from distlock_core.rollout.hooks import LONGEST, RunningHook, environ_of, facts_of, held_facts


def holder(name: str, value: str, token: int = 7) -> Holder:
    keys = Keys("/distlock/", name)
    return Holder.parse(keys, KeyValue(keys.lock, value.encode(), token, token, 0))


def test_facts_of_an_outer_hook_and_settings_of_this_call_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = (
        "DISTLOCK_HELD",
        "DISTLOCK_TOKEN",
        "DISTLOCK_LEASE",
        *HOOK_FACTS,
        *(f"DISTLOCK_{one}" for one in FOR_THIS_CALL),
    )
    for name in (*outer, "DISTLOCK_ENDPOINTS", "MINE"):
        monkeypatch.setenv(name, "of another")
    monkeypatch.delenv("DISTLOCK_STATE_DIR")
    found = environ_of({"DISTLOCK_EVENT": "lost"})
    kept = {name: value for name, value in found.items() if name.startswith("DISTLOCK_") or name == "MINE"}
    assert kept == {"DISTLOCK_ENDPOINTS": "of another", "MINE": "of another", "DISTLOCK_EVENT": "lost"}


def test_what_is_held_further_out_is_still_known_while_the_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTLOCK_HELD", "/distlock/outer")
    monkeypatch.setenv("DISTLOCK_TOKEN", "3")
    found = held_facts([holder("x", "1;a;{}")], 0xABC)
    assert found == {
        "DISTLOCK_HELD": "/distlock/x\n3 /distlock/outer",
        "DISTLOCK_TOKEN": "7",
        "DISTLOCK_LEASE": "abc",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('1;me;{"reason":"why"}', {"OWNER": "me", "LOCK_REASON": "why", "SINCE": "1"}),
        ("1;me;{}", {"OWNER": "me", "LOCK_REASON": "", "SINCE": "1"}),
        ("gibberish", {"LOCK_REASON": "gibberish"}),
        ('1;me;{"reason":"' + 9999 * "x" + '"}', {"OWNER": "me", "LOCK_REASON": LONGEST * "x", "SINCE": "1"}),
    ],
    ids=["whole", "no reason", "no record", "long"],
)
def test_facts_are_those_of_the_hold(value: str, expected: dict[str, str]) -> None:
    found = facts_of([holder("x", value), holder("y", value, 8)])
    about = {f"DISTLOCK_{name}": text for name, text in expected.items()}
    assert found == {"DISTLOCK_LOCK_NAME": "x\ny", "DISTLOCK_TOKEN": "7", **about}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("true", ""),
        ("echo trouble; exit 3", "exit code 3: trouble"),
        ("kill -9 $$", "signal 9 has ended it"),
        ("sleep 60", "it has not ended within 0.2s, and was ended"),
        ("exec /no/such 2>&-", "exit code 127: a program that it names is not there, or cannot be executed"),
    ],
)
def test_what_went_wrong_is_told_in_words(line: str, problem: str) -> None:
    assert RunningHook(line, {}, 0.2 if "sleep" in line else 30.0).wait() == problem


def test_what_the_system_refuses_is_told_too() -> None:
    assert RunningHook("true", {"DISTLOCK_LOSS": "a\0b"}, 5.0).wait().startswith("cannot start /bin/sh: ")
