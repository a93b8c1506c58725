"""No part of the work runs without the lock: not with --tags or --start-at-task, and no handler behind the unlock."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from tests.support.ansible_controller import Controller, note, notes, overlaps
from tests.support.ansible_controller import guarded as inside
from tests.support.etcd_view import Etcd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
LOOKUP = "{{ query('distlock.distlock.holder', 'x') | length }}"


def held(folder: Path, word: str) -> dict[str, Any]:
    """A task that leaves its word and how many hold the lock."""
    return note(folder, f"{word}-{LOOKUP}")


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., str]:
    """work(*tasks) -> the file with them."""

    def write(*tasks: dict[str, Any]) -> str:
        path = tmp_path / "work.yml"
        path.write_text(yaml.safe_dump(list(tasks)))
        return str(path)

    return write


def guarded(file: str, how: str = "include_role", **words: Any) -> dict[str, Any]:
    variables = {"guarded_name": "x", "guarded_tasks": file, **words.pop("vars", {})}
    return {f"ansible.builtin.{how}": {"name": "distlock.distlock.guarded"}, "vars": variables, **words}


def play(*tasks: dict[str, Any], **words: Any) -> dict[str, Any]:
    return {"hosts": "all", "gather_facts": False, **words, "tasks": list(tasks)}


@pytest.mark.parametrize("how", ["include_role", "import_role"])
def test_the_role_runs_whole_where_the_tags_select_it_and_else_not_at_all(
    controller: Controller, keys: Etcd, tmp_path: Path, work: Callable[..., str], how: str
) -> None:
    file = work(held(tmp_path, "work"), {**held(tmp_path, "never"), "tags": ["never", "x"]})
    seen: dict[str, list[str]] = {}
    runs = {"": (), "upgrade": ("--tags=upgrade",), "other": ("--tags=other",), "skipped": ("--skip-tags=upgrade",)}
    for name, options in runs.items():
        code, output = controller.run([play(guarded(file, how, tags=["upgrade"]))], *options)
        assert code == 0, output
        seen[name] = notes(tmp_path)
        (tmp_path / "notes").unlink(missing_ok=True)
    assert (seen[""], seen["other"]) == (["work-1"], [])
    assert seen["upgrade"][0] == "work-1"
    assert seen["skipped"] == []
    assert keys.keys() == []


def test_an_untagged_role_does_nothing_where_tags_select_something_else(
    controller: Controller, keys: Etcd, tmp_path: Path, work: Callable[..., str]
) -> None:
    file = work(held(tmp_path, "work"))
    for how in ("include_role", "import_role"):
        code, output = controller.run([play(guarded(file, how))], "--tags=other")
        assert code == 0, output
    assert notes(tmp_path) == []


def test_no_task_of_the_role_can_be_started_at(
    controller: Controller, keys: Etcd, tmp_path: Path, work: Callable[..., str]
) -> None:
    file = work({**held(tmp_path, "work"), "name": "Inside"})
    for name in ("Work", "Inside", "Run the handlers*", "distlock.distlock.guarded : Work"):
        controller.run([play(guarded(file, "import_role"))], f"--start-at-task={name}")
        assert notes(tmp_path) == [], name
    code, output = controller.run([play(guarded(file, "import_role"))], "--start-at-task=*Take the lock*")
    assert code == 0, output
    assert notes(tmp_path) == ["work-1"]
    assert keys.keys() == []


@pytest.mark.parametrize(
    ("variables", "fails", "seen"),
    [
        ({}, False, ["work-1", "handler-1"]),
        ({}, True, ["work-1"]),
        ({"guarded_handlers": "always"}, True, ["work-1", "handler-1"]),
        ({"guarded_handlers": "later"}, False, ["work-1", "handler-0"]),
    ],
)
def test_handlers_run_inside_of_the_role(
    controller: Controller,
    keys: Etcd,
    tmp_path: Path,
    work: Callable[..., str],
    variables: dict[str, Any],
    fails: bool,
    seen: list[str],
) -> None:
    tasks = [{**held(tmp_path, "work"), "notify": "handler"}]
    if fails:
        tasks.append({"ansible.builtin.raw": "false"})
    handlers = [{**held(tmp_path, "handler"), "name": "handler"}]
    code, output = controller.run([play(guarded(work(*tasks), vars=variables), handlers=handlers)])
    assert code == (2 if fails else 0), output
    assert notes(tmp_path) == seen
    assert keys.keys() == []


def test_a_failing_handler_inside_the_role_still_releases(
    controller: Controller, keys: Etcd, tmp_path: Path, work: Callable[..., str]
) -> None:
    handlers = [{"name": "handler", "ansible.builtin.raw": "false"}]
    file = work({**held(tmp_path, "work"), "notify": "handler"})
    code, output = controller.run([play(guarded(file), handlers=handlers)])
    assert code == 2, output
    assert notes(tmp_path) == ["work-1"]
    assert keys.keys() == []


@pytest.mark.parametrize("strategy", ["linear", "free", "host_pinned"])
def test_hosts_of_a_batch_go_through_the_role_one_by_one_and_may_wait(
    controller: Controller, keys: Etcd, tmp_path: Path, work: Callable[..., str], strategy: str
) -> None:
    words = {"guarded_one_by_one": True, "guarded_timeout": -1}
    file = work(*inside(tmp_path))
    plays = [play(guarded(file, vars=words), strategy=strategy, serial=3)]
    code, output = controller.run(plays, hosts="h1,h2,h3")
    assert code == 0, output
    assert overlaps(tmp_path) == []
    assert sorted(notes(tmp_path, "been")) == ["h1", "h2", "h3"]
    assert keys.keys() == []
