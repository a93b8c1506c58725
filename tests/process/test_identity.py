"""Who is provably gone: tried in namespaces, under hidepid, as a clone, and over a reboot, each made for the test.

Whatever is not proved counts as alive: the lock is busy, and says why and how to go on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import distlock_core
from distlock_core.process import run_notes
from distlock_core.process.fate import GONE, UNKNOWN, fate, is_gone
from distlock_core.process.identity import ancestry, is_same, start_time, trace_of
from distlock_core.testing import Cluster
from tests.support.processes import Process, line_of, python
from tests.support.realm_view import BOUND, RealmView, eventually, one_line

ME = "--lock-name=x", "--id=node-1"
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
HOLD = "--", "sh", "-c", "echo $$; exec cat >/dev/null"
# One that every user may run.
SYSTEM_PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"

Inside = Callable[..., Process]


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> RealmView:
    """The content of etcd under the test's prefix."""
    return RealmView(etcd, realm_prefix)


@pytest.fixture
def inside(distlock_env: dict[str, str], need: Callable[..., str]) -> Iterator[Inside]:
    """inside("--uts", "hostname clone", *command, env={}) -> the command in new namespaces."""
    if os.geteuid() != 0:
        pytest.skip("namespaces of its own take root")
    running: list[Process] = []

    def start(namespaces: str, setup: str, *command: str, env: dict[str, str] | None = None) -> Process:
        words = [need("unshare"), *namespaces.split(), "--fork", "sh", "-c", f'{setup or ":"} && exec "$@"', "sh"]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        running.append(
            Process([*words, *command], env={**distlock_env, **(env or {})}, text=True, start_new_session=True, **pipes)
        )
        return running[-1]

    yield start
    for process in running:
        kill_all(process)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def kill_all(process: Process) -> None:
    """Kill it, and whatever is below it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def refused(process: Process) -> str:
    """Check that it was busy; return its message."""
    said, error = process.communicate(timeout=BOUND)
    assert (process.returncode, said) == (1, ""), error
    return one_line(error)


def boot(folder: Path, number: int) -> str:
    """The shell's words that make this the machine's boot id."""
    path = folder / f"boot-{number}"
    path.write_text(f"{number:08d}-0000-4000-8000-000000000000\n")
    path.chmod(0o644)
    return f"mount --bind {path} /proc/sys/kernel/random/boot_id"


ENTER = (DISTLOCK, *ME, "--nowait", "--", "echo", "ran")


# A2. Two machines, or two containers, of one name.


@pytest.mark.parametrize(
    ("namespaces", "setup", "why"),
    [
        ("--mount", "{boot}", "another boot, and this machine has no note that it was here"),
        ("--mount --pid", "mount -t proc proc /proc", "another namespace"),
        ("--pid", "", "another namespace"),  # with the /proc of others
        ("--time --boottime=5000", "", "another namespace"),
        ("--uts", "hostname another", "on another host"),
        ("--mount", "mount -t tmpfs none /proc", "the boot id cannot be read"),
        ("--mount", "mount --bind /dev/null /etc/machine-id", "another machine of that name"),
    ],
)
def test_a_run_that_lives_is_not_entered_from_where_it_cannot_be_seen(
    inside: Inside, realm: RealmView, tmp_path: Path, namespaces: str, setup: str, why: str
) -> None:
    holder = inside("--mount", "", DISTLOCK, *ME, *HOLD)
    line_of(holder)
    before = realm.entries()
    # A clone has its own disk.
    env = {"DISTLOCK_STATE_DIR": str(tmp_path / "other")}
    said = refused(inside(namespaces, setup.format(boot=boot(tmp_path, 7)), *ENTER, env=env))
    assert "that is a run of the same owner, process " in said
    assert "which may be running (" in said
    assert why in said
    assert f"--break --lock-name=x --token={realm.token('x')}" in said
    assert realm.entries() == before


@pytest.mark.parametrize("namespaces", ["--mount --pid", "--time --boottime=5000"])
def test_a_step_is_not_entered_or_released_from_another_namespace_without_its_token(
    inside: Inside, run_distlock: Callable[..., subprocess.CompletedProcess[str]], realm: RealmView, namespaces: str
) -> None:
    run_distlock(*ME, "--lock")
    setup = "mount -t proc proc /proc" if "--pid" in namespaces else ""
    for operation in (["--lock", "--nowait"], ["--unlock"]):
        said = refused(inside(namespaces, setup, DISTLOCK, *ME, *operation))
        assert "which may be running (it is in another namespace" in said
        assert f"--token={realm.token('x')}" in said
    named = f"--token={realm.token('x')}"
    entered = inside(namespaces, setup, DISTLOCK, *ME, "--nowait", named, "--", "echo", "ran")
    assert entered.communicate(timeout=BOUND)[0] == "ran\n"
    assert inside(namespaces, setup, DISTLOCK, *ME, "--unlock", named).wait(BOUND) == 0
    assert realm.entries() == {}


def test_a_step_of_an_unknown_taker_is_released_by_its_owner_and_entered_by_its_token(
    inside: Inside, realm: RealmView
) -> None:
    # As by `docker exec`: the first process of its namespace, whose parent is outside it.
    taken = inside("--mount --pid", "mount -t proc proc /proc", DISTLOCK, *ME, "--lock")
    assert taken.wait(BOUND) == 0
    assert "pid" not in realm.record("x")[1]["taker"]
    assert "an unknown process" in refused(inside("--mount", "", *ENTER))
    named = inside("--mount", "", DISTLOCK, *ME, f"--token={realm.token('x')}", "--nowait", "--", "echo", "ran")
    assert named.communicate(timeout=BOUND)[0] == "ran\n"
    assert inside("--mount", "", DISTLOCK, *ME, "--unlock").wait(BOUND) == 0
    assert realm.entries() == {}


def test_a_process_that_hidepid_hides_is_not_gone(inside: Inside, realm: RealmView, tmp_path: Path) -> None:
    holder = inside("--mount", "", DISTLOCK, *ME, *HOLD)
    line_of(holder)
    details = realm.record("x")[1]
    hidden = "mount -t proc -o hidepid=2 proc /proc"
    # A copy, since this checkout may be in a folder that only root may enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(Path(distlock_core.__file__).parent, Path(folder) / "distlock_core")
        environment = {"HOME": str(tmp_path), "DISTLOCK_STATE_DIR": "", "PYTHONPATH": folder}
        program = "from distlock_core.cli.distlock import main; main()"
        enter = [*NOBODY.split(), SYSTEM_PYTHON, "-c", program, *ENTER[1:]]
        _entered_only_when_it_is_gone(inside, holder, details, hidden, enter, environment)


def _entered_only_when_it_is_gone(
    inside: Inside,
    holder: Process,
    details: dict[str, Any],
    hidden: str,
    enter: list[str],
    environment: dict[str, str],
) -> None:
    pid, command = details["pid"], details["command"]["pid"]
    said = refused(inside("--mount", hidden, *enter, env=environment))
    assert f"process {pid} on " in said
    assert "which may be running (it cannot be seen in /proc)" in said
    kill_all(holder)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    eventually(lambda: not os.path.exists(f"/proc/{command}"), "its command's end")
    # No process has that pid, according to the kernel, not to what can be seen.
    done = inside("--mount", hidden, *enter, env=environment)
    assert done.communicate(timeout=BOUND)[0] == "ran\n"


# A reboot.


@pytest.mark.parametrize("step", [False, True])
def test_after_a_reboot_it_continues_where_this_machine_remembers_it(
    inside: Inside, realm: RealmView, tmp_path: Path, *, step: bool
) -> None:
    mine, clones = ({"DISTLOCK_STATE_DIR": str(tmp_path / name)} for name in ("mine", "clones"))
    command = ["--lock"] if step else ["--", *python("import os, signal; os.killpg(0, signal.SIGKILL)")]
    before = inside("--mount", boot(tmp_path, 1), DISTLOCK, *ME, *command, env=mine)
    before.wait(BOUND)
    token = realm.token("x")
    # Nothing of it lives here either; but that is no proof in another boot.
    said = refused(inside("--mount", boot(tmp_path, 2), *ENTER, env=clones))
    assert "another boot, and this machine has no note that it was here" in said
    show = DISTLOCK, "--lock-name=x", "--show"
    shown = [inside("--mount", boot(tmp_path, 2), *show, env=env).communicate()[0] for env in (clones, mine)]
    assert ["(gone)" in text for text in shown] == [False, True]
    script = "echo $DISTLOCK_TOKEN"
    after = inside("--mount", boot(tmp_path, 2), DISTLOCK, *ME, "--nowait", "--", "sh", "-c", script, env=mine)
    found = int(after.communicate(timeout=BOUND)[0])
    assert found == token if step else found > token
    assert list(realm.entries()) == (["x"] if step else [])


def test_a_note_of_a_machine_with_other_network_cards_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that several machines share, or a copied disk."""
    run, place = "a1" * 16, str(tmp_path)
    cards = {"mine": ["02:00:00:00:00:01", "02:00:00:00:00:02"], "others": ["02:00:00:00:00:03"], "none": []}
    monkeypatch.setattr(run_notes, "_hardware", lambda: cards["mine"])
    assert run_notes.remember(place, run)
    found = {}
    for name, seen in cards.items():
        monkeypatch.setattr(run_notes, "_hardware", lambda seen=seen: seen)
        found[name] = run_notes.boot_of(place, run) is not None
    assert found == {"mine": True, "others": False, "none": True}
    assert run_notes.boot_of(place, "b2" * 16) is None
    run_notes.forget(place, run)
    assert run_notes.boot_of(place, run) is None


