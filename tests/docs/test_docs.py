"""The documentation agrees with the code: what it names exists, all that exists is named, and its commands work."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.cli import etcdlocker
from distlock_core.cli.command_line import parse
from distlock_core.cli.option_rules import OPERATIONS
from distlock_core.cli.puppet import arguments
from distlock_core.process.nesting import FOR_THIS_CALL, HELD, HOOK_FACTS, LEASE, TOKEN
from distlock_core.settings.load import load
from distlock_core.settings.options import SETTINGS
from distlock_core.testing import Cluster
from tests.support.paths import ROOT
from tests.support.processes import Process

PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
BIN = os.path.dirname(sys.executable)
COMMAND_TIMEOUT = 60.0
IN_LINE_TIMEOUT = 30.0  # seconds until the background command of the tour is in the queue

OWN_OPTIONS = {*OPERATIONS, "force", "token", "older-than", "dry-run", "for", "clear", "since", "follow", "plot", "yes"}
OWN_OPTIONS |= {"until"}
ETCD_OPTIONS = {"members", "data-dir", "port", "etcd-version", "binary"}  # of distlock-etcd
ETCDLOCKER_OPTIONS = {option.rstrip("=") for option in etcdlocker.LONG}
PUPPET_OPTIONS = set(arguments.OWN)  # of distlock-puppet
BENCH_OPTIONS = {"rounds", "only", "waiters", "nodes", "lines", "quick"}
OTHERS_OPTIONS = {"rev", "endpoints", "enable-v2", "bump-revision", "enable-grpc-gateway"}  # of etcd and etcdctl
OTHERS_OPTIONS |= {"client-cert-auth", "auto-compaction-retention", "host-whitelist", "listen-metrics-urls"}
OTHERS_OPTIONS |= {"assumeyes"}  # of yum
OTHERS_OPTIONS |= {"collector"}  # of node_exporter
OTHERS_OPTIONS |= {"noop", "no-noop", "wait", "yes", "recursive"}  # of puppet, mysqladmin, apt-get, cp
OTHERS_OPTIONS |= {"no-index", "find-links", "dest"}  # of pip
OTHERS_OPTIONS |= {"tags", "skip-tags", "start-at-task", "skip", "parents"}  # of ansible-playbook, puppet, mkdir
OTHERS_OPTIONS |= {"targets", "local"}  # of bolt, salt-call
EXAMPLE_ENDPOINT = "http://127.0.0.1:2379"
EXAMPLE_HOST = "node-1"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def option_rows() -> list[list[str]]:
    """The cells of the options table: option, variable, config key, meaning, default."""
    section = read("README.md").partition("## Options")[2].partition("\n## ")[0]
    rows = [
        re.split(r"(?<!\\)\|", line.strip("|")) for line in section.splitlines() if line.startswith(("| `", "| - "))
    ]
    return [[cell.strip().strip("`") for cell in row] for row in rows if len(row) == 5]


def blocks(page: str, mark: str) -> list[str]:
    """The fenced blocks behind an invisible `<!-- mark -->`."""
    return re.findall(rf"<!-- {mark} -->\n```\w+\n(.*?)```", read(page), re.DOTALL)


def test_the_options_table_is_the_table_of_settings() -> None:
    expected = {
        (
            f"--{setting.option}" if "option" in setting.scope else "-",
            setting.variable if "env" in setting.scope else "-",
            setting.key if "file" in setting.scope else "-",
        )
        for setting in SETTINGS
    }
    assert {(row[0].partition("=")[0], row[1], row[2]) for row in option_rows()} == expected


def test_the_options_table_has_the_defaults() -> None:
    by_option = {f"--{setting.option}": setting.default for setting in SETTINGS if "option" in setting.scope}
    for option, _, _, _, default in option_rows():
        value = by_option.get(option.partition("=")[0])
        if value not in (None, "", False):
            assert default == (f"{value:g}" if isinstance(value, float) else str(value)), option


@pytest.mark.parametrize("page", PAGES)
def test_every_option_named_exists(page: str) -> None:
    known = {setting.option for setting in SETTINGS if "option" in setting.scope} | OWN_OPTIONS | ETCD_OPTIONS
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", read(page)))
    assert named - known - ETCDLOCKER_OPTIONS - PUPPET_OPTIONS - BENCH_OPTIONS - OTHERS_OPTIONS == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_choice_named_exists(page: str) -> None:
    choices = {s.option: s.placeholder.split("|") for s in SETTINGS if "option" in s.scope and "|" in s.placeholder}
    for option, value in re.findall(r"(?<![\w-])--([a-z-]+)=([a-z]+(?:\\?\|[a-z]+)*)", read(page)):
        if option in choices:
            assert set(re.split(r"\\?\|", value)) <= set(choices[option]), f"--{option}={value}"


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_named_exists(page: str) -> None:
    known = {setting.variable for setting in SETTINGS if "env" in setting.scope} | {TOKEN, HELD, LEASE}
    known |= {arguments.CERTNAME, *HOOK_FACTS}
    known |= {f"DISTLOCK_{word}" for word in FOR_THIS_CALL}
    assert set(re.findall(r"\bDISTLOCK_[A-Z_]+", read(page))) - known == set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_in_the_readme(operation: str) -> None:
    assert f"`--{operation}`" in read("README.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_internal_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_exists(page: str) -> None:
    """Files and folders of this repository: what begins with one of its top folders."""
    folders = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._"))
    named = re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*)", read(page))
    others = ("dist/", "build/", "salt/beacon/")  # what is built, and the tags of Salt's events
    missing = {name for name in named if not name.startswith(others) and not (ROOT / name.rstrip(".")).exists()}
    assert missing == set()


def test_every_module_that_the_code_names_exists() -> None:
    core = ROOT / "distlock_core"
    for file in core.rglob("*.py"):
        for name in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", file.read_text(encoding="utf-8")):
            assert (core / name).exists() or (ROOT / name).exists(), f"{file}: {name}"


def anchors(text: str) -> set[str]:
    """GitHub's anchors for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_example_config_file_is_one(tmp_path: Path) -> None:
    (example,) = blocks("docs/cli.md", "config")
    path = tmp_path / "distlock.yaml"
    path.write_text(example, encoding="utf-8")
    settings = load({"config": str(path)}, {})
    assert set(settings.given) >= {"endpoints", "prefix", "timeout"}


