"""docs/settings-by-tool.md: each tool has each setting of a lock under the name in the table, or the reason why not."""

from __future__ import annotations

import re

from tests.support.fronts import settings_of_a_lock, words
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/settings-by-tool.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


def test_every_setting_of_a_lock_has_a_row_and_every_tool_a_column() -> None:
    assert [row[0].strip("`") for row in ROWS] == settings_of_a_lock()
    assert {len(row) for row in ROWS} == {1 + len(words())}


def test_every_cell_is_true() -> None:
    wrong = []
    for setting, *cells in ROWS:
        key = setting.strip("`")
        for (tool, known), cell in zip(words().items(), cells):
            name = key if cell == "yes" else cell.strip("`")
            is_named = cell == "yes" or cell.startswith("`")
            if not (name in known if is_named else key not in known):
                wrong.append((key, tool, cell))
    assert wrong == []


def test_every_letter_is_explained_and_used() -> None:
    letters = {cell for _, *cells in ROWS for cell in cells if cell != "yes" and not cell.startswith("`")}
    assert letters == set(re.findall(r"^- \*\*(\w)\*\*: ", PAGE, re.MULTILINE))
