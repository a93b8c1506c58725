"""The settings of leases: each in every form in which it can be given, and what makes no sense refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
import yaml

from distlock_core.settings.options import SETTINGS
from distlock_core.testing import Proxy
from tests.support.lease_settings import OF_LEASES
from tests.support.lease_view import BOUND, Seen, line_of, one_line, python, wait_dead, wait_until
from tests.support.processes import Output, Process

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "Process"]
LOST, HUNG = 2, 4
COVERED: set[str] = set()
# Ignores SIGTERM; prints `ready`, and `asked` when it arrives.
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


class Give(NamedTuple):
    """A way of giving a setting: as an option, as a variable, or in the config file."""

    way: str
    path: Path

    def __call__(self, key: str, value: Any) -> tuple[list[str], dict[str, str | None]]:
        """The arguments and the environment that give it."""
        setting = next(setting for setting in SETTINGS if setting.key == key)
        if self.way == "file":
            self.path.write_text(yaml.safe_dump({key: value}))
            return [], {"DISTLOCK_CONFIG": str(self.path)}
        text = "true" if value is True else str(value)
        return ([f"--{setting.option}={text}"], {}) if self.way == "option" else ([], {setting.variable: text})


def every_way(key: str) -> pytest.MarkDecorator:
    """The test runs once for every form of this setting."""
    COVERED.add(key)
    return pytest.mark.parametrize("give", ["option", "variable", "file"], indirect=True)


@pytest.fixture
def give(request: pytest.FixtureRequest, tmp_path: Path) -> Give:
    return Give(request.param, tmp_path / "distlock.yaml")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process to bind a lock to."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


# Each setting, in every way.


@every_way("ttl")
def test_ttl_leases_the_lock(spawn_distlock: Spawn, seen: Seen, give: Give) -> None:
    options, env = give("ttl", 7)
    process = spawn_distlock(
        "--lock-name=x", *options, "--", "sh", "-c", "echo in; cat", env=env, stdin=subprocess.PIPE
    )
    line_of(process)
    assert seen.ttl(seen.held("x").lease) == 7
    process.stdin.close()
    assert process.wait(BOUND) == 0
    seen.assert_nothing_left()


@every_way("refresh")
def test_refresh_is_the_interval_of_renewals(spawn_distlock: Spawn, proxy: Proxy, seen: Seen, give: Give) -> None:
    options, env = give("refresh", 0.4)
    env["DISTLOCK_ENDPOINTS"] = proxy.url
    process = spawn_distlock(
        "--lock-name=x", "--ttl=60", *options, "--", "sh", "-c", "echo in; cat", env=env, stdin=subprocess.PIPE
    )
    line_of(process)
    # A third of the ttl would be 20 s.
    wait_until(lambda: sum(path == "/v3/lease/keepalive" for path, _ in proxy.requests) >= 2, "renewals")
    process.stdin.close()
    assert process.wait(BOUND) == 0


@every_way("kill_after")
def test_kill_after_is_the_time_from_sigterm_to_sigkill(spawn_distlock: Spawn, seen: Seen, give: Give) -> None:
    options, env = give("kill_after", 0.3)
    process = spawn_distlock("--lock-name=x", "--ttl=600", *options, "--", *python(DEAF), env=env)
    assert line_of(process) == "ready"
    seen.delete("x")
    assert line_of(process) == "asked"
    assert process.wait(BOUND) == LOST  # a sixth of the ttl would be 100 s


@every_way("on_loss")
@pytest.mark.parametrize(("lifetime", "word"), [([], "kill"), (["--ttl=60"], "continue")])
def test_on_loss_decides_what_happens_to_the_command(
    spawn_distlock: Spawn, seen: Seen, give: Give, lifetime: list[str], word: str
) -> None:
    # Each is what would not happen by default.
    options, env = give("on_loss", word)
    command = ("sh", "-c", "echo in; read line; echo done")
    process = spawn_distlock("--lock-name=x", *lifetime, *options, "--", *command, env=env, stdin=subprocess.PIPE)
    assert line_of(process) == "in"
    seen.delete("x")
    err = Output(process.stderr)
    err.until("the command is ended" if word == "kill" else "RUNS ON WITHOUT ITS LOCK")
    if word == "continue":
        process.stdin.close()
    one_line(err.all())
    assert process.wait(BOUND) == LOST
    assert process.stdout.read() == ("" if word == "kill" else "done\n")


@every_way("on_failure")
def test_on_failure_keep_leaves_it_taken(run_distlock: Run, seen: Seen, give: Give) -> None:
    options, env = give("on_failure", "keep")
    assert run_distlock("--lock-name=x", *options, "--", "false", env=env).returncode == 1
    assert seen.held("x").details["state"] == "kept"


@every_way("record_arguments")
def test_record_arguments_puts_them_into_the_reason(run_distlock: Run, seen: Seen, give: Give) -> None:
    options, env = give("record_arguments", True)
    command = ("sh", "-c", "exit 7", "an argument")
    assert run_distlock("--lock-name=x", "--on-failure=keep", *options, "--", *command, env=env).returncode == 7
    assert seen.held("x").details["reason"].startswith("sh -c exit 7 an argument ended with 7 on ")


@every_way("wait_for")
def test_wait_for_tree_holds_it_until_all_have_ended(spawn_distlock: Spawn, seen: Seen, give: Give) -> None:
    options, env = give("wait_for", "tree")
    script = "exec 3<&0; (echo child; read line <&3; echo last) & exit 7"
    process = spawn_distlock("--lock-name=x", *options, "--", "sh", "-c", script, env=env, stdin=subprocess.PIPE)
    assert line_of(process) == "child"
    seen.held("x")
    process.stdin.close()
    assert line_of(process) == "last"
    assert process.wait(BOUND) == 7
    seen.wait_gone("x")


@every_way("cooldown")
def test_cooldown_keeps_it_taken_for_that_time(run_distlock: Run, seen: Seen, give: Give) -> None:
    options, env = give("cooldown", 77)
    assert run_distlock("--lock-name=x", *options, "--", "true", env=env).returncode == 0
    held = seen.held("x")
    assert (held.details["state"], seen.ttl(held.lease)) == ("cooling", 77)


@every_way("heartbeat")
def test_heartbeat_wants_signs_of_life(run_distlock: Run, seen: Seen, give: Give) -> None:
    options, env = give("heartbeat", 1.5)
    done = run_distlock("--lock-name=x", *options, "--", "sh", "-c", "echo $WATCHDOG_USEC; exec sleep 60", env=env)
    assert (done.returncode, done.stdout) == (HUNG, "1500000\n")
    seen.assert_nothing_left()


@every_way("node")
def test_node_starts_a_module(run_distlock: Run, tmp_path: Path, need: Callable[..., str], give: Give) -> None:
    need("node", install="apt-get install nodejs")
    module = tmp_path / "module.js"
    module.write_text("console.log(typeof process.send); process.disconnect();")
    options, env = give("node", True)
    done = run_distlock("--lock-name=x", "--heartbeat=20", *options, "--", str(module), env=env)
    assert (done.returncode, done.stdout) == (0, "function\n")


@every_way("while_pid")
def test_while_pid_binds_the_lock_to_a_process(
    run_distlock: Run, seen: Seen, process: subprocess.Popen[bytes], give: Give
) -> None:
    options, env = give("while_pid", process.pid)
    assert run_distlock("--lock-name=x", "--lock", *options, env=env).returncode == 0
    assert seen.held("x").details["pid"] == process.pid
    keeper = seen.held("x").details["keeper"]
    process.kill()
    seen.wait_gone("x")
    wait_dead(keeper)


@every_way("log_file")
def test_log_file_is_where_the_keeper_writes(
    run_distlock: Run, seen: Seen, process: subprocess.Popen[bytes], give: Give, tmp_path: Path
) -> None:
    options, env = give("log_file", str(tmp_path / "keeper.log"))
    done = run_distlock("--lock-name=x", "--lock", f"--while-pid={process.pid}", *options, env=env)
    assert done.returncode == 0
    keeper = seen.held("x").details["keeper"]
    process.kill()
    wait_dead(keeper)
    assert f"process {process.pid} has ended; released" in (tmp_path / "keeper.log").read_text()


def test_every_setting_of_leases_is_exercised_in_this_file() -> None:
    assert COVERED == OF_LEASES


def test_an_option_wins_over_its_variable_and_that_over_the_file(run_distlock: Run, seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "distlock.yaml").write_text("ttl: 30\n")
    env: dict[str, str | None] = {"DISTLOCK_CONFIG": str(tmp_path / "distlock.yaml")}
    granted = []
    for more, options in (({}, []), ({"DISTLOCK_TTL": "40"}, []), ({"DISTLOCK_TTL": "40"}, ["--ttl=50"])):
        assert run_distlock("--lock-name=x", "--lock", *options, env={**env, **more}).returncode == 0
        granted.append(seen.ttl(seen.held("x").lease))
        assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert granted == [30, 40, 50]


def test_settings_for_other_calls_do_not_interfere(run_distlock: Run, seen: Seen) -> None:
    settings = {
        "DISTLOCK_REFRESH": "3",
        "DISTLOCK_HEARTBEAT": "20",
        "DISTLOCK_ON_FAILURE": "keep",
        "DISTLOCK_ON_LOSS": "kill",
        "DISTLOCK_KILL_AFTER": "1",
        "DISTLOCK_COOLDOWN": "5",
        "DISTLOCK_WHILE_PID": "4194304",
        "DISTLOCK_LOG_FILE": "/nonexistent/keeper.log",
    }
    assert run_distlock("--list", env=settings).returncode == 0
    assert run_distlock("--lock-name=y", "--", "true", env={**settings, "DISTLOCK_COOLDOWN": None}).returncode == 0
    alone = {**settings, "DISTLOCK_WHILE_PID": None}
    assert run_distlock("--lock-name=x", "--lock", env=alone).returncode == 0
    assert run_distlock("--lock-name=x", "--show", env=settings).returncode == 0
    assert "keeper" not in seen.held("x").details


# Inconsistent settings.


OUT_OF_RANGE = {
    "ttl": ("0", "-1", "1.5", "5x", "31622401", "367d", "010", "9" * 200),
    "refresh": ("0", "-1", "nan", "1e99"),
    "kill_after": ("0", "-1", "soon"),
    "cooldown": ("0", "1.5", "31622401"),
    "heartbeat": ("0", "-1", "nan"),
    "on_loss": ("ignore",),
    "on_failure": ("retry", "hold"),
    "node": ("perhaps",),
    "while_pid": ("0", "-1", "abc", "2147483648"),
}
CASES = [(key, value, "option") for key, values in OUT_OF_RANGE.items() for value in values]
CASES += [(key, values[0], form) for key, values in OUT_OF_RANGE.items() for form in ("variable", "file")]


@pytest.mark.parametrize("form", ["option", "variable", "file"])
def test_the_command_refuses_a_value_out_of_range_and_locks_nothing(
    run_distlock: Run, seen: Seen, tmp_path: Path, form: str
) -> None:
    options, env = Give(form, tmp_path / "distlock.yaml")("ttl", "0")
    done = run_distlock("--lock-name=x", *options, "--", "echo", "ran", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected " in one_line(done.stderr)
    seen.assert_nothing_left()


@pytest.mark.parametrize(("key", "value", "form"), CASES)
def test_a_value_out_of_range_is_refused_in_one_line(
    run_here: Run, tmp_path: Path, key: str, value: str, form: str
) -> None:
    options, env = Give(form, tmp_path / "distlock.yaml")(key, value)
    operation = ["--lock"] if key == "while_pid" else ["--", "echo", "ran"]
    done = run_here("--lock-name=x", *options, *operation, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    setting = next(setting for setting in SETTINGS if setting.key == key)
    where = {"option": f"option --{setting.option}: ", "variable": f"{setting.variable}: ", "file": f": {key}: "}
    line = one_line(done.stderr)
    assert where[form] in line
    assert "expected " in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--ttl=1"], "ttl 1s is too short: refresh and kill_after leave 0.5s of it"),
        (["--ttl=5", "--refresh=5"], "below the ttl"),
        (["--ttl=5", "--refresh=6"], "below the ttl"),
        (["--ttl=5", "--refresh=4.5"], "; use a longer ttl, or a shorter refresh or kill_after ("),
        (["--ttl=5", "--kill-after=3"], "ttl 5s is too short: "),
        (["--ttl=5", "--kill-after=60"], "leave 0s of it"),
        (["--ttl=6", "--refresh=3", "--kill-after=2.5"], "leave 0.5s of it"),
        (["--refresh=2"], "it goes with --ttl"),
        (["--node"], "--ttl or --heartbeat"),
        (["--while-pid=1"], "--while-pid goes with --lock"),
        (["--log-file=/tmp/x"], "it needs --lock --while-pid"),
    ],
)
def test_inconsistent_times_and_options_are_refused(run_here: Run, options: list[str], word: str) -> None:
    done = run_here("--lock-name=x", *options, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert word in one_line(done.stderr)


def test_inconsistent_times_lock_nothing(run_distlock: Run, seen: Seen) -> None:
    done = run_distlock("--lock-name=x", "--ttl=5", "--refresh=6", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "below the ttl" in one_line(done.stderr)
    seen.assert_nothing_left()


def test_times_that_are_barely_consistent_are_accepted(run_distlock: Run) -> None:
    for options in (["--ttl=2"], ["--ttl=5", "--refresh=3", "--kill-after=1"], ["--ttl=31622400"]):
        assert run_distlock("--lock-name=x", *options, "--", "true").returncode == 0


ABOUT_A_COMMAND = ("--on-failure=keep", "--heartbeat=5", "--node", "--kill-after=1", "--on-loss=kill")
ABOUT_A_KEEPER = ("--while-pid=1", "--log-file=/tmp/x")


@pytest.mark.parametrize("operation", ["--lock", "--unlock", "--list", "--show", "--verify"])
@pytest.mark.parametrize("option", [*ABOUT_A_COMMAND, *ABOUT_A_KEEPER, "--refresh=1", "--cooldown=5"])
def test_options_that_mean_nothing_to_an_operation_are_refused(run_here: Run, operation: str, option: str) -> None:
    if (operation, option) in (("--lock", "--while-pid=1"), ("--unlock", "--cooldown=5")):
        return  # these do
    done = run_here("--lock-name=x", operation, option)
    assert (done.returncode, done.stdout) == (1, "")
    said = one_line(done.stderr)
    assert " goes with " in said or ": it needs --lock --while-pid" in said


def test_a_lease_without_renewals_has_no_refresh(run_distlock: Run, seen: Seen) -> None:
    done = run_distlock("--lock-name=x", "--lock", "--ttl=30", "--refresh=5")
    assert done.returncode == 1
    assert "--refresh goes with " in one_line(done.stderr)
    seen.assert_nothing_left()


@pytest.mark.parametrize("operation", ["--unlock", "--list", "--show", "--verify"])
def test_a_call_that_acquires_nothing_has_no_ttl(run_distlock: Run, operation: str) -> None:
    done = run_distlock("--lock-name=x", operation, "--ttl=30")
    assert done.returncode == 1
    assert "--ttl goes with " in one_line(done.stderr)


def test_a_lease_that_could_not_be_released_is_reported_to_expire(
    spawn_distlock: Spawn, seen: Seen, proxy: Proxy
) -> None:
    options = ("--lock-name=x", "--ttl=30", "--release-timeout=0.3")
    command = ("--", "sh", "-c", "echo in; cat")
    process = spawn_distlock(*options, *command, env={"DISTLOCK_ENDPOINTS": proxy.url}, stdin=subprocess.PIPE)
    line_of(process)
    proxy.cut()
    _, said = process.communicate(timeout=BOUND)
    assert process.returncode == 1
    assert one_line(said).startswith("distlock: x may still be locked: no etcd answered within ")
    assert said.endswith(". Its lease ends it within 30s\n")


@pytest.mark.parametrize("option", ["--on-failure=keep", "--heartbeat=5", "--node", "--cooldown=5"])
def test_options_about_a_command_mean_nothing_to_a_keeper(
    run_distlock: Run, seen: Seen, process: subprocess.Popen[bytes], option: str
) -> None:
    done = run_distlock("--lock-name=x", "--lock", f"--while-pid={process.pid}", option)
    assert done.returncode == 1
    assert " goes with " in one_line(done.stderr)
    seen.assert_nothing_left()


def test_an_error_is_reported_as_json_too(run_distlock: Run) -> None:
    done = run_distlock("--lock-name=x", "--lock", "--while-pid=4194304", "--json")
    assert done.returncode == 1
    assert "there is no process 4194304" in json.loads(done.stdout)["error"]["message"]


# The command's environment.


def test_the_command_knows_its_lease_and_only_under_a_ttl(spawn_distlock: Spawn, run_distlock: Run, seen: Seen) -> None:
    script = "echo ${DISTLOCK_LEASE-none}; cat"
    process = spawn_distlock("--lock-name=x", "--ttl=60", "--", "sh", "-c", script, stdin=subprocess.PIPE)
    lease = int(line_of(process), 16)
    assert lease == seen.held("x").lease
    assert seen.ttl(lease) == 60
    process.stdin.close()
    assert process.wait(BOUND) == 0
    outer = {"DISTLOCK_LEASE": "694d"}
    assert run_distlock("--lock-name=x", "--", "sh", "-c", script, env=outer).stdout == "none\n"


def test_settings_for_this_call_do_not_affect_one_inside_the_command(run_distlock: Run) -> None:
    mine = {
        "DISTLOCK_TTL": "60",
        "DISTLOCK_REFRESH": "5",
        "DISTLOCK_KILL_AFTER": "5",
        "DISTLOCK_ON_LOSS": "kill",
        "DISTLOCK_ON_FAILURE": "release",
        "DISTLOCK_COOLDOWN": "1",
        "DISTLOCK_HEARTBEAT": "60",
        "DISTLOCK_NODE": "false",
        "DISTLOCK_WHILE_PID": "1",
        "DISTLOCK_ID": "me",
        "DISTLOCK_SLOTS": "1",
        "DISTLOCK_REASON": "mine",
        "DISTLOCK_TIMEOUT": "60",
    }
    done = run_distlock("--lock-name=x", "--", "env", env=mine)
    assert done.returncode == 0
    left = {line.partition("=")[0] for line in done.stdout.splitlines() if line.startswith("DISTLOCK_")}
    assert left == {f"DISTLOCK_{word}" for word in ("ENDPOINTS", "PREFIX", "STATE_DIR", "TOKEN", "HELD", "LEASE")}
