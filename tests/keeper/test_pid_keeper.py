"""A lock that is kept for as long as another process lives, and the keeper that sees to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import distlock_core
from distlock_core import DistlockError, connect
from distlock_core.keeper import pid_keeper
from distlock_core.process import table
from distlock_core.process.identity import start_time
from distlock_core.testing import Cluster, Proxy
from tests.support.lease_view import BOUND, LATE, Seen, lives, one_line, pause, python, stays, wait_dead, wait_until
from tests.support.process_trees import Next
from tests.support.processes import Process, line_of, status_of

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
TTL = 2  # seconds: the shortest that is accepted
MEMORY = 15 << 10  # KiB

# Ignores SIGTERM, and so does its child, which is in a session of its own. Prints the child's pid. In a folder, if one
# is given, each writes the time of its last sign of life into a file named by its pid.
STUBBORN = """
import os, signal, struct, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setsid()
else:
    print(pid, flush=True)
if not sys.argv[1:]:
    time.sleep(300)
fd = os.open(os.path.join(sys.argv[1], str(os.getpid())), os.O_CREAT | os.O_WRONLY)
while True:
    os.pwrite(fd, struct.pack("d", time.clock_gettime(time.CLOCK_BOOTTIME)), 0)
    time.sleep(0.005)
"""


class Bound:
    """A process, the lock `x` that is bound to it, and its keeper."""

    def __init__(self, seen: Seen, process: subprocess.Popen[Any], log: Path) -> None:
        self.seen = seen
        self.process = process
        self.pid = process.pid
        self.log_file = log
        self.keeper: int = seen.held("x").details["keeper"]

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """start(COMMAND...) -> a process that is surely ended, and with it every keeper that looks after it."""
    started: list[Process] = []

    def start(*command: str) -> Process:
        started.append(Process(command or ["sleep", "300"], stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def bind(
    run_distlock: Run, seen: Seen, start: Callable[..., Process], tmp_path: Path
) -> Iterator[Callable[..., Bound]]:
    """bind("--on-loss=kill", process=..., ttl=2) -> the lock `x`, bound to a process; its keeper ends with the test."""
    keepers: list[int] = []

    def bind(
        *options: str,
        process: Process | None = None,
        ttl: int = TTL,
        log: Path | None = None,
        env: dict[str, str | None] | None = None,
    ) -> Bound:
        process = process or start()
        log = log or tmp_path / "keeper.log"
        done = run_distlock(
            "--lock-name=x",
            "--lock",
            f"--while-pid={process.pid}",
            f"--ttl={ttl}",
            f"--log-file={log}",
            *options,
            env=env,
        )
        assert (done.returncode, done.stderr) == (0, "")
        bound = Bound(seen, process, log)
        keepers.append(bound.keeper)
        return bound

    yield bind
    for pid in keepers:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


# While the process lives.


def test_a_bound_lock_is_renewed_long_after_distlock_has_returned(bind: Callable[..., Bound], seen: Seen) -> None:
    ttl = 4
    bound = bind(ttl=ttl)
    token = seen.held("x").token
    stays(lambda: seen.held("x").token == token, "held", 1.5 * ttl)
    assert lives(bound.keeper)
    assert bound.log == ""


def test_list_and_show_name_the_process_and_its_keeper(bind: Callable[..., Bound], run_distlock: Run) -> None:
    bound = bind("--id=me", "--reason=upgrade", ttl=30)
    for operation in ("--list", "--show"):
        (lock,) = json.loads(run_distlock(operation, "--lock-name=x", "--json").stdout)["locks"]
        assert (lock["lifetime"], lock["pid"], lock["keeper"]) == ("bound", bound.pid, bound.keeper)
        assert (lock["owner"], lock["reason"], lock["state"]) == ("me", "upgrade", "held")
        assert 0 < lock["ttl_left"] <= 30
    card = run_distlock("--show", "--lock-name=x").stdout
    assert "lifetime  bound" in card
    assert f"process {bound.keeper}" in card
    assert f"pid {bound.pid}\n" in card


def test_the_default_ttl_is_a_minute(run_distlock: Run, seen: Seen, start: Callable[..., Any]) -> None:
    done = run_distlock("--lock-name=x", "--lock", f"--while-pid={start().pid}")
    assert done.returncode == 0
    assert seen.ttl(seen.held("x").lease) == 60


def test_the_keeper_has_its_own_session_and_directory_and_inherits_nothing(
    distlock_env: dict[str, str], seen: Seen, start: Callable[..., Any], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    try:
        subprocess.run(
            [distlock, "--lock-name=x", "--lock", f"--while-pid={start().pid}", "--ttl=30"],
            env=distlock_env,
            cwd=tmp_path,
            pass_fds=[writer],
            timeout=BOUND,
            check=True,
        )
    finally:
        os.close(writer)
    pid = seen.held("x").details["keeper"]
    with open(reader, "rb") as pipe:
        assert pipe.read() == b""  # at its end: no process has the other one any more
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    # It closes a connection a moment after its answer, and may open others at any time.
    wait_until(lambda: [file_of(pid, fd) for fd in ("0", "1", "2")] == ["/dev/null"] * 3, "no stream of the caller's")
    files = {fd: file_of(pid, fd) for fd in os.listdir(f"/proc/{pid}/fd") if fd not in ("0", "1", "2")}
    # What is left is its own: its connections, and what it sleeps on.
    assert all(name.startswith(("socket:", "pipe:", "anon_inode:", "gone")) for name in files.values()), files


def file_of(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except FileNotFoundError:
        return "gone"


def test_no_process_waits_for_the_keeper(bind: Callable[..., Bound]) -> None:
    # Its stdout and stderr are pipes that are read to their end.
    assert lives(bind(ttl=30).keeper)


def test_it_starts_for_a_caller_who_has_closed_every_stream(
    distlock_env: dict[str, str], seen: Seen, start: Callable[..., Any]
) -> None:
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    script = f'"$0" --lock-name=x --lock --while-pid={start().pid} --ttl=30 <&- >&- 2>&-'
    subprocess.run(["sh", "-c", script, distlock], env=distlock_env, timeout=BOUND, check=True)
    assert lives(seen.held("x").details["keeper"])


def test_the_keeper_is_small(bind: Callable[..., Bound]) -> None:
    bound = bind()
    stays(lambda: lives(bound.keeper), "alive", TTL)  # with its connections open, and renewed a few times
    with open(f"/proc/{bound.keeper}/smaps_rollup", encoding="ascii") as rollup:
        fields = dict(line.split(":", 1) for line in rollup.read().splitlines()[1:])
    private = sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
    assert private < MEMORY, f"{private} KiB"


def test_a_process_list_shows_the_keepers_lock_and_no_more(bind: Callable[..., Bound], etcd: Cluster) -> None:
    bound = bind("--reason=hidden-reason", "--id=hidden-owner", ttl=30)
    with open(f"/proc/{bound.keeper}/cmdline", encoding="utf-8") as file:
        shown = file.read()
    assert "distlock keeper of x\0" in shown
    details = bound.seen.held("x").details
    for secret in (etcd.endpoints[0].rpartition(":")[2], "hidden-reason", "hidden-owner", details["run"]):
        assert secret not in shown


def test_it_starts_from_an_installation_in_a_virtual_environment(
    distlock_env: dict[str, str], seen: Seen, start: Callable[..., Any], tmp_path: Path
) -> None:
    # As `pip install` lays it out: the package lies in site-packages, and nothing else leads to it.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], timeout=BOUND, check=True)
    base = str(tmp_path / "venv")
    site = sysconfig.get_path("purelib", "posix_prefix", {"base": base, "platbase": base})
    package = os.path.dirname(os.path.abspath(distlock_core.__file__))
    shutil.copytree(package, os.path.join(site, "distlock_core"))
    code = "import sys; from distlock_core.cli.distlock import main; sys.exit(main())"
    options = ["--lock-name=x", "--lock", f"--while-pid={start().pid}", "--ttl=30"]
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-I", "-c", code, *options],
        env=distlock_env,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pid = seen.held("x").details["keeper"]
    assert os.path.samefile(f"/proc/{pid}/exe", sys.executable)
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        assert file.read().startswith(str(tmp_path))


def test_it_starts_where_only_an_import_hook_finds_the_package(
    distlock_env: dict[str, str], seen: Seen, start: Callable[..., Any]
) -> None:
    # As the editable installs of today do it: the package's folder is on no path.
    code = """
