"""The collection that is built: whole, from the one source, the same each time, and what Ansible installs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import distlock_core
from tests.support.needs import missing
from tests.support.paths import ROOT
from tests.support.playbooks import BIN

CORE = "plugins/module_utils/distlock_core/"


def build(root: Path, into: Path) -> Path:
    command = [sys.executable, str(root / "tools/build_collection.py"), "--into", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_the_same_sources_give_the_same_bytes_wherever_and_whenever(tarball: Path, tmp_path: Path) -> None:
    for name in ("ansible", "distlock_core", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, copy_function=shutil.copyfile)  # new times, other modes
    for name in ("pyproject.toml", "CHANGELOG.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "ansible/plugins/modules/.distlock.py.swp").write_text("an editor's")
    (tmp_path / "ansible/plugins/modules/__pycache__").mkdir(exist_ok=True)
    (tmp_path / "ansible/plugins/modules/__pycache__/x.pyc").write_bytes(b"")
    again = build(tmp_path, tmp_path / "dist")
    assert again.name == tarball.name
    assert again.read_bytes() == tarball.read_bytes()


def test_the_collection_contains_the_required_parts_of_the_core_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
        core = [name for name in names if name.startswith(CORE) and name.endswith(".py")]
        texts = {name: archive.extractfile(name).read().decode() for name in core}  # type: ignore[union-attr]
    assert not (ROOT / "ansible" / CORE).exists()
    for name in ("adapters/acquire.py", "keeper/pid_keeper.py", "etcd/http/gateway.py", "etcd/__init__.py"):
        assert CORE + name in names
    for name in ("cli/distlock.py", "command/supervisor.py", "testing/__init__.py", "saltext/__init__.py"):
        assert CORE + name not in names
    absolute = re.compile(r"^ *(from|import) distlock_core", re.MULTILINE)
    assert not [name for name, text in texts.items() if absolute.search(text)]
    assert {"COPYING", "LICENSES/Apache-2.0.txt", "CHANGELOG.md", "README.md", "meta/runtime.yml"} <= set(names)


def test_private_files_of_the_collection_have_a_leading_underscore() -> None:
    """A file without a leading underscore in there is an interface, which other collections may import."""
    for folder in ("module_utils", "plugin_utils"):
        files = list((ROOT / "ansible/plugins" / folder).glob("*.py"))
        assert files
        assert [path.name for path in files if not path.name.startswith("_")] == []


def test_ansible_installs_it_and_finds_nothing_amiss(tarball: Path, tmp_path: Path) -> None:
    galaxy = BIN / "ansible-galaxy"
    if not os.access(galaxy, os.X_OK):
        missing("ansible-galaxy is missing. To install it: make .venv/.ready")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "there")}

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(galaxy), "collection", *words], env=env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("install", "--offline", str(tarball), "-p", str(tmp_path / "there"))
    assert "Successfully verified" in run("verify", "--offline", "distlock.distlock")
    home = tmp_path / "there/ansible_collections/distlock/distlock"
    info = json.loads((home / "MANIFEST.json").read_text())["collection_info"]
    assert info["version"] == distlock_core.__version__
    assert info["license"] == ["GPL-3.0-or-later", "Apache-2.0"]
