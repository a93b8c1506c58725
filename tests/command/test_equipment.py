"""A missing resource is noticed before the lock is acquired: no traceback, no lock, no orphan."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.etcd_view import Etcd
from tests.support.lease_view import DISTLOCK, Run, as_user
from tests.support.process_trees import Spawn, finish
from tests.support.processes import BOUND, Output, is_running, one_line, python, wait_until

LEASED = ("--lock-name=x", "--ttl=30")
PERSISTENT = ("--lock-name=x",)
NOT_STARTED = 3
each_lifetime = pytest.mark.parametrize("lifetime", [PERSISTENT, LEASED], ids=["persistent", "leased"])
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can limit, mount and change users as these need it")
PIDS = Path("/sys/fs/cgroup/pids")

# distlock in a Python without the module that its first argument names.
WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from distlock_core.cli.distlock import main
sys.exit(main())
"""
# distlock, in which after the claim the call named by the first argument always fails with the second.
FAILING = """
import os, sys
name, error = sys.argv.pop(1), eval(sys.argv.pop(1))
from distlock_core.lock import acquire
run = acquire.Acquisition.run
def then_fail(self):
    held = run(self)
    def fail(*_, **__):
        raise error
    module, _, attribute = name.rpartition(".")
    __import__(module)
    setattr(sys.modules[module], attribute, fail)
    return held
acquire.Acquisition.run = then_fail
from distlock_core.cli.distlock import main
sys.exit(main())
"""
# Becomes the rest of its arguments, within limits: NAME=NUMBER.
LIMITED = """
import os, resource, sys
for word in sys.argv[1].split(","):
    name, number = word.split("=")
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (int(number), int(number)))
os.execv(sys.argv[2], sys.argv[2:])
"""


def limited(limits: str, *options: str) -> list[str]:
    return [*python(LIMITED, limits)[1:], DISTLOCK, *options]


def assert_in_one_line(err: str) -> str:
    assert "Traceback" not in err, err
    return one_line(err)


# Missing Python modules.


@pytest.mark.parametrize("options", [LEASED, (*PERSISTENT, "--heartbeat=9"), (*PERSISTENT, "--on-loss=kill")])
def test_without_ctypes_nothing_is_taken_that_may_have_to_be_ended(
    run_distlock: Run, in_etcd: Etcd, options: tuple[str, ...]
) -> None:
    done = run_distlock("-c", WITHOUT, "_ctypes", *options, "--", "echo", "ran", command=sys.executable)
    assert (done.returncode, done.stdout) == (1, "")
    assert "must be able to end it and all that it starts, but this Python has no _ctypes" in assert_in_one_line(
        done.stderr
    )
    in_etcd.assert_nothing_left()


def test_without_ctypes_a_persistent_lock_serves_as_ever(run_distlock: Run, in_etcd: Etcd) -> None:
    done = run_distlock(
        "-c", WITHOUT, "_ctypes", *PERSISTENT, "--", "sh", "-c", "sleep 0.5; exit 7", command=sys.executable
    )
    assert (done.returncode, done.stderr) == (7, "")
    in_etcd.assert_nothing_left()


# Limits of the process.


@each_lifetime
def test_with_any_number_of_descriptors_it_runs_or_acquires_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: tuple[str, ...]
) -> None:
    ran = []
    for number in (5, 6, 7, 8, 9, 10, 12, 15, 18, 21, 23, 25, 27, 30, 40):
        command = ("--", "sh", "-c", "echo ran; exec sleep 0.4")
        process = spawn_distlock(*limited(f"NOFILE={number}", *lifetime, *command), command=sys.executable)
        code, said = finish(process)
        assert process.stdout is not None
        ran.append("ran" in process.stdout.read())
        assert (code, said) == (0, "") if ran[-1] else code == 1 and assert_in_one_line(said), (number, said)
        in_etcd.assert_nothing_left()
    assert not ran[0]
    assert ran[-1]
    assert ran == sorted(ran)  # from one number on, and not by luck


@each_lifetime
def test_with_any_amount_of_memory_it_runs_or_acquires_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: tuple[str, ...]
) -> None:
    codes = set()
    for megabytes in (24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 160, 1000):
        limits = limited(f"AS={megabytes << 20}", *lifetime, "--", "true")
        code, said = finish(spawn_distlock(*limits, command=sys.executable))
        codes.add(code)
        if "distlock" in said or code in (0, 1, NOT_STARTED):
            assert "distlock_core" not in said, said  # the place in a traceback
        assert in_etcd.keys() == [], (megabytes, code, said)
        in_etcd.assert_nothing_left()
    assert 0 in codes


@as_root
@each_lifetime
def test_with_any_number_of_processes_it_runs_or_acquires_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: tuple[str, ...]
) -> None:
    user = random.randrange(100_000, 2_000_000_000)  # a separate user, since the limit is per user
    codes = []
    for number in range(1, 7):
        words = (*as_user(user), sys.executable, *limited(f"NPROC={number}", *lifetime, "--", "sleep", "0.4"))
        code, said = finish(spawn_distlock(*words, command="setpriv"))
        codes.append(code)
        assert said == "" if code == 0 else code in (1, NOT_STARTED) and assert_in_one_line(said), said
        in_etcd.assert_nothing_left()
    assert codes[-1] == 0
    assert set(codes) > {0}


