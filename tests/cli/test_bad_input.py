"""Bad input gets one line that says what is wrong and where, exit code 1, and changes nothing in etcd.

What the whole command is asked here (`refuse`) is the list that users are promised, one or two of each kind; every
other case runs in this process (`refuse_here`), which is some hundred times faster.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Refuse = Callable[..., str]
RUN = "--", "sh", "-c", "echo it ran"


@pytest.fixture
def refuse(run_distlock: Run, realm: RealmView) -> Refuse:
    """refuse(*args, env={}) -> distlock's one line of output; nothing else has happened."""

    def run(*args: Any, env: dict[str, Any] | None = None) -> str:
        realm.put("held", "1500000000;other;reason")
        before = realm.revision()
        done = run_distlock(*args, env=env)
        assert done.returncode == 1, done
        assert done.stdout == ""
        assert realm.written_since(before) == []
        return _message(done.stderr)

    return run


@pytest.fixture
def refuse_here(run_here: Run) -> Refuse:
    """As refuse, without a process and without an etcd."""

    def run(*args: Any, env: dict[str, Any] | None = None) -> str:
        done = run_here(*args, env=env)
        assert (done.returncode, done.stdout) == (1, "")
        return _message(done.stderr)

    return run


def _message(stderr: str) -> str:
    line = one_line(stderr)
    assert line.startswith("distlock: ")
    assert line.isprintable()
    assert "Errno" not in line
    return line[len("distlock: ") :]


# The whole command.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lock-name=a/b", *RUN], "must not contain '/'"),
        (["--lock-name=__internal_lock", *RUN], "reserved"),
        (["--lock-name=held", "--lock", "--unlock"], "are mutually exclusive"),
        (["--lock-name=held", "--list", "--lock"], "are mutually exclusive"),
        (["--lock-name=held", "--unlock", *RUN], "--unlock runs no command"),
        (["--lock-name=x", "--lock", *RUN], "--lock runs no command"),
        (["--lock-name=x", "--nowait", "--timeout=5", *RUN], "contradict each other"),
        (["--lock-name=x"], "nothing to do"),
        ([*RUN], "--lock-name=NAME is required"),
        (["--lock-name=" + "n" * 300, *RUN], "longer than 255 bytes"),
        (["--lock-name=a\nb", "--lock"], "it must not contain control characters"),
        (["--lock-name=x", "--id=a;b", "--lock"], "it must not contain ';'"),
        (["--lock-name=held", "--endpoints=http://127.0.0.1:99999", *RUN], "the port must be a number"),
        (["--lock-name=held", "--endpoints=127.0.0.1:2379:1", "--unlock"], "an IPv6 address needs brackets"),
        (["--list", "--endpoints=http:///"], "not a URL with a host"),
        (["--lock-name=x", "--slots=" + "9" * 5000, *RUN], "expected a whole number"),
    ],
)
def test_the_command_refuses(refuse: Refuse, arguments: list[str], said: str) -> None:
    assert said in refuse(*arguments)


def test_the_command_refuses_a_variable_that_is_no_number(refuse: Refuse) -> None:
    said = refuse("--lock-name=x", *RUN, env={"DISTLOCK_TIMEOUT": "5 minutes"})
    assert said == "DISTLOCK_TIMEOUT: expected a number of seconds, found '5 minutes'"


@pytest.mark.parametrize(
    ("text", "said"),
    [("lockname: [a", "not valid YAML"), ("lockname: [[a]]", "lockname: expected a string"), ("a: b", "a")],
)
def test_the_command_refuses_a_config_file(
    refuse: Refuse, config_file: Callable[[str], str], text: str, said: str
) -> None:
    path = config_file(text)
    line = refuse("--lock-name=x", *RUN, env={"DISTLOCK_CONFIG": path})
    assert line.startswith(f"config file {path}")
    assert said in line


