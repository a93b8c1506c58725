"""The example playbooks work, with stand-ins only for steps that need real packages and services."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from distlock_core import connect
from distlock_core.testing import Cluster
from tests.support.ansible_controller import EXAMPLES, Controller, Gate, extra, guarded, notes, overlaps
from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"


def steps_of(example: str, *work: dict[str, Any]) -> list[dict[str, Any]]:
    """The tasks of an example, as they are written, but with this work in place of what changes a database server."""
    tasks = yaml.safe_load((EXAMPLES / f"tasks/{example}.yml").read_text())
    assert [MODULE in task for task in tasks] == [True] + [False] * (len(tasks) - 1)
    return [tasks[0], *work]


@pytest.mark.parametrize("example", ["rolling_upgrade", "rolling_upgrade_strategy"])
def test_two_rolling_upgrades_at_once_change_one_host_at_a_time(
    controller: Controller, keys: Etcd, tmp_path: Path, example: str
) -> None:
    words = extra(tmp_path, *steps_of("upgrade", *guarded(tmp_path)))
    runs = [controller.start(EXAMPLES / f"{example}.yml", *words, hosts=hosts) for hosts in ("h1,h2", "h3")]
    for run in runs:
        assert run.end() == 0, run.output
    assert overlaps(tmp_path) == []
    assert sorted(notes(tmp_path, "been")) == ["h1", "h2", "h3"]
    wait_until(lambda: keys.keys() == [], "every lock let go")


def test_with_the_strategy_a_failed_host_keeps_the_lock_and_no_other_follows(
    controller: Controller, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    fails = {"ansible.builtin.raw": "false", "when": "inventory_hostname == 'h1'"}
    words = [*extra(tmp_path, fails, *guarded(tmp_path)), "-e", "distlock_timeout=0"]
    code, output = controller.run(EXAMPLES / "rolling_upgrade_strategy.yml", *words, hosts="h1,h2")
    assert code == 2, output
    assert notes(tmp_path, "been") == []
    (held,) = connect(etcd.endpoints, realm_prefix).show("percona_prod").holders
    assert (held.owner or "").startswith("ansible:h1@")
    assert held.record.state == "kept"


def test_with_the_module_a_failed_host_keeps_the_lock_and_the_next_run_continues_with_it(
    controller: Controller, etcd: Cluster, realm_prefix: str, keys: Etcd, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    words = extra(tmp_path, {"ansible.builtin.raw": f"test ! -e {broken}"}, *guarded(tmp_path))
    code, output = controller.run(EXAMPLES / "rolling_upgrade.yml", *words, hosts="h1,h2")
    assert code == 2, output
    assert notes(tmp_path, "been") == []
    (held,) = connect(etcd.endpoints, realm_prefix).show("percona_prod").holders
    assert held.owner == "ansible:h1"
    broken.unlink()
    code, output = controller.run(EXAMPLES / "rolling_upgrade.yml", *words, hosts="h1,h2")
    assert code == 0, output
    assert notes(tmp_path, "been") == ["h1", "h2"]
    assert keys.keys() == []


PARTS = {
    "rolling_upgrade": ("upgrade", ["--start-at-task=Upgrade"]),
    "backup": ("backup", ["--start-at-task=Back up"]),
    "schema_change": ("schema_change", ["--start-at-task=Change it"]),
}


@pytest.mark.parametrize("example", PARTS)
def test_a_part_of_an_example_does_not_run_without_the_lock(
    controller: Controller, keys: Etcd, tmp_path: Path, example: str
) -> None:
    """Its own check comes first, and the work behind it is stood in for."""
    file, part = PARTS[example]
    (check,) = [task for task in yaml.safe_load((EXAMPLES / f"tasks/{file}.yml").read_text()) if MODULE in task]
    work = {**guarded(tmp_path)[0], "tags": ["work"]}
    words = extra(tmp_path, check, work)
    code, output = controller.run(EXAMPLES / f"{example}.yml", *words, *part)
    assert code == 2, output
    assert "is not locked, so not held by" in " ".join(output.split())
    assert notes(tmp_path, "been") == []
    if example == "rolling_upgrade":
        code, output = controller.run(EXAMPLES / f"{example}.yml", *words, "--tags=work")
        assert code == 0, output
        assert notes(tmp_path, "been") == ["h1"]
        assert keys.keys() == []


def test_two_playbooks_that_must_never_overlap_do_not(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    change = controller.start(
        EXAMPLES / "schema_change.yml", *extra(tmp_path, *steps_of("schema_change", gate.task()), name="change")
    )
    gate.reached()
    words = extra(tmp_path, *steps_of("backup", *guarded(tmp_path)), name="backup")
    code, output = controller.run(EXAMPLES / "backup.yml", *words)
    assert code == 2
    assert re.search(rf":{change.pid}\.[0-9a-f]{{8}} since", output)
    assert "Schema change" in output
    assert notes(tmp_path, "been") == []
    gate.open()
    assert change.end() == 0, change.output
    wait_until(lambda: keys.keys() == [], "the lock let go")
    assert controller.run(EXAMPLES / "backup.yml", *words)[0] == 0
    wait_until(lambda: keys.keys() == [], "the lock let go")
