#!/usr/bin/env python3
"""Build the wheel from a copy of the sources, since a build writes into its tree, and print its path.

    .venv/bin/python tools/build_wheel.py --into dist

It takes what the build needs from the environment that runs it (tools/pinned.txt), and fetches nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("distlock_core", "salt", "tools/shell_files")  # modules of salt/ are linked in distlock_core/saltext/
FILES = ("pyproject.toml", "MANIFEST.in", "LICENSE", "README.md")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the wheel.")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="where to; default: dist")
    print(build(parser.parse_args().into.absolute()))
    return 0


def build(into: Path) -> Path:
    """Build the wheel in this folder, and return its path."""
    with tempfile.TemporaryDirectory(prefix="distlock-wheel-") as folder:
        source, built = Path(folder, "source"), Path(folder, "built")
        for name in SOURCES:
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            shutil.copy(ROOT / name, source)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "wheel",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(built), str(source)], check=True)
        (wheel,) = built.glob("*.whl")
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, into))


if __name__ == "__main__":
    sys.exit(main())
