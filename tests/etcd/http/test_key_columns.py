"""The keys of a long range are those of a short one: accepted, refused and read alike."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distlock_core.etcd.http import key_columns, messages
from distlock_core.etcd.refused import MALFORMED
from distlock_core.etcd.values import Get, KeyValue

BASE64 = st.binary(max_size=5).map(lambda data: base64.b64encode(data).decode())
NUMBERS = st.integers(-1, 3).map(str)
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            None,
            True,
            0,
            7,
            1.5,
            2**64,
            "",
            "x",
            "===",
            "QUJD====",
            "QQ",
            "Q~Q=",
            "1_0",
            " 7",
            "²",
            "-1",
            "\ud800",
            [],
            {},
        ),
        *("9" * 19, "9" * 20, "9" * 5000),
    ]
)


def entries(*wrong: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    number = st.one_of(NUMBERS, *wrong)
    fields = {"create_revision": number, "mod_revision": number}
    return st.fixed_dictionaries(
        {"key": st.one_of(BASE64, *wrong), **fields}, optional={"value": st.one_of(BASE64, *wrong), "lease": number}
    )


def read(kvs: list[Any]) -> Any:
    """What is read of a range with these entries: the keys, or that it is no answer of etcd's."""
    answer = {"header": {"revision": "9"}, "kvs": kvs, "count": str(len(kvs))}
    try:
        return messages._range(answer, Get(b"a", b"b"))
    except MALFORMED:
        return "malformed"


@given(st.lists(entries(), max_size=4) | st.lists(entries(WRONG) | WRONG, max_size=3))
@example([{"key": "YQ==", "create_revision": "1", "mod_revision": "1"}] * 4)
@example([{"key": "YQ==", "create_revision": 1, "mod_revision": "1"}] * 2)
@example([{"key": "QUJD====", "create_revision": "1", "mod_revision": "1"}, {"key": "Q~==", "mod_revision": "1"}])
def test_many_are_read_as_few(kvs: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "MANY", 10**6)
        expected = read(kvs)
        patch.setattr(messages, "MANY", 2)
        assert read(kvs) == expected


def test_what_etcd_writes_is_read_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_key_value", pytest.fail)
    count = 2 * messages.MANY + 1
    kvs = [
        {"key": "YQ==", "create_revision": str(number), "mod_revision": str(number + 1), "value": "eA=="}
        for number in range(1, count + 1)
    ]
    kvs[0]["lease"] = "7"
    del kvs[1]["value"]
    found = read(kvs).kvs
    assert found[:2] == (KeyValue(b"a", b"x", 1, 2, 7), KeyValue(b"a", b"", 2, 3, 0))
    assert len(found) == count
    assert all(type(kv) is KeyValue for kv in found)
    assert key_columns.key_values(kvs) == list(found)
