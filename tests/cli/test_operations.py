"""--lock, --unlock, --list, --show, --verify and a command under the lock: what they do and what they show."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from typing import Callable

import pytest

from distlock_core.base.columns import columns_of
from tests.support.processes import Process
from tests.support.realm_view import BOUND, Holding, RealmView, eventually, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]
Hold = Callable[..., Holding]
DISTLOCK = f"{sys.executable.rpartition('/')[0]}/distlock"
PATH = {"PATH": f"{sys.executable.rpartition('/')[0]}:/usr/bin:/bin"}
GO_RECORD = "1500000000;go-host;some reason"


# Lock and unlock.


def test_lock_leaves_the_lock_held_and_unlock_releases_it(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock("--lock-name=x", "--lock", "--reason=why").returncode == 0
    assert list(realm.entries()) == ["x"]
    busy = run_distlock("--lock-name=x", "--lock", "--nowait")
    assert busy.returncode == 1
    assert re.fullmatch(
        r'distlock: x is held by \S+ since \d\d:\d\d \(\d+s\): "why"\. See: distlock --show --lock-name=x( --\S+)+',
        one_line(busy.stderr),
    )
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert realm.entries() == {}
    assert run_distlock("--lock-name=x", "--lock", "--nowait").returncode == 0


def test_unlocking_a_free_lock_fails(run_distlock: Run, realm: RealmView) -> None:
    before = realm.revision()
    done = run_distlock("--lock-name=x", "--unlock")
    assert done.returncode == 1
    assert one_line(done.stderr) == "distlock: x is not locked"
    assert realm.written_since(before) == []


def test_unlock_ignores_the_reason(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--lock", "--reason=mine")
    done = run_distlock("--lock-name=x", "--unlock", "--reason=another", env={"DISTLOCK_REASON": "a third"})
    assert (done.returncode, done.stderr) == (0, "")
    assert realm.entries() == {}


def test_anyone_may_unlock_and_the_run_that_held_it_reports_lost(
    hold: Hold, run_distlock: Run, realm: RealmView
) -> None:
    holder = hold("--lock-name=x")
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert holder.let_go() == 2
    assert re.search("x.* was lost", one_line(holder.process.stderr.read()))
    assert realm.entries() == {}


def test_a_run_whose_lock_was_lost_leaves_the_next_holders(hold: Hold, run_distlock: Run, realm: RealmView) -> None:
    holder = hold("--lock-name=x")
    run_distlock("--lock-name=x", "--unlock")
    run_distlock("--lock-name=x", "--lock", "--reason=next")
    assert holder.let_go() == 2
    assert realm.record("x")[1]["reason"] == "next"


def test_unlock_by_name_leaves_its_neighbours_alone(run_distlock: Run, realm: RealmView) -> None:
    for name in ("x", "x-b", "x0", "xy"):
        realm.put(name, GO_RECORD)
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert sorted(realm.entries()) == ["x-b", "x0", "xy"]


def test_unlock_with_an_id_refuses_anothers_lock(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--lock", "--id=node-1")
    before = realm.revision()
    for how in (["--id=node-2"], []):
        done = run_distlock("--lock-name=x", "--unlock", *how, env={} if how else {"DISTLOCK_ID": "node-2"})
        assert done.returncode == 1
        assert "x is held by node-1" in one_line(done.stderr)
        assert "not by node-2: left alone" in done.stderr
    assert realm.written_since(before) == []
    assert run_distlock("--lock-name=x", "--unlock", "--id=node-1").returncode == 0


def test_force_unlocks_anothers_lock(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--lock", "--id=node-1")
    assert run_distlock("--lock-name=x", "--unlock", "--id=node-2", "--force=false").returncode == 1
    assert run_distlock("--lock-name=x", "--unlock", "--id=node-2", "--force").returncode == 0
    assert realm.entries() == {}


def test_unlock_with_a_token_refuses_a_newer_lock(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--lock")
    old = realm.token("x")
    run_distlock("--lock-name=x", "--unlock")
    run_distlock("--lock-name=x", "--lock")
    new = realm.token("x")
    assert new > old
    refused = run_distlock("--lock-name=x", "--unlock", f"--token={old}")
    assert refused.returncode == 1
    assert re.search(rf"not (by token )?{old}: left alone", one_line(refused.stderr))
    assert realm.token("x") == new
    assert run_distlock("--lock-name=x", "--unlock", f"--token={new}").returncode == 0


def test_of_several_slots_unlock_wants_to_know_which(run_distlock: Run, realm: RealmView) -> None:
    for _ in range(2):
        run_distlock("--lock-name=x", "--lock", "--slots=2")
    refused = run_distlock("--lock-name=x", "--unlock")
    assert refused.returncode == 1
    first, second = realm.token("x"), realm.token("x/slot/1")
    assert f"Choose one with --token ({first}, {second})" in one_line(refused.stderr)
    assert run_distlock("--lock-name=x", "--unlock", f"--token={first}").returncode == 0
    assert list(realm.entries()) == ["x/slot/1"]
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert realm.entries() == {}


# A command under the lock.


def test_the_lock_is_there_while_the_command_runs_and_gone_afterwards(hold: Hold, realm: RealmView) -> None:
    holder = hold("--lock-name=x", "--reason=Upgrade RPMs")
    owner, details = realm.record("x")
    assert owner == socket.gethostname()
    assert (details["reason"], details["kind"], details["pid"]) == ("Upgrade RPMs", "run", holder.process.pid)
    assert realm.token("x") == holder.token
    assert holder.let_go() == 0
    assert realm.entries() == {}


def test_arguments_reach_the_command_untouched_by_any_shell(run_distlock: Run) -> None:
    arguments = [
        "two words",
        "it's",
        '"quoted"',
        "$(echo 1)",
        "`id`",
        "$HOME",
        "a;b|c&d>e",
        "line\nend\n",
        "",
        "*",
        "-",
    ]
    done = run_distlock("--lock-name=x", "--", "printf", "<%s>", *arguments)
    assert done.stdout == "".join(f"<{argument}>" for argument in arguments)


def test_bytes_that_are_no_text_reach_the_command_too(run_distlock: Run) -> None:
    code = "import os, sys; print(os.fsencode(sys.argv[1]))"
    done = run_distlock("--lock-name=x", "--", sys.executable, "-c", code, b"\xff\xfe")
    assert done.stdout == "b'\\xff\\xfe'\n"


def test_stdin_and_stdout_are_the_commands_to_the_byte(distlock_env: dict[str, str]) -> None:
    every_byte = bytes(range(256)) * 2000
    arguments = [DISTLOCK, "--lock-name=x", "--", "cat"]
    done = subprocess.run(
        arguments, env=distlock_env, input=every_byte, capture_output=True, timeout=BOUND, check=False
    )
    assert done.stdout == every_byte
    assert done.stderr == b""


def test_the_command_asks_and_reads_the_answer(run_distlock: Run) -> None:
    code = 'echo "Is this ok [y/N]:" >&2; read answer; echo "answer was $answer"; cat'
    done = run_distlock("--lock-name=x", "--", "sh", "-c", code, input="y\nrest\n")
    assert done.stdout == "answer was y\nrest\n"
    assert done.stderr == "Is this ok [y/N]:\n"


def test_a_reader_that_goes_away_ends_the_command_and_the_lock_is_released(
    spawn_distlock: Spawn, realm: RealmView
) -> None:
    process = spawn_distlock("--lock-name=x", "--", "yes")
    head = subprocess.run(
        ["head", "-1"], stdin=process.stdout, capture_output=True, text=True, timeout=BOUND, check=False
    )
    process.stdout.close()
    assert head.stdout == "y\n"
    assert process.wait(BOUND) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""
    assert realm.entries() == {}


def test_a_list_whose_reader_has_gone_prints_nothing(spawn_distlock: Spawn, realm: RealmView) -> None:
    realm.put("x", GO_RECORD)
    reader, writer = os.pipe()
    os.close(reader)
    process = spawn_distlock("--list", stdout=writer)
    os.close(writer)
    assert process.wait(BOUND) == 1
    assert process.stderr.read() == ""


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">/dev/full", ">&-"])
def test_the_lock_is_released_without_a_reader_of_the_output(
    distlock_env: dict[str, str], realm: RealmView, redirection: str
) -> None:
    script = f'"$0" --lock-name=x --verbose -- sh -c "exit 7" {redirection}'
    done = subprocess.run(
        ["sh", "-c", script, DISTLOCK], env=distlock_env, capture_output=True, timeout=BOUND, check=False
    )
    assert done.returncode == 7
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert realm.entries() == {}


def test_a_full_disk_is_reported_in_one_line(distlock_env: dict[str, str], realm: RealmView) -> None:
    realm.put("x", GO_RECORD)
    done = subprocess.run(
        ["sh", "-c", '"$0" --list >/dev/full', DISTLOCK],
        env=distlock_env,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 1
    assert one_line(done.stderr) == "distlock: cannot write to stdout: No space left on device"


# The command's environment.


def environment(text: str) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in text.split("\0") if entry)


def test_the_commands_environment_names_the_lock_it_holds(run_distlock: Run, realm_prefix: str) -> None:
    found = environment(run_distlock("--lock-name=x", "--", "env", "-0").stdout)
    assert found["DISTLOCK_HELD"] == f"{realm_prefix}x"
    assert found["DISTLOCK_TOKEN"].isdigit()
    assert "DISTLOCK_LEASE" not in found


def test_settings_for_this_call_are_removed_and_the_rest_stays(run_distlock: Run, distlock_env: dict[str, str]) -> None:
    mine = {
        "DISTLOCK_LOCKNAME": "x",
        "DISTLOCK_REASON": "why",
        "DISTLOCK_TIMEOUT": "5",
        "DISTLOCK_NOWAIT": "false",
        "DISTLOCK_ID": "me",
        "DISTLOCK_SLOTS": "2",
        "DISTLOCK_TTL": "",
        "DISTLOCK_REFRESH": "",
        "DISTLOCK_LEASE": "77",
    }
    stays = {"DISTLOCK_CONNECT_TIMEOUT": "4", "DISTLOCK_BUSY_EXIT_CODE": "75", "ODD": "a=b\nc", "DISTLOCKED": "yes"}
    found = environment(run_distlock("--", "env", "-0", env={**mine, **stays}).stdout)
    held = {"DISTLOCK_TOKEN": found["DISTLOCK_TOKEN"], "DISTLOCK_HELD": found["DISTLOCK_HELD"]}
    assert found == {**distlock_env, **stays, **held}


def test_the_environment_of_nested_locks_names_them_all(run_distlock: Run, realm: RealmView) -> None:
    inner = ["distlock", "--lock-name=inner", "--", "env", "-0"]
    show = ["sh", "-c", 'echo "outer=$DISTLOCK_TOKEN"; printf "\\0"; exec "$@"', "sh", *inner]
    found = environment(run_distlock("--lock-name=outer", "--", *show, env=PATH).stdout)
    first, second = found["DISTLOCK_HELD"].split("\n")
    assert first == f"{realm.prefix}inner"
    assert second == f"{found['outer'].strip()} {realm.prefix}outer"
    assert int(found["DISTLOCK_TOKEN"]) > int(found["outer"])
    assert realm.entries() == {}


@pytest.mark.parametrize("held", ["\udcff\udcfe", "a\n\n7\n8 \udcff", "9" * 5000])
@pytest.mark.parametrize("token", ["5", "9" * 5000, "none"])
def test_whatever_is_inherited_the_lock_is_released(run_distlock: Run, realm: RealmView, held: str, token: str) -> None:
    done = run_distlock("--lock-name=x", "--", "echo", "ran", env={"DISTLOCK_HELD": held, "DISTLOCK_TOKEN": token})
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    assert realm.entries() == {}


# Verify.


def test_verify_is_for_the_token_that_still_holds(run_distlock: Run, realm: RealmView) -> None:
    run_distlock("--lock-name=x", "--lock")
    token = realm.token("x")
    assert run_distlock("--lock-name=x", "--verify", f"--token={token}").returncode == 0
    assert run_distlock("--lock-name=x", "--verify", env={"DISTLOCK_TOKEN": str(token)}).returncode == 0
    other = run_distlock("--lock-name=x", "--verify", f"--token={token - 1}", env={"DISTLOCK_TOKEN": str(token)})
    assert other.returncode == 2
    assert one_line(other.stderr) == f"distlock: token {token - 1} does not hold x"
    run_distlock("--lock-name=x", "--unlock")
    assert run_distlock("--lock-name=x", "--verify", f"--token={token}").returncode == 2


def test_a_command_verifies_the_token_that_it_has_inherited(run_distlock: Run) -> None:
    script = (
        "distlock --verify --lock-name=x; echo $?; distlock --unlock --lock-name=x; distlock --verify --lock-name=x; "
        "echo $?"
    )
    done = run_distlock("--lock-name=x", "--", "sh", "-c", script, env=PATH)
    assert done.stdout == "0\n2\n"
    assert done.returncode == 2


def test_a_command_verifies_the_outer_of_two_locks_too(run_distlock: Run) -> None:
    script = "for name in inner outer other; do distlock --verify --lock-name=$name 2>&-; echo $?; done"
    nested = ["distlock", "--lock-name=inner", "--", "sh", "-c", script]
    assert run_distlock("--lock-name=outer", "--", *nested, env=PATH).stdout == "0\n0\n2\n"


def test_verify_knows_the_holders_of_all_slots(run_distlock: Run, realm: RealmView) -> None:
    for _ in range(2):
        run_distlock("--lock-name=x", "--lock", "--slots=2")
    for key in ("x", "x/slot/1"):
        assert run_distlock("--lock-name=x", "--verify", f"--token={realm.token(key)}").returncode == 0


# Show and list.


def test_show_names_the_holder_and_the_waiters_in_order(
    hold: Hold, spawn_distlock: Spawn, run_distlock: Run, realm: RealmView
) -> None:
    holder = hold("--lock-name=x", "--id=node-1", "--reason=Upgrade RPMs")
    for number in (2, 3):
        waiter = spawn_distlock("--lock-name=x", f"--id=node-{number}", f"--reason=reason {number}", "--", "true")
        assert waiter.stderr.readline().startswith("distlock: waiting: ")
    lines = run_distlock("--lock-name=x", "--show").stdout.splitlines()
    host = re.escape(socket.gethostname())
    expected = [
        "x",
        "  held by   node-1",
        r"  since     \d\d:\d\d \(\d+s\)",
        "  reason    Upgrade RPMs",
        f"  token     {holder.token}",
        "  lifetime  persistent",
        f"  host      {host}, pid {holder.process.pid}",
        "  process   running",
        "  machine   this one, not restarted since",
        "  waiting   2",
        rf'  {1:8}\. node-2 on {host} since \d\d:\d\d: "reason 2"',
        rf'  {2:8}\. node-3 on {host} since \d\d:\d\d: "reason 3"',
    ]
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected):
        assert re.fullmatch(pattern, line), (line, pattern)


def test_show_of_a_free_lock_reports_its_last_end(run_distlock: Run) -> None:
    shown = run_distlock("--lock-name=x", "--show").stdout
    assert re.fullmatch(r"x\n  held by   nobody\n  last      never held: .*\n  waiting   0\n", shown)
    run_distlock("--lock-name=x", "--id=node-1", "--", "true")
    assert re.search(r"\n  last      released by node-1 at \d\d:\d\d\n", run_distlock("--lock-name=x", "--show").stdout)
    run_distlock("--lock-name=x", "--id=node-1", "--lock")
    run_distlock("--lock-name=x", "--unlock")
    shown = run_distlock("--lock-name=x", "--show").stdout
    assert re.search(rf"last      broken by {socket.gethostname()} at \d\d:\d\d, was held by node-1\n", shown)


def test_show_reports_that_the_process_behind_a_lock_is_gone(hold: Hold, run_distlock: Run) -> None:
    holder = hold("--lock-name=x")
    holder.process.kill()
    holder.process.wait(BOUND)
    # Only distlock: its command works on.
    shown = run_distlock("--lock-name=x", "--show").stdout
    assert re.search(rf"pid {holder.process.pid} \(process \d+, which runs under it, is running\)", shown), shown
    holder.process.stdin.close()
    gone = f"pid {holder.process.pid} (gone)"
    eventually(lambda: gone in run_distlock("--lock-name=x", "--show").stdout, gone)


def test_show_names_the_process_that_a_step_was_taken_for(run_distlock: Run, distlock_env: dict[str, str]) -> None:
    script = (
        '"$0" --lock-name=x --id=me --lock && "$0" --lock-name=x --show && "$0" --lock-name=x --show --json && exit'
    )
    done = subprocess.run(
        ["sh", "-c", script, DISTLOCK], env=distlock_env, capture_output=True, text=True, timeout=BOUND, check=False
    )
    *card, document = done.stdout.splitlines()
    (lock,) = json.loads(document)["locks"]
    host, pid = lock["taker"]["host"], lock["taker"]["pid"]
    assert f"  taken for process {pid} on {host}" in card
    assert f"  taken for process {pid} on {host} (gone)\n" in run_distlock("--lock-name=x", "--show").stdout


def test_list_is_a_table_for_people(hold: Hold, spawn_distlock: Spawn, run_distlock: Run, realm: RealmView) -> None:
    hold("--lock-name=percona_prod", "--id=node-1", "--reason=Upgrade RPMs")
    waiter = spawn_distlock("--lock-name=percona_prod", "--", "true")
    assert waiter.stderr.readline().startswith("distlock: waiting: ")
    realm.put("by_go", GO_RECORD)
    realm.put("garbage", "no record at all")
    realm.put("__freeze_not", GO_RECORD)  # reserved: not a lock
    realm.put("a/b/c", GO_RECORD)
    done = run_distlock("--list")
    assert done.stderr == ""
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["LOCK", "OWNER", "SINCE", "HELD", "WAITING", "REASON"]
    # The columns stand below their headings.
    starts = [heading.index(word) for word in heading.split()]
    cells = [[row[start:end].strip() for start, end in zip(starts, [*starts[1:], None])] for row in rows]
    assert [row[:2] + row[4:] for row in cells] == [
        ["by_go", "go-host", "0", "some reason"],
        ["garbage", "an unknown owner", "0", "no record at all"],
        ["percona_prod", "node-1", "1", "Upgrade RPMs"],
    ]
    assert cells[0][2].startswith("2017-07-1")
    assert re.fullmatch(r"\d{4,}d\d\dh", cells[0][3])
    assert cells[1][2:4] == ["-", "-"]
    assert re.fullmatch(r"\d\d:\d\d", cells[2][2])
    assert re.fullmatch(r"\d+s", cells[2][3])


def test_list_takes_names_and_patterns(run_distlock: Run, realm: RealmView) -> None:
    for name in ("es-1", "es-2", "db-1", "e*s"):
        realm.put(name, GO_RECORD)
    run_distlock("--freeze", "--lock-name=es-9")

    def listed(*names: str) -> list[str]:
        done = run_distlock("--list", "--json", *(f"--lock-name={name}" for name in names))
        return [lock["lock"] for lock in json.loads(done.stdout)["locks"]]

    assert listed("es-*") == ["es-1", "es-2", "es-9"]
    assert listed("db?1", "es-2") == ["db-1", "es-2"]
    assert listed("e*s") == ["e*s"]
    assert listed("*") == ["db-1", "e*s", "es-1", "es-2", "es-9"]
    assert listed("es-1", "db-1") == ["es-1", "db-1"]
    nothing = run_distlock("--list", "--lock-name=x*")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == f"distlock: no locks under {realm.prefix} match x*\n"


def test_list_counts_columns_and_not_characters(run_distlock: Run, realm: RealmView) -> None:
    realm.put("升级", "1500000000;データベース;wide")
    realm.put("percona_prod", "1500000000;node-1;plain")
    realm.put("zoé", "1500000000;e\u0301;accents")
    heading, *rows = run_distlock("--list").stdout.splitlines()
    for row, reason in zip(rows, ("plain", "accents", "wide")):
        assert columns_of(row.partition(reason)[0]) == heading.index("REASON")


def test_list_stays_in_its_realm(run_distlock: Run, realm: RealmView) -> None:
    realm.put("inside", GO_RECORD)
    before = realm.revision()
    done = run_distlock("--list", f"--prefix={realm.prefix}deeper/")
    assert (done.stdout, done.stderr) == ("", f"distlock: no locks under {realm.prefix}deeper/\n")
    assert done.returncode == 0
    assert realm.written_since(before) == []


# Locks of the Go original.


def test_a_lock_of_the_go_original_is_listed_busy_and_can_be_unlocked(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", GO_RECORD)
    assert "go-host" in run_distlock("--list").stdout
    shown = run_distlock("--lock-name=x", "--show").stdout
    assert "held by   go-host" in shown
    assert "reason    some reason" in shown
    busy = run_distlock("--lock-name=x", "--nowait", "--", "echo", "ran")
    assert (busy.returncode, busy.stdout) == (1, "")
    assert re.match(
        r'distlock: x is held by go-host since 2017.* \(\d+d\d\dh\): "some reason"\.', one_line(busy.stderr)
    )
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert realm.entries() == {}


def test_a_lock_of_the_go_original_is_never_entered_again(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", GO_RECORD)
    assert run_distlock("--lock-name=x", "--nowait", "--id=go-host", "--", "true").returncode == 1
    assert realm.entries()["x"] == GO_RECORD.encode()


@pytest.mark.parametrize("rest", ["", ";", "a;b;c", "{not json", "[]", '"text"', "{}", "\u00fc"])
def test_whatever_reason_the_original_has_written(run_distlock: Run, realm: RealmView, rest: str) -> None:
    realm.put("x", f"1500000000;go-host;{rest}")
    shown = run_distlock("--list").stdout.splitlines()[1]
    assert "go-host" in shown
    assert shown.endswith(rest if rest not in ("", "{}") else "0")
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0


def test_the_originals_list_can_read_all_that_we_write(
    hold: Hold, spawn_distlock: Spawn, run_distlock: Run, realm: RealmView
) -> None:
    run_distlock("--lock-name=a", "--lock", "--reason=with; semicolons", "--id=me")
    run_distlock("--lock-name=b", "--", "true")
    for _ in range(2):
        run_distlock("--lock-name=c", "--lock", "--slots=2")
    hold("--lock-name=d")
    waiter = spawn_distlock("--lock-name=d", "--", "true")
    waiter.stderr.readline()
    listed = []
    for key, value in realm.all_keys().items():
        if "/" in key:
            continue  # as the original does
        fields = value.decode().split(";", 2)
        assert len(fields) == 3, (key, value)
        int(fields[0])
        listed.append((key, fields[1]))
    assert listed == [("a", "me"), ("c", socket.gethostname()), ("d", socket.gethostname())]


def test_the_originals_mutex_keeps_us_out_and_we_leave_it_alone(run_distlock: Run, realm: RealmView) -> None:
    realm.put("__internal_lock/694d", "")
    done = run_distlock("--lock-name=x", "--nowait", "--", "true")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("distlock: x is free, but a client of the Go original ")
    assert list(realm.entries()) == ["__internal_lock/694d"]
    assert run_distlock("--list").stdout == ""


# Values that are no records.


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no record",
        b"now;owner;reason",
        b"1500000000",
        b"1500000000;owner",
        b"\xff\xfe\x00\x01",
        b"1" * 400 + b";owner;reason",
        b"99999999999999999;owner;reason",
        b"-5;owner;reason",
        b"1500000000;;",
        b'1500000000;owner;{"reason": 7, "pid": "x", "limit": -3, "state": [], "host": {}, "run": null, "boot": 1}',
        b'1500000000;owner;{"reason": "\\ud800", "limit": 99999999999999999999999, "pid": 99999999999999999999}',
        b"1500000000;owner;" + b'{"a":' * 2000,
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_value_that_is_no_record_is_a_lock_that_can_be_unlocked(
    run_distlock: Run, realm: RealmView, value: bytes
) -> None:
    realm.put("x", value)
    for operation in (["--list"], ["--lock-name=x", "--show"]):
        done = run_distlock(*operation)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "x" in done.stdout
        known = b";owner;" in value and not value.startswith((b"now", b"1111"))
        if not known and value != b"1500000000;;":
            assert "an unknown owner" in done.stdout
    busy = run_distlock("--lock-name=x", "--nowait", "--", "true")
    assert busy.returncode == 1
    assert "x is held by" in one_line(busy.stderr)
    assert run_distlock("--lock-name=x", "--unlock").returncode == 0
    assert realm.entries() == {}


HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \r\n\t back\x08\u202e\u2028 \x7f end"


@pytest.mark.parametrize("form", ["1500000000;{0};{0}", "{0}"])
def test_texts_from_etcd_are_escaped_for_terminals(run_distlock: Run, realm: RealmView, form: str) -> None:
    realm.put("x", form.format(HOSTILE))
    realm.put("y\x1b[31m", "1500000000;o;r")
    realm.put("x/queue/50/exclusive/1", f"1500000000;{HOSTILE};" + '{"reason": "\\u001b[2J\\n", "host": "\\u001b[2J"}')
    for operation in (
        ["--list"],
        ["--lock-name=x", "--show"],
        ["--lock-name=x", "--nowait", "--", "true"],
        ["--lock-name=x", "--timeout=0.2", "--", "true"],
        ["--lock-name=x", "--unlock", "--id=me"],
        ["--lock-name=x", "--unlock", "--verbose"],
        ["--lock-name=x", "--show"],
    ):
        done = run_distlock(*operation)
        assert done.stdout + done.stderr
        for line in (done.stdout + done.stderr).split("\n"):
            assert line.isprintable(), line
        assert "Traceback" not in done.stderr


# Slots.


def test_two_slots_admit_two_holders_and_the_third_is_busy(hold: Hold, run_distlock: Run, realm: RealmView) -> None:
    first = hold("--lock-name=x", "--slots=2", "--id=a")
    hold("--lock-name=x", "--slots=2", "--id=b")
    assert sorted(realm.entries()) == ["x", "x/slot/1"]
    third = run_distlock("--lock-name=x", "--slots=2", "--nowait", "--", "true")
    assert third.returncode == 1
    assert re.search(r"x is held by a since .* and by b \(slot 1\) since ", one_line(third.stderr))
    assert first.let_go() == 0
    assert run_distlock("--lock-name=x", "--slots=2", "--nowait", "--", "true").returncode == 0
    assert list(realm.entries()) == ["x/slot/1"]
    listed = run_distlock("--list").stdout
    assert "x (slot 1)" in listed


@pytest.mark.parametrize(("theirs", "mine"), [("2", "3"), ("2", "1"), ("1", "2")])
@pytest.mark.parametrize("patience", ["--nowait", "--timeout=20"])
def test_another_number_of_slots_is_a_conflict_at_once(
    run_distlock: Run, realm: RealmView, theirs: str, mine: str, patience: str
) -> None:
    run_distlock("--lock-name=x", f"--slots={theirs}", "--lock")
    before = realm.revision()
    done = run_distlock("--lock-name=x", f"--slots={mine}", patience, "--busy-exit-code=75", "--", "true")
    assert done.returncode == 1
    assert (
        f"held with {theirs} slot(s), but {mine} were requested. Use the same number everywhere: --slots={theirs}"
        in one_line(done.stderr)
    )
    assert realm.written_since(before) == []


def test_slots_wait_for_a_lock_of_the_go_original(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", GO_RECORD)
    assert run_distlock("--lock-name=x", "--slots=2", "--nowait", "--", "true").returncode == 1
    assert realm.entries()["x"] == GO_RECORD.encode()


# Freeze.


@pytest.mark.parametrize(
    ("record", "by"),
    [
        ("1500000000;the boss;no changes today", 'by the boss since 2017-07-14 .*: "no changes today"'),
        ('1500000000;the boss;{"reason":"stop"}', 'by the boss since 2017-07-14 .*: "stop"'),
        ("anything", "by an unknown owner"),
    ],
)
def test_no_command_acquires_in_a_frozen_realm(run_distlock: Run, realm: RealmView, record: str, by: str) -> None:
    realm.put("__freeze", record)
    for arguments in (["--nowait", "--lock"], ["--nowait", "--", "true"], ["--slots=2", "--nowait", "--", "true"]):
        done = run_distlock("--lock-name=x", *arguments)
        assert done.returncode == 1
        assert re.search(rf"x: the realm is frozen {by}", one_line(done.stderr))
    waited = run_distlock("--lock-name=x", "--timeout=1", "--quiet", "--", "true")
    assert waited.returncode == 1
    said = rf"distlock: gave up after \d+\.\ds: x: the realm is frozen {by}"
    assert re.match(said, one_line(waited.stderr))
    assert list(realm.entries()) == ["__freeze"]
    assert "frozen" in run_distlock("--lock-name=x", "--show").stdout


def test_a_frozen_realm_releases_and_its_waiters_continue_when_it_thaws(
    hold: Hold, spawn_distlock: Spawn, run_distlock: Run, realm: RealmView
) -> None:
    holder = hold("--lock-name=x")
    realm.put("__freeze", "1500000000;boss;no changes today")
    assert holder.let_go() == 0
    assert list(realm.entries()) == ["__freeze"]
    waiter = spawn_distlock("--lock-name=x", "--", "echo", "ran")
    assert "the realm is frozen by boss" in waiter.stderr.readline()
    realm.delete("__freeze")
    assert waiter.communicate(timeout=BOUND)[0] == "ran\n"
    assert waiter.returncode == 0
