"""Records that are parsed together are those that are parsed one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distlock_core.cli.card import card
from distlock_core.cli.json_output import as_json, locks_json
from distlock_core.cli.table import table
from distlock_core.etcd.values import KeyValue
from distlock_core.lock.status import all_states
from distlock_core.model import records
from distlock_core.model.keys import DEFAULT_MUTEX
from distlock_core.model.record import Record
from distlock_core.model.sign_of_life import SignOfLife
from distlock_core.model.wording import in_queue

SECONDS = st.integers().map(str) | st.sampled_from(["", "-", "١٢", "1_0", " 7", "+7", "9" * 18, "9" * 19, "9" * 5000])
REST = st.sampled_from(
    ["", "Upgrade; of all", "{", "{}", '{"a": 1}', '{"a": [1', "2]}", "null", "[1]", '{"a": NaN}', "{}x"]
)
TEXTS = st.builds(lambda seconds, owner, rest: f"{seconds};{owner};{rest}", SECONDS, st.text(max_size=3), REST)
VALUES = TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=9)


@given(st.lists(VALUES, max_size=7))
@example([b'1;a;{"a": [1', b"2;b;2]}"])
@example([b"1;a;null", b"1;a;", b'1;a; {"a": 1}'])
@example([b'1;a;{"reason": "' + b"[" * 5 + b'"}', b"1;a;{" + b'"a":[' * 5000])
@example([b"\xff;a;{}", b"1;\xff;{}"])
def test_they_are_those_parsed_one_by_one(values: list[bytes]) -> None:
    assert repr(records.parse_records(values)) == repr([Record.parse(value) for value in values])


@pytest.mark.parametrize("count", [0, 1, 5, 6, 11])
def test_a_strange_value_does_not_change_the_others(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(records, "TOGETHER", 5)
    values = [b'%d;web-%d;{"reason": "%d"}' % (number, number, number) for number in range(count)]
    values[3:4] = [b"\x00"]
    assert records.parse_records(values) == [Record.parse(value) for value in values]


ODD: tuple[Any, ...] = (
    True,
    2**63 - 1,
    -(2**63),
    2**63,
    10**400,
    -(10**400),
    1e308,
    "",
    "9" * 50,
    [],
    [10**400, 5],
    {"a": 10**400},
)
FIELDS = ("limit", "expect", "took", "beat", "beat_lease", "ttl", "term", "until", "token", "pid", "keeper", "state")


@pytest.mark.parametrize("field", FIELDS)
def test_whatever_is_in_a_record_the_lock_is_shown(field: str) -> None:
    """One odd record of another program must not end a list of the whole realm, nor a wait behind it."""
    for odd in ODD:
        value = f"5;a;{json.dumps({'how': 'released', 'run': 'r', 'took': [7], 'beat': 15, field: odd})}".encode()
        keys = ("x", "x/queue/50/exclusive/1", "y", "y/freeze", "__last/x")
        states = all_states([KeyValue(f"/t/{key}".encode(), value, 3, 4, 0) for key in keys], "/t/", DEFAULT_MUTEX)
        assert [state.name for state in states] == ["x", "y"]
        for state in states:
            (holder,) = state.holders
            sign = SignOfLife.of(holder.record, KeyValue(b"sign", value, 3, 4, 5), 60, 7, 1e9)
            shown = state._replace(holders=(holder._replace(sign=sign),))
            assert state.name in as_json(locks_json(shown)[0])
            assert in_queue(shown, 2).startswith(state.name)
            assert f"\n{state.name} " in table([shown])
            assert card(shown, "/t/").startswith(state.name)
