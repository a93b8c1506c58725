"""docs/guarantees.md names tests that exist, for every promise and every fault that is reproduced."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
NOT_REPRODUCED = 3  # faults that say "none": known from their projects' own notes alone


@functools.cache
def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    return [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_every_test_that_is_named_exists(file: str, test: str) -> None:
    assert test in names_of_tests(file)


def test_every_promise_has_tests_and_a_limit() -> None:
    promises = rows("## Promises")
    assert [row[0].strip().partition(".")[0] for row in promises] == [str(n + 1) for n in range(len(promises))]
    assert len(promises) >= 9
    for promise, tests, limit in promises:
        assert tests.count("::test_") >= 2, promise
        assert limit.strip(), promise


def test_every_fault_has_a_test_or_a_note_that_it_has_none() -> None:
    headings = re.findall(r"^### .+$", PAGE, re.MULTILINE)
    faults = [row for heading in headings for row in rows(heading)]
    assert len(faults) > 40
    without = [row[1] for row in faults if row[3].strip() == "none"]
    assert len(without) <= NOT_REPRODUCED, without
    assert [row[1] for row in faults if "::test_" not in row[3] and row[3].strip() != "none"] == []
