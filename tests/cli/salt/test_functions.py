"""Arguments of Salt's functions as its command line reads them: a number, a list, nothing."""

from __future__ import annotations

from typing import Any

import pytest

from distlock_core.adapters.advice import SALT_RUN
from distlock_core.adapters.settings import names_of, read_settings
from distlock_core.cli.salt import functions
from distlock_core.errors import ConfigError

SETTINGS = read_settings({"endpoints": ["http://127.0.0.1:1"], "config": "", "connect_timeout": 0.1}, "salt:m0")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (5, "name: expected a string, in quotes (YAML may have rewritten it), found 5"),
        ([5], r"name: expected a string, in quotes (YAML may have rewritten it), found [5]"),
        ({"a": 1}, "name: expected a string, found {'a': 1}"),
        (True, "name: expected a string, found True"),
        (["a\nb"], r"name: expected one name in each item, found ['a\nb']"),
        ("a\nb", r"illegal lock name 'a\nb': it must not contain control characters"),
        ("", "the lock's name is empty"),
        ([], "the lock's name is empty"),
    ],
)
def test_a_name_that_is_none_is_an_error_in_one_line(name: Any, said: str) -> None:
    for call in (lambda: functions.history(SETTINGS, name, None), lambda: functions.doctor(SETTINGS, name, SALT_RUN)):
        with pytest.raises(ConfigError) as error:
            call()
        assert str(error.value) == said


def test_one_name_or_a_list_of_them_or_none() -> None:
    assert (names_of("a"), names_of(["a", "b"]), names_of(None)) == (("a",), ("a", "b"), ())
