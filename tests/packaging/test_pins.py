"""Pinned tools, the Pythons that are tried, and the page for contributors that describes them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.support.paths import ROOT

SUPPORTED = ("3.9", "3.10", "3.11", "3.12", "3.13")
# Packages that decide whether `make check` passes: a new release must not change that by itself.
DECIDING = {"codespell", "hypothesis", "mypy", "pytest", "pytest-timeout", "pytest-xdist", "ruff", "types-pyyaml"}


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_supported_python_has_pins_and_each_pin_is_one_version(version: str) -> None:
    lines = [line for line in read(f"tools/constraints/python{version}.txt").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert set(names) >= DECIDING
    build = {line.partition("==")[0] for line in read("tools/pinned.txt").splitlines() if "==" in line}
    assert not build & set(names)  # else one of the two would win by chance


def test_an_environment_keeps_to_the_pins_of_its_python(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = tool("environment")
    mine = ROOT / f"tools/constraints/python{sys.version_info[0]}.{sys.version_info[1]}.txt"
    assert environment.constraints(Path(sys.executable)) == ["--constraint", str(mine)]
    monkeypatch.setattr(environment, "CONSTRAINTS", tmp_path)
    assert environment.constraints(Path(sys.executable)) == []
    assert "To pin them: make pins" in capsys.readouterr().err


def test_the_tested_pythons_are_the_supported_ones() -> None:
    interpreters = tool("interpreters")
    assert tuple(interpreters.supported()) == SUPPORTED
    tried = re.search(r"^VERSIONS = (\[.*\])$", read("noxfile.py"), re.MULTILINE)
    assert tried is not None
    assert yaml.safe_load(tried[1]) == [*SUPPORTED, *interpreters.NEXT]


def test_a_python_that_is_missing_is_named_and_a_shim_without_one_is_none(tmp_path: Path) -> None:
    """As pyenv leaves a shim on PATH for each version that is not switched on."""
    shim = tmp_path / "python3.10"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    words = [sys.executable, str(ROOT / "tools/interpreters.py"), "--ends"]
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=True)
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.stdout == f"{own} {sys.executable}\n"
    missing = ", ".join(version for version in SUPPORTED if version != own)
    assert done.stderr == f"interpreters: not installed here, and so not tried: Python {missing}\n"


def test_the_page_for_contributors_names_only_what_exists() -> None:
    page = read("CONTRIBUTING.md")
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = {
        target
        for line in re.findall(r"\bmake ([a-z -]+)", " ".join(re.findall(r"`[^`]+`", page)))
        for target in line.split()
    }
    assert named
    assert named <= targets
    paths = set(re.findall(r"`((?:distlock_core|tests|tools|docs|ansible|puppet|\.ci)/[\w./-]*)`", page))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_hooks_run_what_make_check_runs() -> None:
    (repo,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    check = read("Makefile").partition("\ncheck:")[2].partition("\n\n")[0]
    entries = {hook["entry"].removesuffix(" --force-exclude") for hook in repo["hooks"]}
    assert entries == {
        ".venv/bin/ruff check",
        ".venv/bin/ruff format --check",
        ".venv/bin/mypy --strict",
        ".venv/bin/codespell",
    }
    assert all(entry.replace(".venv/bin", "$(BIN)") in check for entry in entries)
