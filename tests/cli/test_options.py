"""Every option, environment variable and config key works as documented, in every form."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, TypeVar

import pytest
import yaml

from distlock_core.cli.command_line import parse
from distlock_core.cli.option_rules import OPERATIONS, UsageError
from distlock_core.errors import DistlockError
from distlock_core.settings.load import load
from distlock_core.settings.options import OF_ONE_CALL, SETTINGS
from distlock_core.testing import Cluster, Proxy
from tests.support.access_settings import OF_ACCESS
from tests.support.lease_settings import OF_LEASES
from tests.support.processes import Process
from tests.support.realm_view import Holding, RealmView, one_line
from tests.support.time_windows import closed_now, open_now

Run = Callable[..., subprocess.CompletedProcess[str]]
Test = TypeVar("Test", bound=Callable[..., None])
PRINTENV = "--", "printenv", "DISTLOCK_HELD"


class Give(NamedTuple):
    """A way of giving one setting: as an option, as a variable, or in the config file."""

    way: str
    config_file: Callable[[str], str]

    def __call__(self, key: str, value: Any) -> tuple[list[str], dict[str, str | None]]:
        """The arguments and the environment that give it."""
        setting = next(setting for setting in SETTINGS if setting.key == key)
        if self.way == "file":
            return [], {"DISTLOCK_CONFIG": self.config_file(yaml.safe_dump({key: value}))}
        text = ",".join(value) if isinstance(value, list) else str(value).lower() if value is True else str(value)
        if self.way == "variable":
            return [], {setting.variable: text}
        return [f"--{setting.option}={text}"], {}


def ways(key: str) -> Callable[[Test], Test]:
    """The test runs once for every form of this setting."""
    scope = next(setting.scope for setting in SETTINGS if setting.key == key).split()
    names = {"option": "option", "env": "variable", "file": "file"}
    mark = pytest.mark.parametrize("give", [names[word] for word in scope], indirect=True)

    def decorate(test: Test) -> Test:
        COVERED.add(key)
        marked: Test = mark(test)
        return marked

    return decorate


COVERED: set[str] = set()


@pytest.fixture
def give(request: pytest.FixtureRequest, config_file: Callable[[str], str]) -> Give:
    return Give(request.param, config_file)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An endpoint on a reserved port without a listener."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


# Each setting, in every way.


@ways("lockname")
def test_lock_name_names_the_lock(run_distlock: Run, realm_prefix: str, give: Give) -> None:
    options, env = give("lockname", "percona_prod")
    assert run_distlock(*options, *PRINTENV, env=env).stdout == f"{realm_prefix}percona_prod\n"


@ways("reason")
def test_reason_is_kept_with_the_lock(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("reason", "Upgrade RPMs; 50% \u00fc \"quoted\" 'too'")
    assert run_distlock("--lock-name=x", "--lock", *options, env=env).returncode == 0
    assert realm.record("x")[1]["reason"] == "Upgrade RPMs; 50% \u00fc \"quoted\" 'too'"


@ways("value")
def test_value_is_kept_with_the_lock(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("value", "10.1.1.1; \u00fc")
    assert run_distlock("--lock-name=x", "--lock", *options, env=env).returncode == 0
    assert realm.record("x")[1]["value"] == "10.1.1.1; \u00fc"
    assert run_distlock("--lock-name=x", "--get").stdout == "10.1.1.1; \u00fc\n"


@ways("beat")
def test_beat_sets_how_often_a_holder_gives_a_sign_of_life(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("beat", 2)
    shows = (os.path.join(os.path.dirname(sys.executable), "distlock"), "--show", "--lock-name=x", "--json")
    done = run_distlock("--lock-name=x", *options, "--", *shows, env=env)
    (lock,) = json.loads(done.stdout)["locks"]
    assert lock["beat"]["every"] == 2
    assert realm.entries() == {}


@ways("timeout")
def test_timeout_bounds_the_wait(run_distlock: Run, realm: RealmView, give: Give) -> None:
    realm.put("x", "1500000000;other;reason")
    options, env = give("timeout", 1.1)
    done = run_distlock("--lock-name=x", *options, "--quiet", "--", "true", env=env)
    assert done.returncode == 1
    seconds = re.match(r"distlock: gave up after (\d+\.\d)s: ", one_line(done.stderr))
    assert seconds is not None, done.stderr
    assert float(seconds[1]) >= 1.1
    assert list(realm.entries()) == ["x"]


@ways("timeout")
def test_a_timeout_of_zero_does_not_wait(run_distlock: Run, realm: RealmView, give: Give) -> None:
    realm.put("x", "1500000000;other;reason")
    options, env = give("timeout", 0)
    done = run_distlock("--lock-name=x", *options, "--", "true", env=env)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("distlock: x is held by other")


def test_a_negative_timeout_waits_until_the_lock_is_free(
    hold: Callable[..., Holding], spawn_distlock: Callable[..., Process]
) -> None:
    holder = hold("--lock-name=x")
    waiter = spawn_distlock("-timeout", "-1", "-lock-name", "x", "--", "echo", "mine")
    assert waiter.stderr.readline().startswith("distlock: waiting: x is held by ")
    assert holder.let_go() == 0
    assert waiter.communicate(timeout=30)[0] == "mine\n"
    assert waiter.returncode == 0


@ways("nowait")
def test_nowait_does_not_wait(run_distlock: Run, realm: RealmView, give: Give) -> None:
    realm.put("x", "1500000000;other;reason")
    options, env = give("nowait", True)
    done = run_distlock("--lock-name=x", *options, "--", "true", env=env)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("distlock: x is held by other")


@ways("endpoints")
def test_endpoints_are_the_addresses_of_etcd(
    run_distlock: Run, etcd: Cluster, realm: RealmView, nowhere: str, give: Give
) -> None:
    options, env = give("endpoints", [nowhere, etcd.endpoints[0] + "/"])
    done = run_distlock("--lock-name=x", "--lock", *options, env={"DISTLOCK_ENDPOINTS": None, **env})
    assert done.returncode == 0
    assert "x" in realm.entries()


@ways("prefix")
def test_prefix_chooses_the_realm(run_distlock: Run, realm: RealmView, realm_prefix: str, give: Give) -> None:
    options, env = give("prefix", f"{realm_prefix}another/")
    assert run_distlock("--lock-name=x", "--lock", *options, env={"DISTLOCK_PREFIX": None, **env}).returncode == 0
    assert list(realm.entries()) == ["another/x"]


@ways("raw_prefix")
def test_a_raw_prefix_is_taken_as_it_stands_as_the_original_does(
    run_distlock: Run, etcd: Cluster, realm: RealmView, give: Give
) -> None:
    options, env = give("raw_prefix", True)
    prefix = f"{realm.prefix}/odd-"
    refused = run_distlock("--lock-name=x", "--lock", env={"DISTLOCK_PREFIX": prefix})
    assert "--raw-prefix" in one_line(refused.stderr)
    assert run_distlock("--lock-name=x", "--lock", *options, env={"DISTLOCK_PREFIX": prefix, **env}).returncode == 0
    assert list(realm.entries()) == ["/odd-x"]


@ways("id")
def test_id_names_the_owner(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("id", "node-3")
    assert run_distlock("--lock-name=x", "--lock", *options, env=env).returncode == 0
    owner, details = realm.record("x")
    assert owner == "node-3"
    assert details["explicit"] is True


def test_the_owner_is_the_host_by_default(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock("--lock-name=x", "--lock").returncode == 0
    owner, details = realm.record("x")
    assert owner == socket.gethostname() == details["host"]
    assert "explicit" not in details


@ways("slots")
def test_slots_are_the_number_of_simultaneous_holders(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("slots", 2)
    taken = [run_distlock("--lock-name=x", "--lock", "--nowait", *options, env=env).returncode for _ in range(3)]
    assert taken == [0, 0, 1]
    assert sorted(realm.entries()) == ["x", "x/slot/1"]


@ways("rank")
def test_a_waiter_with_a_lower_rank_is_served_first(run_distlock: Run, realm: RealmView, give: Give) -> None:
    realm.put("x/queue/50/exclusive/0000000000000001", "1500000000;other;{}")
    for rank, code in ((51, 1), (50, 1), (49, 0), (0, 0)):
        options, env = give("rank", rank)
        done = run_distlock("--lock-name=x", "--nowait", *options, "--", "true", env=env)
        assert done.returncode == code
        assert code == 0 or "x is free, but 1 is waiting" in one_line(done.stderr)


@ways("shared")
def test_shared_holders_hold_it_together(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("shared", True)
    taken = [run_distlock("--lock-name=x", "--lock", "--nowait", *options, env=env).returncode for _ in range(3)]
    assert taken == [0, 0, 0]
    assert all(key.startswith("x/shared/") for key in realm.entries())
    assert run_distlock("--lock-name=x", "--lock", "--nowait").returncode == 1


@ways("window")
def test_nothing_is_acquired_outside_of_the_window(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("window", closed_now())
    done = run_distlock("--lock-name=x", "--nowait", "--busy-exit-code=75", *options, "--", "true", env=env)
    assert done.returncode == 75
    assert re.search(
        r": x is free; outside the window '[-:0-9]+' until \w+ [-0-9]+ [:0-9]+ UTC\.", one_line(done.stderr)
    )
    options, env = give("window", open_now())
    assert run_distlock("--lock-name=x", "--nowait", *options, "--", "true", env=env).returncode == 0
    options, env = give("window", "Mon 25:00-26:00")
    wrong = one_line(run_distlock("--lock-name=x", "--nowait", *options, "--", "true", env=env).stderr)
    assert "window: expected windows such as" in wrong.lower()
    assert "25:00 is not a time" in wrong
    assert realm.entries() == {}


@ways("expect")
def test_a_hold_that_takes_longer_than_expected_is_overdue(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("expect", "2h")
    assert run_distlock("--lock-name=x", "--lock", "--id=me", *options, env=env).returncode == 0
    assert "OVERDUE" not in run_distlock("--list").stdout
    _, details = realm.record("x")
    realm.put("x", f"{int(time.time()) - 7300};me;{json.dumps(details)}")
    assert details["expect"] == 7200
    assert "2h01m OVERDUE" in run_distlock("--list").stdout
    assert "(2h01m, OVERDUE: expected 2h00m)" in run_distlock("--show", "--lock-name=x").stdout
    (lock,) = json.loads(run_distlock("--list", "--json").stdout)["locks"]
    assert (lock["expect"], lock["overdue"]) == (7200, True)
    assert "OVERDUE: expected 2h00m" in one_line(run_distlock("--lock-name=x", "--nowait", "--", "true").stderr)


@ways("busy_exit_code")
@pytest.mark.parametrize("patience", ["--nowait", "--timeout=1"])
def test_busy_exit_code_is_for_busy_and_timed_out(
    run_distlock: Run, realm: RealmView, give: Give, patience: str
) -> None:
    realm.put("x", "1500000000;other;reason")
    options, env = give("busy_exit_code", 75)
    assert run_distlock("--lock-name=x", patience, *options, "--", "true", env=env).returncode == 75
    assert run_distlock("--lock-name=x", patience, *options, "--lock", env=env).returncode == 75
    # Only for that: what was not locked is another matter.
    assert run_distlock("--lock-name=y", "--unlock", *options, env=env).returncode == 1


@ways("unreachable_exit_code")
def test_unreachable_exit_code_is_for_an_etcd_that_is_away(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("unreachable_exit_code", 69)
    away = ["--endpoints=http://127.0.0.1:1", "--connect-timeout=0.1"]
    for operation in (["--", "true"], ["--lock"], ["--show"]):
        assert run_distlock("--lock-name=x", *away, *options, *operation, env=env).returncode == 69
    # Only for that: a lock that is held is another matter.
    realm.put("x", "1500000000;other;reason")
    assert run_distlock("--lock-name=x", "--nowait", *options, "--", "true", env=env).returncode == 1


@pytest.mark.parametrize("patience", ["--nowait", "--timeout=0.3"])
def test_quiet_prints_nothing_about_busy_where_that_is_no_error(
    run_distlock: Run, realm: RealmView, patience: str
) -> None:
    realm.put("x", "1500000000;other;reason")
    for operation in (["--", "echo", "ran"], ["--lock"]):
        done = run_distlock("--lock-name=x", patience, "--quiet", "--busy-exit-code=0", *operation)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # Without either it is said, and other errors are said in any case.
    for options in (["--quiet"], ["--busy-exit-code=0"]):
        assert one_line(run_distlock("--lock-name=x", "--nowait", *options, "--lock").stderr)
    bad = run_distlock("--lock-name=x", "--quiet", "--busy-exit-code=0", "--endpoints=http://127.0.0.1:1", "--lock")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "no etcd answered" in one_line(bad.stderr)


def within(done: subprocess.CompletedProcess[str]) -> float:
    """In how many seconds no etcd has answered. A busy machine may make it more than was asked for."""
    found = re.match(r"distlock: no etcd answered within (\d+\.\d)s: ", one_line(done.stderr))
    assert found is not None, done.stderr
    return float(found[1])


@ways("connect_timeout")
def test_connect_timeout_bounds_the_first_contact(run_distlock: Run, nowhere: str, give: Give) -> None:
    options, env = give("connect_timeout", 0.4)
    done = run_distlock("--lock-name=x", *options, "--", "true", env={"DISTLOCK_ENDPOINTS": nowhere, **env})
    assert done.returncode == 1
    assert 0.4 <= within(done) < 5  # which is what it would be
    assert one_line(done.stderr).endswith(f"s: {nowhere} (connection refused)")


@ways("release_timeout")
def test_release_timeout_bounds_the_release(
    hold: Callable[..., Holding], proxy: Proxy, realm: RealmView, give: Give
) -> None:
    options, env = give("release_timeout", 0.4)
    holder = hold("--lock-name=x", *options, env={"DISTLOCK_ENDPOINTS": proxy.url, **env})
    proxy.cut()
    assert holder.let_go() == 1
    said = one_line(holder.process.stderr.read())
    assert "x may still be locked: no etcd answered within " in said
    assert f"distlock --unlock --lock-name=x --token={holder.token}" in said
    assert "x" in realm.entries()


@ways("max_answer")
def test_max_answer_bounds_what_is_read(run_distlock: Run, realm: RealmView, give: Give) -> None:
    for name in ("a", "b"):
        realm.put(name, "1;someone;" + "v" * 400_000)
    assert run_distlock("--list").returncode == 0
    options, env = give("max_answer", 1)
    done = run_distlock("--list", *options, env=env)
    assert done.returncode == 1
    assert "larger than 1 MiB: set max_answer" in one_line(done.stderr)


@ways("state_dir")
def test_state_dir_has_a_note_of_an_ids_hold_while_it_lasts(
    hold: Callable[..., Holding], realm: RealmView, give: Give, tmp_path: Path
) -> None:
    options, env = give("state_dir", str(tmp_path / "state"))
    env = {"DISTLOCK_STATE_DIR": None, **env}

    def notes() -> list[str]:
        return sorted(name for name in os.listdir(tmp_path / "state") if name != "pruned")

    unnamed = hold("--lock-name=y", *options, env=env)
    assert not (tmp_path / "state").exists()
    holder = hold("--lock-name=x", "--id=me", *options, env=env)
    assert notes() == [realm.record("x")[1]["run"]]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (holder.let_go(), unnamed.let_go()) == (0, 0)
    assert notes() == []


def test_a_state_dir_that_cannot_be_written_prevents_no_lock(run_distlock: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("/proc/none", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        done = run_distlock("--lock-name=x", "--id=me", f"--state-dir={place}", "--", "echo", "ran")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


@ways("json")
def test_json_is_for_programs(run_distlock: Run, give: Give) -> None:
    options, env = give("json", True)
    assert json.loads(run_distlock("--list", *options, env=env).stdout) == {"locks": [], "frozen": None}


@ways("quiet")
def test_quiet_prints_nothing_but_errors(run_distlock: Run, realm: RealmView, give: Give) -> None:
    options, env = give("quiet", True)
    assert run_distlock("--list").stderr == f"distlock: no locks under {realm.prefix}\n"
    assert run_distlock("--list", *options, env=env).stderr == ""
    realm.put("x", "1500000000;other;reason")
    waited = run_distlock("--lock-name=x", "--timeout=1", *options, "--", "true", env=env)
    assert one_line(waited.stderr).startswith("distlock: gave up")
    assert run_distlock("--lock-name=x", "--timeout=1", "--", "true").stderr.count("\n") == 2


@ways("verbose")
def test_verbose_reports_each_step(run_distlock: Run, give: Give) -> None:
    options, env = give("verbose", True)
    done = run_distlock("--lock-name=x", *options, "--", "sh", "-c", "echo $DISTLOCK_TOKEN", env=env)
    got, released = done.stderr.splitlines()
    assert got == f"distlock: got x, token {done.stdout.strip()}"
    assert re.fullmatch("distlock: released:? x", released)
    assert run_distlock("--lock-name=x", "--", "true").stderr == ""


@ways("config")
def test_config_names_the_config_file(
    run_distlock: Run, realm_prefix: str, give: Give, config_file: Callable[[str], str]
) -> None:
    options, env = give("config", config_file("lockname: from_the_file\n"))
    assert run_distlock(*options, *PRINTENV, env=env).stdout == f"{realm_prefix}from_the_file\n"


@ways("internallock")
def test_internallock_names_the_mutex_that_is_respected(run_distlock: Run, realm: RealmView, give: Give) -> None:
    realm.put("their_mutex/694d", "")
    options, env = give("internallock", "their_mutex")
    done = run_distlock("--lock-name=x", "--nowait", *options, "--", "true", env=env)
    assert done.returncode == 1
    assert "the realm's mutex" in one_line(done.stderr)
    refused = run_distlock("--lock-name=their_mutex", *options, "--", "true", env=env)
    assert "reserved" in one_line(refused.stderr)
    assert run_distlock("--lock-name=x", "--nowait", "--", "true").returncode == 0


@ways("maxtime")
def test_maxtime_is_the_originals_word_for_connect_timeout(
    run_distlock: Run, nowhere: str, give: Give, config_file: Callable[[str], str]
) -> None:
    options, env = give("maxtime", "400ms")
    env["DISTLOCK_ENDPOINTS"] = nowhere
    assert 0.4 <= within(run_distlock("--list", *options, env=env)) < 5
    options += ["--connect-timeout=2"]  # which goes before it
    assert 2 <= within(run_distlock("--list", *options, env=env)) < 5


@pytest.mark.parametrize(("is_true", "runs"), [(True, "ran\n"), (False, "")])
@ways("only_if")
def test_only_if_runs_if_the_line_is_true(run_distlock: Run, give: Give, is_true: bool, runs: str) -> None:
    options, env = give("only_if", "test -d / && exit 0" if is_true else "test -f /")
    done = run_distlock("--lock-name=x", *options, "--", "echo", "ran", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, runs, "")


@pytest.mark.parametrize(("is_true", "runs"), [(True, ""), (False, "ran\n")])
@ways("unless")
def test_unless_runs_if_the_line_is_false(run_distlock: Run, give: Give, is_true: bool, runs: str) -> None:
    options, env = give("unless", "test -d / && exit 0" if is_true else "test -f /")
    done = run_distlock("--lock-name=x", *options, "--", "echo", "ran", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, runs, "")


@ways("gate")
def test_gate_keeps_a_lock_from_being_acquired(run_distlock: Run, give: Give) -> None:
    options, env = give("gate", "echo lag; false")
    done = run_distlock("--lock-name=x", "--nowait", *options, "--", "true", env=env)
    assert done.returncode == 1
    assert "x is free; its gate is red: lag" in one_line(done.stderr)


@ways("gate_timeout")
def test_gate_timeout_limits_the_wait_after_the_command(run_distlock: Run, give: Give) -> None:
    options, env = give("gate_timeout", 0.5)
    done = run_distlock("--lock-name=x", "--gate=false", "--gate-at=after", *options, "--", "true", env=env)
    assert "not released: after 0.5s its gate is red" in one_line(done.stderr)


@ways("gate_every")
def test_gate_every_is_the_pause_between_two_questions(run_distlock: Run, give: Give, tmp_path: Path) -> None:
    options, env = give("gate_every", 0.1)
    gate = (f"--gate=echo >> {tmp_path}/asked; false", "--gate-at=after", "--gate-timeout=2")
    run_distlock("--lock-name=x", *gate, *options, "--", "true", env=env)
    assert len((tmp_path / "asked").read_text()) > 2  # with the default it would be asked once


@ways("gate_for")
def test_gate_for_is_the_time_that_it_must_stay_green(run_distlock: Run, give: Give, tmp_path: Path) -> None:
    options, env = give("gate_for", 1)
    gate = (f"--gate=echo >> {tmp_path}/asked", "--gate-at=after", "--gate-every=0.1")
    assert run_distlock("--lock-name=x", *gate, *options, "--", "true", env=env).returncode == 0
    assert len((tmp_path / "asked").read_text()) > 2  # with the default it would be asked once


@ways("gate_at")
def test_gate_at_says_when_it_is_asked(run_distlock: Run, give: Give) -> None:
    options, env = give("gate_at", "before")
    gate = '--gate=test -z "$DISTLOCK_TOKEN"'  # red under the lock
    assert run_distlock("--lock-name=x", gate, "--gate-timeout=1", *options, "--", "true", env=env).returncode == 0


@ways("on_acquired")
def test_on_acquired_is_run_when_the_lock_is_acquired(run_distlock: Run, give: Give) -> None:
    options, env = give("on_acquired", "echo $DISTLOCK_EVENT")
    assert run_distlock("--lock-name=x", *options, "--", "true", env=env).stderr == "acquired\n"


@ways("on_lost")
def test_on_lost_is_run_when_the_lock_is_lost(run_distlock: Run, give: Give) -> None:
    options, env = give("on_lost", "echo $DISTLOCK_EVENT")
    unlock = f"{os.path.dirname(sys.executable)}/distlock --unlock --lock-name=x"
    done = run_distlock("--lock-name=x", *options, "--", "sh", "-c", unlock, env=env)
    assert done.returncode == 2
    assert "lost" in done.stderr.splitlines(), done.stderr


@ways("on_released")
def test_on_released_is_run_when_the_lock_is_released(run_distlock: Run, give: Give) -> None:
    options, env = give("on_released", "echo $DISTLOCK_EVENT")
    assert run_distlock("--lock-name=x", *options, "--", "true", env=env).stderr == "released\n"


@ways("hook_timeout")
def test_hook_timeout_limits_a_hook(run_distlock: Run, give: Give) -> None:
    options, env = give("hook_timeout", 0.3)
    done = run_distlock("--lock-name=x", "--on-released=sleep 60", *options, "--", "true", env=env)
    assert "on_released: it has not ended within 0.3s, and was ended" in one_line(done.stderr)


def test_every_setting_is_exercised_in_this_file() -> None:
    assert {setting.key for setting in SETTINGS} - OF_LEASES - OF_ACCESS == COVERED


# Spelling.


@pytest.mark.parametrize("dash", ["-", "--"])
@pytest.mark.parametrize("equals", [True, False])
def test_one_or_two_dashes_with_equals_or_a_separate_word(
    run_distlock: Run, realm: RealmView, *, dash: str, equals: bool
) -> None:
    wanted = {"lock-name": "x", "reason": "-why=not", "id": "me", "timeout": "-1", "slots": "3", "prefix": realm.prefix}
    arguments: list[str] = []
    for option, value in wanted.items():
        arguments += [f"{dash}{option}={value}"] if equals else [f"{dash}{option}", value]
    assert run_distlock(*arguments, f"{dash}lock", env={"DISTLOCK_PREFIX": None}).returncode == 0
    owner, details = realm.record("x")
    assert (owner, details["reason"], details["limit"]) == ("me", "-why=not", 3)


@pytest.mark.parametrize("yes", ["-json", "--json", "--json=true", "-json=1", "--json=T", "--json=TRUE"])
def test_a_boolean_is_on(run_distlock: Run, yes: str) -> None:
    assert json.loads(run_distlock("--list", yes).stdout) == {"locks": [], "frozen": None}


@pytest.mark.parametrize("no", ["-json=false", "--json=0", "--json=F", "--json=False", "--json=no"])
def test_a_boolean_is_off_even_when_the_environment_has_it_on(run_distlock: Run, no: str) -> None:
    assert run_distlock("--list", no, env={"DISTLOCK_JSON": "true"}).stdout == ""


def test_an_operation_can_be_switched_off_too(run_distlock: Run, realm: RealmView) -> None:
    done = run_distlock("--lock=false", "-unlock=false", "--list=0", "--lock-name=x", "--", "echo", "ran")
    assert done.stdout == "ran\n"
    assert realm.entries() == {}


@pytest.mark.parametrize("dashes", [["--"], []])
def test_the_dashes_before_the_command_are_optional(run_distlock: Run, dashes: list[str]) -> None:
    done = run_distlock("--lock-name=x", *dashes, "echo", "-lock-name=y", "--", "--list")
    assert done.stdout == "-lock-name=y -- --list\n"


@pytest.mark.parametrize(
    "twice",
    [
        ["--lock-name=a", "--reason=x", "-reason", "x"],
        ["--lock-name=a", "--nowait", "--nowait"],
        ["--lock-name=a", "--lock", "--lock=false"],
        ["--lock-name=a", "--prefix=/x/", "--prefix=/y/"],
        ["--lock-name=a", "--token=1", "--token=2"],
    ],
)
def test_an_option_given_twice_is_an_error_and_nothing_is_run(
    run_distlock: Run, realm: RealmView, twice: list[str]
) -> None:
    realm.put("a", "1500000000;other;reason")
    done = run_distlock(*twice, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"distlock: option --[a-z-]+ is given twice: use it once", one_line(done.stderr))


def test_list_with_a_name_is_about_that_lock(run_distlock: Run, realm: RealmView) -> None:
    for name in ("a", "b"):
        realm.put(name, "1500000000;other;reason")
    _, row = run_distlock("--list", "--lock-name=a").stdout.splitlines()
    assert row.startswith("a ")
    named = json.loads(run_distlock("--list", "--lock-name=a", "--json").stdout)["locks"]
    assert [lock["lock"] for lock in named] == ["a"]
    nothing = run_distlock("--list", "--lock-name=c")
    assert (nothing.stdout, nothing.returncode) == ("", 0)
    assert nothing.stderr == f"distlock: c is not locked under {realm.prefix}, and nobody waits for it\n"
    # A variable names the lock to be taken, and the list stays whole.
    assert len(run_distlock("--list", env={"DISTLOCK_LOCKNAME": "a"}).stdout.splitlines()) == 3


# Order: default < file < environment < option.


@pytest.mark.parametrize(
    ("key", "in_record"),
    [
        ("lockname", lambda realm: next(iter(realm.entries()))),
        ("reason", lambda realm: realm.record("x")[1].get("reason")),
        ("id", lambda realm: realm.record("x")[0]),
        ("slots", lambda realm: str(realm.record("x")[1].get("limit", 1))),
        ("prefix", lambda realm: next(iter(realm.entries())).rpartition("/")[0]),
    ],
)
def test_the_option_wins_over_the_environment_and_that_over_the_file(
    run_distlock: Run,
    realm: RealmView,
    config_file: Callable[[str], str],
    key: str,
    in_record: Callable[[RealmView], str],
) -> None:
    setting = next(setting for setting in SETTINGS if setting.key == key)
    file, variable, option = ("2", "3", "4") if key == "slots" else ("file", "variable", "option")
    begin, end = (realm.prefix, "/") if key == "prefix" else ("", "")
    env = {"DISTLOCK_CONFIG": config_file(yaml.safe_dump({key: begin + file + end})), "DISTLOCK_PREFIX": realm.prefix}
    env.pop("DISTLOCK_PREFIX") if key == "prefix" else None
    base = {"DISTLOCK_PREFIX": None, "DISTLOCK_LOCKNAME": None if key == "lockname" else "x", **env}
    found = []
    for more, options in (
        ({}, []),
        ({setting.variable: begin + variable + end}, []),
        ({setting.variable: begin + variable + end}, [f"--{setting.option}={begin}{option}{end}"]),
        ({setting.variable: ""}, []),  # empty: as if it were not there
    ):
        assert run_distlock("--lock", *options, env={**base, **more}).returncode == 0
        found.append(in_record(realm))
        for name in realm.entries():
            realm.delete(name)
    assert found == [file, variable, option, file]


@pytest.mark.parametrize(
    ("file", "variables", "options", "waits"),
    [
        ("timeout: 0", {}, [], False),
        ("timeout: 0", {"DISTLOCK_TIMEOUT": "1"}, [], True),
        ("timeout: 1", {"DISTLOCK_TIMEOUT": "0"}, [], False),
        ("", {"DISTLOCK_TIMEOUT": "0"}, ["--timeout=1"], True),
        # nowait and timeout are one setting: the higher layer decides.
        ("nowait: true", {}, ["--timeout=1"], True),
        ("nowait: true", {"DISTLOCK_TIMEOUT": "1"}, [], True),
        ("", {"DISTLOCK_NOWAIT": "yes"}, ["--timeout=1"], True),
        ("timeout: 1", {"DISTLOCK_NOWAIT": "yes"}, [], False),
        ("timeout: 1", {}, ["--nowait"], False),
        ("", {"DISTLOCK_TIMEOUT": "1"}, ["--nowait"], False),
        ("timeout: 1", {"DISTLOCK_NOWAIT": "yes"}, ["--nowait=false"], True),
    ],
)
def test_the_higher_layer_decides_whether_to_wait(
    run_distlock: Run,
    realm: RealmView,
    config_file: Callable[[str], str],
    file: str,
    variables: dict[str, str],
    options: list[str],
    *,
    waits: bool,
) -> None:
    realm.put("x", "1500000000;other;reason")
    env = {"DISTLOCK_CONFIG": config_file(file), **variables}
    done = run_distlock("--lock-name=x", "--json", *options, "--lock", env=env)
    assert json.loads(done.stdout)["error"]["kind"] == ("timeout" if waits else "busy")


@pytest.mark.parametrize("setting", [s for s in SETTINGS if "env" in s.scope], ids=lambda s: s.variable)
def test_an_empty_variable_counts_as_unset(run_distlock: Run, etcd: Cluster, realm_prefix: str, setting: Any) -> None:
    # Options set what it would unset; nothing else may even be read.
    done = run_distlock(
        "--lock-name=x",
        f"--endpoints={etcd.endpoints[0]}",
        f"--prefix={realm_prefix}",
        *PRINTENV,
        env={setting.variable: ""},
    )
    assert done.stdout == f"{realm_prefix}x\n"
    assert done.stderr == ""


# The config file.


@pytest.mark.parametrize("form", ["[{0}]", "\n  - {0}/\n", '"{0},"', "{0}/", "['{0}/ ']"])
def test_endpoints_in_the_file_are_a_list_or_a_string(
    run_distlock: Run, etcd: Cluster, realm: RealmView, config_file: Callable[[str], str], form: str
) -> None:
    path = config_file("endpoints: " + form.format(etcd.endpoints[0]))
    done = run_distlock("--lock-name=x", "--lock", env={"DISTLOCK_ENDPOINTS": None, "DISTLOCK_CONFIG": path})
    assert done.returncode == 0, done.stderr
    assert "x" in realm.entries()


def test_the_originals_config_file_works_as_it_stands(
    run_distlock: Run, etcd: Cluster, realm: RealmView, config_file: Callable[[str], str]
) -> None:
    path = config_file(
        f"---\nlockname: percona_prod\nreason: default reason\nendpoints:\n  - {etcd.endpoints[0]}\ntimeout: 60\n"
        f"prefix: {realm.prefix}\ninternallock: __internal_lock\nmaxtime: 5s\n"
    )
    env = {"DISTLOCK_ENDPOINTS": None, "DISTLOCK_PREFIX": None, "DISTLOCK_CONFIG": path}
    assert run_distlock("-lock", env=env).returncode == 0
    assert realm.record("percona_prod")[1]["reason"] == "default reason"
    assert run_distlock("-unlock", env=env).returncode == 0


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "reason:\n", "reason: ''\nid:\n"])
def test_an_empty_file_or_key_sets_nothing(
    run_distlock: Run, realm: RealmView, config_file: Callable[[str], str], text: str
) -> None:
    assert run_distlock("--lock-name=x", "--lock", f"--config={config_file(text)}").returncode == 0
    owner, details = realm.record("x")
    assert owner == socket.gethostname()
    assert "reason" not in details


@pytest.mark.parametrize(
    "name", ["010", "1.10", "1_000", "1:30", "0o17", "0x1F", "yes", "true", "2024-01-31", "1e3", ".5", "=", "7", "-1"]
)
@pytest.mark.parametrize("form", ["lockname: {}\n", "{{lockname: {}}}\n"], ids=["plain", "for PyYAML"])
def test_a_name_in_the_file_is_the_text_written_there(config_file: Callable[[str], str], name: str, form: str) -> None:
    if (name, form[0]) == ("=", "{"):
        return  # PyYAML wants it quoted there
    assert load({"config": config_file(form.format(name))}, {}).lockname == name


@pytest.mark.parametrize("empty", ["", "~", "null", "Null", "NULL"])
def test_a_null_in_the_file_is_unset_as_for_the_original_and_in_quotes_it_is_a_text(
    config_file: Callable[[str], str], empty: str
) -> None:
    assert load({"config": config_file(f"lockname: {empty}\n")}, {}).lockname == ""
    assert load({"config": config_file(f"lockname: '{empty}'\n")}, {}).lockname == empty


# Help.


@pytest.mark.parametrize("option", ["--help", "-help", "-h", "--h"])
def test_help_names_every_option_and_variable_and_shows_examples(run_distlock: Run, option: str) -> None:
    done = run_distlock(option, env={"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1"})
    assert done.returncode == 0
    assert done.stderr == ""
    for setting in SETTINGS:
        if "option" in setting.scope:
            entry = rf"\n  --{setting.option}\b[^\[]*\[{setting.variable}\]"
            assert re.search(entry, done.stdout), setting.option
    for word in ("--lock ", "--unlock", "--list", "--show", "--verify", "--prune", "--token", "--force", "--version"):
        assert word in done.stdout
    assert 'distlock --lock-name=percona_prod --reason="Upgrade RPMs" -- yum upgrade' in done.stdout


@pytest.mark.parametrize("option", ["--version", "-version"])
def test_version_is_that_of_the_package(run_distlock: Run, option: str) -> None:
    from distlock_core import __version__

    assert run_distlock(option).stdout == f"distlock {__version__}\n"


def test_yaml_is_loaded_only_for_a_file_beyond_the_plain_form(
    distlock_env: dict[str, str], config_file: Callable[[str], str]
) -> None:
    code = (
        "import sys; from distlock_core.cli.distlock import run; run(['--list']);"
        "print('yaml' in sys.modules, 'subprocess' in sys.modules, 'logging' in sys.modules)"
    )
    loaded = []
    for text in (None, "# nothing\nendpoints: []\n", "{timeout: 3}"):
        more = {} if text is None else {"DISTLOCK_CONFIG": config_file(text)}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**distlock_env, **more}, capture_output=True, text=True, check=True
        )
        loaded.append(done.stdout)
    assert loaded == ["False False False\n", "False False False\n", "True False False\n"]


def test_no_option_of_any_table_can_be_given_twice() -> None:
    tables = [*(one for one in SETTINGS if "option" in one.scope), *OF_ONE_CALL.values()]
    values = {one.option: "" if one.flag else "=" + one.placeholder.split("|")[0] for one in tables}
    values.update({"transport": "=http", "window": "=22:00-04:00"}, **dict.fromkeys(OPERATIONS, ""))
    accepted = []
    for name, value in values.items():
        words = [f"--{name}{value}", f"-{name}{value}"]
        if value and value[1:].isupper() and name not in ("lock-name", "reason", "value"):
            words = [f"--{name}=1", f"-{name}=1"]
        try:
            parse([*words, "--", "true"])
        except DistlockError as error:
            if (type(error), error.message) == (UsageError, f"option --{name} is given twice: use it once"):
                continue
        accepted.append(name)
    # Of several windows each counts; a lock that is named twice is refused as such.
    assert accepted == ["lock-name", "window"]
