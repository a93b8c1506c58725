"""The wheel alone, in a clean environment of the oldest and of the newest Python that is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from distlock_core.testing import Cluster
from tests.support.paths import ROOT

OLDEST = (3, 9)
BOUND = 100.0
# Imports all there is. What needs a package of an extra may say so, and nothing else may fail or warn.
IMPORT_ALL = """
import importlib, pkgutil, sys
import distlock_core
assert distlock_core.__file__.startswith(sys.prefix), distlock_core.__file__
names = [found.name for found in pkgutil.walk_packages(distlock_core.__path__, "distlock_core.")]
assert len(names) > 90, len(names)
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name in ("salt", "grpc", "google", "etcd3", "dns"), (name, error.name)
"""


def interpreters() -> list[str]:
    """The oldest and the newest that can run it, of those on PATH, of pyenv's, and the one that runs the tests."""
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *Path.home().glob(".pyenv/versions/*/bin")]
    found = {sys.version_info[:2]: sys.executable}
    for path in [path for folder in folders for path in folder.glob("python3.*")]:
        version = re.fullmatch(r"python3\.(\d+)", path.name)
        # A shim of pyenv is a script that may have no such version behind it.
        if version and (3, int(version[1])) >= OLDEST and path.parent.name != "shims":
            found.setdefault((3, int(version[1])), str(path))
    versions = sorted(found)
    return [found[version] for version in dict.fromkeys((versions[0], versions[-1]))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From a copy: a build writes into its tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("distlock_core", "salt"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(target), str(source)], check=True, timeout=BOUND)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(params=interpreters(), ids=lambda path: Path(path).name)
def clean(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Iterator[Path]:
    """An environment with the wheel and PyYAML (without its part in C, which is for one Python), and nothing else."""
    home = tmp_path / "env"
    subprocess.run([request.param, "-m", "venv", str(home)], check=True, timeout=BOUND)
    python = home / "bin/python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=BOUND)
    (site,) = home.glob("lib/python3.*/site-packages")
    pure = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(Path(yaml.__file__).parent, site / "yaml", ignore=pure)
    yield python
    shutil.rmtree(home)


def test_every_module_can_be_imported_without_a_warning(clean: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [clean, "-I", "-W", "error", "-c", IMPORT_ALL], cwd=tmp_path, capture_output=True, timeout=BOUND, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_its_commands_work(
    clean: Path, etcd: Cluster, realm_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text(f"endpoints:\n  - {etcd.endpoints[0]}\nprefix: {realm_prefix}\n")
    env = {
        "PATH": os.environ["PATH"],
        "DISTLOCK_CONFIG": str(config),
        "PYTHONWARNINGS": "error::DeprecationWarning,error::SyntaxWarning",
    }

    def run(command: str, *arguments: str) -> str:
        done = subprocess.run(
            [clean.parent / command, *arguments], env=env, capture_output=True, text=True, timeout=BOUND, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), (command, arguments)
        return done.stdout

    assert run("distlock", "--lock-name=web", "--ttl=10", "--", "echo", "inside") == "inside\n"
    assert run("distlock", "--lock-name=web", "--lock", "--id=me") == ""
    assert "me" in run("distlock", "--list")
    assert "held by" in run("distlock", "--show", "--lock-name=web")
    run("distlock", "--lock-name=web", "--unlock", "--id=me")
    for command in ("distlock", "etcdlocker", "distlock-etcd", "distlock-puppet"):
        assert run(command, "--help")
