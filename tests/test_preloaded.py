"""Most runs of Ansible and Salt here are forks of a process that has them imported: they differ in nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.preloaded.client import Preloaded, exec_new, module
from tests.support.processes import Process, is_running, wait_until

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "mirror"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom tests.support.preloaded.mirror import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def env() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}


@pytest.fixture
def preloaded(program: Path, env: dict[str, str]) -> Iterator[Preloaded]:
    preloaded = Preloaded(module("mirror"), [program], env)
    yield preloaded
    preloaded.stop()


def parent_of(process: Process) -> int:
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_fork_is_what_a_program_of_its_own_is(
    preloaded: Preloaded, program: Path, env: dict[str, str], tmp_path: Path
) -> None:
    def said(start: Any) -> tuple[dict[str, Any], str, int]:
        with start(
            [str(program), "a word", "", "ü", "7"],
            {**env, "DISTLOCK_REASON": "of this run"},
            cwd=tmp_path,
            **PIPES,
        ) as process:
            out, err = process.communicate("its input", timeout=60)
        return json.loads(out), err, process.returncode

    forked, new = said(preloaded.start), said(exec_new)
    assert forked == new
    assert forked[0]["parent"] == os.getpid()
    assert forked[0]["environment"]["DISTLOCK_REASON"] == "of this run"
    assert forked[0]["input"] == "its input"
    assert forked[1:] == ("an error\n", 7)


def test_it_ends_as_any_child_and_leaves_the_server_alone(
    preloaded: Preloaded, program: Path, env: dict[str, str]
) -> None:
    processes = [preloaded.start([str(program), "0"], env, **PIPES) for _ in range(2)]
    assert [parent_of(process) for process in processes] == [os.getpid()] * 2
    assert processes[0].poll() is None
    processes[0].send_signal(signal.SIGKILL)
    assert processes[0].wait(30) == -signal.SIGKILL
    assert processes[1].communicate("", timeout=60)[1] == "an error\n"
    assert processes[1].returncode == 0


@pytest.mark.parametrize("other", ["program", "environment"])
def test_what_is_not_served_is_started_as_usual(
    preloaded: Preloaded, program: Path, env: dict[str, str], other: str
) -> None:
    command = [sys.executable, str(program), "3"] if other == "program" else [str(program), "3"]
    different = env if other == "program" else {**env, "ANSIBLE_HOME": "/elsewhere"}
    with preloaded.start(command, different, **PIPES) as process:
        wait_until(lambda: str(program).encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "its own words")
        assert process.communicate("", timeout=60)[1] == "an error\n"
    assert process.returncode == 3


def test_the_server_ends_with_those_who_use_it(preloaded: Preloaded, program: Path, env: dict[str, str]) -> None:
    with preloaded.start([str(program), "0"], env, **PIPES) as process:
        server = preloaded.pid
        preloaded.stop()
        assert server is not None
        assert not is_running(server)
        assert process.communicate("", timeout=60)[1] == "an error\n"
