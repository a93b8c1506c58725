"""The console scripts as programs: Ctrl-C at any moment, closed streams, no current directory; never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster
from tests.support.paths import ROOT
from tests.support.realm_view import RealmView, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
SCRIPTS = {
    "distlock": "distlock_core.cli.start:distlock",
    "distlock-etcd": "distlock_core.cli.start:distlock_etcd",
    "etcdlocker": "distlock_core.cli.start:etcdlocker",
    "distlock-puppet": "distlock_core.cli.start:distlock_puppet",
}
BOUND = 60.0  # seconds
# Says so when a module is loaded, and takes its time for it.
SLOW = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            print("loading", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
from distlock_core.cli.start import {function}
sys.argv[1:] = ["--help"]
{function}()
"""


@pytest.mark.skipif(tomllib is None, reason="Python 3.11 and later read pyproject.toml")
def test_every_console_script_begins_where_ctrl_c_is_seen_to() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == SCRIPTS


@pytest.mark.parametrize("entry", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("module", ["distlock_core.errors", "distlock_core.model.keys"])
def test_ctrl_c_while_modules_load_ends_it_without_a_traceback(entry: str, module: str) -> None:
    function = entry.partition(":")[2]
    if function == "distlock_etcd":  # it has nothing to do with those
        module = "distlock_core.embedded.cluster"
    program = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(module=module, function=function)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "loading\n"
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=BOUND)
    finally:
        program.kill()
        program.wait()
    assert (program.returncode, err) == (-signal.SIGINT, "")  # 130 for a shell


def shell(env: dict[str, str], line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["sh", "-c", line.replace("distlock", DISTLOCK, 1)],
        env=env,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        **options,
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stays_closed_for_the_command_and_receives_nothing(
    distlock_env: dict[str, str], realm: RealmView, tmp_path: Path, closed: str
) -> None:
    seen = tmp_path / "seen"
    # The command's open descriptors: a connection to etcd must not be its stdin, stdout or stderr.
    look = f"for n in 0 1 2; do readlink /proc/$$/fd/$n || echo closed; done > {seen}"
    for lifetime in ("", "--ttl=20"):
        done = shell(distlock_env, f"distlock --lock-name=x {lifetime} -- sh -c '{look}' {closed}")
        assert done.returncode == 0, done
        assert "socket:" not in seen.read_text()
    assert shell(distlock_env, f"distlock --lock-name=x --lock {closed}").returncode == 0
    assert shell(distlock_env, f"distlock --lock-name=x --unlock {closed}").returncode == 0
    assert shell(distlock_env, f"distlock --bogus {closed}").returncode == 1
    assert realm.entries() == {}


def test_in_a_removed_folder_a_relative_path_is_an_error_in_one_line(
    distlock_env: dict[str, str], realm: RealmView, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    before = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec "
    env = {**distlock_env, "DISTLOCK_TIMEOUT": "20"}

    def in_no_folder(arguments: str) -> subprocess.CompletedProcess[str]:
        return shell(env, before + "distlock --lock-name=x " + arguments)

    for arguments in ("-- true", "--ttl=20 -- true", "--lock --while-pid=$PPID", "--unlock"):
        assert in_no_folder(arguments).returncode == 0
    for arguments, said in (
        ("--lock --while-pid=$PPID --log-file=k.log", "--log-file k.log: it is relative, and the current directory is"),
        ("--cacert=ca.pem --endpoints=https://127.0.0.1:1 -- true", "cacert ca.pem: it is relative"),
        ("--cert=c.pem --endpoints=https://127.0.0.1:1 -- true", "cert c.pem: it is relative"),
        ("--user=u --password-file=p -- true", "password file p: cannot be read"),
        ("--config=c.yaml -- true", "config file c.yaml: does not exist"),
    ):
        done = in_no_folder(arguments)
        assert done.returncode == 1
        assert said in one_line(done.stderr)
    assert realm.entries() == {}


# Values at the edge of what there is.


@pytest.mark.parametrize(
    "options",
    [
        ["--timeout=1000000000"],
        ["--ttl=366d"],
        ["--heartbeat=1000000000"],
        ["--kill-after=1000000000"],
        ["--connect-timeout=1000000000", "--release-timeout=1000000000"],
    ],
)
def test_the_largest_number_of_seconds_does_no_harm(
    run_distlock: Callable[..., subprocess.CompletedProcess[str]], realm: RealmView, options: list[str]
) -> None:
    done = run_distlock("--lock-name=x", *options, "--", "sh", "-c", "sleep 0.4; echo ran")  # long enough to be watched
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    assert realm.entries() == {}


@pytest.mark.parametrize("setting", ["cacert", "cert", "key", "password-file", "config"])
@pytest.mark.parametrize("path", ["/", "/dev/zero", "/nowhere/at/all"])
def test_a_path_that_is_no_file_is_an_error_in_one_line(
    run_distlock: Callable[..., subprocess.CompletedProcess[str]], etcd: Cluster, setting: str, path: str
) -> None:
    beside = {"key": ["--cert=/etc/hostname"], "password-file": ["--user=u"]}.get(setting, [])
    endpoint = "" if setting in ("config", "password-file") else "https://127.0.0.1:1"
    more = [f"--endpoints={endpoint}"] if endpoint else []
    done = run_distlock("--lock-name=x", f"--{setting}={path}", *beside, *more, "--timeout=5", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert len([line for line in done.stderr.splitlines() if "warning" not in line]) == 1


def test_an_unexpected_error_is_one_line(distlock_env: dict[str, str]) -> None:
    code = (
        "from distlock_core.cli import program\n"
        "def body(): raise RuntimeError('a thing\\nof two lines')\n"
        "program.as_a_program(body)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=distlock_env, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("distlock: unexpected error, a bug in distlock: RuntimeError: a thing\\nof")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_for_people_is_one_write(unbuffered: str) -> None:
    """The command, its hooks and other programs may write to the same stderr in between."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # which keeps writes apart
    with ours, theirs:
        environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        subprocess.run([DISTLOCK, "--bogus"], stderr=theirs.fileno(), env=environ, timeout=BOUND, check=False)
        ours.settimeout(BOUND)
        said = ours.recv(4096)
    assert said.startswith(b"distlock: unknown option '--bogus'")
    assert said.endswith(b"\n")
