"""The wheel alone, in a clean environment of each Python.

`nox` takes every supported Python, and names those that are not installed; `nox -s wheel-3.9` takes one of them;
`make test-wheel` takes the oldest and the newest that this machine has, as CI does.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
TOOLS = ROOT / "tools"
VERSIONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
# What tests need beside the wheel; the versions are those of tools/constraints/.
TEST_TOOLS = ["hypothesis", "prometheus-client", "pytest", "pytest-timeout", "pytest-xdist"]
# Of the fast lane, what is about the sources and not about what is installed, and what needs an extra.
OF_THE_SOURCES = ["tests/docs", "tests/test_layout.py"]
NEEDS_AN_EXTRA = "grpc"

nox.needs_version = ">=2026.4"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.sessions = ["wheel"]


def prefer_interpreters_to_shims() -> None:
    """Put the Pythons that are here first on PATH: a shim of pyenv hides each version that is not switched on."""
    tool = [sys.executable, str(TOOLS / "interpreters.py")]
    listed = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    folders = [os.path.dirname(line.split(" ", 1)[1]) for line in listed.splitlines()]
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ["PATH"]])


prefer_interpreters_to_shims()


@functools.cache
def built() -> str:
    """The path of the wheel, built once for all sessions."""
    folder = ROOT / ".nox/dist"
    done = subprocess.run(
        [sys.executable, str(TOOLS / "build_wheel.py"), "--into", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@nox.session(python=VERSIONS)
def wheel(session: nox.Session) -> None:
    """Install the wheel alone, import every module with warnings as errors, then run the fast tests against it."""
    assert isinstance(session.python, str)
    pins = TOOLS / "constraints" / f"python{session.python}.txt"
    pinned = ["--constraint", str(pins)] if pins.exists() else []
    session.install("--quiet", *pinned, built())
    tests = Path(session.create_tmp()) / "checkout"
    copy_without_package(tests)
    session.chdir(tests)
    session.run("python", "-I", "-W", "error", str(TOOLS / "import_all.py"))
    session.install("--quiet", *pinned, *TEST_TOOLS)
    session.install("--quiet", "--require-hashes", "--no-deps", "--requirement", str(TOOLS / "pinned.txt"))
    fast = session.run("python", "-m", "tests.support.fast_lane", silent=True).split()
    fast = [test for test in fast if not test.startswith(tuple(OF_THE_SOURCES)) and NEEDS_AN_EXTRA not in test]
    session.run("pytest", "--quiet", "-n", "4", *(session.posargs or fast))


def copy_without_package(folder: Path) -> None:
    """Copy what git knows or would add, but not `distlock_core`: what the tests import is what is installed."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    for name in listed.split("\0"):
        if name and not name.startswith("distlock_core/") and os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    (folder / "build").mkdir()
    (folder / "build/etcd").symlink_to(ROOT / "build/etcd")
