"""--dry-run: what a command, --lock, --unlock and --freeze would do. It refuses what they would, and only reads."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.cli.option_rules import GOES_WITH
from distlock_core.testing import Cluster
from tests.support.doc_blocks import json_documents, recipe
from tests.support.realm_view import Holding, RealmView, one_line
from tests.support.time_windows import closed_now

Run = Callable[..., subprocess.CompletedProcess[str]]
Hold = Callable[..., Holding]
OTHERS = "1500000000;node-9;{}"
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")


def planned(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)["planned"]
    return found


@pytest.fixture
def unchanged(realm: RealmView) -> Callable[[], None]:
    """Check that nothing was written to etcd since the last call of this, or since the test began."""
    revisions = [realm.revision()]

    def check() -> None:
        revisions.append(realm.revision())
        assert revisions[-1] == revisions[-2]

    return check


def test_a_free_lock_would_be_locked_and_the_command_run(
    run_distlock: Run, realm: RealmView, tmp_path: Path, unchanged: Callable[[], None]
) -> None:
    ran = tmp_path / "it ran"
    done = run_distlock("--lock-name=x", "--dry-run", "--ttl=60", "--", "touch", str(ran))
    assert (done.returncode, done.stdout) == (0, "")
    assert one_line(done.stderr) == f"distlock: would lock x; would run touch '{ran}'"
    assert run_distlock("--lock-name=x", "--dry-run", "--lock").stderr == "distlock: would lock x\n"
    assert run_distlock("--lock-name=x", "--dry-run", "--quiet", "--lock").stderr == ""
    plan = planned(run_distlock("--lock-name=x", "--dry-run", "--json", "--", "touch", str(ran)))
    assert plan["locks"] == [{"lock": "x", "how": "new", "hold": None}]
    assert (plan["operation"], plan["waits"], plan["command"]) == ("run", None, ["touch", str(ran)])
    unchanged()
    assert not ran.exists()


def test_several_locks_are_planned_together(run_distlock: Run, realm: RealmView) -> None:
    names = ("--lock-name=x", "--lock-name=y")
    said = one_line(run_distlock(*names, "--dry-run", "--", "true").stderr)
    assert said == "distlock: would lock x and y; would run true"
    realm.put("y", OTHERS)
    plan = planned(run_distlock(*names, "--dry-run", "--json", "--", "true"))
    assert [one["how"] for one in plan["locks"]] == [None, None]
    assert plan["waits"].startswith("y is held by node-9")


@pytest.mark.parametrize(
    ("arrange", "options", "words"),
    [
        (lambda realm: realm.put("x", OTHERS), [], "x is held by node-9 since"),
        (lambda realm: realm.put("x/queue/50/exclusive/0001", OTHERS), [], "x is free, but 1 is waiting"),
        (lambda realm: realm.put("x/freeze", OTHERS), [], "x is frozen by node-9"),
        (lambda realm: realm.put("__internal_lock/1", ""), [], "inside the realm's mutex"),
        (lambda realm: None, [f"--window={closed_now()}"], "outside the window"),
    ],
    ids=["held", "queue", "frozen", "mutex", "window"],
)
def test_a_wait_is_planned_or_with_nowait_refused(
    run_distlock: Run, realm: RealmView, arrange: Callable[[RealmView], object], options: list[str], words: str
) -> None:
    arrange(realm)
    before = realm.all_keys()
    for end in (["--lock"], ["--", "true"]):
        done = run_distlock("--lock-name=x", *options, "--dry-run", *end)
        assert done.returncode == 0
        assert "distlock: would wait: " in one_line(done.stderr)
        assert words in done.stderr
        refused = run_distlock("--lock-name=x", *options, "--dry-run", "--nowait", "--busy-exit-code=75", *end)
        real = run_distlock("--lock-name=x", *options, "--nowait", "--busy-exit-code=75", *end)
        assert refused.returncode == real.returncode != 0
        strip = re.compile(r"\(\w+\)")
        assert strip.sub("", refused.stderr) == strip.sub("", real.stderr)
    assert realm.all_keys() == before


def test_what_no_wait_could_resolve_is_refused(run_distlock: Run, hold: Hold) -> None:
    hold("--lock-name=x", "--slots=2")
    done = run_distlock("--lock-name=x", "--slots=3", "--dry-run", "--", "true")
    assert done.returncode == 1
    assert "it is held with 2 slot(s), but 3 were requested" in one_line(done.stderr)


def test_a_lock_around_the_command_is_not_waited_for(run_distlock: Run) -> None:
    inner = ["sh", "-c", '"$0" --lock-name=x --dry-run -- true', DISTLOCK]
    done = run_distlock("--lock-name=x", "--", *inner)
    assert done.returncode == 1
    assert "waiting would never end" in done.stderr
    inner = ["sh", "-c", '"$0" --lock-name=x --id=me --dry-run --lock', DISTLOCK]
    done = run_distlock("--lock-name=x", "--id=me", "--", *inner)
    assert done.returncode == 0
    assert "would enter x, held by me" in done.stderr


def test_a_step_of_the_same_owner_would_be_entered(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock("--lock-name=x", "--lock", "--id=me").returncode == 0
    done = run_distlock("--lock-name=x", "--id=me", "--dry-run", "--", "true")
    assert re.match(r"distlock: would enter x, held by me since .*; would run true\n", done.stderr)
    plan = planned(run_distlock("--lock-name=x", "--id=me", "--dry-run", "--json", "--", "true"))
    assert [(one["how"], one["hold"]["owner"]) for one in plan["locks"]] == [("step", "me")]
    assert list(realm.entries()) == ["x"]


def test_gate_and_checks_are_named_and_not_run(run_distlock: Run, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    done = run_distlock("--lock-name=x", f"--gate=touch {ran}", f"--only-if=touch {ran}", "--dry-run", "--", "true")
    assert done.returncode == 0
    assert "would ask the gate before that; would ask first whether there is work" in one_line(done.stderr)
    assert not ran.exists()


def test_an_unlock_is_planned_or_refused_as_it_would_be(
    run_distlock: Run, realm: RealmView, unchanged: Callable[[], None]
) -> None:
    refused = run_distlock("--lock-name=x", "--unlock", "--dry-run")
    assert (refused.returncode, one_line(refused.stderr)) == (1, "distlock: x is not locked")
    unchanged()
    realm.put("x", OTHERS)
    realm.put("y", OTHERS)
    before = realm.all_keys()
    done = run_distlock("--lock-name=x", "--lock-name=y", "--unlock", "--dry-run")
    assert done.returncode == 0
    assert re.fullmatch(
        r"distlock: would unlock x, which is held by node-9 .*; would unlock y, which is held by node-9 .*",
        one_line(done.stderr),
    )
    refused = run_distlock("--lock-name=x", "--unlock", "--id=me", "--dry-run")
    assert refused.returncode == 1
    assert "not by me: left alone" in one_line(refused.stderr)
    assert run_distlock("--lock-name=x", "--unlock", "--id=me", "--force", "--dry-run").returncode == 0
    plan = planned(run_distlock("--lock-name=x", "--unlock", "--dry-run", "--json"))
    assert [one["owner"] for one in plan["holds"]] == ["node-9"]
    assert realm.all_keys() == before


@pytest.mark.parametrize("which", [[], ["--lock-name=x"]], ids=["realm", "lock"])
def test_a_freeze_is_planned_or_refused_as_it_would_be(run_distlock: Run, realm: RealmView, which: list[str]) -> None:
    done = run_distlock(*which, "--freeze", "--for=2h", "--dry-run")
    what = "x" if which else f"the realm {realm.prefix}"
    assert (done.returncode, one_line(done.stderr)) == (0, f"distlock: would freeze {what}")
    assert realm.all_keys() == {}
    assert run_distlock(*which, "--freeze", "--id=boss").returncode == 0
    before = realm.all_keys()
    refused, real = (run_distlock(*which, "--freeze", *more) for more in (["--dry-run"], []))
    assert refused.returncode == real.returncode == 1
    assert "frozen by boss" in one_line(refused.stderr)
    assert "To replace it: --force" in refused.stderr
    done = run_distlock(*which, "--freeze", "--force", "--dry-run")
    assert done.returncode == 0
    assert "that freeze would be replaced" in one_line(done.stderr)
    plan = planned(run_distlock(*which, "--freeze", "--force", "--dry-run", "--json"))
    assert (plan["lock"], plan["replaces"]["by"]) == ("x" if which else None, "boss")
    assert realm.all_keys() == before


def test_an_error_is_json_on_stdout(run_distlock: Run, realm: RealmView) -> None:
    realm.put("x", OTHERS)
    done = run_distlock("--lock-name=x", "--nowait", "--dry-run", "--json", "--", "true")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["error"]["kind"] == "busy"


def test_the_json_is_that_of_the_page(run_distlock: Run, realm: RealmView) -> None:
    pages = {one["planned"]["operation"]: one["planned"] for one in json_documents() if "planned" in one}
    realm.put("y", OTHERS)
    for operation, arguments in (
        ("run", ["--lock-name=x", "--", "true"]),
        ("unlock", ["--lock-name=y", "--unlock"]),
        ("freeze", ["--lock-name=x", "--freeze"]),
    ):
        plan = planned(run_distlock("--dry-run", "--json", *arguments))
        assert set(plan) == set(pages[operation])
        for part in ("locks", "holds"):
            assert [set(one) for one in plan.get(part, [])] == [set(one) for one in pages[operation].get(part, [])]


def test_the_pages_example_looks_like_that(run_distlock: Run, realm: RealmView) -> None:
    parts = re.split(r"^\$ ", recipe("dry runs"), flags=re.MULTILINE)[1:]
    assert len(parts) == 4
    for part in parts:
        command, _, expected = part.partition("\n")
        done = run_distlock(*shlex.split(command)[1:])
        assert done.returncode == 0
        then = re.compile(r"since \d\d:\d\d \(\w+\)")
        assert then.sub("since then", done.stderr).strip() == then.sub("since then", expected).strip()


DRY = {  # calls of each operation that would change something, and calls that would be refused
    "run": (["--lock-name=free", "--ttl=60", "--id=me"], ["--lock-name=held", "--slots=3"], ["--lock-name=held"]),
    "lock": (
        ["--lock-name=free", "--lock-name=new", "--slots=2"],
        ["--lock-name=frozen"],
        ["--lock-name=mine", "--id=me"],
    ),
    "unlock": (
        ["--lock-name=held"],
        ["--lock-name=held", "--lock-name=mine"],
        ["--lock-name=free"],
        ["--lock-name=leased"],
    ),
    "break": (["--lock-name=held", "--reason=why", "--yes"], ["--lock-name=leased", "--reason=why", "--yes"]),
    "freeze": ([], ["--lock-name=free", "--for=60"], ["--lock-name=frozen", "--force"], ["--lock-name=frozen"]),
    "policy": (["--lock-name=free", "--slots=2"], ["--lock-name=ruled", "--clear"], ["--lock-name=ruled", "--slots=3"]),
    "prune": (["--older-than=1s"], ["--older-than=1s", "--lock-name=past"]),
}


def test_a_dry_run_of_every_operation_writes_nothing_and_grants_no_lease(
    run_distlock: Run, realm: RealmView, etcd: Cluster, tmp_path: Path
) -> None:
    assert DRY.keys() == GOES_WITH["dry-run"].keys()
    realm.put("held", OTHERS)
    realm.put("frozen/freeze", OTHERS)
    realm.put("__last/past", '1500000000;node-9;{"how":"released"}')
    for words in (
        ["--lock-name=mine", "--id=me", "--lock"],
        ["--lock-name=leased", "--lock", "--ttl=300"],
        ["--lock-name=ruled", "--policy", "--slots=2"],
    ):
        assert run_distlock(*words).returncode == 0

    def leases() -> set[str]:
        return set(etcd.etcdctl("lease", "list").split())

    unchanged_by: list[str] = []
    revision, before, ran = realm.revision(), leases(), tmp_path / "ran"
    for operation, calls in DRY.items():
        for words in calls:
            what = ["--", "touch", str(ran)] if operation == "run" else [f"--{operation}"]
            done = (
                run_distlock(*words, "--dry-run", "--timeout=0.2", *what)
                if operation in ("run", "lock")
                else (run_distlock(*words, "--dry-run", *what))
            )
            assert "Traceback" not in done.stderr
            assert realm.revision() == revision, (operation, words, done.stderr)
            unchanged_by.append(f"{operation} {done.returncode}")
    assert {one for one in unchanged_by if one.endswith(" 0")} == {f"{operation} 0" for operation in DRY}
    assert leases() <= before
    assert not ran.exists()
