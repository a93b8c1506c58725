"""etcdlocker: what the ancestor's command line promises, and what it only should have."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster, Proxy
from tests.support.lease_view import BOUND, Seen, line_of, lives, one_line, python, wait_until
from tests.support.processes import Process

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
LOST, NOT_SPAWNED, PINGS = 2, 3, 4
# Says its pid and waits until its stdin ends.
WAITING = ("--", "sh", "-c", "echo $$; exec cat")
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(300)
"""
ANSWERING = """
process.on('message', (message) => {
  process.send({pong: message.ping}, () => setTimeout(() => process.exit(7), 100));
});
"""


@pytest.fixture
def key(realm_prefix: str) -> str:
    """A raw key, as deep as one likes."""
    return f"{realm_prefix}deeply/nested/lock"


@pytest.fixture
def host(etcd: Cluster) -> str:
    """HOST:PORT of etcd."""
    return etcd.endpoints[0].removeprefix("http://")


@pytest.fixture
def environ(host: str, key: str) -> dict[str, str | None]:
    """etcd, the key and a ttl as variables; nothing that distlock would read."""
    settings = {"ETCD_LOCK_HOST": host, "ETCD_LOCK_KEY": key, "ETCD_LOCK_TTL": "20"}
    return {"DISTLOCK_ENDPOINTS": None, "DISTLOCK_PREFIX": None, **settings}