import importlib.util, sys
home = sys.argv.pop(1)
sys.path[:] = [path for path in sys.path if path.rstrip("/") not in (home, "")]
class Hook:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "distlock_core":
            package = f"{home}/distlock_core"
            return importlib.util.spec_from_file_location(
                name, f"{package}/__init__.py", submodule_search_locations=[package]
            )
sys.meta_path.append(Hook)
from distlock_core.cli.distlock import main
sys.exit(main())
"""
    home = os.path.dirname(os.path.dirname(os.path.abspath(distlock_core.__file__)))
    options = ["--lock-name=x", "--lock", f"--while-pid={start().pid}", "--ttl=30"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, home, *options],
        env=distlock_env,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert lives(seen.held("x").details["keeper"])


def test_an_outage_shorter_than_the_ttl_is_survived(
    bind: Callable[..., Bound], seen: Seen, proxy: Proxy, start: Callable[..., Any]
) -> None:
    bound = bind("--on-loss=kill", ttl=8, env={"DISTLOCK_ENDPOINTS": proxy.url})
    renewals = sum(path == "/v3/lease/keepalive" for path, _ in proxy.requests)
    wait_until(lambda: sum(p == "/v3/lease/keepalive" for p, _ in proxy.requests) > renewals, "a renewal")
    proxy.cut()
    pause(3.0)  # the length of the outage: one renewal at least has failed
    proxy.heal()
    stays(lambda: seen.key("x") is not None, "held", 5.5)
    assert lives(bound.pid)
    assert lives(bound.keeper)
    assert bound.log == ""


def test_a_restart_of_etcd_is_survived(
    start_etcd: Callable[..., Cluster],
    realm_prefix: str,
    run_distlock: Run,
    start: Callable[..., Any],
) -> None:
    ttl = 10
    with start_etcd() as cluster:
        seen = Seen(cluster, realm_prefix)
        env = {"DISTLOCK_ENDPOINTS": cluster.endpoints[0]}
        process = start()
        options = ("--lock", f"--while-pid={process.pid}", f"--ttl={ttl}", "--refresh=1")
        assert run_distlock("--lock-name=x", *options, env=env).returncode == 0
        (member,) = cluster.members
        member.kill()
        member.start()
        member.wait_ready()
        pid = seen.held("x").details["keeper"]
        # It watches again, and hears of the unlock.
        assert run_distlock("--lock-name=x", "--unlock", env=env).returncode == 0
        wait_dead(pid)
        assert lives(process.pid)


# The process ends.


@pytest.mark.parametrize("how", ["exit", "SIGTERM", "SIGKILL"])
def test_the_lock_is_released_when_the_process_ends(
    bind: Callable[..., Bound], seen: Seen, start: Callable[..., Any], how: str
) -> None:
    process = Process(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    bound = bind(process=process, ttl=60)
    if how == "exit":
        process.stdin.close()
    else:
        process.send_signal(getattr(signal, how))
    # Nobody has waited for it yet: a zombie has ended all the same.
    seen.wait_gone("x")  # half of the ttl is its bound
    wait_dead(bound.keeper)
    process.communicate()
    seen.assert_nothing_left()
    assert f" INFO x: process {bound.pid} has ended; released\n" in bound.log


def test_without_a_log_file_and_without_syslog_it_works_as_well(
    run_distlock: Run, seen: Seen, start: Callable[..., Any]
) -> None:
    process = start()
    options = ("--lock-name=x", "--lock", f"--while-pid={process.pid}")
    assert run_distlock(*options).returncode == 0
    pid = seen.held("x").details["keeper"]
    process.kill()
    seen.wait_gone("x")
    wait_dead(pid)
    seen.assert_nothing_left()


def test_a_process_with_a_reused_pid_is_not_confused_with_its_predecessor(etcd: Cluster, seen: Seen) -> None:
    connection: dict[str, Any] = {"endpoints": etcd.endpoints, "prefix": seen.prefix}
    started = start_time(os.getpid())
    assert started is not None
    lock = connect(**connection).lock("x", ttl=60, step=True, background=False).acquire()
    plan = {"pid": os.getpid(), "start": started - 1, "ttl": 60, "refresh": None, "on_loss": "kill"}
    with pytest.raises(DistlockError, match=f"process {os.getpid()} has ended"):
        pid_keeper.start(lock, connection, {**plan, "kill_after": 1, "log_file": None})
    lock.release()
    seen.assert_nothing_left()


def test_without_pidfd_in_the_kernel_the_end_is_still_seen(start: Callable[..., Any]) -> None:
    code = """
