"""--explain: would I be let in now, and if not, why, and the command that changes it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import Any, Callable

import pytest

from distlock_core.lock.topics import TOPICS
from distlock_core.testing import Cluster
from tests.support.advice_site import BIN, NAME, Site, behind, pasted
from tests.support.doc_blocks import json_documents, recipe
from tests.support.realm_view import RealmView
from tests.support.time_windows import closed_now

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def site(run_distlock: Run, etcd: Cluster, realm: RealmView) -> Site:
    return Site(run_distlock, etcd, realm, by_variables=False)


def explained(site: Site, *options: str) -> tuple[int, dict[str, Any]]:
    done = site("--explain", "--json", *options)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)["explained"]
    return done.returncode, found


# For each topic: what makes its condition fail, the words before the command, and the command's remaining arguments.
BLOCKED: dict[str, tuple[Callable[[Site], object], str, tuple[str, ...]]] = {
    "holders": (lambda site: site.at.lock(NAME, "node-9").acquire(0), "To break it: ", ("--yes", "--reason=gone")),
    "freeze": (lambda site: site.at.freeze(NAME), "To thaw it: ", ()),
    "freeze of the realm": (lambda site: site.at.freeze(), "To thaw it: ", ()),
    "window": (lambda site: site.at.set_policy(NAME, window=closed_now()), "To open it at all times: ", ()),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_the_command_of_a_condition_that_fails_makes_it_hold(site: Site, case: str) -> None:
    block, words, more = BLOCKED[case]
    topic = case.partition(" of ")[0]
    block(site)
    done = site("--explain")
    assert (done.returncode, done.stderr) == (1, "")
    assert " would not be let in now\n" in done.stdout
    section = re.search(rf"^  NO   {topic} .*\n((?: {{15}}.*\n?)+)", done.stdout, re.MULTILINE)
    assert section is not None, done.stdout
    who, *advice = [line.strip() for line in section[1].splitlines()]
    assert who.startswith("who can change it: ")
    command = next(behind(words, line) for line in advice if line.startswith(words))
    assert pasted(command, *more).returncode == 0
    code, found = explained(site)
    assert (code, found["lets_in"], found["how"]) == (0, True, "new")
    assert site("--nowait", "--", "true").returncode == 0


def test_conditions_that_only_time_changes_are_shown_too(site: Site) -> None:
    site.realm.put(f"else where/{NAME}/queue/50/exclusive/0001", "1500000000;node-9;{}")
    site.realm.put("else where/__internal_lock/694d", "")
    site.realm.put(f"else where/__policy/{NAME}", '1;admin;{"quorum":3}')
    code, found = explained(site, "--busy-exit-code=75")
    assert code == 75
    by_topic = {one["topic"]: one for one in found["conditions"]}
    assert [topic for topic, one in by_topic.items() if not one["holds"]] == ["queue", "policy", "mutex"]
    assert by_topic["queue"]["value"] == "1 is waiting"
    for topic in ("queue", "policy", "mutex"):
        assert by_topic[topic]["who"]
        (hint,) = by_topic[topic]["hints"]
        assert hint["advice"].startswith("See: ")
    assert "1. node-9" in pasted(behind("See: ", by_topic["queue"]["hints"][0]["advice"])).stdout
    assert "quorum" in pasted(behind("See: ", by_topic["policy"]["hints"][0]["advice"])).stdout


def test_the_settings_of_the_call_count(site: Site) -> None:
    for number in range(2):
        site.at.lock(NAME, f"node-{number}", slots=3).acquire(0)
    assert explained(site, "--slots=3")[1]["lets_in"]
    _, found = explained(site, "--slots=2")
    assert not found["lets_in"]
    (holders,) = [one for one in found["conditions"] if one["topic"] == "holders"]
    assert "it is held with 3 slot(s), but 2 were requested" in holders["value"]
    assert "same_slots" in [hint["code"] for hint in holders["hints"]]
    _, found = explained(site, "--slots=3", f"--window={closed_now()}")
    (window,) = [one for one in found["conditions"] if one["topic"] == "window"]
    assert (window["holds"], window["who"], window["hints"]) == (False, "the caller, whose own setting it is", [])


def test_it_writes_nothing(site: Site) -> None:
    site.at.lock(NAME, "node-9").acquire(0)
    revision = site.realm.revision()
    assert explained(site, "--id=web-1")[0] == 1
    assert site("--explain").returncode == 1
    assert site.realm.revision() == revision


def test_the_lock_around_this_command_is_one_that_is_entered(site: Site) -> None:
    inner = shlex.join([f"{BIN}/distlock", *site.where, f"--lock-name={NAME}", "--id=me", "--explain"])
    done = site("--id=me", "--", "sh", "-c", inner)
    assert done.returncode == 0, done
    assert "me would be let in now (nested)" in done.stdout


def test_the_json_is_that_of_the_page(site: Site) -> None:
    (page,) = (document["explained"] for document in json_documents() if "explained" in document)
    site.at.freeze(NAME)
    site.at.set_policy(NAME, window=closed_now())
    _, found = explained(site)
    assert set(found) == set(page)
    (example,) = page["conditions"]
    assert {topic["topic"] for topic in found["conditions"]} == set(TOPICS)
    for condition in found["conditions"]:
        assert set(condition) == set(example)


def test_the_runbooks_example_looks_like_that(run_distlock: Run, realm: RealmView) -> None:
    command, *expected = recipe("explain").splitlines()
    realm.put("percona_prod", '1500000000;node-9;{"reason":"Upgrade RPMs"}')
    run_distlock("--lock-name=percona_prod", "--freeze", "--id=admin", "--reason=audit")
    done = run_distlock(*shlex.split(command)[2:])
    assert done.returncode == 1
    where = re.escape(" --endpoints=") + r"\S+" + re.escape(f" --prefix={realm.prefix}")

    def alike(text: str) -> str:
        text = re.sub(where, "", text)
        text = re.sub(r"since (\d{4}-\d\d-\d\d )?\d\d:\d\d \(\w+\)", "since then", text)
        return re.sub(r"(--token=|revision )\d+", r"\1N", text).rstrip()

    assert [alike(line) for line in done.stdout.splitlines()] == [alike(line) for line in expected]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--explain"], "no lock is named"),
        (["--explain", "--lock-name=x", "--lock-name=y"], "--explain is about one lock"),
        (["--explain", "--lock-name=x", "--nowait"], "--nowait goes with"),
        (["--explain", "--lock-name=x", "--slots=0"], "option --slots"),
    ],
)
def test_bad_input_is_refused(run_distlock: Run, arguments: list[str], words: str) -> None:
    done = run_distlock(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
