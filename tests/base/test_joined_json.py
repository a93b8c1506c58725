"""Many JSON texts in one call give the values that each of them has by itself, or none at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distlock_core.base.joined_json import loads_each

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
# Pieces of JSON that may be completed by their neighbours.
PIECES = st.lists(st.sampled_from(["{", "}", "[", "]", ",", ":", '"', '"a"', "1", " ", "\\", "null", "{}"]), max_size=6)


def each(texts: list[str]) -> list[Any] | None:
    """The values read one by one, None if one of the texts is no JSON."""
    try:
        return [json.loads(text) for text in texts]
    except ValueError:
        return None


@given(st.lists(VALUES))
def test_texts_have_the_values_that_each_has_by_itself(values: list[Any]) -> None:
    if values:
        assert loads_each([json.dumps(value) for value in values]) == values


@given(st.lists(PIECES.map("".join) | VALUES.map(json.dumps), min_size=1))
@example(['{"a": [1', "2]}"])
@example(["{},{}", "1"])
@example(["1", "2, 3", ""])
@example(['{"a": "', '"}'])
@example([""])
@example(["]", "["])
def test_no_text_borrows_from_its_neighbours(texts: list[str]) -> None:
    expected = each(texts)
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011 - any kind of it makes the caller read one by one
            loads_each(texts)
    else:
        assert loads_each(texts) == expected
