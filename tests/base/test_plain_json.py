"""JSON by C code alone is the JSON of the standard library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distlock_core.base import plain_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(params=["C code", "json"], autouse=True, scope="module")
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "json":
        plain_json._with_json()
    yield
    plain_json._with_c_code()


@given(values)
@example({"a": ["\u2028", "\x7f", "\ud800", '"\\/\b\f\n\r\t'], "": {}})
@example(float("inf"))
def test_it_writes_what_json_writes(value: Any) -> None:
    assert plain_json.dumps(value) == json.dumps(value)
    assert plain_json.dumps_compact(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(values)
@example(10**400)
def test_it_reads_what_json_has_written(value: Any) -> None:
    assert plain_json.loads(json.dumps(value)) == value
    assert plain_json.loads(bytearray(json.dumps(value, indent=2).encode())) == value


MALFORMED = ["", " ", "{", '{"a', '{"a":', "[1,]", "1 2", '"\x01"', "nul", "{1: 2}", '{"a" 1}', "\ufeff{}", "-", "{}x"]


@pytest.mark.parametrize("text", [*MALFORMED, "{not json", '[{"a": "\\u12"}]'])
def test_it_refuses_where_nobody_has_loaded_json(text: str) -> None:
    code = (
        "import sys\nfrom distlock_core.base import plain_json\n"
        "assert 'json' not in sys.modules\n"
        "try: plain_json.loads(sys.argv[1])\nexcept ValueError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("refused\n", "")


@pytest.mark.parametrize("text", MALFORMED)
def test_it_refuses_what_json_refuses_and_says_the_same(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as refused:
        plain_json.loads(text)
    assert refused.value.msg == expected.value.msg


def test_what_is_no_utf_8_is_no_json() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - every kind of it counts as no JSON
        plain_json.loads(b'"\xff"')


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", '{"a": 1, "a": 2}', " \r\n\t[]\n"])
def test_it_takes_what_json_takes_beyond_the_standard(text: str) -> None:
    assert repr(plain_json.loads(text)) == repr(json.loads(text))


def test_what_has_no_end_is_refused_as_by_json() -> None:
    with pytest.raises(RecursionError):
        plain_json.loads("[" * 100_000)
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        plain_json.dumps({"a": object()})


def test_it_loads_no_python_code_of_the_standard_library() -> None:
    program = (
        "import sys; from distlock_core.base import plain_json as p; p.loads(p.dumps({'a': [1.5, None]})); "
        "print(sorted({'json', 're', 'enum'} & set(sys.modules)))"
    )
    printed = subprocess.check_output(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"]
    )
    assert printed == b"[]\n"
