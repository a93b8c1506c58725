#!/usr/bin/env python3
"""Print the Pythons of this machine that distlock supports, oldest first: version and path, one a line.

    python3 tools/interpreters.py           all of them
    python3 tools/interpreters.py --ends    the oldest and the newest

Supported is what the classifiers of pyproject.toml name; the next Python counts where it is installed. They are looked
for on PATH and below ~/.pyenv/versions, and each is run once, since a shim of pyenv may have no Python behind it. What
is missing is named on stderr.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
ASK = "import sys; print('%d.%d' % sys.version_info[:2])"
NEXT = ["3.14"]
BOUND = 20.0  # seconds for one interpreter to say its version


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ends", action="store_true", help="only the oldest and the newest")
    arguments = parser.parse_args()
    wanted = supported()
    found = interpreters(wanted + NEXT)
    if not found:
        print(f"interpreters: none of Python {', '.join(wanted)} is installed here", file=sys.stderr)
        return 1
    missing = [version for version in wanted if version not in found]
    if missing:
        print(f"interpreters: not installed here, and so not tried: Python {', '.join(missing)}", file=sys.stderr)
    versions = list(found)
    for version in dict.fromkeys((versions[0], versions[-1])) if arguments.ends else versions:
        print(version, found[version])
    return 0


def supported() -> list[str]:
    """The versions that pyproject.toml names, oldest first."""
    text = PROJECT.read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    return sorted(versions, key=lambda version: int(version.partition(".")[2]))


def interpreters(versions: list[str]) -> dict[str, str]:
    """The path of each of these versions that is installed and works; the running interpreter takes precedence."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    paths = {f"{sys.version_info[0]}.{sys.version_info[1]}": [sys.executable]}
    for version in versions:
        paths.setdefault(version, []).extend(str(folder / f"python{version}") for folder in folders)
    runs = {version: next((path for path in paths[version] if _version(path) == version), None) for version in versions}
    return {version: path for version, path in runs.items() if path is not None}


def _version(path: str) -> str | None:
    if not os.access(path, os.X_OK):
        return None
    try:
        done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, timeout=BOUND, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
