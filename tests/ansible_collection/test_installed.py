"""On a host that has the same distlock_core installed, the module runs from there, and never from a mixture of two."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT

UTILS = "ansible_collections.distlock.distlock.plugins.module_utils"
PACKAGES = ("ansible_collections", "distlock", "distlock", "plugins", "module_utils")

PROBE = f"""
import json, os, sys
sys.path[:0] = sys.argv[1:3]
from {UTILS} import _installed
from {UTILS}.distlock_core.errors import DistlockError
from {UTILS}.distlock_core.base import deadline
import {UTILS}.distlock_core.base.deadline as again
exec(sys.argv[3])
loaded = sorted(name for name, module in sys.modules.items() if name.startswith("distlock_core"))
print(json.dumps({{"home": DistlockError.__module__, "same": deadline is again, "loaded": loaded}}))
"""

Probe = Callable[..., "dict[str, Any]"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with packages, as on a host."""
    folder = tmp_path / "site-packages"
    shutil.copytree(ROOT / "distlock_core", folder / "distlock_core", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def probe(collections: Path, tmp_path: Path, installed: Path) -> Probe:
    """probe(statements) runs them beside what Ansible sends; `installed` comes behind it in the module path."""
    payload = tmp_path / "payload.zip"
    home = collections / "ansible_collections/distlock/distlock"
    with zipfile.ZipFile(payload, "w") as archive:
        for depth in range(len(PACKAGES)):
            archive.writestr("/".join((*PACKAGES[: depth + 1], "__init__.py")), "")
        for path in (home / "plugins/module_utils").rglob("*.py"):
            archive.write(path, path.relative_to(collections))

    def run(statements: str = "") -> dict[str, Any]:
        command = [sys.executable, "-I", "-S", "-c", PROBE, str(payload), str(installed), statements]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def test_an_identical_package_is_used_under_both_names(probe: Probe) -> None:
    found = probe()
    assert found["home"] == "distlock_core.errors"
    assert found["same"]
    assert "distlock_core.base.deadline" in found["loaded"]


def _one_byte_more(installed: Path) -> None:
    with (installed / "distlock_core/lock/claim.py").open("ab") as file:
        file.write(b"\n")


def _one_byte_other(installed: Path) -> None:
    path = installed / "distlock_core/errors.py"
    path.write_bytes(path.read_bytes().replace(b"busy", b"bury", 1))


def _one_file_less(installed: Path) -> None:
    (installed / "distlock_core/keeper/bind.py").unlink()


def _is_a_single_file(installed: Path) -> None:
    shutil.rmtree(installed / "distlock_core")
    (installed / "distlock_core.py").write_text("raise SystemExit('must not run')\n")


@pytest.mark.parametrize("spoil", [_one_byte_more, _one_byte_other, _one_file_less, _is_a_single_file])
def test_nothing_of_a_package_that_differs_is_loaded(
    probe: Probe, installed: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(installed)
    found = probe()
    assert found["home"] == f"{UTILS}.distlock_core.errors"
    assert found["same"]
    assert found["loaded"] == []


def test_without_an_installed_package_the_one_that_was_sent_is_used(probe: Probe, installed: Path) -> None:
    shutil.rmtree(installed)
    found = probe()
    assert found["home"] == f"{UTILS}.distlock_core.errors"
    assert found["loaded"] == []


def test_a_package_that_is_replaced_meanwhile_is_not_loaded_in_part(probe: Probe, installed: Path) -> None:
    """A task may wait for an hour, and then load a module for the first time."""
    path = installed / "distlock_core/model/keys.py"
    replace = f"""
import shutil
shutil.copyfile({str(path)!r}, {str(path)!r} + ".new")
os.replace({str(path)!r} + ".new", {str(path)!r})
try:
    import {UTILS}.distlock_core.model.keys
except ImportError as error:
    assert "was replaced while this task was running" in str(error), error
else:
    raise AssertionError("loaded")
"""
    assert "distlock_core.model.keys" not in probe(replace)["loaded"]


def test_a_file_that_the_collection_does_not_have_is_not_loaded(probe: Probe, installed: Path) -> None:
    (installed / "distlock_core/base/extra.py").write_text("")
    outcome = """
try:
    import distlock_core.base.extra
except ImportError:
    pass
"""
    assert "distlock_core.base.extra" not in probe(outcome)["loaded"]


def test_a_play_locks_and_unlocks_with_the_package_of_the_host(
    playbook: Callable[..., Any], keys: Etcd, installed: Path, tmp_path: Path
) -> None:
    log = tmp_path / "homes"
    site = tmp_path / "host/lib/python{}.{}/site-packages".format(*sys.version_info)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "host"], check=True, timeout=60)
    # Only what is imported after this line's own start: the payload's modules.
    # Not in a sitecustomize.py: Debian's Python has one of its own.
    (site / "homes_of_modules.py").write_text(
        "import atexit, sys\n"
        "def note():\n"
        "    ours = [module for name, module in sys.modules.items() if 'distlock_core' in name]\n"
        "    homes = {getattr(module, '__file__', '') for module in ours}\n"
        f"    with open({str(log)!r}, 'a') as file:\n"
        "        file.writelines(home + '\\n' for home in homes)\n"
        "atexit.register(note)\n"
    )
    (site / "host.pth").write_text(f"{installed}\nimport homes_of_modules\n")
    tasks = "".join(
        f"    - distlock.distlock.distlock: {{name: percona_prod, state: {state}}}\n"
        for state in ("locked", "held", "unlocked")
    )
    plays = (
        "- hosts: all\n  gather_facts: false\n"
        f"  vars: {{ansible_python_interpreter: {tmp_path}/host/bin/python}}\n"
        f"  tasks:\n{tasks}"
    )
    played = playbook(plays, env={"PYTHONPATH": None, "COMPILED_PYTHON": None})
    assert played.code == 0, played.text
    homes = set(log.read_text().split())
    assert homes
    assert [home for home in homes if not home.startswith(f"{installed}/distlock_core/")] == []
    assert keys.keys() == []
