"""Ansible's own tools accept the built collection. "All targets skipped" counts as a failure."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import ansible_test
import pytest

from distlock_core.testing import Cluster
from tests.support.needs import missing
from tests.support.once import once
from tests.support.playbooks import BIN

# On its first run on a machine each of them makes environments, and waits for a package index.
pytestmark = [
    pytest.mark.gates,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the gates are those of ansible-core 2.19"),
]
LONGEST = 1100.0
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
HOME = Path(sys.prefix) / "ansible-test"  # kept: its content is slow to make

Gate = Callable[..., str]


@pytest.fixture(scope="session")
def pip_script(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What ansible-test would fetch from its own site: a script that installs pip, here from its wheel."""
    requirements = Path(ansible_test.__file__).parent / "_internal/python_requirements.py"
    version = re.search(r"pip='([\d.]+)'", requirements.read_text())
    assert version, requirements

    def make(_: Path) -> None:
        script = HOME / f".ansible/test/cache/get_pip_{version.group(1).replace('.', '_')}.py"
        wheel = HOME / f"pip-{version.group(1)}-py3-none-any.whl"
        if not wheel.exists():
            pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            words = ["download", "--no-deps", "--dest", str(HOME), f"pip=={version.group(1)}"]
            if subprocess.run([*pip, *words], timeout=300, check=False).returncode != 0:
                missing(f"pip {version.group(1)} is not to be had: {' '.join(words)}")
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(
            f"import sys\nsys.path.insert(0, {str(wheel)!r})\nfrom pip._internal.cli.main import main\n"
            "words = [word for word in sys.argv[1:] if word not in ('--no-setuptools', '--no-wheel')]\n"
            f"sys.exit(main(['install', *words, {str(wheel)!r}]))\n"
        )

    once(tmp_path_factory, "pip-script", make)


@pytest.fixture
def folder(collections: Path, tmp_path: Path) -> Path:
    """The built collection, a copy to write into: outside of any git repository."""
    shutil.copytree(collections / "ansible_collections", tmp_path / "ansible_collections")
    return tmp_path / "ansible_collections/distlock/distlock"


@pytest.fixture
def gate(folder: Path, pip_script: None) -> Gate:
    """gate(tool, *words) runs it in the collection's folder, and returns its output if it succeeds."""

    def run(tool: str, *words: str) -> str:
        if not os.access(BIN / tool, os.X_OK):
            missing(f"{tool} is missing. To install it: make .venv/.ready")
        # No shims of Python versions on PATH: ansible-test would take them for the real thing.
        env = {"HOME": str(HOME), "PATH": f"{BIN}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        env["ANSIBLE_COLLECTIONS_PATH"] = str(folder.parent.parent.parent)
        done = subprocess.run(
            [str(BIN / tool), *words],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "All targets skipped" not in said
        return said

    return run


def test_sanity(gate: Gate) -> None:
    said = gate("ansible-test", "sanity", "--venv", "--python", PYTHON, "--color", "no")
    ran = re.findall(r'^Running sanity test "([^"]+)"', said, re.MULTILINE)
    assert {"ansible-doc", "import", "no-assert", "pep8", "pylint", "validate-modules", "yamllint"} <= set(ran)
    assert len(ran) >= 20


def test_units(gate: Gate) -> None:
    said = gate("ansible-test", "units", "--venv", "--python", PYTHON, "--color", "no")
    assert sum(map(int, re.findall(r"=+ (\d+) passed in", said))) >= 25


def test_integration(gate: Gate, folder: Path, etcd: Cluster, realm_prefix: str) -> None:
    config = {"distlock_endpoints": list(etcd.endpoints), "distlock_prefix": realm_prefix}
    (folder / "tests/integration/integration_config.yml").write_text(json.dumps(config))
    words = ("--venv", "--python", PYTHON, "--color", "no", "--allow-destructive")
    said = gate("ansible-test", "integration", *words, "distlock")
    assert re.search(r"testhost +: ok=\d{2} +changed=\d+ +unreachable=0 +failed=0", said), said


def test_ansible_lint(gate: Gate) -> None:
    unpublished = "galaxy[no-repository]"  # a key that Galaxy wants of what is published there
    words = ("--offline", "--project-dir", ".", "--profile", "production", "--skip-list", unpublished, "--nocolor")
    said = gate("ansible-lint", *words)
    assert re.search(r"Passed: 0 failure\(s\), 0 warning\(s\)", said), said


def test_documentation(gate: Gate) -> None:
    gate("antsibull-docs", "lint-collection-docs", "--plugin-docs", ".")


def test_ansible_doc_shows_every_plugin(gate: Gate) -> None:
    plugins = {
        "module": ("distlock", "distlock_info", "distlock_freeze", "distlock_policy", "distlock_wait"),
        "lookup": ("holder",),
        "strategy": ("linear", "host_pinned"),
    }
    for kind, names in plugins.items():
        said = gate("ansible-doc", "--json", "-t", kind, *[f"distlock.distlock.{name}" for name in names])
        shown, _ = json.JSONDecoder().raw_decode(said)
        for name in names:
            found = shown[f"distlock.distlock.{name}"]
            assert any("endpoints" in option for option in found["doc"]["options"])
            assert found["examples"]
    assert "distlock.distlock.waits" in gate("ansible-doc", "--json", "-t", "callback", "distlock.distlock.waits")
