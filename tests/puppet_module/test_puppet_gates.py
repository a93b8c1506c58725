"""The Puppet module passes the tools of Puppet's own world, without a warning."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from tests.support.needs import missing
from tests.support.paths import ROOT

MODULE = ROOT / "puppet"
INSTALL = {
    "puppet-lint": "apt-get install puppet-lint",
    "metadata-json-lint": "apt-get install metadata-json-lint",
    "rspec": "apt-get install ruby-rspec-puppet",
    "ruby": "apt-get install ruby",
}
MANIFESTS = sorted([*MODULE.glob("manifests/**/*.pp"), *MODULE.glob("types/**/*.pp")])
RUBY = sorted(MODULE.glob("**/*.rb"))
EXAMPLES = sorted((MODULE.parent / "examples" / "puppet").glob("*.pp"))

pytestmark = [pytest.mark.gates, pytest.mark.timeout(240)]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The module under its own name, which its tools want."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "distlock").symlink_to(MODULE)
    return tmp_path / "modules" / "distlock"


@pytest.fixture
def run(need: Callable[..., str], module: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run(tool, *arguments) in the module's folder (or `cwd`)."""

    def run(tool: str, *arguments: object, cwd: Path = module) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [need(tool, INSTALL.get(tool)), *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=220,
            check=False,
        )

    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    """A tool's output, without Facter's complaints about files that are unreadable in a container."""
    lines = (done.stdout + done.stderr).splitlines()
    return "\n".join(line for line in lines if "Facter" not in line)


def test_the_module_has_files_to_check() -> None:
    assert {path.name for path in MANIFESTS} >= {"init.pp", "exec.pp", "run_lock.pp"}
    assert {path.name for path in RUBY} >= {"distlock.rb", "cli.rb", "command.rb", "distlock_spec.rb"}
    assert len(EXAMPLES) >= 3


def test_puppet_parser_validate(run: Callable[..., subprocess.CompletedProcess[str]], module: Path) -> None:
    done = run("puppet", "parser", "validate", "--color=false", "--modulepath", module.parent, *MANIFESTS, *EXAMPLES)
    assert (done.returncode, said(done)) == (0, "")


def test_puppet_lint_without_a_warning(run: Callable[..., subprocess.CompletedProcess[str]], module: Path) -> None:
    done = run("puppet-lint", "--fail-on-warnings", module / "manifests", module / "types")
    assert (done.returncode, said(done)) == (0, "")
    done = run("puppet-lint", "--fail-on-warnings", "--no-autoloader_layout-check", *EXAMPLES)
    assert (done.returncode, said(done)) == (0, "")


def test_puppet_lint_would_fail_on_a_warning(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.pp"
    bad.write_text('notify { "x": }\n')
    assert run("puppet-lint", "--fail-on-warnings", bad).returncode != 0


def test_metadata_json_lint(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("metadata-json-lint", "--fail-on-warnings", "--strict-dependencies", "metadata.json")
    assert (done.returncode, said(done)) == (0, "")


# The Python that each system brings.
PYTHONS = {
    ("Debian", "11"): (3, 9),
    ("Debian", "12"): (3, 11),
    ("Ubuntu", "22.04"): (3, 10),
    ("Ubuntu", "24.04"): (3, 12),
    ("RedHat", "9"): (3, 9),
}


def test_every_system_that_is_named_has_a_python_that_is_new_enough() -> None:
    needed = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (MODULE.parent / "pyproject.toml").read_text())
    assert needed
    oldest = (int(needed[1]), int(needed[2]))
    named = {
        (system["operatingsystem"], release)
        for system in json.loads((MODULE / "metadata.json").read_text())["operatingsystem_support"]
        for release in system["operatingsystemrelease"]
    }
    assert named == {system for system, python in PYTHONS.items() if python >= oldest}


def test_the_module_claims_the_puppet_that_is_tested(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    major, minor, _ = said(run("puppet", "--version")).split(".")
    (puppet,) = json.loads((MODULE / "metadata.json").read_text())["requirements"]
    assert puppet["version_requirement"] == f">= {major}.{minor}.0 < {int(major) + 1}.0.0"
    page = (MODULE.parent / "docs/puppet.md").read_text(encoding="utf-8")
    assert f"Tested with Puppet {major}.{minor}, " in page


def test_puppet_strings_without_a_warning_and_with_everything_documented(
    run: Callable[..., subprocess.CompletedProcess[str]], module: Path, tmp_path: Path
) -> None:
    target = tmp_path / "strings.json"
    sources = [*MANIFESTS, *MODULE.glob("lib/**/*.rb"), *MODULE.glob("tasks/*.json")]
    # It leaves a folder where it runs.
    command = ("puppet", "strings", "generate", "--color=false", "--format", "json", "--out", target, *sources)
    done = run(*command, cwd=tmp_path)
    if "Unknown Puppet subcommand" in said(done):
        missing("puppet strings is missing. To install it: apt-get install puppet-strings")
    assert done.returncode == 0, said(done)
    assert "[warn]" not in said(done).lower()
    assert "warning" not in said(done).lower()
    assert "[error]" not in said(done).lower()
    found = json.loads(target.read_text())
    names = {kind: {item["name"] for item in found[kind]} for kind in found}
    assert names["puppet_classes"] == {"distlock", "distlock::run_lock"}
    assert names["defined_types"] == {"distlock::exec", "distlock::policy", "distlock::protect"}
    assert names["resource_types"] == {"distlock", "distlock_protect", "distlock_puppet_conf"}
    assert names["puppet_functions"] == {"distlock::config_file"}
    assert names["puppet_tasks"] >= {"lock", "unlock", "show", "freeze", "thaw"}
    for item in (*found["puppet_classes"], *found["defined_types"], *found["puppet_tasks"]):
        documented = {tag["name"]: tag["text"] for tag in item["docstring"]["tags"] if tag["tag_name"] == "param"}
        assert all(documented.values())
    for item in found["resource_types"]:
        parts = (*item.get("properties", ()), *item.get("parameters", ()))
        assert parts
        assert all(part.get("description") for part in parts)


def test_ruby_syntax_without_a_warning(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    # One call for each: with several files Ruby checks the first.
    for path in RUBY:
        done = run("ruby", "-wc", path)
        assert (done.returncode, said(done)) == (0, "Syntax OK"), path


def test_rspec_puppet(run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    done = run("rspec", "-I", "spec", "--format", "progress", "--format", "json", "--out", target, "spec")
    if "cannot load such file -- rspec-puppet" in said(done):
        missing("rspec-puppet is missing. To install it: apt-get install ruby-rspec-puppet")
    assert done.returncode == 0, said(done)[-6000:]
    summary = json.loads(target.read_text())["summary"]
    assert (summary["failure_count"], summary["pending_count"]) == (0, 0)
    assert summary["errors_outside_of_examples_count"] == 0
    assert summary["example_count"] >= 150