@as_root
@each_lifetime
def test_in_a_full_control_group_it_runs_or_acquires_nothing(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: tuple[str, ...]
) -> None:
    group = PIDS / f"distlock-test-{os.urandom(4).hex()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group for pids can be made here: {error}")
    enter = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
    try:
        codes = []
        for number in range(1, 6):
            (group / "pids.max").write_text(str(number))
            words = ("-c", enter, str(group), DISTLOCK, *lifetime, "--", "sleep", "0.4")
            code, said = finish(spawn_distlock(*words, command="/bin/sh"))
            codes.append(code)
            assert said == "" if code == 0 else code in (1, NOT_STARTED) and assert_in_one_line(said), said
            in_etcd.assert_nothing_left()
        assert codes[-1] == 0
        assert set(codes) > {0}
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "an empty group")
        group.rmdir()


# Failures while the lock is held.


@pytest.mark.parametrize(
    ("name", "error", "lifetime"),
    [
        ("os.fork", "OSError(11, 'Resource temporarily unavailable')", LEASED),
        ("os.posix_spawnp", "OSError(11, 'Resource temporarily unavailable')", PERSISTENT),
        ("os.pipe", "OSError(24, 'Too many open files')", LEASED),
        ("os.waitid", "OSError(12, 'Cannot allocate memory')", LEASED),
        ("distlock_core.process.table.become_subreaper", "OSError(1, 'prctl')", LEASED),
        ("distlock_core.process.nesting.for_command", "MemoryError()", PERSISTENT),
    ],
)
def test_a_command_that_cannot_be_started_leaves_no_lock(
    run_distlock: Run, in_etcd: Etcd, name: str, error: str, lifetime: tuple[str, ...]
) -> None:
    done = run_distlock("-c", FAILING, name, error, *lifetime, "--", "echo", "ran", command=sys.executable)
    assert (done.returncode, done.stdout) == (NOT_STARTED, "")
    assert_in_one_line(done.stderr)
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("lifetime", [PERSISTENT, LEASED], ids=["persistent", "leased"])
@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('no')", "KeyboardInterrupt()"])
def test_a_supervisor_that_fails_kills_and_releases(
    spawn_distlock: Spawn, in_etcd: Etcd, lifetime: tuple[str, ...], error: str
) -> None:
    script = "echo pids $$; sleep 300 & echo $!; wait"
    process = spawn_distlock(
        "-c",
        FAILING,
        "distlock_core.command.job_control.has_it_too",
        error,
        *lifetime,
        "--",
        "sh",
        "-c",
        script,
        command=sys.executable,
    )
    pids = [int(pid) for pid in Output(process.stdout).until(r"pids (\d+\s\d+)\n").group(1).split()]
    process.terminate()
    code, said = (
        finish(process) if lifetime == LEASED else (process.wait(BOUND), Output(process.stderr).until("\n").string)
    )
    assert code == NOT_STARTED
    assert "the command cannot be looked after" in assert_in_one_line(said)
    assert not is_running(pids[0])
    assert lifetime == PERSISTENT or not is_running(pids[1])
    in_etcd.assert_nothing_left()


# /proc.


@pytest.fixture
def unshare() -> str:
    found = shutil.which("unshare")
    if found is None or os.getuid() != 0:
        pytest.skip("only root, and with util-linux's unshare")
    return found


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (["--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "-"], "/proc is not mounted"),
        (["--pid", "--fork"], "/proc is that of another pid namespace"),
        (
            ["--pid", "--fork", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "-"],
            "/proc is not mounted",
        ),
    ],
    ids=["none", "the host's", "none in a namespace"],
)
def test_where_the_tree_cannot_be_seen_nothing_is_taken_that_may_have_to_be_ended(
    spawn_distlock: Spawn, in_etcd: Etcd, unshare: str, how: list[str], why: str
) -> None:
    process = spawn_distlock(*how, DISTLOCK, *LEASED, "--", "echo", "ran", command=unshare)
    code, said = finish(process)
    assert process.stdout is not None
    assert (code, process.stdout.read()) == (1, "")
    assert why in assert_in_one_line(said)
    in_etcd.assert_nothing_left()
    assert finish(spawn_distlock(*how, DISTLOCK, *PERSISTENT, "--", "true", command=unshare)) == (0, "")


def test_it_works_in_a_namespace_with_its_own_proc(spawn_distlock: Spawn, in_etcd: Etcd, unshare: str) -> None:
    words = ("--pid", "--fork", "--mount-proc", DISTLOCK, *LEASED, "--", "sh", "-c", "exit 7")
    assert finish(spawn_distlock(*words, command=unshare)) == (7, "")
    in_etcd.assert_nothing_left()


def test_processes_that_hidepid_hides_are_reported(spawn_distlock: Spawn, in_etcd: Etcd, unshare: str) -> None:
    hide = 'mount -t proc -o hidepid=2 none /proc && exec setpriv "$@"'
    user = as_user(random.randrange(100_000, 2_000_000_000))
    words = ("--mount", "sh", "-c", hide, "-", *user, DISTLOCK, *LEASED, "--", "sh", "-c", "exit 7")
    code, said = finish(spawn_distlock(*words, command=unshare))
    assert code == 7
    assert "warning: /proc hides the processes of other users here" in assert_in_one_line(said)
    in_etcd.assert_nothing_left()


def test_a_command_is_ended_even_when_proc_disappears(spawn_distlock: Spawn, in_etcd: Etcd, unshare: str) -> None:
    hide = "echo pid $$; mount -t tmpfs none /proc && echo gone && exec sleep 300"
    words = ("--mount", DISTLOCK, *LEASED, "--kill-after=0.5", "--", "sh", "-c", hide)
    process = spawn_distlock(*words, command=unshare)
    out = Output(process.stdout)
    command = int(out.until(r"pid (\d+)\n").group(1))
    out.until("gone\n")
    in_etcd.unlock("x")
    code, said = finish(process)
    assert code == 2, said
    assert not is_running(command)
