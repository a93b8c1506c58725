"""Ownership: what a slow reader gets to see. Pure."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distlock_core.events.ownership import Ownership, Readers


def left(reader: Ownership) -> list[bool]:
    """The items that can be read at present."""
    found: list[bool] = []
    while True:
        mine = reader.next(timeout=0)
        if mine is None:
            return found
        found.append(mine)


@given(start=st.booleans(), changes=st.lists(st.one_of(st.booleans(), st.just("read")), max_size=60))
def test_a_reader_sees_turns_never_an_old_true_and_always_the_latest(start: bool, changes: list[bool | str]) -> None:
    reader, now, lost = Ownership(start), start, False
    read: list[bool] = []
    for change in changes:
        if change == "read":
            mine = reader.next(timeout=0)
            if mine is None:
                assert read[-1] == now  # nothing new
                assert not lost
            else:
                assert not mine or now  # a True is still valid
                read.append(mine)
                lost = lost and mine
        else:
            # A loss after a True that was read must be reported, whatever comes after it.
            lost = lost or (not change and bool(read) and read[-1])
            now = bool(change)
            reader.report(now)
    rest = left(reader)
    assert len(rest) <= 2
    assert not lost or False in rest
    read += rest
    assert read[-1] == now
    assert all(one != next_one for one, next_one in zip(read, read[1:]))


def test_the_end_is_delivered_after_pending_events() -> None:
    reader = Ownership(True)
    reader.report(False)
    reader.end()
    reader.report(True)
    assert list(reader) == [False]


def test_close_ends_a_read_that_waits() -> None:
    readers = Readers()
    reader = readers.join(lambda: True)
    assert next(reader)
    ended = threading.Event()

    def read() -> None:
        assert list(reader) == []
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    reader.close()
    assert ended.wait(20)
    readers.report(False)
    with pytest.raises(StopIteration):
        next(reader)
