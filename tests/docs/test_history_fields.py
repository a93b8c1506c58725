"""docs/history.md has every field of a history's JSON, in an example and in a table."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from distlock_core.history.entries import End, Gap, Moment, PastFreeze, PastHold, PastWait, Phase, Reach
from tests.support.paths import ROOT

SECTION = (ROOT / "docs/history.md").read_text(encoding="utf-8").partition("\n## JSON\n")[2].partition("\n## ")[0]
NO_TIME = Moment()
ENDED = End("released", NO_TIME)
ENTRIES: dict[str, Any] = {
    "reach": Reach(1, NO_TIME, "first"),
    "hold": PastHold("x", 0, None, "", 1, "", "", NO_TIME, None, (Phase("held", NO_TIME),), ENDED),
    "wait": PastWait("x", None, "", "", NO_TIME, ENDED),
    "freeze": PastFreeze(None, None, "", NO_TIME, None, ENDED),
    "gap": Gap(1, 2, NO_TIME, NO_TIME),
}


def examples() -> dict[str, dict[str, Any]]:
    (block,) = re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)
    found = [json.loads(line) for line in block.splitlines()]
    return {example["kind"]: example for example in found}


def names(document: Any) -> set[str]:
    """The fields of an object, and of those in it."""
    if isinstance(document, list):
        return set().union(*map(names, document))
    if not isinstance(document, dict):
        return set()
    return set(document) | set().union(*map(names, document.values()))


@pytest.mark.parametrize("kind", ENTRIES)
def test_each_kind_has_an_example_with_all_its_fields(kind: str) -> None:
    fields, example = ENTRIES[kind].fields(), examples()[kind]
    assert set(example) == set(fields)
    assert names(example) >= names(fields) - {"how", "by", "why", "sure"} or kind == "freeze"


def test_the_table_explains_every_field_and_no_other() -> None:
    explained = {name for cell in re.findall(r"^\| (`.*?) \|", SECTION, re.MULTILINE) for name in cell.split(", ")}
    fields = set().union(*(names(entry.fields()) for entry in ENTRIES.values())) - {"kind"}
    assert {name.strip("`") for name in explained} == {name for name in fields if not name.endswith("_between")}
    assert "`..._between`" in SECTION


def test_the_whole_example_can_be_read_back() -> None:
    hold = examples()["hold"]
    assert [phase["state"] for phase in hold["phases"]] == ["held", "kept"]
    assert set(hold["ended"]) == {"how", "by", "why", "sure"}
