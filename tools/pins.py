#!/usr/bin/env python3
"""Renew tools/constraints/: the versions of all packages in .venv, one file per Python on this machine.

    make pins

pip decides, as it would in an empty environment, and installs nothing. tools/environment.py keeps to these versions, so
that a new release of a linter, or of anything else, is met when somebody renews the pins, and not by the next CI run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PINNED = ROOT / "tools/pinned.txt"
CONSTRAINTS = ROOT / "tools/constraints"
OWN = "distlock-core"
HEADER = "# Python {version}: what .venv takes, beside tools/pinned.txt. Written by `make pins`.\n"


def main() -> int:
    extras = sys.argv[1:]
    if not extras:
        print("pins: name the extras of .venv, as the Makefile does", file=sys.stderr)
        return 1
    tool = [sys.executable, str(ROOT / "tools/interpreters.py")]
    listed = subprocess.run(tool, stdout=subprocess.PIPE, text=True, check=True).stdout
    CONSTRAINTS.mkdir(exist_ok=True)
    for version, python in (line.split(" ", 1) for line in listed.splitlines()):
        path = CONSTRAINTS / f"python{version}.txt"
        pins = resolved(python, extras)
        path.write_text(HEADER.format(version=version) + "".join(f"{pin}\n" for pin in pins), encoding="utf-8")
        print(f"pins: {path.relative_to(ROOT)}: {len(pins)} packages", file=sys.stderr)
    return 0


def resolved(python: str, extras: list[str]) -> list[str]:
    """NAME==VERSION of all that pip would install for these extras, but for what tools/pinned.txt has."""
    with tempfile.TemporaryDirectory(prefix="distlock-pins-") as folder:
        subprocess.run([python, "-m", "venv", f"{folder}/env"], check=True)
        report = Path(folder, "report.json")
        pip = [f"{folder}/env/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        dry = ["--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*pip, *dry, f"{ROOT}[{','.join(extras)}]"], check=True)
        answer: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    fixed = {canonical(line.partition("==")[0]) for line in PINNED.read_text().splitlines() if "==" in line}
    packages = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in answer["install"]}
    return [f"{name}=={packages[name]}" for name in sorted(packages) if name not in fixed | {OWN}]


def canonical(name: str) -> str:
    """The name of a distribution in the one spelling that pip compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