import os, select, sys
sys.path.insert(0, sys.argv[1])
from distlock_core.process.while_alive import WhileAlive
from distlock_core.process.identity import start_time
def missing(pid):
    raise OSError(38, "Function not implemented")
os.pidfd_open = missing
pid = int(sys.argv[2])
alive = WhileAlive(pid, start_time(pid))
assert not alive.is_set()
print("looking", flush=True)
select.select([alive], [], [], 20)
assert alive.is_set()
assert alive.ended
"""
    process = start()
    home = os.path.dirname(os.path.dirname(os.path.abspath(distlock_core.__file__)))
    looking = Process(python(code, home, str(process.pid)), stdout=subprocess.PIPE, text=True)
    with looking:
        assert looking.stdout.readline() == "looking\n"
        process.kill()
        assert looking.wait(BOUND) == 0


def test_a_process_that_ends_while_its_lock_is_waited_for_gets_none(
    spawn_distlock: Spawn, seen: Seen, start: Callable[..., Any]
) -> None:
    seen.put("x")
    process = start()
    waiter = spawn_distlock("--lock-name=x", "--lock", f"--while-pid={process.pid}")
    assert waiter.stderr.readline().startswith("distlock: waiting: ")
    process.kill()
    wait_dead(process.pid)
    seen.delete("x")
    _, said = waiter.communicate(timeout=BOUND)
    assert waiter.returncode == 1
    assert f"process {process.pid} has ended" in one_line(said)
    seen.assert_nothing_left()


# Unlocked, entered again, taken over.


def test_unlock_ends_the_keeper_and_not_the_process(bind: Callable[..., Bound], run_distlock: Run, seen: Seen) -> None:
    bound = bind("--on-loss=kill", ttl=60)
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    wait_dead(bound.keeper)
    assert lives(bound.pid)
    seen.assert_nothing_left()
    assert "WARNING" not in bound.log
    assert "the keeper ends" in bound.log


def test_the_owner_reenters_a_bound_lock_and_leaves_it_bound(bind: Callable[..., Bound], run_distlock: Run) -> None:
    ttl = 3
    bound = bind("--id=me", ttl=ttl)
    before = bound.seen.held("x")
    inside = ("sh", "-c", f"sleep {ttl + 1}; kill -0 {bound.keeper} && echo $DISTLOCK_TOKEN")
    for options in ([], ["--ttl=5"]):
        done = run_distlock("--lock-name=x", "--id=me", "--nowait", *options, "--", *inside)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{before.token}\n", "")
        assert bound.seen.held("x") == before
    assert run_distlock("--lock-name=x", "--id=other", "--nowait", "--", "true").returncode == 1
    bound.process.kill()
    bound.seen.wait_gone("x")
    wait_dead(bound.keeper)
    bound.seen.assert_nothing_left()


def test_a_command_of_its_owner_outlives_the_process_it_is_bound_to(
    bind: Callable[..., Bound], spawn_distlock: Spawn, seen: Seen
) -> None:
    bound = bind("--id=me", ttl=30)
    inside = spawn_distlock(
        "--lock-name=x", "--id=me", "--", "sh", "-c", "echo in; exec cat >/dev/null", stdin=subprocess.PIPE
    )
    assert inside.stdout.readline() == "in\n"
    bound.process.kill()
    wait_dead(bound.keeper)
    assert seen.key("x") is not None
    inside.stdin.close()
    assert inside.wait(BOUND) == 0
    seen.assert_nothing_left()


def test_a_second_keeper_of_the_same_owner_replaces_the_first(
    bind: Callable[..., Bound], seen: Seen, tmp_path: Path
) -> None:
    ttl = 3
    first = bind("--id=me", "--on-loss=kill", ttl=ttl)
    token = seen.held("x").token
    second = bind("--id=me", "--on-loss=kill", ttl=ttl, log=tmp_path / "second.log")
    assert second.keeper != first.keeper
    wait_dead(first.keeper)
    assert lives(first.pid)  # its lock was not lost: the same owner has it
    assert "WARNING" not in first.log
    assert len(seen.new_leases()) == 1
    first.process.kill()
    stays(lambda: seen.held("x").token == token, "held", ttl + 0.5)
    second.process.kill()
    seen.wait_gone("x")
    wait_dead(second.keeper)
    seen.assert_nothing_left()


# The lock is lost.


def test_a_lost_lock_is_reported_loudly_and_the_process_continues(bind: Callable[..., Bound], seen: Seen) -> None:
    bound = bind(ttl=60)
    seen.delete("x")
    wait_dead(bound.keeper)
    line = one_line(bound.log)
    assert " WARNING x: " in line
    assert f"the lock of process {bound.pid} was lost: its key was deleted; it RUNS ON WITHOUT ITS LOCK" in line
    assert lives(bound.pid)
    wait_until(lambda: seen.new_leases() == set(), "no lease left")


def test_a_lost_lock_ends_the_whole_tree_on_request(
    bind: Callable[..., Bound], seen: Seen, start: Callable[..., Any]
) -> None:
    process = start(*python(STUBBORN))
    grandchild = int(process.stdout.readline())
    bound = bind("--on-loss=kill", "--kill-after=0.3", process=process, ttl=60)
    seen.revoke(seen.held("x").lease)
    try:
        wait_dead(process.pid)
        wait_dead(grandchild)
    finally:
        if lives(grandchild):
            os.kill(grandchild, signal.SIGKILL)
    wait_dead(bound.keeper)
    assert "its lease has expired or was revoked; it is ended" in one_line(bound.log)


def test_an_outage_longer_than_the_ttl_ends_the_process_before_another_can_get_the_lock(
    bind: Callable[..., Bound], spawn_distlock: Spawn, proxy: Proxy, start: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "signs"
    folder.mkdir()
    process = start(*python(STUBBORN, str(folder)))
    grandchild = int(process.stdout.readline())

    def signs() -> list[bytes]:
        return [path.read_bytes() for path in folder.iterdir()]

    try:
        wait_until(lambda: [len(sign) for sign in signs()] == [8, 8], "a sign of life of both")
        bound = bind(
            "--on-loss=kill", "--kill-after=2.5", process=process, ttl=6, env={"DISTLOCK_ENDPOINTS": proxy.url}
        )
        follower = Next(spawn_distlock(*Next.command("x")))
        proxy.blackhole()
        assert follower.started() > max(struct.unpack("d", sign)[0] for sign in signs())
        assert not lives(process.pid)
        assert not lives(grandchild)
    finally:
        if lives(grandchild):
            os.kill(grandchild, signal.SIGKILL)
        proxy.heal()
    wait_dead(bound.keeper)
    assert "etcd has confirmed no renewal" in one_line(bound.log)


def test_a_log_file_that_has_become_unwritable_stops_nothing(
    bind: Callable[..., Bound], seen: Seen, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    bound = bind("--on-loss=kill", ttl=60, log=folder / "keeper.log")
    shutil.rmtree(folder)
    seen.delete("x")
    wait_dead(bound.pid)
    wait_dead(bound.keeper)


# The keeper ends.


def test_the_lock_of_a_killed_keeper_ends_within_the_ttl(bind: Callable[..., Bound], seen: Seen) -> None:
    bound = bind()
    os.kill(bound.keeper, signal.SIGKILL)
    seen.wait_gone("x", TTL + LATE)
    assert lives(bound.pid)
    seen.assert_nothing_left()


@pytest.mark.parametrize("way", ["kill all below the caller", "told to quit together with its process"])
def test_a_keeper_that_is_signalled_with_its_process_releases_when_that_has_ended(
    bind: Callable[..., Bound], start: Callable[..., Any], seen: Seen, way: str
) -> None:
    # As a minion ends a job, and systemd a service: the process ends, at once or after a while; the ttl is far away.
    bound = bind(ttl=300)
    assert bound.keeper not in descendants_of(os.getpid())
    if way.startswith("told"):
        os.kill(bound.keeper, signal.SIGTERM)
        stays(lambda: lives(bound.keeper) and seen.key("x") is not None, "kept while its process lives", 1)
    os.kill(bound.pid, signal.SIGTERM)
    seen.wait_gone("x")
    wait_dead(bound.keeper)
    assert "has ended; released" in one_line(bound.log)
    seen.assert_nothing_left()


def test_a_keeper_is_no_descendant_of_a_caller_that_lives_on(seen: Seen, distlock_env: dict[str, str]) -> None:
    code = (
        "import os\nfrom distlock_core.adapters import acquire\n"
        "from distlock_core.adapters.settings import read_settings\n"
        "settings = read_settings({'lockname': 'x', 'ttl': 300}, 'me')\n"
        "taken = acquire.take(settings, run=os.getpid(), bound=True)\n"
        "print(taken.holder.keeper, flush=True)\ninput()"
    )
    pipe = subprocess.PIPE
    caller = subprocess.Popen([sys.executable, "-c", code], env=distlock_env, stdin=pipe, stdout=pipe, text=True)
    try:
        assert caller.stdout is not None
        keeper_pid = int(caller.stdout.readline())
        assert keeper_pid not in descendants_of(caller.pid)
    finally:
        caller.kill()
        caller.communicate()
    seen.wait_gone("x")
    wait_dead(keeper_pid)


def descendants_of(pid: int) -> set[int]:
    return {child for child, _ in table.descendants(pid)}


def test_a_keeper_that_is_signalled_twice_reports_it_and_its_lock_expires_by_its_ttl(
    bind: Callable[..., Bound], seen: Seen
) -> None:
    ttl = 5
    bound = bind(ttl=ttl)
    os.kill(bound.keeper, signal.SIGTERM)
    stays(lambda: lives(bound.keeper), "looking on", 1)
    os.kill(bound.keeper, signal.SIGTERM)
    wait_dead(bound.keeper)
    assert seen.key("x") is not None
    assert f"asked to quit while process {bound.pid} is alive; the lock expires in {ttl}s" in one_line(bound.log)
    seen.wait_gone("x", ttl + LATE)
    assert lives(bound.pid)


# Bad input.


def test_a_pid_that_is_none_locks_nothing(run_distlock: Run, seen: Seen) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    zombie = subprocess.Popen(["true"])
    wait_dead(zombie.pid)
    for pid in ("abc", "", "0", "-1", "1.5", str(2**31), "9" * 30, str(ended.pid), str(zombie.pid)):
        done = run_distlock("--lock-name=x", "--lock", "--while-pid", pid)
        assert (done.returncode, done.stdout) == (1, "")
        assert "--while-pid: " in one_line(done.stderr)
    zombie.wait()
    assert seen.keys() == []


def test_a_thread_is_no_process(run_distlock: Run, seen: Seen) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        tried = run_distlock("--lock-name=x", "--lock", f"--while-pid={thread.native_id}")
    finally:
        done.set()
        thread.join()
    assert tried.returncode == 1
    one_line(tried.stderr)
    seen.assert_nothing_left()


@pytest.mark.parametrize("path", ["/nonexistent/keeper.log", "/", "/dev/null/keeper.log"])
def test_a_log_file_that_cannot_be_written_locks_nothing(
    run_distlock: Run, seen: Seen, start: Callable[..., Any], path: str
) -> None:
    done = run_distlock("--lock-name=x", "--lock", f"--while-pid={start().pid}", f"--log-file={path}")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"distlock: --log-file {path}: cannot be written: ")
    assert seen.keys() == []


def test_a_relative_log_file_is_the_callers(
    distlock_env: dict[str, str], seen: Seen, start: Callable[..., Any], tmp_path: Path
) -> None:
    process = start()
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    options = ["--lock-name=x", "--lock", f"--while-pid={process.pid}", "--log-file=my.log"]
    subprocess.run([distlock, *options], env=distlock_env, cwd=tmp_path, timeout=BOUND, check=True)
    pid = seen.held("x").details["keeper"]
    process.kill()
    wait_dead(pid)
    assert "released" in (tmp_path / "my.log").read_text()


# Leased, and bound to no process.


def test_a_leased_step_without_a_process_ends_by_itself(run_distlock: Run, seen: Seen) -> None:
    ttl = 3
    began = time.monotonic()
    assert run_distlock("--lock-name=x", "--lock", f"--ttl={ttl}").returncode == 0
    held = seen.held("x")
    assert seen.ttl(held.lease) == ttl
    assert "keeper" not in held.details
    seen.wait_gone("x", ttl + LATE)
    assert time.monotonic() - began >= ttl
    seen.assert_nothing_left()


# Ends its first thread, and goes on in another one: to /proc it is a zombie from then on. Ends when its stdin does.
HEADLESS = """
import ctypes, os, sys, threading
def go_on():
    print("pid", os.getpid(), flush=True)
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit, of this thread alone
"""


def test_a_process_whose_first_thread_has_ended_keeps_its_lock(run_distlock: Run, seen: Seen) -> None:
    with subprocess.Popen(python(HEADLESS), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pid = int(line_of(process).split()[1])
        wait_until(lambda: status_of(pid)["State"].startswith("Z"), "the end of its first thread")
        done = run_distlock("--lock-name=x", "--lock", f"--while-pid={pid}", "--ttl=3")
        assert (done.returncode, done.stderr) == (0, "")
        stays(lambda: seen.key("x") is not None, "held", 4.0)
        assert process.stdin is not None
        process.stdin.close()
        seen.wait_gone("x")
