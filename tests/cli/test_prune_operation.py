"""--prune: what it deletes and says, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Callable

import pytest

from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]


def end(realm: RealmView, name: str, seconds: float) -> None:
    """Note that a hold ended that long ago."""
    realm.put(f"__last/{name}", f'{int(time.time() - seconds)};web-1;{{"how":"released","owner":"web-1","token":7}}')


def noted(realm: RealmView) -> set[str]:
    return {key.partition("/")[2] for key in realm.all_keys() if key.startswith("__last/")}


@pytest.mark.parametrize(("age", "kept"), [("30d", {"day", "minute"}), ("12h", {"minute"}), ("90", {"minute"})])
def test_it_deletes_what_is_older_and_says_so(run_distlock: Run, realm: RealmView, age: str, kept: set[str]) -> None:
    for name, seconds in (("minute", 60), ("day", 86400), ("month", 31 * 86400)):
        end(realm, name, seconds)
    done = run_distlock("--prune", f"--older-than={age}")
    assert done.returncode == 0
    said = f"distlock: deleted the last end of {3 - len(kept)} locks under {realm.prefix}, kept {len(kept)}"
    assert one_line(done.stderr) == said
    assert done.stdout == ""
    assert noted(realm) == kept


def test_a_dry_run_deletes_nothing_and_verbose_names_the_locks(run_distlock: Run, realm: RealmView) -> None:
    end(realm, "old", 31 * 86400)
    done = run_distlock("--prune", "--older-than=30d", "--dry-run", "--verbose")
    assert done.returncode == 0
    assert done.stdout == "old\n"
    assert one_line(done.stderr) == f"distlock: would delete the last end of 1 locks under {realm.prefix}, kept 0"
    assert noted(realm) == {"old"}


def test_as_json(run_distlock: Run, realm: RealmView) -> None:
    end(realm, "old", 31 * 86400)
    end(realm, "young", 5)
    done = run_distlock("--prune", "--older-than=30d", "--json", env={"DISTLOCK_LOCKNAME": "old"})
    assert json.loads(one_line(done.stdout)) == {
        "pruned": {"locks": ["old"], "older_than": 30 * 86400, "dry_run": False, "kept": 1}
    }
    assert done.stderr == ""
    assert noted(realm) == {"young"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prune"], "--prune needs an age: --older-than=30d keeps what is younger than 30 days"),
        (["--prune", "--older-than=0"], "option --older-than: expected a number of seconds above 0, found '0'"),
        (["--prune", "--older-than=-1d"], "option --older-than: expected a number of seconds above 0, found '-1d'"),
        (["--prune", "--older-than=1w"], "option --older-than: expected a number of seconds, found '1w'"),
        (
            ["--prune", "--older-than=1d", "--lock-name=x"],
            "--prune applies to all locks of a realm: leave out --lock-name",
        ),
        (["--list", "--older-than=1d"], "--older-than goes with --prune"),
        (
            ["--lock-name=x", "--dry-run", "--show"],
            "--dry-run goes with -- COMMAND, --lock, --unlock, --break, --freeze, --policy or --prune",
        ),
        (["--prune", "--list", "--older-than=1d"], "--list and --prune are mutually exclusive: use one of them"),
    ],
)
def test_what_makes_no_sense_is_refused(run_distlock: Run, realm: RealmView, options: list[str], said: str) -> None:
    end(realm, "old", 31 * 86400)
    done = run_distlock(*options)
    assert done.returncode == 1
    assert one_line(done.stderr).partition(". See")[0] == f"distlock: {said}"
    assert noted(realm) == {"old"}
