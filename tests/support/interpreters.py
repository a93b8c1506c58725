"""Pythons other than the one that runs the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.needs import missing


def interpreter(version: str) -> str:
    """The path of a Python X.Y, found on PATH or where pyenv keeps its versions; without one the test is skipped."""
    found = shutil.which(f"python{version}")
    if found is not None and "shims" not in found:
        return found
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    made = sorted(versions.glob(f"{version}.*/bin/python"))
    return str(made[0]) if made else missing(f"Python {version} is missing. To install it: pyenv install {version}")
