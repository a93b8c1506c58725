"""A read of a whole realm is turned into its locks in one pass."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from distlock_core.etcd.values import KeyValue
from distlock_core.lock.status import all_states, state_of
from distlock_core.model.record import Record
from distlock_core.model.state import LockState

PREFIX = "/distlock/"


def kv(key: str, number: int, owner: str = "web-1") -> KeyValue:
    return KeyValue(f"{PREFIX}{key}".encode(), Record(1, owner, {}).encode(), number, number, 0)


def realm(locks: int) -> list[KeyValue]:
    """As many locks, each with a slot, a waiter and a last end, in etcd's order."""
    keys = [f"l{number:05}" for number in range(locks)]
    found = [kv("__freeze", 1), *(kv(f"__last/{key}", 2) for key in keys)]
    for number, key in enumerate(keys, 3):
        found += [kv(key, number), kv(f"{key}/queue/{number:016x}", number), kv(f"{key}/slot/1", number, "web-2")]
    return found


def test_each_lock_has_its_own_holders_waiters_and_last_end() -> None:
    found = realm(3)
    states = all_states(found, PREFIX, "__internal_lock")
    assert [state.name for state in states] == ["l00000", "l00001", "l00002"]
    for state in states:
        assert [holder.owner for holder in state.holders] == ["web-1", "web-2"]
        assert state.waiting == len(state.waiters) == 1
        assert state.last is not None
        assert state.frozen is not None
        assert state == _alone(found, state)


def _alone(found: list[KeyValue], state: LockState) -> LockState:
    from distlock_core.model.keys import Keys

    return state_of(Keys(PREFIX, state.name), found)


def calls_of(locks: int) -> int:
    """The number of Python and C function calls, which does not depend on the machine."""
    found = realm(locks)
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        all_states(found, PREFIX, "__internal_lock")
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("locks", [50])
def test_ten_times_the_locks_cost_ten_times_the_work(locks: int) -> None:
    assert calls_of(10 * locks) < 12 * calls_of(locks)
