"""tools/environment.py: what it makes, mends and leaves out."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.needs import summary
from tests.support.paths import ROOT

TOOL = ROOT / "tools" / "environment.py"


@pytest.fixture
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_incomplete_environment_is_rebuilt(environment: ModuleType, tmp_path: Path) -> None:
    """As `python3 -m venv` leaves it behind on a Debian without python3-venv."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    assert not environment.is_whole(folder)
    environment.create(folder)
    assert environment.is_whole(folder)


def test_a_foreign_folder_is_left_alone(environment: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(environment.Failed, match="is no virtual environment: it is left alone"):
        environment.create(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_python_without_venv_is_named_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, str(TOOL), str(tmp_path / "env")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("On Debian and Ubuntu: apt-get install python3-venv")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "env").exists()


def test_packages_that_need_a_compiler_are_left_out_without_one(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    monkeypatch.delenv("CI", raising=False)
    assert environment.buildable(["embedded", "salt"]) == (["embedded"], ["salt"])
    monkeypatch.setenv("CI", "true")
    assert environment.buildable(["embedded"]) == (["embedded"], [])
    with pytest.raises(environment.Failed, match="apt-get install gcc"):
        environment.buildable(["embedded", "salt"])


def test_requirements_are_those_of_the_extras_asked_for(environment: ModuleType) -> None:
    def names(*extras: str) -> set[str]:
        needed = environment.requirements(Path(sys.executable), list(extras))
        assert not [one for one in needed if "extra" in one]
        return {one.partition(" ")[0].partition(">")[0].partition("<")[0] for one in needed}

    assert names() == {"PyYAML"}
    assert names("srv") == {"PyYAML", "dnspython"}
    assert {"PyYAML", "grpcio", "pytest"} <= names("etcd3", "dev")


def test_the_summary_of_what_was_not_tested_ends_with_one_command() -> None:
    lines = summary(
        ["puppet is missing. To install it: apt-get install puppet-agent"] * 2
        + ["salt-master is missing. To install it: apt-get install gcc libc6-dev && make .venv/.ready"]
        + ["only root can make a set-uid program"]
    )
    assert lines[0] == "    2 tests: puppet is missing. To install it: apt-get install puppet-agent"
    assert lines[-1] == "To install it all: apt-get install gcc libc6-dev puppet-agent && make .venv/.ready"
    assert len(lines) == 4
