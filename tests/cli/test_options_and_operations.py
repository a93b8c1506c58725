"""Every option with every operation: it has a meaning there, which the table states, or it is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.cli.command_line import parse
from distlock_core.cli.option_rules import GOES_WITH, OPERATIONS, UsageError
from distlock_core.settings.options import OF_ONE_CALL, SETTINGS
from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]

DOING = ("run", *OPERATIONS[:-2])  # without help and version
# A value for each option that has one and is not satisfied with 7.
VALUES = {
    "endpoints": "http://127.0.0.1:1",
    "transport": "http",
    "prefix": "/other/",
    "on-loss": "kill",
    "on-failure": "keep",
    "wait-for": "tree",
    "gate-at": "before,after",
    "window": "Mon",
    "password-file": "password",
    "config": "/dev/null",
    "log-file": "/dev/null",
    "lock-name": "x",
    "while-pid": str(os.getpid()),
    "ttl": "60",
    "gate-timeout": "60",
    "plot": "-",
    "until": "idle",
}
FLAGS = {one.option for one in (*SETTINGS, *OF_ONE_CALL.values()) if one.flag}
OPTIONS = [*(one.option for one in SETTINGS if "option" in one.scope), *OF_ONE_CALL]
NEEDED = {"update": ["--value=new"], "prune": ["--older-than=30d"]}  # by the operation
BOUND = f"--while-pid={os.getpid()}"
BESIDE = {  # what an option needs beside it, for this operation or for all
    "refresh": ["--ttl=60"],
    "gate-timeout": ["--gate=true"],
    "gate-every": ["--gate=true"],
    "gate-for": ["--gate=true"],
    "gate-at": ["--gate=true"],
    "node": ["--heartbeat=9"],
    "key": ["--cert=7"],
    "user": ["--password-file=password"],
    "password-file": ["--user=me"],
    ("token", "run"): ["--id=me"],
    ("token", "lock"): ["--id=me"],
    ("refresh", "lock"): [BOUND],
    ("kill-after", "lock"): [BOUND],
    ("on-loss", "lock"): [BOUND],
    ("log-file", "lock"): [BOUND],
    ("reason", "policy"): ["--slots=2"],
    ("id", "policy"): ["--slots=2"],
    ("dry-run", "policy"): ["--slots=2"],
    "hook-timeout": ["--on-released=true"],
    ("hook-timeout", "lock"): ["--on-acquired=true"],
    ("on-lost", "lock"): [BOUND],
    ("on-released", "lock"): [BOUND],
}


def words(operation: str, option: str) -> list[str]:
    """A command line with that operation and option, and with all that the two need beside them."""
    given = f"--{option}" if option in FLAGS else f"--{option}={VALUES.get(option, '7')}"
    fits = operation in GOES_WITH[option]
    beside = BESIDE.get((option, operation)) or BESIDE.get(option) or [] if fits else []
    needed = [word for word in NEEDED.get(operation, []) if not word.startswith(f"--{option}=")]
    name = ["--lock-name=x"] if operation != "prune" and option != "lock-name" else []
    end = ["--", "true"] if operation == "run" else [f"--{operation}"]
    return [*name, *needed, *beside, given, *end]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DISTLOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DISTLOCK_CONFIG", "/dev/null")


def test_the_table_has_every_option_and_no_other() -> None:
    assert sorted(GOES_WITH) == sorted(OPTIONS)
    assert {operation for row in GOES_WITH.values() for operation in row} == set(DOING)


def contradiction(option: str, operation: str) -> str:
    """How a call with both contradicts the table; empty if it does not."""
    reason = GOES_WITH[option].get(operation)
    try:
        done = parse(words(operation, option)).operation
    except UsageError as error:
        goes_with = f"--{option} goes with " in error.message or option == "lock-name"
        return "" if reason is None and goes_with and len(error.message.splitlines()) == 1 else error.message
    return "" if done == operation and len((reason or "").split()) >= 3 else f"{done}: {reason}"


# All options in one test: a test of its own takes longer than ten of these calls.


@pytest.mark.parametrize("operation", DOING)
def test_an_option_is_accepted_where_the_table_has_a_reason_and_refused_elsewhere(operation: str) -> None:
    said = {option: contradiction(option, operation) for option in OPTIONS}
    assert {option: what for option, what in said.items() if what} == {}


@pytest.mark.parametrize("operation", ["help", "version"])
def test_help_and_version_come_before_all_else(operation: str) -> None:
    for option in OPTIONS:
        given = f"--{option}" if option in FLAGS else f"--{option}={VALUES.get(option, '7')}"
        assert parse([given, f"--{operation}"]).operation == operation, option


@pytest.mark.parametrize("operation", DOING)
def test_a_flag_that_is_false_asks_for_nothing(operation: str) -> None:
    for option in sorted(FLAGS):
        line = words(operation, option)
        line[line.index(f"--{option}")] += "=false"
        assert parse(line).operation == operation, option


@pytest.mark.parametrize("option", ["-reason=why", "-nowait", "-timeout=5"])
@pytest.mark.parametrize("operation", [["-list"], ["-unlock"], ["-lock"], ["true"]])
def test_what_the_go_original_accepts_is_accepted(option: str, operation: list[str]) -> None:
    request = parse(["-lock-name=x", "-endpoints=http://127.0.0.1:1", "-prefix=/other/", option, *operation])
    assert request.operation == (operation[0].lstrip("-") if operation != ["true"] else "run")


def test_settings_of_file_and_environment_are_for_other_calls_and_refused_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SLOTS", "TTL", "KILL_AFTER", "EXPECT", "TIMEOUT", "BUSY_EXIT_CODE"):
        monkeypatch.setenv(f"DISTLOCK_{name}", "60" if name == "TTL" else "7")
    for operation in DOING:
        assert parse(words(operation, "json")).operation == operation


TOKEN = "--token goes with -- COMMAND, --lock, --unlock, --break, --update or --verify"
FORCE = "--force goes with --unlock or --freeze"
BREAK = "distlock --break --lock-name=NAME breaks another's hold first"
WAIT = "this operation does not wait for a lock; --connect-timeout limits the contact with etcd"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lock-name=x", "--force", "--", "true"], f"{FORCE}: {BREAK}"),
        (["--list", "--force"], FORCE),
        (["--show", "--lock-name=x", "--token=5"], TOKEN),
        (["--freeze", "--token=4"], TOKEN),
        (
            ["--show", "--lock-name=x", "--slots=3"],
            "--slots goes with -- COMMAND, --lock, --policy, --explain or --wait",
        ),
        (["--list", "--ttl=5"], "--ttl goes with -- COMMAND, --lock or --doctor"),
        (["--show", "--lock-name=x", "--timeout=5"], f"--timeout goes with -- COMMAND, --lock or --wait: {WAIT}"),
        (["--unlock", "--lock-name=x", "--only-if=true"], "--only-if goes with -- COMMAND"),
    ],
)
def test_a_refusal_says_what_the_option_goes_with(
    run_distlock: Run, realm: RealmView, arguments: list[str], said: str
) -> None:
    realm.put("x", "1500000000;other;{}")
    done = run_distlock(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr) == f"distlock: {said}"
    assert list(realm.entries()) == ["x"]