# Contradictions, as the original refuses them.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lock-name=a/b", *RUN], "illegal lock name 'a/b': it must not contain '/'"),
        (["--lock-name=/", "--lock"], "must not contain '/'"),
        (["--lock-name=__internal_lock", *RUN], "reserved"),
        (["--lock-name=__freeze", "--lock"], "reserved"),
        (["--lock-name=__last", "--unlock"], "reserved"),
        (["--lock-name=x", "--lock", "--unlock"], "--lock and --unlock are mutually exclusive"),
        (["--lock-name=x", "--list", "--lock"], "--lock and --list are mutually exclusive"),
        (["--lock-name=x", "--unlock", "--list"], "--unlock and --list are mutually exclusive"),
        (["--lock-name=x", "--show", "--verify"], "--show and --verify are mutually exclusive"),
        (["--lock-name=x", "--lock", *RUN], "--lock runs no command, but 'sh' is given"),
        (["--lock-name=x", "--unlock", "ls"], "--unlock runs no command, but 'ls' is given"),
        (["--list", *RUN], "--list runs no command"),
        (["--lock-name=x", "--nowait", "--timeout=5", *RUN], "--nowait and --timeout contradict each other"),
        (["--lock-name=x", "--quiet", "--verbose", *RUN], "--quiet and --verbose contradict each other"),
        (["--lock-name=x"], "nothing to do"),
        (["--lock-name=x", "--"], "nothing to do"),
        ([], "nothing to do"),
        (["--lock"], "--lock-name=NAME is required"),
        (["--unlock"], "--lock-name=NAME is required"),
        (["--show"], "--lock-name=NAME is required"),
        (["--verify", "--token=3"], "--lock-name=NAME is required"),
        ([*RUN], "--lock-name=NAME is required"),
        (["--lock-name=", *RUN], "--lock-name=NAME is required"),
        (
            ["--lock-name=x", "--token=3", *RUN],
            "--token=N names the --lock to enter, and only its owner may enter it: add --id",
        ),
        (["--lock-name=held", "--verify"], "--verify needs a token: give --token=N, or run it inside the command"),
        (["--lock-nmae=x", *RUN], "unknown option '--lock-nmae=x'; did you mean --lock-name? See: distlock --help"),
        (["--lockname=x", *RUN], "did you mean --lock-name?"),
        (["--bogus", *RUN], "unknown option '--bogus'. See: distlock --help"),
        (["--show", "web"], "a lock is named with --lock-name=web"),
        (["---lock-name=x", *RUN], "unknown option '---lock-name=x'"),
        (["--lock-name=x", "--bogus\x1b[31m\n", *RUN], "unknown option '--bogus\\x1b[31m\\n'"),
        (["--lock-name"], "option --lock-name needs a value"),
        (["--lock-name=x", "--timeout"], "option --timeout needs a value"),
    ],
)
def test_a_command_line_that_contradicts_itself(refuse_here: Refuse, arguments: list[str], said: str) -> None:
    assert said in refuse_here(*arguments)


# Values.


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--timeout=soon", "option --timeout: expected a number of seconds, found 'soon'"),
        ("--timeout=", "option --timeout: expected a number of seconds"),
        ("--timeout=nan", "expected a number of seconds"),
        ("--timeout=inf", "expected a number of seconds"),
        ("--timeout=1e99", "expected a number of seconds"),
        ("--connect-timeout=0", "option --connect-timeout: expected a number of seconds above 0"),
        ("--release-timeout=-1", "option --release-timeout: expected a number of seconds above 0"),
        ("--slots=0", "option --slots: expected a whole number from 1 to 1000, found '0'"),
        ("--slots=1.5", "expected a whole number"),
        ("--slots=\u0664", "expected a whole number"),
        ("--slots=" + "9" * 5000, "expected a whole number"),
        ("--busy-exit-code=256", "option --busy-exit-code: expected a whole number from 0 to 255"),
        ("--token=zero", "option --token: expected a whole number"),
        ("--token=" + "9" * 5000, "option --token: expected a whole number"),
        ("--nowait=perhaps", "option --nowait: expected true or false, found 'perhaps'"),
        ("--lock=2", "option --lock: expected true or false"),
        ("--id=", "the owner (id) is empty"),
        ("--id=a;b", "illegal owner (id) 'a;b': it must not contain ';'"),
        ("--id=a\nb", "it must not contain control characters"),
        ("--id=a\x9bb", "it must not contain control characters"),
        ("--prefix=", "the prefix is empty"),
        ("--prefix=/a\x00b/".replace("\x00", "\x01"), "it must not contain control characters"),
        ("--lock-name=" + "n" * 300, "longer than 255 bytes"),
        ("--lock-name=" + "\u00fc" * 128, "longer than 255 bytes"),
        ("--lock-name=a\nb", "it must not contain control characters"),
        ("--lock-name=a\x1b[2Jb", "it must not contain control characters"),
        ("--endpoints=http://127.0.0.1:99999", "the port must be a number from 1 to 65535"),
        ("--endpoints=http://127.0.0.1:0", "the port must be a number from 1 to 65535"),
        ("--endpoints=http://127.0.0.1:http", "the port must be a number from 1 to 65535"),
        ("--endpoints=http://", "not a URL with a host"),
        ("--endpoints=http://a b", "a blank in it; several endpoints are separated by commas"),
        ("--endpoints=http://a;http://b", "';' in it; several endpoints are separated by commas"),
        ("--endpoints=http://h:2379/v3", "it has a path (/v3); etcd is at http://HOST:PORT alone"),
        ("--endpoints=http://h?x", "not a URL with a host"),
        ("--endpoints=http://user@host", "an endpoint's URL must not contain a user or password"),
        ("--endpoints=http://host/path", "endpoint 'http://host/path': it has a path (/path)"),
        ("--endpoints=ftp://127.0.0.1:2379", "unknown scheme 'ftp'"),
        ("--endpoints=::1", "an IPv6 address needs brackets"),
        ("--endpoints=http://[::1", "not an IPv6 address"),
        ("--endpoints=http://" + "a" * 70 + "." + "\u00fc" * 70, "not a host name"),
        ("--config=/nowhere/at/all.yaml", "config file /nowhere/at/all.yaml: does not exist"),
        ("--config=/", "config file /: cannot be read"),
    ],
)
@pytest.mark.parametrize("operation", ["command", "lock"])
def test_a_value_that_is_none(refuse_here: Refuse, option: str, said: str, operation: str) -> None:
    named = [] if option.startswith("--lock-name=") else ["--lock-name=held"]
    line = refuse_here(*named, option, *(RUN if operation == "command" else ["--lock"]))
    assert said in line
    assert len(line) < 250


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("DISTLOCK_TIMEOUT", "5 minutes", "DISTLOCK_TIMEOUT: expected a number of seconds, found '5 minutes'"),
        ("DISTLOCK_SLOTS", "many", "DISTLOCK_SLOTS: expected a whole number"),
        ("DISTLOCK_JSON", "perhaps", "DISTLOCK_JSON: expected true or false, found 'perhaps'"),
        ("DISTLOCK_LOCKNAME", "a/b", "illegal lock name 'a/b'"),
        ("DISTLOCK_ID", "a;b", "it must not contain ';'"),
        ("DISTLOCK_ENDPOINTS", "http://127.0.0.1:99999", "the port must be a number from 1 to 65535"),
        ("DISTLOCK_CONFIG", "/nowhere.yaml", "config file /nowhere.yaml: does not exist"),
        ("DISTLOCK_BUSY_EXIT_CODE", "-1", "DISTLOCK_BUSY_EXIT_CODE: expected a whole number from 0 to 255"),
        ("DISTLOCK_RELEASE_TIMEOUT", "0", "DISTLOCK_RELEASE_TIMEOUT: expected a number of seconds above 0"),
    ],
)
def test_a_variable_is_named_with_its_fault(refuse_here: Refuse, variable: str, text: str, said: str) -> None:
    lock = [] if variable == "DISTLOCK_LOCKNAME" else ["--lock-name=x"]
    assert said in refuse_here(*lock, *RUN, env={variable: text})


