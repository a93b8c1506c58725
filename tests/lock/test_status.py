"""A read of a whole realm is turned into its locks in one pass."""

from __future__ import annotations

import sys
from operator import itemgetter
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distlock_core.etcd.values import KeyValue
from distlock_core.lock.status import all_states, name_of, state_of
from distlock_core.model.keys import Keys
from distlock_core.model.record import HoldEnd, Record
from distlock_core.model.state import Holder, LockState

PREFIX = "/distlock/"


def kv(key: str, number: int, owner: str = "web-1") -> KeyValue:
    return KeyValue(f"{PREFIX}{key}".encode(), Record(1, owner, {}).encode(), number, number, 0)


def realm(locks: int) -> list[KeyValue]:
    """As many locks, each with a slot, a waiter and a last end, in etcd's order."""
    keys = [f"l{number:05}" for number in range(locks)]
    found = [kv("__freeze", 1), *(kv(f"__last/{key}", 2) for key in keys)]
    for number, key in enumerate(keys, 3):
        found += [
            kv(key, number),
            kv(f"{key}/queue/50/exclusive/{number:016x}", number),
            kv(f"{key}/slot/1", number, "web-2"),
        ]
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
    return state_of(Keys(PREFIX, state.name), found)


NAMES = ("a", "a-b", "b", "ö", "__freeze", "__last/a", "__last/ö", "__other", "__internal_lock", "__internal_lock/1")
KEYS = st.sampled_from(
    [
        *NAMES,
        "a/slot/1",
        "a/slot/x",
        "a/freeze",
        "__policy/a",
        "__policy/b",
        "a/queue/50/exclusive/1",
        "a/queue/50/exclusive/2",
        "b/queue/50/exclusive/1",
        "a/else",
        "",
        "\ud800",
    ]
)
STORED = st.sampled_from(
    [
        '1;o;{"reason":"r"}',
        "1;o;plain",
        "none",
        '1;o;{"how":"broken","owner":"p"}',
        '1;o;{"taken_over":true,"token":3}',
        '1;o;{"expect":9,"slots":2,"cooldown":5}',
    ]
)


def raw(key: str, value: str, created: int, modified: int, lease: int) -> KeyValue:
    whole = f"{PREFIX}{key}".encode("utf-8", "surrogatepass")
    return KeyValue(whole, value.encode(), created, created + modified, lease)


@given(
    st.lists(
        st.builds(raw, KEYS, STORED, st.integers(1, 9), st.integers(0, 2), st.integers(0, 1)), unique_by=itemgetter(0)
    ).map(sorted)  # as etcd sorts them
)
def test_a_list_has_the_states_that_each_lock_has_by_itself(found: list[KeyValue]) -> None:
    states = all_states(found, PREFIX, "__internal_lock")
    names = sorted({name_of(kv.key, PREFIX, "__internal_lock") or "" for kv in found} - {""})
    alone = [state_of(Keys(PREFIX, name), found) for name in names]
    assert states == [state for state in alone if state.holders or state.waiting or state.is_frozen_itself]
    assert [type(holder) for state in states for holder in state.holders] == [Holder] * sum(
        len(state.holders) for state in states
    )
    assert [state.last for state in states] == [None if s.note is None else HoldEnd.parse(s.note) for s in states]


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
