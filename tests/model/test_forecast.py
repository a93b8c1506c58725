"""When the turn of a waiter is likely."""

from __future__ import annotations

import pytest

from distlock_core.etcd.values import KeyValue
from distlock_core.model.forecast import Forecast, forecast
from distlock_core.model.freeze import Freeze
from distlock_core.model.keys import Keys
from distlock_core.model.policy import Policy
from distlock_core.model.record import Record
from distlock_core.model.state import Holder, LockState

KEYS = Keys("/t/", "web")
NOW = 10_000


def held(slot: int, seconds: int | None, **details: object) -> Holder:
    """A holder since that many seconds."""
    record = Record(None if seconds is None else NOW - seconds, "a", dict(details)).encode()
    return Holder.parse(KEYS, KeyValue(KEYS.slot(slot), record, 1, 1, 0))


def state(*holders: Holder, took: tuple[int, ...] = (100,), policy: str = "") -> LockState:
    note = Record(NOW, "a", {"how": "released", "owner": "a", "token": 1, "took": list(took)}).encode()
    found = LockState("web", holders, 5, note=note)
    return found.under(Policy.parse("web", KeyValue(KEYS.policy, policy.encode(), 1, 1, 0))) if policy else found


@pytest.mark.parametrize(
    ("found", "position", "expected"),
    [
        (state(held(0, 30)), 1, NOW + 70),
        (state(held(0, 30)), 3, NOW + 270),
        (state(held(0, 130)), 1, NOW),  # longer than usual: any moment
        (state(held(0, 130)), 2, NOW + 100),
        (state(held(0, 30), took=(100, 5000, 90)), 1, NOW + 70),  # the median
        (state(held(0, 30), policy='1;a;{"cooldown":60}'), 2, NOW + 130 + 160),
        (state(held(0, 30, limit=2), held(1, 80, limit=2)), 1, NOW + 20),
        (state(held(0, 30, limit=2), held(1, 80, limit=2)), 2, NOW + 70),
        (state(held(0, 30, limit=2), held(1, 80, limit=2)), 3, NOW + 120),
        (state(held(0, 30), policy='1;a;{"slots":2}'), 1, NOW),  # a slot is free
        (state(held(0, 30), policy='1;a;{"slots":3}'), 2, NOW),  # two are
        (state(held(0, 30), policy='1;a;{"slots":3}'), 3, NOW + 70),
        (state(held(0, 30, limit=2**62)), 9, NOW),
        (state(held(0, 30, limit=-3)), 1, NOW + 70),
        (state(held(0, 30, limit=3), held(1, 80), held(2, 50), policy='1;a;{"slots":1}'), 1, NOW + 70),
    ],
)
def test_the_turn_is_likely_at(found: LockState, position: int, expected: int) -> None:
    turn = forecast(found, position, NOW)
    assert turn is not None
    assert turn.at == expected


@pytest.mark.parametrize(
    "found",
    [
        state(),
        state(held(0, 30), took=()),
        state(held(0, None)),
        state(held(0, 30, state="kept")),
        state(held(0, 30, state="cooling")),
        state(held(0, 30, expect=20)),  # overdue
        state(held(0, 30))._replace(
            freezes=(Freeze("web", Record(1, "a", {}), KeyValue(KEYS.lock_freeze, b"", 1, 1, 0)),)
        ),
        LockState("web", (held(0, 30),), 5),
    ],
)
def test_nothing_is_known(found: LockState) -> None:
    assert forecast(found, 1, NOW) is None


@pytest.mark.parametrize(("each", "words"), [(0, "0s"), (59, "59s"), (61, "1m"), (240, "4m"), (3599, "1h00m")])
def test_the_usual_time_is_rounded(each: int, words: str) -> None:
    assert Forecast(each, 0.0).each_in_words == words