@pytest.mark.parametrize("token", ["now", "9" * 5000, "-1"])
def test_an_inherited_token_that_is_none(refuse_here: Refuse, token: str) -> None:
    said = refuse_here("--lock-name=held", "--verify", env={"DISTLOCK_TOKEN": token})
    assert said.startswith("DISTLOCK_TOKEN: expected a whole number")


# Bytes that are no text.


@pytest.mark.parametrize(
    "arguments",
    [
        [b"--lock-name=\xff\xfe", *RUN],
        [b"--lock-name=held", b"--reason=\xff", "--lock"],
        [b"--lock-name=held", b"--id=\xff", "--lock"],
        [b"--lock-name=held", b"--prefix=/\xff/", "--lock"],
        [b"--\xff", *RUN],
        [b"--lock-name=held", b"--timeout=\xff", *RUN],
        [b"--lock-name=held", b"--endpoints=http://\xff", *RUN],
        [b"--lock-name=held", b"--config=/\xff.yaml", *RUN],
    ],
)
def test_undecodable_bytes_in_an_argument(refuse: Refuse, arguments: list[Any]) -> None:
    assert "udcff" in refuse(*arguments)


def test_undecodable_bytes_in_a_variable(refuse: Refuse) -> None:
    assert "not valid UTF-8" in refuse("--lock-name=x", *RUN, env={"DISTLOCK_REASON": os.fsdecode(b"\xff")})