@pytest.fixture
def run(run_distlock: Run, environ: dict[str, str | None]) -> Run:
    """run(*args, env={}) -> etcdlocker, run to its end."""

    def run(*args: str, env: dict[str, str | None] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_distlock(*args, env={**environ, **(env or {})}, command="etcdlocker", **options)

    return run


@pytest.fixture
def spawn(spawn_distlock: Spawn, environ: dict[str, str | None]) -> Spawn:
    """As run, but returns a Popen; its stdin is a pipe."""

    def spawn(*args: str, env: dict[str, str | None] | None = None) -> Process:
        return spawn_distlock(*args, env={**environ, **(env or {})}, command="etcdlocker", stdin=subprocess.PIPE)

    return spawn


# Options and variables.


@pytest.mark.parametrize("form", ["short", "short, as one word", "long", "long with equals", "variables"])
def test_every_setting_in_every_form(spawn: Spawn, seen: Seen, host: str, key: str, form: str) -> None:
    nothing = dict.fromkeys(["ETCD_LOCK_HOST", "ETCD_LOCK_KEY", "ETCD_LOCK_TTL"])
    values = {"etcd": host, "id": "node-7", "key": key, "ttl": "7", "refresh": "3"}
    names = {"etcd": "HOST", "id": "ID", "key": "KEY", "ttl": "TTL", "refresh": "REFRESH"}
    options = {
        "short": [word for name, value in values.items() for word in (f"-{name[0]}", value)],
        "short, as one word": [f"-{name[0]}{value}" for name, value in values.items()],
        "long": [word for name, value in values.items() for word in (f"--{name}", value)],
        "long with equals": [f"--{name}={value}" for name, value in values.items()],
        "variables": [],
    }[form]
    variables = {f"ETCD_LOCK_{names[name]}": value for name, value in values.items()} if form == "variables" else {}
    process = spawn(
        *options, "--", "sh", "-c", "echo $DISTLOCK_HELD $DISTLOCK_LEASE; cat", env={**nothing, **variables}
    )
    whole, lease = line_of(process).split()
    held = seen.held(key)
    assert (whole, int(lease, 16), held.owner, seen.ttl(held.lease)) == (key, held.lease, "node-7", 7)
    assert process.communicate(timeout=BOUND)[1] == ""
    assert process.returncode == 0
    seen.assert_nothing_left()


def test_the_default_id_is_the_hosts_name(spawn: Spawn, seen: Seen, key: str) -> None:
    line_of(spawn(*WAITING))
    assert seen.held(key).owner == socket.gethostname()


def test_an_option_wins_over_its_variable(run: Run, key: str) -> None:
    done = run("-k", key + "-2", "--", "printenv", "DISTLOCK_HELD")
    assert done.stdout == f"{key}-2\n"


def test_several_endpoints_are_separated_by_commas(run: Run, host: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        assert run("-e", f"{nobody},{host}", "--", "true").returncode == 0


@pytest.mark.parametrize("refresh", [[], ["-r", "0.5"]])
def test_the_lease_is_renewed_at_half_its_ttl_by_default(
    spawn: Spawn, proxy: Proxy, seen: Seen, refresh: list[str]
) -> None:
    half = 2.0
    began = time.monotonic()
    process = spawn("-e", proxy.url.removeprefix("http://"), "-t", str(int(2 * half)), *refresh, *WAITING)
    line_of(process)

    def renewals() -> int:
        return sum(path == "/v3/lease/keepalive" for path, _ in proxy.requests)

    def fitting() -> float:
        """As many as there can be by now, one at each half."""
        return (time.monotonic() - began) / half

    if refresh:
        wait_until(lambda: renewals() > fitting() + 1, "renewals more often than that")
    else:
        wait_until(lambda: renewals() == 2, "two renewals")
        assert renewals() <= fitting()
    assert process.poll() is None


def test_distlocks_own_settings_do_not_steer_it(run: Run, seen: Seen, key: str, tmp_path: Path) -> None:
    (tmp_path / "distlock.yaml").write_text("ttl: 3\nno such key: 1\n")
    steering = {
        "DISTLOCK_LOCKNAME": "other",
        "DISTLOCK_PREFIX": "/other/",
        "DISTLOCK_ENDPOINTS": "http://127.0.0.1:1",
        "DISTLOCK_TTL": "nonsense",
        "DISTLOCK_NOWAIT": "true",
        "DISTLOCK_ON_FAILURE": "keep",
        "DISTLOCK_COOLDOWN": "60",
        "DISTLOCK_HEARTBEAT": "0.1",
        "DISTLOCK_NODE": "true",
        "DISTLOCK_JSON": "true",
        "DISTLOCK_CONFIG": str(tmp_path / "distlock.yaml"),
    }
    done = run("--", "sh", "-c", "echo $DISTLOCK_HELD; sleep 0.3; exit 7", env=steering)
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{key}\n", "")
    seen.assert_nothing_left()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_option_and_variable(run: Run, option: str) -> None:
    done = run(option, env={"ETCD_LOCK_KEY": None, "ETCD_LOCK_TTL": None})
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("-e, --etcd", "-i, --id", "-k, --key", "-t, --ttl", "-r, --refresh", "-n, --node", "-v, --verbose"):
        assert re.search(rf"^ +{name}\b", done.stdout, re.MULTILINE), name
    for name in ("HOST", "ID", "KEY", "TTL", "REFRESH"):
        assert f"[ETCD_LOCK_{name}" in done.stdout
    assert "[ETCD_CHILD_IS_NODE]" in done.stdout
    assert "-h, --help" in done.stdout


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_reports_each_step(run: Run, key: str, option: str) -> None:
    done = run(option, "--", "true")
    got, released = done.stderr.splitlines()
    assert f"got {key}, token " in got
    assert released.endswith(key)
    assert run("--", "true").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "env", "word"),
    [
        (["--", "true"], {"ETCD_LOCK_KEY": None}, "no key "),
        (["--", "true"], {"ETCD_LOCK_KEY": ""}, "no key "),
        (["--", "true"], {"ETCD_LOCK_TTL": None}, "no ttl "),
        ([], {}, "no command "),
        (["--unknown", "--", "true"], {}, "--unknown"),
        (["-x", "true"], {}, "-x"),
        (["-k"], {}, "-k"),
        (["-t", "abc", "--", "true"], {}, "ttl: "),
        (["-t", "0", "--", "true"], {}, "ttl: "),
        (["-t", "-5", "--", "true"], {}, "ttl: "),
        (["-t", "9000000001", "--", "true"], {}, "ttl: "),
        (["-t", "2", "--", "true"], {}, "ttl 2s is too short"),
        (["-r", "20", "--", "true"], {}, "refresh"),
        (["-r", "0", "--", "true"], {}, "refresh: "),
        (["-r", "soon", "--", "true"], {}, "refresh: "),
        (["--", "true"], {"ETCD_LOCK_REFRESH": "soon"}, "refresh: "),
        (["-i", "a;b", "--", "true"], {}, "owner (id)"),
        (["-k", "/", "--", "true"], {}, "key"),
        (["-e", "ftp://x", "--", "true"], {}, "ftp"),
    ],
)
def test_bad_usage_is_one_line_and_exit_1(
    run: Run, seen: Seen, arguments: list[str], env: dict[str, str | None], word: str
) -> None:
    done = run(*arguments, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert word in one_line(done.stderr)
    seen.assert_nothing_left()


# Exit codes.


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands(run: Run, seen: Seen, code: int) -> None:
    assert run("--", "sh", "-c", f"exit {code}").returncode == code
    seen.assert_nothing_left()


def test_streams_and_arguments_are_the_commands(run: Run) -> None:
    done = run("--", "sh", "-c", 'cat; printf "<%s>" "$@" >&2', "sh", "-v", "-n", "a  b", input="from stdin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "from stdin", "<-v><-n><a  b>")


def test_a_command_without_options_needs_no_dashes(run: Run) -> None:
    assert run("echo", "hi").stdout == "hi\n"


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_a_signal_that_ends_the_command_is_128_and_its_number(run: Run, seen: Seen, name: str) -> None:
    done = run("--", "sh", "-c", f"ulimit -c 0; kill -{name} $$")
    assert done.returncode == 128 + getattr(signal, f"SIG{name}")
    seen.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_to_etcdlocker_ends_the_command_too(spawn: Spawn, seen: Seen, number: signal.Signals) -> None:
    # SIGHUP as well: the original dies of it, and leaves the command behind.
    process = spawn(*WAITING)
    pid = int(line_of(process))
    process.send_signal(number)
    assert process.wait(BOUND) == 128 + number
    assert not lives(pid)
    seen.assert_nothing_left()


def test_a_signal_in_the_queue_gives_up_the_place(spawn: Spawn, seen: Seen, key: str) -> None:
    seen.put(key)
    process = spawn("--", "true")
    wait_until(lambda: len(seen.keys(key)) == 2, "its place in line")
    process.terminate()
    assert process.wait(BOUND) == 128 + signal.SIGTERM
    assert seen.keys(key) == [""]
    assert seen.new_leases() == set()


def test_not_acquired_is_1(run: Run) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = run("-e", f"127.0.0.1:{closed.getsockname()[1]}", "--", "true")
    assert done.returncode == 1
    assert "connection refused" in one_line(done.stderr)


def test_not_spawned_is_3(run: Run, seen: Seen) -> None:
    done = run("--", "/no/such/command")
    assert done.returncode == NOT_SPAWNED
    assert "cannot start /no/such/command: No such file or directory" in one_line(done.stderr)
    seen.assert_nothing_left()


@pytest.mark.parametrize("how", ["deleted", "revoked", "replaced"])
def test_a_lost_lock_is_2_and_ends_the_command_even_when_it_ignores_sigterm(
    spawn: Spawn, seen: Seen, key: str, how: str
) -> None:
    process = spawn("-t", "6", "--", *python(DEAF))
    pid = int(line_of(process))
    if how == "revoked":
        seen.revoke(seen.held(key).lease)
    elif how == "deleted":
        seen.delete(key)
    else:
        seen.put(key, "another")
    _, said = process.communicate(timeout=BOUND)
    assert process.returncode == LOST
    assert not lives(pid)
    assert f"distlock: {key}: the lock was lost at " in one_line(said)
    if how == "replaced":
        assert seen.held(key).owner == "another"  # it is not ours to release
    else:
        assert seen.keys() == []


# Who waits, and for whom.


def test_waiters_are_served_in_order(spawn: Spawn, seen: Seen, key: str, tmp_path: Path) -> None:
    first = spawn(*WAITING)
    line_of(first)
    order = tmp_path / "order"
    waiters = []

    def wait_for_line(count: int) -> None:
        wait_until(lambda: len(seen.keys(key)) == count, "a place in line")

    for number in range(3):
        waiters.append(spawn("--", "sh", "-c", f"echo {number} >> {order}"))
        wait_for_line(2 + number)
    first.stdin.close()
    assert [process.wait(BOUND) for process in (first, *waiters)] == [0, 0, 0, 0]
    assert order.read_text() == "0\n1\n2\n"
    seen.assert_nothing_left()


def test_two_runs_of_one_id_exclude_each_other(spawn: Spawn, seen: Seen, key: str) -> None:
    # The original takes the other's lock for its own.
    first = spawn("-i", "me", *WAITING)
    line_of(first)
    second = spawn("-i", "me", "--", "echo", "in")
    wait_until(lambda: len(seen.keys(key)) == 2, "its place in line")
    assert second.poll() is None
    first.stdin.close()
    assert first.wait(BOUND) == 0
    assert line_of(second) == "in"
    assert second.wait(BOUND) == 0


def test_one_inside_another_for_the_same_key_does_not_wait_for_itself(run: Run, seen: Seen) -> None:
    etcdlocker = os.path.join(os.path.dirname(sys.executable), "etcdlocker")
    done = run("--", etcdlocker, "--", "true")
    assert done.returncode == 1
    one_line(done.stderr)
    seen.assert_nothing_left()


def test_distlock_and_etcdlocker_exclude_each_other_on_the_same_key(
    spawn: Spawn, run_distlock: Run, realm_prefix: str
) -> None:
    process = spawn("-k", f"{realm_prefix}x", *WAITING)
    line_of(process)
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 1
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert process.wait(BOUND) == LOST


# Node.js.


@pytest.fixture
def module(need: Callable[..., str], tmp_path: Path) -> Callable[[str], str]:
    """module("code") -> the path of a Node.js module with this code."""
    need("node", install="apt-get install nodejs")

    def write(code: str) -> str:
        path = tmp_path / "module.js"
        path.write_text(code, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("options", "variable"), [(["-n"], None), (["--node"], None), ([], "1"), ([], "yes please"), (["-n"], "no")]
)
def test_a_node_module_is_pinged(
    run: Run, seen: Seen, module: Callable[[str], str], options: list[str], variable: str | None
) -> None:
    done = run(*options, "--", module(ANSWERING), env={"ETCD_CHILD_IS_NODE": variable})
    assert (done.returncode, done.stderr) == (7, "")
    seen.assert_nothing_left()


@pytest.mark.parametrize("variable", ["", "false", "0", "no"])
def test_a_plain_refusal_is_final(run: Run, variable: str) -> None:
    assert run("--", "echo", "no module", env={"ETCD_CHILD_IS_NODE": variable}).stdout == "no module\n"


SILENT = "setInterval(() => {}, 1000);"
WRONG = "process.on('message', () => process.send({pong: 1}));"


@pytest.mark.parametrize("code", [SILENT, WRONG], ids=["none", "wrong"])
def test_no_pong_and_a_wrong_pong_are_4(run: Run, seen: Seen, module: Callable[[str], str], code: str) -> None:
    done = run("-n", "-t", "3", "--", module(code))
    assert done.returncode == PINGS
    assert "the command shows no life: " in one_line(done.stderr)
    seen.assert_nothing_left()


@pytest.mark.parametrize("twice", [["-k", "/a/b"], ["--ttl", "30"], ["--key=/a/b"]])
def test_an_option_given_twice_with_two_values_is_an_error(run: Run, key: str, twice: list[str]) -> None:
    # The original takes the last one: another lock than the first one.
    done = run("-k", key, "-t", "20", *twice, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is given twice, with " in one_line(done.stderr)


def test_a_repeated_option_passes_as_in_the_original(run: Run, key: str) -> None:
    assert run("-v", "-v", "-k", key, "-k", key, "-t", "20", "--", "echo", "ran").stdout == "ran\n"
