"""The collection as it is built, Ansible's own commands on it, and a real etcd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller
from tests.support.etcd_view import Etcd
from tests.support.needs import missing
from tests.support.once import once
from tests.support.paths import ROOT
from tests.support.playbooks import BIN, PLAYBOOK_TIMEOUT, Played, write_playbook
from tests.support.preloaded.client import Preloaded, module
from tests.support.processes import Process


def own_environment() -> dict[str, str]:
    """The environment without anything that is said to distlock or to Ansible."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("DISTLOCK_", "ANSIBLE_"))}


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for ANSIBLE_COLLECTIONS_PATH: holds the collection, built from these sources once for all workers."""
    if not os.access(BIN / "ansible-playbook", os.X_OK):
        missing("ansible-playbook is missing. To install it: make .venv/.ready")

    def build(folder: Path) -> None:
        command = [sys.executable, str(ROOT / "tools/build_collection.py"), "--tree", "--into", str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    return once(tmp_path_factory, "collections", build)


@pytest.fixture(scope="session")
def compiled_python(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that compiles what Ansible sends to hosts once for all runs of this test session."""
    folder = once(tmp_path_factory, "compiled-python", lambda _: None)
    return {"PYTHONPATH": str(Path(__file__).parent / "compiled"), "COMPILED_PYTHON": str(folder)}


@pytest.fixture(scope="session")
def assembled_modules(
    collections: Path, compiled_python: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of an Ansible whose runs find the modules that most of them use put together already.

    They come from the cache of a run of this session: of this collection, and this Ansible.
    """
    modules = {
        # They are refused as soon as they start.
        **{f"distlock.distlock.distlock{rest}": {"name": ""} for rest in ("", "_freeze", "_info", "_policy", "_wait")},
        "ansible.builtin.command": {"argv": ["true"]},
        "ansible.builtin.ping": {},
    }

    def assemble(folder: Path) -> None:
        caches = folder.with_suffix(".caches")
        tasks = [{name: arguments, "ignore_errors": True} for name, arguments in modules.items()]
        keep = {"ansible.builtin.raw": f"cp {caches}/*/ansiballz_cache/* {folder}/; rm -f {folder}/*.lock"}
        play = {"hosts": "all", "gather_facts": False, "tasks": [*tasks, keep]}
        playbook, inventory = write_playbook(folder.parent, json.dumps([play]), ("h1",))
        found = {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_LOCAL_TEMP": str(caches)}
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), f"--inventory={inventory}", str(playbook)],
            env={**own_environment(), **compiled_python, **found},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PLAYBOOK_TIMEOUT,
        )
        assert len(list(folder.iterdir())) == len(modules), done.stdout

    return {"ASSEMBLED_MODULES": str(once(tmp_path_factory, "assembled-modules", assemble))}


@pytest.fixture(scope="session")
def ansible_settings(
    collections: Path,
    compiled_python: dict[str, str],
    assembled_modules: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """The settings of Ansible for all the tests of a worker: the built collection, nothing of this machine."""
    folder = tmp_path_factory.mktemp("ansible")
    config = folder / "ansible.cfg"
    # Ansible looks a thousand times a second whether a worker has an answer: work for others to wait for.
    config.write_text("[defaults]\ninternal_poll_interval = 0.01\n")
    # Where Puppet's facter is installed, the gathering of facts asks it too: half a second for nothing.
    facter = folder / "bin/facter"
    facter.parent.mkdir()
    facter.write_text("#!/bin/sh\necho '{}'\n")
    facter.chmod(0o755)
    return {
        **compiled_python,
        **assembled_modules,
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
        "PATH": f"{facter.parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def ansible_playbook(ansible_settings: dict[str, str]) -> Iterator[Preloaded]:
    """The program, of which a run takes an eighth of the time without its imports."""
    program = Preloaded(
        module("ansible_playbook"), [BIN / "ansible-playbook"], {**own_environment(), **ansible_settings}
    )
    yield program
    program.stop()


@pytest.fixture
def ansible_env(ansible_settings: dict[str, str], etcd: Cluster, realm_prefix: str) -> dict[str, str]:
    """The environment of an Ansible command: the built collection, `etcd`, `realm_prefix`, nothing of this machine."""
    return {
        **own_environment(),
        **ansible_settings,
        "DISTLOCK_ENDPOINTS": etcd.endpoints[0],
        "DISTLOCK_PREFIX": realm_prefix,
    }


@pytest.fixture
def spawn_playbook(
    ansible_playbook: Preloaded, ansible_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """spawn_playbook(plays, *options, hosts=("h1",), env={}) starts ansible-playbook and returns its Popen with pipes.

    `plays` is the text of a playbook; the hosts have local connections. Environment values of None take a variable
    out. It runs in a session of its own, which is surely ended after the test.
    """
    started: list[Process] = []

    def spawn(
        plays: str,
        *options: str,
        hosts: tuple[str, ...] = ("h1",),
        env: Mapping[str, str | None] | None = None,
        **more: Any,
    ) -> Process:
        playbook, inventory = write_playbook(tmp_path, plays, hosts)
        merged = {**ansible_env, "RECORDER_FILE": str(playbook.with_suffix(".record")), **(env or {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = ansible_playbook.start(
            [str(BIN / "ansible-playbook"), f"--inventory={inventory}", *options, str(playbook)],
            {key: value for key, value in merged.items() if value is not None},
            cwd=tmp_path,
            text=True,
            **{**pipes, **more},
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


@pytest.fixture
def playbook(spawn_playbook: Callable[..., Process]) -> Callable[..., Played]:
    """playbook(plays, *options, hosts=("h1",), env={}) runs ansible-playbook to its end: what each task returned."""

    def run(plays: str, *options: str, **more: Any) -> Played:
        return Played(spawn_playbook(plays, *options, **more))

    return run


@pytest.fixture
def controller(ansible_playbook: Preloaded, ansible_env: dict[str, str], tmp_path: Path) -> Iterator[Controller]:
    """Runs that are watched and killed from outside; what is left of them is ended after the test."""
    folder = tmp_path / "controller"
    folder.mkdir()
    controller = Controller(folder, ansible_env, ansible_playbook.start)
    yield controller
    controller.close()


@pytest.fixture
def keys(in_etcd: Etcd) -> Etcd:
    """The keys of the test's own realm."""
    return in_etcd
