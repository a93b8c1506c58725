"""The fenced blocks of the documentation, and the marks above them that name the test that runs each."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.paths import ROOT

READMES = ("README.md", "CONTRIBUTING.md", "ansible/README.md", "puppet/README.md")
PAGES = (*READMES, *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


class Block(NamedTuple):
    """A fenced block, and the comment above it."""

    page: str
    line: int
    mark: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        start = None
        for number, line in enumerate(lines):
            if start is None and line.lstrip().startswith("```"):
                start = number
            elif start is not None and line.strip() == "```":
                text = textwrap.dedent("\n".join(lines[start + 1 : number]))
                yield Block(page, start + 1, lines[start - 1].strip(), lines[start].lstrip()[3:], text)
                start = None


def marked(mark: str) -> list[Block]:
    return [block for block in blocks() if block.mark == f"<!-- {mark} -->"]


def recipe(name: str) -> str:
    """Its text, which may stand in more than one place."""
    (text,) = {block.text for block in marked(f"recipe: {name}")}
    return text


def with_stand_ins(text: str, *replaced: tuple[str, str]) -> str:
    """The text with each of these replacements; the first of a pair must occur."""
    for old, new in replaced:
        assert old in text, (old, text)
        text = text.replace(old, new)
    return text


def json_documents() -> list[dict[str, Any]]:
    """The JSON documents on the page about the command."""
    found = [block.text for block in blocks() if block.page == "docs/cli.md" and block.language == "json"]
    return [json.loads(line) for text in found for line in text.splitlines()]
