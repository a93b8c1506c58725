"""Records that are parsed together are those that are parsed one by one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distlock_core.model import records
from distlock_core.model.record import Record

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
