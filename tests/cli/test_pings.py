"""Pings to a Node.js module, as child_process.fork() would start it: answered by a real Node.js."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest

from tests.support.lease_view import BOUND, Seen, line_of, lives, one_line
from tests.support.processes import Process

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
Module = Callable[[str], str]
HUNG = 4
ANSWERING = "process.on('message', (message) => process.send({pong: message.ping}));\n"


@pytest.fixture
def module(need: Callable[..., str], tmp_path: Path) -> Module:
    """module("code") -> the path of a Node.js module with this code."""
    need("node", install="apt-get install nodejs")

    def write(code: str) -> str:
        path = tmp_path / "module.js"
        path.write_text(code, encoding="utf-8")
        return str(path)

    return write


def test_a_module_that_answers_lives_and_its_exit_code_is_returned(
    run_distlock: Run, seen: Seen, module: Module
) -> None:
    path = module(
        "let pings = 0;\n"
        "process.on('message', (message) => {\n"
        "  if (Object.keys(message).join() !== 'ping' || !Number.isInteger(message.ping)) process.exit(99);\n"
        "  process.send({pong: message.ping});\n"
        "  if (++pings === 4) setTimeout(() => process.exit(7), 50);\n"
        "});\n"
    )
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=60", "--ttl=20", "--refresh=0.3", "--", path)
    assert (done.returncode, done.stderr) == (7, "")
    seen.assert_nothing_left()


def test_a_module_has_its_arguments_and_streams(run_distlock: Run, module: Module) -> None:
    path = module(
        ANSWERING + "process.stdin.setEncoding('utf8');\n"
        "let read = '';\n"
        "process.stdin.on('data', (data) => read += data);\n"
        "process.stdin.on('end', () => {\n"
        "  console.log(process.argv.slice(2).join('|') + ' ' + read);\n"
        "  console.error('on stderr');\n"
        "  process.disconnect();\n"
        "});\n"
    )
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=20", "--", path, "-v", "a b", input="from stdin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "-v|a b from stdin\n", "on stderr\n")


def test_a_module_that_never_answers_is_ended(run_distlock: Run, seen: Seen, module: Module) -> None:
    path = module("process.on('SIGTERM', () => {}); setInterval(() => {}, 1000);")
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=1.5", "--kill-after=0.3", "--", path)
    assert done.returncode == HUNG
    assert one_line(done.stderr) == "distlock: x: the command shows no life: no pong for 1.5s; it is ended"
    seen.assert_nothing_left()


def test_the_limit_is_the_ttl_or_the_heartbeat(run_distlock: Run, module: Module) -> None:
    path = module("setInterval(() => {}, 1000);")
    done = run_distlock("--lock-name=x", "--node", "--ttl=4", "--", path)
    assert done.returncode == HUNG
    assert "no pong for 4s" in one_line(done.stderr)


def test_a_module_whose_loop_is_blocked_is_ended(spawn_distlock: Spawn, seen: Seen, module: Module) -> None:
    path = module(ANSWERING + "console.log(process.pid); setTimeout(() => { while (true); }, 300);")
    process = spawn_distlock("--lock-name=x", "--node", "--heartbeat=5", "--ttl=60", "--refresh=0.3", "--", path)
    pid = int(line_of(process))
    assert process.wait(BOUND) == HUNG
    assert not lives(pid)
    seen.assert_nothing_left()


@pytest.mark.parametrize("pong", ["message.ping + 1", "String(message.ping)", "null"])
def test_a_wrong_pong_does_not_count(run_distlock: Run, seen: Seen, module: Module, pong: str) -> None:
    path = module(f"process.on('message', (message) => process.send({{pong: {pong}}}));")
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=20", "--", path)
    assert done.returncode == HUNG
    assert "the command shows no life: a wrong pong: " in one_line(done.stderr)
    seen.assert_nothing_left()


def test_other_messages_of_the_module_are_ignored(run_distlock: Run, module: Module) -> None:
    path = module(
        "process.on('message', (message) => {\n"
        "  for (const other of [1, 'text', null, [], {ready: true}, {big: 'x'.repeat(200000)}]) process.send(other);\n"
        "  process.send({pong: message.ping}, () => process.exit(7));\n"
        "});\n"
    )
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=20", "--", path)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_module_that_disconnects_and_continues_is_ended(run_distlock: Run, seen: Seen, module: Module) -> None:
    path = module("process.disconnect(); setInterval(() => {}, 1000);")
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=1.5", "--", path)
    assert done.returncode == HUNG
    one_line(done.stderr)
    seen.assert_nothing_left()


def test_a_module_that_exits_at_once_leaves_nothing(run_distlock: Run, seen: Seen, module: Module) -> None:
    path = module("process.exit(9)")
    for _ in range(3):
        assert run_distlock("--lock-name=x", "--node", "--heartbeat=20", "--", path).returncode == 9
    seen.assert_nothing_left()


def test_a_file_that_is_no_module_fails_as_in_node(run_distlock: Run, seen: Seen, module: Module) -> None:
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=20", "--", module("") + ".missing")
    assert done.returncode == 1
    assert "Cannot find module" in done.stderr
    seen.assert_nothing_left()


def test_a_hung_modules_lock_is_kept_on_request(run_distlock: Run, seen: Seen, module: Module) -> None:
    path = module("setInterval(() => {}, 1000);")
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=1", "--on-failure=keep", "--", path)
    assert done.returncode == HUNG
    assert seen.held("x").details["state"] == "kept"
    assert "showed no life" in seen.held("x").details["reason"]


def test_where_there_is_no_node_nothing_is_left_locked(run_distlock: Run, seen: Seen, tmp_path: Path) -> None:
    done = run_distlock("--lock-name=x", "--node", "--heartbeat=20", "--", "module.js", env={"PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "cannot start node: No such file or directory" in one_line(done.stderr)
    seen.assert_nothing_left()
