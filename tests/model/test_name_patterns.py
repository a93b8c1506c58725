"""Patterns of lock names: `*` and `?`, and nothing else."""

from __future__ import annotations

import pytest

from distlock_core.model.name_patterns import is_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("es-*", ["es-", "es-1", "es-*", "es-a-b"], ["es", "es1", "x-es-1"]),
        ("*", ["a", "*", "es-1"], []),
        ("*-prod", ["a-prod", "-prod"], ["a-prod-2"]),
        ("db?", ["db1", "dbx", "db?", "db\u00e9"], ["db", "db12"]),
        ("[a-c].x*", ["[a-c].x", "[a-c].xy"], ["a.x", "[a-c]+x"]),
    ],
)
def test_a_pattern_fits_whole_names(pattern: str, fitting: list[str], others: list[str]) -> None:
    assert is_pattern(pattern)
    assert [matches(pattern, name) for name in fitting] == [True] * len(fitting)
    assert [matches(pattern, name) for name in others] == [False] * len(others)


@pytest.mark.parametrize("name", ["x", "[a]", "a.b", "a+"])
def test_a_plain_name_is_no_pattern(name: str) -> None:
    assert not is_pattern(name)
