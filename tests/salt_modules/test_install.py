"""Both ways of installing, and what is said where the package is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from salted import ROOT, Minion

from distlock_core.testing import Cluster

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things

# Asks Salt's own loader from which file it takes the modules.
WHERE = """
import sys, salt.config, salt.loader
opts = salt.config.minion_config(sys.argv[1] + "/minion")
opts["file_client"] = "local"
opts["grains"] = {}
modules = salt.loader.minion_mods(opts)
for loaded, name in ((modules, "distlock.list"), (salt.loader.states(opts, modules, {}, None), "distlock.locked")):
    print(loaded[name].__code__.co_filename if name in loaded else loaded.missing_fun_string(name))
"""


@pytest.fixture(scope="session")
def wheel_folder(salt_is_there: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked by pip, beside Salt and its protobuf. From a copy: a build writes into its tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("distlock_core", "salt"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target), str(source)],
        check=True,
        timeout=100,
    )
    return target


def where(minion: Minion, *options: str, path: Path | None = None) -> list[str]:
    env = {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        [sys.executable, *options, "-c", WHERE, str(minion.folder)],
        env=env,
        cwd=minion.folder,  # not the repository, where Python would find the package by itself
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_wheels_entry_point_brings_the_modules(
    minion: Minion, wheel_folder: Path, etcd: Cluster, realm_prefix: str
) -> None:
    assert where(minion, path=wheel_folder) == [
        str(wheel_folder / "distlock_core/saltext" / kind / "distlock.py") for kind in ("modules", "states")
    ]
    env = {"PYTHONPATH": str(wheel_folder)}
    assert minion.call("distlock.lock", "x", env=env)["owner"] == "salt:m0"
    assert [lock["lock"] for lock in minion.call("distlock.list", env=env)] == ["x"]


def test_what_is_synced_from_file_roots_is_used_before_the_wheel(new_minion: Callable[..., Minion]) -> None:
    minion = new_minion(file_roots={"base": [str(ROOT / "salt")]})
    synced = minion.call("saltutil.sync_all")
    assert (synced["modules"], synced["states"]) == (["modules.distlock"], ["states.distlock"])
    cached = minion.folder / "var/cache/salt/minion/extmods"
    assert where(minion) == [str(cached / kind / "distlock.py") for kind in ("modules", "states")]
    assert minion.call("distlock.list") == []


def test_without_the_package_salt_says_what_is_missing(new_minion: Callable[..., Minion], tmp_path: Path) -> None:
    minion = new_minion(file_roots={"base": [str(ROOT / "salt")]})
    minion.call("saltutil.sync_all")
    # Stands in for a Python that has no distlock-core.
    (tmp_path / "distlock_core.py").write_text("raise ImportError('no distlock_core here')")
    function, state = where(minion, path=tmp_path)
    for line in (function, state):
        assert "the Python package distlock-core is missing" in line
        assert "salt-pip install distlock_core-VERSION-py3-none-any.whl" in line
