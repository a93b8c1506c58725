"""The version is in one place, `distlock_core.__version__`; everything that names it agrees."""

from __future__ import annotations

import importlib.metadata
import json
import re

import yaml

from distlock_core import __version__
from tests.support.paths import ROOT

# A file name of what is built: distlock_core-1.2.3-py3-none-any.whl, distlock-distlock-1.2.3.tar.gz
BUILT = re.compile(r"distlock_core-([\w.]+)-py3-none-any\.whl|distlock-distlock-([\w.]+)\.tar\.gz")


def test_the_package_is_installed_by_the_version_of_its_source() -> None:
    assert importlib.metadata.version("distlock-core") == __version__


def test_the_collection_and_the_puppet_module_have_the_version_of_the_package() -> None:
    assert yaml.safe_load((ROOT / "ansible/galaxy.yml").read_text())["version"] == __version__
    assert json.loads((ROOT / "puppet/metadata.json").read_text())["version"] == __version__


def test_the_changelog_ends_at_this_version_or_an_unreleased_one() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d[\w.]*)\]", text, re.MULTILINE)
    coming = re.findall(r"^To become (\d[\w.]*\w)\.$", text, re.MULTILINE)
    assert __version__ in (coming or released)[:1]


def test_names_of_built_files_in_the_docs_have_this_version() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.sls")]
    named = [(path.name, *match) for path in pages for match in BUILT.findall(path.read_text())]
    assert named
    assert [found for found in named if __version__ not in found[1:]] == []
