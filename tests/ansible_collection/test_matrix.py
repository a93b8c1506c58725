"""The matrix in docs/ansible.md: each release of ansible-core on the controller, each Python on the hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_controller import Controller, guarded, note, notes, overlaps
from tests.support.etcd_view import Etcd
from tests.support.interpreters import interpreter
from tests.support.needs import missing
from tests.support.once import once
from tests.support.paths import ROOT
from tests.support.processes import wait_until

pytestmark = [pytest.mark.gates, pytest.mark.timeout(900)]  # the first time, a package index is waited for
MODULE = "distlock.distlock.distlock"
PAGES = ("docs/ansible.md", "ansible/README.md")
# ansible-core, and the Python that its controller runs on.
CONTROLLERS = {
    "2.15": "3.9",
    "2.16": "3.10",
    "2.17": "3.11",
    "2.18": "3.12",
    "2.19": "3.13",
    "2.20": "3.12",
    "2.21": "3.13",
}
HOSTS = ("3.9", "3.10", "3.11", "3.12", "3.13")
TOO_OLD = "3.8"
# What other tests share between runs was put together by the Ansible, and compiled by the Python, that runs the tests.
BARE = {"PYTHONPATH": "", "COMPILED_PYTHON": "", "ASSEMBLED_MODULES": ""}


def ansible(version: str, factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with that ansible-core. It is kept beside this one, since it is slow to make."""
    home = Path(sys.prefix) / f"ansible-core-{version}"

    def make(_: Path) -> None:
        if not (home / "bin/ansible-playbook").exists():
            subprocess.run([interpreter(CONTROLLERS[version]), "-m", "venv", "--clear", home], check=True, timeout=120)
            pip = [str(home / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            done = subprocess.run([*pip, "install", f"ansible-core=={version}.*"], timeout=600, check=False)
            if done.returncode != 0:
                missing(f"ansible-core {version} is missing. To install it: pip install 'ansible-core=={version}.*'")

    once(factory, f"ansible-core-{version}", make)
    return home / "bin"


def play(*tasks: dict[str, Any], **words: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, **words, "tasks": list(tasks)}


def plays(folder: Path, work: Path) -> list[dict[str, Any]]:
    """Something of everything: module, lookup, strategies, role, background, facts."""
    lock, unlock = (
        {MODULE: {"name": "{{ inventory_hostname }}"}},
        {"name": "{{ inventory_hostname }}", "state": "unlocked"},
    )
    asked = {"that": ["query('distlock.distlock.holder', inventory_hostname) == [taken.owner]", "taken.token > 0"]}
    lies = {"strategy": "distlock.distlock.linear", "vars": {"distlock_name": "f", "distlock_endpoints": "{{ etcd }}"}}
    under = {
        "vars": {"distlock_name": "s", "distlock_timeout": -1},
        "handlers": [note(folder, "handler") | {"name": "h"}],
    }
    inside = [{**guarded(folder)[0], "notify": "h"}, guarded(folder)[1]]
    role = {"guarded_name": "g", "guarded_tasks": str(work), "guarded_timeout": -1, "guarded_one_by_one": True}
    return [
        play(
            {**lock, "register": "taken"},
            {"ansible.builtin.assert": asked},
            {MODULE: {"name": "{{ inventory_hostname }}", "state": "held", "token": "{{ taken.token }}"}},
            {MODULE: unlock},
            {MODULE: {"name": "r", "until": "run_end"}},
            {MODULE: {"name": "r", "state": "held"}},
            {MODULE: {"name": "a-{{ inventory_hostname }}"}, "async": 60, "poll": 1},
            {MODULE: {"name": "a-{{ inventory_hostname }}", "state": "unlocked", "force": True}},
            {f"{MODULE}_info": {}},
        ),
        play(*inside, strategy="distlock.distlock.linear", serial=1, **under),
        play(*inside, strategy="distlock.distlock.host_pinned", **under),
        play(
            {"ansible.builtin.include_role": {"name": "distlock.distlock.guarded"}, "vars": role},
            handlers=under["handlers"],
        ),
        play({"lying": {}}),
        play(note(folder, "fooled"), **lies),
    ]


@pytest.fixture
def site(controller: Controller) -> tuple[list[dict[str, Any]], Path]:
    library = controller.folder / "library"
    library.mkdir()
    answer = json.dumps({"changed": False, "ansible_facts": {"etcd": "http://127.0.0.1:1"}})
    (library / "lying.py").write_text(f"#!/usr/bin/python\n# WANT_JSON\nprint({answer!r})\n")
    work = controller.folder / "work.yml"
    work.write_text(json.dumps([{**guarded(controller.folder)[0], "notify": "h"}, guarded(controller.folder)[1]]))
    return plays(controller.folder, work), controller.folder


@pytest.mark.parametrize("version", CONTROLLERS)
def test_everything_works_with_each_ansible_core(
    controller: Controller,
    keys: Etcd,
    site: tuple[list[dict[str, Any]], Path],
    version: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    controller.bin = ansible(version, tmp_path_factory)
    controller.env.update(BARE)
    every, folder = site
    if version == "2.15":
        every[3]["serial"] = 1  # its linear does not take included files one after the other
    code, output = controller.run(every, hosts="h1,h2", ANSIBLE_CALLBACKS_ENABLED="distlock.distlock.waits")
    assert code == 2, output  # the last play, whose etcd is named by a fact
    assert "fact" in output.partition("lying")[2], output
    assert "Traceback" not in output, output
    assert overlaps(folder) == [], output
    assert sorted(notes(folder, "been")) == ["h1", "h1", "h1", "h2", "h2", "h2"], output
    assert set(notes(folder)) == {"handler"}, output
    wait_until(lambda: keys.keys() == [], "every lock let go")
    code, output = controller.run(every[:1], "--check", hosts="h1,h2")
    assert code in (0, 2), output
    assert keys.keys() == []


@pytest.mark.parametrize("version", [*HOSTS, TOO_OLD])
def test_the_module_runs_with_each_python_on_a_host_and_names_what_it_needs(
    controller: Controller, keys: Etcd, version: str
) -> None:
    tasks: list[dict[str, Any]] = [
        {MODULE: {"name": "x"}},
        {f"{MODULE}_info": {}},
        {MODULE: {"name": "x", "state": "unlocked"}},
    ]
    code, output = controller.run([play(*tasks)], "-e", f"ansible_python_interpreter={interpreter(version)}", **BARE)
    assert (code == 0) is (version != TOO_OLD), output
    assert keys.keys() == []
    if version == TOO_OLD:
        assert re.search(r"distlock needs Python 3\.9 or later on the host, and .* is 3\.8", " ".join(output.split()))


@pytest.mark.parametrize("page", PAGES)
def test_the_page_claims_what_is_tested(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"ansible-core {min(CONTROLLERS)} to {max(CONTROLLERS)}" in text
    assert f"Python {HOSTS[0]} to {HOSTS[-1]}" in text


def test_the_metadata_claim_what_is_tested() -> None:
    runtime = (ROOT / "ansible/meta/runtime.yml").read_text(encoding="utf-8")
    assert f'requires_ansible: ">={min(CONTROLLERS)}.0"' in runtime
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert tuple(re.findall(r"Python :: (3\.\d+)\"", project)) == HOSTS
    assert f'requires-python = ">={HOSTS[0]}"' in project
