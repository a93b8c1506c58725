"""Both ways of installing, and the error if the package is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.paths import ROOT
from tests.support.salt_minions import CALL_TIMEOUT, EXAMPLES, SYNCED, Minion, synced

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
FILES = ("distlock.py", "distlock_freeze.py", "distlock_policy.py", "distlock_run.py")
PATHS = [f"{kind}/{file}" for kind in ("modules", "states") for file in FILES] + [
    f"{kind}/distlock.py" for kind in ("beacons", "runners")
]

# Asks Salt's own loader from which file it takes the modules.
WHERE = """
import sys, salt.config, salt.loader
opts = salt.config.minion_config(sys.argv[1] + "/minion")
opts["file_client"] = "local"
opts["grains"] = {}
modules = salt.loader.minion_mods(opts)
states = salt.loader.states(opts, modules, {}, None)
beacons, runners = salt.loader.beacons(opts, modules), salt.loader.runner(opts)
for loaded, names in (
    (modules, ("list", "freeze", "policy", "run")), (states, ("locked", "frozen", "policy", "run")),
    (beacons, ("beacon",)), (runners, ("show",)),
):
    for name in names:
        name = f"distlock.{name}"
        print(loaded[name].__code__.co_filename if name in loaded else loaded.missing_fun_string(name))
"""


@pytest.fixture(scope="module")
def wheel(salt_is_there: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of `make wheel`."""
    build = [sys.executable, str(ROOT / "tools/build_wheel.py"), "--into", str(tmp_path_factory.mktemp("wheel"))]
    return Path(subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True, timeout=100).stdout.strip())


@pytest.fixture(scope="module")
def wheel_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That wheel, unpacked by pip, beside Salt and its protobuf."""
    target = tmp_path_factory.mktemp("installed")
    _pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def _pip(*words: str | Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *words], check=True, timeout=100)


def where(minion: Minion, *options: str, path: Path | None = None) -> list[str]:
    env = {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        [sys.executable, *options, "-c", WHERE, str(minion.folder)],
        env=env,
        cwd=minion.folder,  # not the repository, where Python would find the package by itself
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT,
        check=True,
    )
    return done.stdout.splitlines()


def put_runner(cached: Path) -> None:
    """What `salt-run saltutil.sync_runners` does at a master."""
    (cached / "runners").mkdir()
    shutil.copy(ROOT / "salt/_runners/distlock.py", cached / "runners")


def test_the_wheels_entry_point_brings_the_modules(
    minion: Minion, wheel_folder: Path, etcd: Cluster, realm_prefix: str
) -> None:
    assert where(minion, path=wheel_folder) == [str(wheel_folder / "distlock_core/saltext" / path) for path in PATHS]
    env = {"PYTHONPATH": str(wheel_folder)}
    assert minion.call("distlock.lock", "x", env=env)["owner"] == "salt:m0"
    assert [lock["lock"] for lock in minion.call("distlock.list", env=env)] == ["x"]


def test_modules_synced_from_file_roots_precede_the_wheel(new_minion: Callable[..., Minion]) -> None:
    minion = new_minion(file_roots={"base": [str(ROOT / "salt")]})
    assert synced(minion.call("saltutil.sync_all")) == SYNCED
    cached = minion.folder / "var/cache/salt/minion/extmods"
    put_runner(cached)
    assert where(minion) == [str(cached / path) for path in PATHS]
    assert minion.call("distlock.list") == []


def test_without_the_package_salt_names_what_is_missing(new_minion: Callable[..., Minion], tmp_path: Path) -> None:
    minion = new_minion(file_roots={"base": [str(ROOT / "salt")]})
    minion.call("saltutil.sync_all")
    put_runner(minion.folder / "var/cache/salt/minion/extmods")
    # Stands in for a Python that has no distlock-core.
    (tmp_path / "distlock_core.py").write_text("raise ImportError('no distlock_core here')")
    lines = where(minion, path=tmp_path)
    assert len(lines) == len(PATHS)
    for line in lines:
        assert "the Python package distlock-core is missing" in line
        assert "salt-pip install distlock_core-VERSION-py3-none-any.whl" in line


def test_the_state_of_the_page_installs_the_wheel(minion: Minion, wheel: Path, tmp_path: Path) -> None:
    """Installed into a separate folder, so that the Python of the tests does not change."""
    text = recipe("Salt install")
    assert text in (EXAMPLES / "install.sls").read_text()
    example = (EXAMPLES / "install.sls").read_text()
    alone = f"- target: {tmp_path}/there\n    - force_reinstall: True\n    - no_deps: True\n    - no_index: True"
    there = f"- reload_modules: True\n    {alone}"
    (minion.sls / "put_there.sls").write_text(with_stand_ins(example, ("- reload_modules: True", there)))
    assert "say where distlock comes from" in str(minion.call("state.apply", "put_there"))
    pillar = "pillar=" + json.dumps({"distlock_package": str(wheel)})
    done = minion.apply("put_there", pillar)
    assert done["distlock-core"].result is True, done
    assert (tmp_path / "there/distlock_core/saltext/states/distlock.py").exists()