@pytest.mark.parametrize("run", ["", "../../etc/passwd", "a/b", "..", "A1", "x" * 32, "a" * 65, "a\0b"])
def test_a_run_from_a_hostile_record_names_no_file(tmp_path: Path, run: str) -> None:
    (tmp_path / "state").mkdir()
    assert run_notes.boot_of(str(tmp_path / "state"), run) is None
    assert not run_notes.remember(str(tmp_path / "state"), run)
    run_notes.forget(str(tmp_path / "state"), run)
    assert [path.name for path in tmp_path.rglob("*")] == ["state"]


def test_a_state_directory_is_made_with_the_folders_above_it_and_is_for_its_user_alone(tmp_path: Path) -> None:
    """A new user has no ~/.local/state."""
    place, run = tmp_path / "local/state/distlock", "a1" * 16
    assert run_notes.remember(str(place), run)
    assert run_notes.boot_of(str(place), run) is not None
    assert place.stat().st_mode & 0o777 == 0o700


def test_old_notes_are_pruned_and_others_files_are_not(tmp_path: Path) -> None:
    old, new, foreign = "a1" * 16, "b2" * 16, tmp_path / "README"
    run_notes.remember(str(tmp_path), old)
    foreign.write_text("mine")
    for path in (tmp_path / old, foreign, tmp_path / "pruned"):
        os.utime(path, (1, 1))
    run_notes.remember(str(tmp_path), new)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["README", new, "pruned"])


