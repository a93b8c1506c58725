"""The older releases of Salt that docs/salt.md claims to support; all other tests run the newest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.interpreters import interpreter
from tests.support.needs import missing
from tests.support.once import once
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.salt_minions import BIN, SYNCED, MasterAlone, Minion, clean_environment, synced

pytestmark = [pytest.mark.gates, pytest.mark.timeout(900)]  # the first time, a package index is waited for
PAGE = ROOT / "docs" / "salt.md"
RELEASES = ("3006.16", "3007.8")
PYTHON = "3.10"
# Salt's packages bring these; from PyPI, Salt names none of them. Bounded where a later one breaks these releases.
DEPENDENCIES = (
    "PyYAML",
    "croniter",
    "cryptography<43",
    "distro",
    "jinja2<3.2",
    "jmespath",
    "looseversion",
    "msgpack<1.1",
    "packaging",
    "psutil",
    "pycryptodomex",
    "pyzmq",
    "requests",
    "setuptools<75",
    "tornado<6.5",
    "aiohttp",
    "immutables",
    "importlib-metadata",
)

STATES = """
bound to the run:
  distlock.locked:
    - name: bound
    - until: run_end

taken:
  distlock.locked:
    - name: step
    - reason: Upgrade

both are ours:
  distlock.held:
    - names: [bound, step]

let go:
  distlock.unlocked:
    - name: step

one command:
  distlock.run:
    - name: other
    - cmd: echo under the lock

refused:
  distlock.locked:
    - name: busy

kept back:
  cmd.run:
    - name: touch {touched}
    - require:
      - distlock: refused
"""


# What a minion's loop does with a beacon, while one of its jobs acquires a lock.
BEACON = """
import json, sys, time, salt.config, salt.loader
opts = salt.config.minion_config(sys.argv[1] + "/minion")
opts["grains"] = {}
modules = salt.loader.minion_mods(opts)
beacons = salt.loader.beacons(opts, modules)
config = [{"locks": ["by*"]}, {"_beacon_name": "distlock"}]
valid, events = beacons["distlock.validate"](config[:1]), beacons["distlock.beacon"](config)
until = time.monotonic() + 60
while not events and time.monotonic() < until:
    modules["distlock.lock"]("by it")
    modules["distlock.unlock"]("by it")
    time.sleep(0.2)
    events = beacons["distlock.beacon"](config)
beacons["distlock.close"](config)
print(json.dumps([valid, events[0]["tag"], events[0]["owner"]]))
"""


def salt(version: str, factory: pytest.TempPathFactory) -> Path:
    """The bin of an environment with that Salt. It stays beside this one: to make it is expensive."""
    home = Path(sys.prefix) / f"salt-{version}"

    def make(_: Path) -> None:
        if (home / "complete").exists():
            return
        subprocess.run([interpreter(PYTHON), "-m", "venv", "--clear", home], check=True, timeout=120)
        pip = [str(home / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "install", f"salt=={version}", *DEPENDENCIES], timeout=600, check=False)
        if done.returncode != 0:
            missing(f"Salt {version} is missing. To install it: pip install salt=={version}")
        (home / "complete").touch()

    once(factory, f"salt-{version}", make)
    return home / "bin"


@pytest.mark.parametrize("version", RELEASES)
def test_states_and_functions_work_with_each_salt(
    new_minion: Callable[..., Minion],
    keys: Etcd,
    version: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "distlock_core").symlink_to(ROOT / "distlock_core")
    minion = new_minion(file_roots={"base": [str(tmp_path / "m0" / "sls"), str(ROOT / "salt")]})
    minion.bin, minion.env = salt(version, tmp_path_factory), {"PYTHONPATH": str(package)}
    assert minion.call("test.version") == version
    assert synced(minion.call("saltutil.sync_all")) == SYNCED

    keys.lock("busy")
    (minion.sls / "steps.sls").write_text(STATES.format(touched=tmp_path / "touched"))
    returned = minion.call("state.apply", "steps")
    results = [(state["__id__"], state["result"]) for state in returned.values()]
    assert results == [
        ("bound to the run", True),
        ("taken", True),
        ("both are ours", True),
        ("both are ours", True),
        ("let go", True),
        ("one command", True),
        ("refused", False),
        ("kept back", False),
    ], returned
    assert not (tmp_path / "touched").exists()
    wait_until(lambda: keys.keys() == ["busy"], "every lock let go, and nothing else")

    assert minion.call("distlock.lock", "y")["owner"] == "salt:m0"
    assert "y" in [lock["lock"] for lock in minion.call("distlock.list")]
    minion.call("distlock.unlock", "y")
    assert keys.keys() == ["busy"]


def test_the_page_claims_what_is_tested() -> None:
    said = subprocess.run([BIN / "salt-call", "--version"], capture_output=True, text=True, timeout=60, check=True)
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert (
        f"Tested with Salt {said.stdout.split()[1]}, and with `salt-call` of {' and '.join(reversed(RELEASES))}."
        in text
    )


@pytest.mark.parametrize("version", RELEASES)
def test_the_runner_and_the_beacon_work_with_each_salt(
    new_minion: Callable[..., Minion],
    keys: Etcd,
    etcd: Cluster,
    realm_prefix: str,
    version: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "distlock_core").symlink_to(ROOT / "distlock_core")
    bin_folder, env = salt(version, tmp_path_factory), {**clean_environment(), "PYTHONPATH": str(package)}
    section = {"endpoints": list(etcd.endpoints), "prefix": realm_prefix}
    folder = tmp_path / "master"
    folder.mkdir()
    master = MasterAlone(folder, {"distlock": section, "runner_dirs": [str(ROOT / "salt/_runners")]})
    keys.lock("busy")

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words], env=env, capture_output=True, text=True, timeout=120, check=False)

    done = run(bin_folder / "salt-run", "--config-dir", master.folder, "--out=json", "distlock.unlock", "busy")
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert json.loads(done.stdout).startswith("busy is held by ")
    done = run(bin_folder / "salt-run", "--config-dir", master.folder, "--out=json", "distlock.show", "busy")
    assert (done.returncode, json.loads(done.stdout)[0]["lock"]) == (0, "busy")

    minion = new_minion(
        distlock=section,
        module_dirs=[str(ROOT / "salt/_modules")],
        beacons_dirs=[str(ROOT / "salt/_beacons")],
    )
    done = run(bin_folder / "python", "-c", BEACON, minion.folder)
    assert done.returncode == 0, (done.stdout, done.stderr)
    valid, tag, owner = json.loads(done.stdout)
    assert (valid[0], tag, owner) == (True, "lock/by it/acquired", "salt:m0")
