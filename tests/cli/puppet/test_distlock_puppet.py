"""distlock-puppet by itself: exit codes, one line of output, and detection of the run."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import connect
from distlock_core.base.deadline import FOREVER
from distlock_core.cli.puppet import main
from distlock_core.cli.puppet.arguments import BY_OPTION, HELP, OPERATIONS, parse
from distlock_core.cli.puppet.run import Run
from distlock_core.errors import DistlockError
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.processes import Output, Process, is_running, is_stopped, python, wait_until
from tests.support.puppet_node import BIN

Call = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
NOWHERE = "--endpoints=http://127.0.0.1:9"

# Ignores SIGTERM, and so does its child. Prints both pids.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def call(run_distlock: Call) -> Call:
    """call("check", "x") -> distlock-puppet of the node n1, run to its end."""

    def call(operation: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_distlock(operation, "--certname=n1", *words, command="distlock-puppet", **options)

    return call


@pytest.fixture
def other(etcd: Cluster, realm_prefix: str) -> Any:
    """The lock x, held by node-3."""
    return connect(etcd.endpoints, realm_prefix).lock("x", "node-3", "Upgrade RPMs").acquire(0)


# exec.


@pytest.mark.parametrize("code", [0, 1, 7, 124])
def test_exec_exits_as_its_command(call: Call, code: int, seen: Etcd) -> None:
    done = call("exec", "x", "--", *python(f"import sys; print('said'); sys.exit({code})"))
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\n", "")
    seen.assert_nothing_left()


def test_an_option_given_twice_is_an_error_and_an_unknown_one_suggests_the_nearest(call: Call) -> None:
    for words, said in (
        (["--timeout=0", "--timeout=5"], "option --timeout is given twice: use it once"),
        (["--tiemout=5"], "unknown option '--tiemout=5'; did you mean --timeout?"),
    ):
        done = call("exec", "x", *words, "--", "echo", "ran")
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr


def test_exec_owns_the_lock_as_the_node(call: Call) -> None:
    done = call("exec", "x", "--reason=Upgrade", "--", "distlock", "--show", "--lock-name=x", env={"PATH": str(BIN)})
    assert re.search(r"held by +puppet:n1\n", done.stdout)
    assert re.search(r"reason +Upgrade\n", done.stdout)


def test_exec_fails_at_once_and_names_the_holder(call: Call, other: Any, tmp_path: Path) -> None:
    done = call("exec", "x", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 1
    assert re.fullmatch(
        r'distlock: x is held by node-3 since .*: "Upgrade RPMs"\. See: distlock --show --lock-name=x( --\S+)*\n',
        done.stderr,
    )
    assert done.stdout == ""
    assert not (tmp_path / "ran").exists()
    assert other.verify()


def test_exec_distinguishes_busy_from_failed_on_request(call: Call, other: Any) -> None:
    assert call("exec", "x", "--busy-exit-code=75", "--", "true").returncode == 75


def test_exec_waits_as_the_config_file_sets(call: Call, other: Any, tmp_path: Path) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("timeout: 2\n")
    done = call("exec", "x", f"--config={config}", "--", "true")
    assert done.returncode == 1
    assert "gave up after" in done.stderr


def test_exec_that_cannot_start_its_command_leaves_nothing(call: Call, seen: Etcd) -> None:
    done = call("exec", "x", "--", "/nonexistent")
    assert (done.returncode, done.stderr) == (3, "distlock: cannot start /nonexistent: No such file or directory\n")
    seen.assert_nothing_left()


def test_exec_reports_a_lost_lock(spawn_distlock: Spawn, seen: Etcd) -> None:
    words = (
        "exec",
        "x",
        "--certname=n1",
        "--ttl=5",
        "--",
        *python("print('in', flush=True); import time; time.sleep(99)"),
    )
    process = spawn_distlock(*words, command="distlock-puppet")
    Output(process.stdout).until("in")
    seen.unlock("x")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the lock was lost" in said
    seen.assert_nothing_left()


@pytest.mark.parametrize("lease", [(), ("--ttl=60",)], ids=["persistent", "leased"])
def test_a_command_that_takes_too_long_is_dead_with_all_its_children_before_the_lock_is_free(
    spawn_distlock: Spawn, seen: Etcd, lease: Sequence[str]
) -> None:
    words = ("exec", "x", "--certname=n1", "--command-timeout=3", "--kill-after=0.5", *lease, "--", *python(STUBBORN))
    process = spawn_distlock(*words, command="distlock-puppet")
    parent, child = map(int, Output(process.stdout).until(r"(\d+) (\d+)\n").groups())
    assert seen.keys() == ["x"]
    _, said = process.communicate(timeout=60)
    assert process.returncode == 124
    assert said == "distlock: x: the command has not ended within 3s; it is ended\n"
    assert not is_running(parent)
    assert not is_running(child)
    seen.assert_nothing_left()


def test_the_wait_for_the_lock_does_not_count_as_the_commands_time(
    spawn_distlock: Spawn, seen: Etcd, other: Any
) -> None:
    limit = 3.0
    process = spawn_distlock(
        "exec",
        "x",
        "--certname=n1",
        "--timeout=-1",
        f"--command-timeout={limit}",
        "--",
        "true",
        command="distlock-puppet",
    )
    Output(process.stderr).until("position 1 of 1")
    in_line = time.monotonic()
    wait_until(lambda: time.monotonic() > in_line + limit, "more time in line than the command has")
    other.release()
    assert process.wait(60) == 0


def test_a_command_in_time_is_not_ended(call: Call) -> None:
    assert call("exec", "x", "--command-timeout=60", "--", "sh", "-c", "exit 5").returncode == 5
    assert call("exec", "x", "--command-timeout=0", "--", "sh", "-c", "exit 6").returncode == 6


def test_a_signal_in_the_queue_leaves_nothing(spawn_distlock: Spawn, seen: Etcd, other: Any) -> None:
    process = spawn_distlock("exec", "x", "--certname=n1", "--timeout=-1", "--", "true", command="distlock-puppet")
    Output(process.stderr).until("waiting")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert seen.keys() == ["x"]


# check.


def test_check_distinguishes_own_free_anothers_and_unknown(call: Call, seen: Etcd) -> None:
    free = call("check", "x")
    assert (free.returncode, free.stdout, free.stderr) == (1, "x is free\n", "")
    mine = call("exec", "x", "--", str(BIN / "distlock-puppet"), "check", "x", "--certname=n1")
    assert mine.returncode == 0
    assert re.fullmatch(r"x is held by puppet:n1 since .*\n", mine.stdout)
    seen.lock("x", owner="puppet:n2")
    theirs = call("check", "x")
    assert theirs.returncode == 2
    assert re.fullmatch(r'x is held by puppet:n2 since .*: "upgrade"\n', theirs.stdout)
    unknown = call("check", "x", NOWHERE, "--connect-timeout=0.2")
    assert unknown.returncode == 3
    assert "no etcd answered within " in unknown.stderr


def test_a_lock_kept_by_a_failed_command_is_not_this_runs(call: Call) -> None:
    assert call("exec", "x", "--on-failure=keep", "--", "false").returncode == 1
    assert call("check", "x").returncode == 2


def test_a_frozen_realm_is_not_free(call: Call, seen: Etcd) -> None:
    seen.lock("__freeze", owner="admin", reason="audit")
    done = call("check", "x")
    assert done.returncode == 2
    assert re.fullmatch(r'x: the realm is frozen by admin since .*: "audit"\n', done.stdout)


@pytest.mark.parametrize(
    "words",
    [("x", "--ttl=0"), ("x", "--colour=red"), ("x", "y"), (), ("a/b",), ("x", "--timeout=soon"), ("x", "--ttl")],
)
def test_an_impossible_check_never_reports_free(call: Call, words: Sequence[str]) -> None:
    done = call("check", *words)
    assert done.returncode == 3
    assert re.fullmatch(r"distlock: .*\n", done.stderr)


# Names.


def test_the_certname_may_come_from_the_environment(run_distlock: Call) -> None:
    show = ("--", str(BIN / "distlock"), "--show", "--lock-name=x")
    done = run_distlock("exec", "x", *show, env={"DISTLOCK_CERTNAME": "n7"}, command="distlock-puppet")
    assert "puppet:n7" in done.stdout


def test_an_id_is_the_owner_as_it_stands(run_distlock: Call) -> None:
    words = ("exec", "x", "--certname=n1", "--id=ops", "--", str(BIN / "distlock"), "--show", "--lock-name=x")
    assert re.search(r"held by +ops\n", run_distlock(*words, command="distlock-puppet").stdout)


def test_without_a_name_puppet_is_asked(run_distlock: Call, need: Callable[..., str]) -> None:
    need("puppet")
    configured = subprocess.run(["puppet", "config", "print", "certname"], capture_output=True, text=True, check=True)
    done = run_distlock(
        "exec",
        "x",
        "--",
        str(BIN / "distlock"),
        "--show",
        "--lock-name=x",
        env={"HOME": None},
        command="distlock-puppet",
    )
    assert f"puppet:{configured.stdout.strip()}\n" in done.stdout


def test_without_puppet_there_has_to_be_a_name(run_distlock: Call, tmp_path: Path) -> None:
    done = run_distlock("check", "x", env={"PATH": str(tmp_path)}, command="distlock-puppet")
    assert done.returncode == 3
    assert re.fullmatch(r"distlock: `puppet config print` .*: No such file or directory\. Give it: .*\n", done.stderr)


# acquire and release belong to a run of Puppet.


@pytest.mark.parametrize("operation", ["acquire", "release"])
def test_outside_of_a_run_there_is_nothing_to_bind_to(call: Call, operation: str, seen: Etcd) -> None:
    done = call(operation, "x")
    assert done.returncode == 1
    assert re.fullmatch(r"distlock: no run of Puppet has started this process.*\n", done.stderr)
    seen.assert_nothing_left()


def test_a_process_merely_named_puppet_is_no_run(distlock_env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "puppet"
    script.write_text(f"#!/bin/sh\n{BIN}/distlock-puppet acquire x --certname=n1\nexit $?\n")
    script.chmod(0o755)
    done = subprocess.run([script, "apply"], env=distlock_env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no run of Puppet has started this process" in done.stderr


def test_the_end_of_a_run_waits_until_its_keeper_has_checked_for_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "LONGEST_LOOK", 300.0)
    looks = subprocess.Popen(
        python("import time\nprint(flush=True)\nwhile True: time.sleep(0.05)"), stdout=subprocess.PIPE
    )
    over = threading.Event()

    def wait() -> None:
        main._wait_for_a_look(looks.pid)
        over.set()

    with looks:
        try:
            Output(looks.stdout).until("\n")
            looks.send_signal(signal.SIGSTOP)
            wait_until(lambda: is_stopped(looks.pid), "it gets no turn")
            threading.Thread(target=wait, daemon=True).start()
            assert not over.wait(1.5)
            looks.send_signal(signal.SIGCONT)
            assert over.wait(60)
        finally:
            looks.kill()
    main._wait_for_a_look(looks.pid)  # it is gone: there is nothing to wait for


# Pure.


@pytest.mark.parametrize(
    ("words", "section", "certname", "noop"),
    [
        ("apply site.pp", "user", "", None),
        ("apply --noop --certname a --certname=b x.pp", "user", "b", True),
        ("agent --test --no-noop", "agent", "", False),
        ("agent --noop --no-noop", "agent", "", False),
        ("agent --fqdn n9 --noop", "agent", "n9", True),
        ("agent --certname", "agent", "", None),
        ("", "agent", "", None),
    ],
)
def test_a_run_is_known_by_its_words(words: str, section: str, certname: str, noop: bool | None) -> None:
    run = Run(1, tuple(words.split()))
    assert (run.section, run.certname, run.noop) == (section, certname, noop)


def test_several_locks_are_named_by_options_and_run_one_command(run_distlock: Call, in_etcd: Etcd) -> None:
    both = ["--lock-name=rack", "--lock-name", "web"]
    call = parse(["exec", *both, "--", "ls"], {})
    assert (call.names, call.command) == (("rack", "web"), ["ls"])
    assert parse(["exec", *both, "ls", "-l"], {}).command == ["ls", "-l"]
    inside = f"{BIN}/distlock --list"
    done = run_distlock("exec", "--certname=db1", *both, "--", "sh", "-c", inside, command="distlock-puppet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("puppet:db1") == 2
    in_etcd.lock("web", "node-3")
    for operation, *more in (("exec", "--", "true"), ("check",)):
        done = run_distlock(operation, "--certname=db1", *both, *more, command="distlock-puppet")
        assert done.returncode in (1, 2)
        assert "web is held by node-3 since" in done.stdout + done.stderr
    in_etcd.unlock("web")
    assert run_distlock("check", "--certname=db1", *both, command="distlock-puppet").returncode == 1
    for words, said in (
        (["check", "x", *both], "'x' and --lock-name: the locks are named twice: use one of the two"),
        (["policy", *both, "--slots=2"], "policy is about one lock, but rack and web are named"),
        (["check", "--certname=db1", "--lock-name=a", "--lock-name=a"], "the lock 'a' is named twice: name it once"),
    ):
        done = run_distlock(*words, command="distlock-puppet")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert in_etcd.keys() == []


def test_options_may_precede_or_follow_the_name_and_the_command_is_left_alone() -> None:
    call = parse(["exec", "--timeout", "-1", "x", "--ttl=9", "--command-timeout=2", "--", "ls", "--", "-l"], {})
    assert (call.names, call.command, call.limit) == (("x",), ["ls", "--", "-l"], 2)
    assert call.arguments == {"lockname": "x", "timeout": "-1", "ttl": "9"}
    assert parse(["exec", "x", "ls", "--ttl=3"], {}).command == ["ls", "--ttl=3"]
    assert parse(["exec", "x", "ls"], {}).limit == FOREVER


@pytest.mark.parametrize(
    "words",
    [
        "",
        "lock x",
        "exec x",
        "exec -- ls",
        "acquire x -- ls",
        "acquire x --command-timeout=3",
        "check x --on-failure=keep",
        "acquire x --cooldown=5",
        "release x --ttl=5",
        "check x --timeout=5",
        "release",
        "exec x --command-timeout=soon -- ls",
        "exec x --while-pid=3 -- ls",
        "exec x --json -- ls",
    ],
)
def test_bad_usage_is_reported(words: str) -> None:
    with pytest.raises(DistlockError):
        parse(words.split(), {})


def test_the_help_names_all_options_of_this_command(run_distlock: Call) -> None:
    done = run_distlock("--help", command="distlock-puppet")
    assert (done.returncode, done.stdout) == (0, HELP)
    named = set(re.findall(r"--([a-z][a-z-]+)", HELP))
    assert named <= {*BY_OPTION, "lock-name", "help"}
    assert all(f"distlock-puppet {operation} NAME" in HELP for operation in OPERATIONS)


def test_a_password_that_others_can_read_is_warned_about_and_not_shown(call: Call, tmp_path: Path) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("user: db\npassword: very-secret\n")
    config.chmod(0o644)
    done = call("check", "x", f"--config={config}")
    assert f"warning: {config} has a password in it, and everybody may read or change it" in done.stderr
    assert "very-secret" not in done.stdout + done.stderr
