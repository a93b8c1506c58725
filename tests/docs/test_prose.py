"""The Markdown of this repository has one sentence a line, and no line that is too long to read in a terminal."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

LONGEST = 120
CODE_OR_LINK = re.compile(r"`[^`]*`|\]\([^)]*\)")
# The end of a sentence, and the beginning of the next one on the same line.
SECOND_SENTENCE = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?][*\"')\]]* +[*\"'(\[]*[A-Z`]")


def pages() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    found = listed.stdout.split() or [str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")]
    assert "README.md" in found or "docs/cli.md" in found
    return found


def prose(page: str) -> Iterator[tuple[int, str]]:
    """The lines outside of headings, tables, code and invisible comments."""
    fenced = False
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith(("|", "<!--", "#")):
            yield number, line


@pytest.mark.parametrize("page", pages())
def test_no_line_is_too_long(page: str) -> None:
    assert [number for number, line in prose(page) if len(line) > LONGEST] == []


@pytest.mark.parametrize("page", pages())
def test_a_line_has_one_sentence(page: str) -> None:
    lines = [(number, CODE_OR_LINK.sub("`", line)) for number, line in prose(page)]
    listed = [(number, re.sub(r"^\s*(?:[-*]|\d+\.) ", "", line)) for number, line in lines]
    assert [f"{page}:{number}" for number, line in listed if SECOND_SENTENCE.search(line)] == []