@pytest.mark.parametrize(
    ("page", "count"), [("README.md", 1), ("docs/library.md", 8), ("docs/history.md", 1), ("docs/metrics.md", 1)]
)
def test_the_python_examples_run(page: str, count: int, etcd: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    examples = [example for example in blocks(page, "tried") if "connect(" in example]
    assert len(examples) == count
    for example in examples:
        exec(compile(example.replace(EXAMPLE_ENDPOINT, etcd.endpoints[0]), page, "exec"), {})
        assert "token" in capsys.readouterr().out


class Tour:
    """Runs a page's marked commands one after the other, as a reader would, on an etcd without a past."""

    def __init__(self, endpoint: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
        self._env = {**clean, "DISTLOCK_ENDPOINTS": endpoint, "PATH": f"{BIN}{os.pathsep}{clean['PATH']}"}
        self._waiting: list[Process] = []

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        return done.stdout + ("Killed\n" if done.returncode == -9 else "")  # printed by an interactive shell

    def start(self, command: str) -> None:
        """Start the second terminal's command, and wait until it is in the queue."""
        self._waiting.append(
            Process(
                ["bash", "-c", command],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        deadline = time.monotonic() + IN_LINE_TIMEOUT
        while '"waiting": 1' not in self.run("distlock --list --json"):
            assert time.monotonic() < deadline, "it does not stand in line"
            time.sleep(0.05)

    def finish(self) -> str:
        return self._waiting.pop().communicate(timeout=COMMAND_TIMEOUT)[0]

    def close(self) -> None:
        for process in self._waiting:
            process.kill()
            process.communicate()


@pytest.fixture
def tour(start_etcd: Callable[..., Cluster]) -> Iterator[Tour]:
    with start_etcd() as cluster:
        tour = Tour(cluster.endpoints[0])
        yield tour
        tour.close()


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that is printed below it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def alike(output: str) -> str:
    """The output without what differs from run to run: the host, numbers, clock times, the width of columns."""
    output = re.sub(rf"\b{re.escape(socket.gethostname())}\b", EXAMPLE_HOST, output)
    output = re.sub(r"(\d{4}-\d\d-\d\d )?\b\d\d:\d\d(:\d\d)?\b", "HH:MM", output)
    output = re.sub(r"\b(\d+m)?\d+s", "Ns", output)
    output = re.sub(r"(--endpoints=http://127\.0\.0\.1):\d+", r"\1:2379", output)  # a reader's etcd: the default port
    output = re.sub(r"--token \(\d+\)", "--token (N)", output)
    output = re.sub(r"\brevision \d+", "revision N", output)
    return re.sub(r"[ \t]+", " ", re.sub(r"\b(pid|process) \d+", r"\1 N", output)).strip()


@pytest.mark.parametrize(
    ("page", "at_least"), [("README.md", 8), ("docs/cli.md", 6), ("docs/rollouts.md", 2), ("docs/history.md", 1)]
)
def test_the_commands_work_as_printed(tour: Tour, page: str, at_least: int) -> None:
    marked = re.findall(r"<!-- tried(: in line|: goes on)? -->\n```console\n(.*?)```", read(page), re.DOTALL)
    assert len(marked) >= at_least
    expected = ""
    for mark, text in marked:
        if mark == ": goes on":  # what the second terminal has printed in the end
            assert alike(tour.finish()) == alike(expected + text)
            continue
        for command, output in steps(text):
            if mark == ": in line":
                tour.start(command)
                expected = output
            else:
                assert alike(tour.run(command)) == alike(output), command


@pytest.mark.parametrize("page", PAGES)
def test_every_distlock_command_shown_can_be_parsed(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DISTLOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DISTLOCK_CONFIG", os.devnull)
    for block in re.findall(r"```(?:console|sh)\n(.*?)```", read(page), re.DOTALL):
        for line in re.findall(r"^(?:\$ )?(distlock .*)$", block, re.MULTILINE):
            words = list(shlex.shlex(line.replace("$$", "1"), posix=True, punctuation_chars=True))
            end = next((place for place, word in enumerate(words) if word in ("||", "&&", "|", ";", "&")), len(words))
            parse(words[1:end])