# Processes.

FEW_LIVE_ON = """
import ctypes, sys, threading
def work():
    sys.stdin.read()
threading.Thread(target=work).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_main_thread_has_ended_is_alive_until_the_last_one_ends() -> None:
    with Process(
        [sys.executable, "-c", FEW_LIVE_ON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        line_of(process)

        def state() -> str:
            return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]

        eventually(lambda: state() == "Z", "the end of its main thread")
        started, trace = start_time(process.pid), trace_of(process.pid)
        assert started is not None
        assert not is_gone(process.pid, started)
        assert fate(trace)[0] != GONE
        process.stdin.close()
        # By now a zombie that has not been reaped yet.
        eventually(lambda: is_gone(process.pid, started), "its end")
        assert start_time(process.pid) is None
        assert fate(trace)[0] == GONE


def test_a_pid_that_was_given_to_another_process_is_gone() -> None:
    trace = trace_of()
    assert fate({**trace, "start": trace["start"] - 1})[0] == GONE
    for name in ("host", "machine", "boot", "ns", "time_ns", "start", "pid"):
        if name not in trace:
            continue  # a bare system has no machine id, and so nothing to tell two of one name apart by
        assert fate({key: value for key, value in trace.items() if key != name})[0] == UNKNOWN, name
    for hostile in (0, -1, 2**70, "1", True, None, [1]):
        assert fate({**trace, "pid": hostile})[0] == UNKNOWN, hostile


def test_a_process_and_its_ancestors_are_recognized_by_their_whole_trace() -> None:
    mine = ancestry()
    assert is_same(mine[0], trace_of())
    assert is_same(mine[1], trace_of(os.getppid()))
    assert mine[-1]["pid"] == 1
    for name, value in mine[0].items():
        assert not is_same({**mine[0], name: f"{value}0" if isinstance(value, str) else value + 1}, mine[0]), name
        assert not is_same({key: value for key, value in mine[0].items() if key != name}, mine[0]), name


# B6. Inside of one's own lock, without its environment.


@pytest.mark.parametrize("how", ["env -i", "sudo"])
@pytest.mark.parametrize("named", [True, False])
def test_a_distlock_inside_its_own_lock_without_its_environment_does_not_wait_for_itself(
    run_distlock: Callable[..., subprocess.CompletedProcess[str]],
    distlock_env: dict[str, str],
    realm: RealmView,
    how: str,
    *,
    named: bool,
) -> None:
    if how == "sudo" and os.geteuid() != 0:
        pytest.skip("to become another user takes root")
    if how == "sudo" and shutil.which("sudo") is None:
        how = f"{NOBODY} --reset-env"  # the same: another user, and nothing of the environment
    owner = ["--id=node-1"] if named else []
    settings = [f"--endpoints={distlock_env['DISTLOCK_ENDPOINTS']}", f"--prefix={realm.prefix}"]
    nested = [DISTLOCK, *settings, "--lock-name=x", *owner, "--", "/bin/echo", "ran"]
    done = run_distlock("--lock-name=x", *owner, "--", *how.split(), *nested)
    if named:
        assert (done.returncode, done.stdout) == (0, "ran\n")
        assert re.sub(r"sudo: unable to resolve host .*\n", "", done.stderr) == ""
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search("is held by the command around this one", one_line(done.stderr))
    assert realm.entries() == {}


def test_a_note_holds_the_boot_id_and_nothing_else_about_the_lock(tmp_path: Path) -> None:
    run_notes.remember(str(tmp_path), "c3" * 16)
    note = json.loads((tmp_path / ("c3" * 16)).read_text())
    assert set(note) == {"boot", "machine"}
    assert (tmp_path / ("c3" * 16)).stat().st_mode & 0o777 == 0o600
