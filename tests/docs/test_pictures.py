"""The pictures of docs/history.md are drawn by the tool that its Makefile target names."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.support.needs import missing
from tests.support.paths import ROOT


def test_every_picture_of_the_page_is_drawn_by_the_tool(tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib is missing. To install it: make .venv/.ready")
    page = (ROOT / "docs/history.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(([\w-]+\.svg)\)", page))
    assert len(named) == 3
    tool = [sys.executable, str(ROOT / "tools/draw_pictures.py"), str(tmp_path)]
    subprocess.run(tool, check=True, timeout=100, cwd=ROOT)
    assert {path.name for path in tmp_path.iterdir()} == named
    for name in named:
        drawn, kept = (set(titles(folder / name)) for folder in (tmp_path, ROOT / "docs"))
        assert drawn == kept
        assert any("held by" in title for title in drawn)


def titles(path: Path) -> list[str]:
    """What a browser shows under the pointer. The rest differs between versions of matplotlib."""
    return [one.text or "" for one in ET.parse(path).iter("{http://www.w3.org/2000/svg}title")]