# The config file.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lockname: [a", "not valid YAML"),
        ("a: b: c", " line 1: not valid YAML"),
        ("reason: ok\n\ttimeout: 3", " line 2: not valid YAML"),
        ("lockname: [a, [b]]", ": lockname: expected a string, found ['a', []]"),
        ('lockname: [a, "b\\nc"]', ": lockname: expected one name in each item"),
        ("reason: {a: b}", ": reason: expected a string"),
        ("timeout: soon", ": timeout: expected a number of seconds, found 'soon'"),
        ("timeout: true", ": timeout: expected a number of seconds"),
        ("nowait: 7", ": nowait: expected true or false"),
        ("slots: 0", ": slots: expected a whole number"),
        ("endpoints: {a: b}", ": endpoints: expected a list of URLs, or URLs separated by commas, found {}"),
        ("endpoints: [[a]]", ": endpoints: expected a list of URLs"),
        ("maxtime: soon", ": maxtime: expected a duration like 5s"),
        ("maxtime: -5s", ": maxtime: expected "),
        ("locknmae: x", ": unknown key 'locknmae'; did you mean lockname?"),
        ('"a\\nb": x', ": unknown key 'a\\nb'; known keys: "),
        ("config: other.yaml", ": unknown key 'config'"),
        ("7: x", ": unknown key '7'"),
        ("[a]: x", ": unknown key '[]'"),
        ("? {a: b}\n: x", ": unknown key '{}'"),
        ("- lockname\n- x", ": expected 'key: value' lines, found a list"),
        ("just words", ": expected 'key: value' lines, found a text"),
        ("lockname: !!python/object/apply:os.system [id]", "not valid YAML"),
        ("timeout: 2024-13-45", ": timeout: expected a number of seconds, found '2024-13-45'"),
        ("timeout: 010", ": timeout: expected a number of seconds, found '010'"),
        ("timeout: 1_000", ": timeout: expected a number of seconds"),
        ("slots: 0x2", ": slots: expected a whole number"),
        ("lockname: a\nreason: b\nlockname: c", ": the key 'lockname' is there twice"),
        ("'lockname': a\nreason: b\nlockname: c", ": the key 'lockname' is there twice"),
        ("password: !secret word", "not valid YAML here: a tag (!...) has no meaning"),
        ('cacert: "a\\0b"', ": cacert: expected the name of a file"),
        ("slots: " + "9" * 5000, ""),
        ("[" * 1500, "not valid YAML"),  # beyond what Python nests; much longer takes seconds to read
    ],
)
def test_a_config_file_that_is_wrong_is_named_with_its_key(
    refuse_here: Refuse, config_file: Callable[[str], str], text: str, said: str
) -> None:
    path = config_file(text)
    line = refuse_here("--lock-name=x", f"--config={path}", *RUN)
    assert line.startswith(f"config file {path}")
    assert said in line


def test_a_config_file_of_bytes(refuse: Refuse, tmp_path: Path) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"reason: \xff\xfe\x00\x01\n")
    assert refuse("--lock-name=x", f"--config={path}", *RUN).startswith(f"config file {path}: not valid YAML")


def test_a_config_file_that_cannot_be_read(refuse: Refuse, config_file: Callable[[str], str], tmp_path: Path) -> None:
    path, reason = str(tmp_path), "Is a directory"
    if os.geteuid() != 0:  # root may read everything that can be read at all
        path, reason = config_file(""), "Permission denied"
        os.chmod(path, 0)
    assert refuse("--lock-name=x", f"--config={path}", *RUN) == f"config file {path}: cannot be read: {reason}"


# Refused by etcd itself.


@pytest.mark.parametrize("size", [1_600_000, 2_200_000])
@pytest.mark.parametrize("operation", ["command", "lock"])
def test_a_reason_too_large_for_etcd(
    refuse: Refuse, config_file: Callable[[str], str], size: int, operation: str
) -> None:
    path = config_file("reason: " + "r" * size)
    line = refuse("--lock-name=x", f"--config={path}", *(RUN if operation == "command" else ["--lock"]))
    assert line.startswith("etcd refuses: ")
    assert line.endswith("shorten the reason or the value")


# As JSON.


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--json", "--bogus"], "usage"),
        (["--lock-name", "x", "-json=true", "--bogus"], "usage"),
        (["--bogus", "--json"], "usage"),
        (["--json", "--timeout"], "usage"),
        (["--json", "--lock", "--unlock"], "usage"),
        (["--json", "--lock-name=a/b", "--lock"], "config"),
        (["--json", "--lock-name=x", "--lock", "--endpoints=http://h:99999"], "config"),
        (["--json", "--list", "--config=/nowhere"], "config"),
        (["--json", "--lock-name=x", "--verify"], "usage"),
    ],
)
def test_bad_input_as_json(run_distlock: Run, arguments: list[str], kind: str) -> None:
    done = run_distlock(*arguments)
    assert done.returncode == 1
    assert done.stderr == ""
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == kind
    assert set(error) == {"kind", "message"}


@pytest.mark.parametrize(
    "option", ["--bogus", "--lock-name=a/b", "--endpoints=http://h:99999", "--timeout=soon", "--config=/nowhere"]
)
def test_bad_input_beside_a_command_leaves_stdout_alone(run_distlock: Run, option: str) -> None:
    done = run_distlock("--lock-name=x", option, *RUN, env={"DISTLOCK_JSON": "t"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert json.loads(one_line(done.stderr))["error"]["kind"] in ("usage", "config")
