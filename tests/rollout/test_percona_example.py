"""examples/rollouts/percona with the command: three nodes at once, and each waits until the cluster is healthy."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from tests.rollout.test_needed import DISTLOCK
from tests.support.doc_blocks import with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import Process

EXAMPLE = ROOT / "examples" / "rollouts" / "percona"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
# There is an upgrade until this node has it. It takes the cluster out of sync for a while, and notices a second node.
YUM = """#!/bin/sh
case "$*" in
*check-update*) test -e {node}/upgraded || exit 100 ;;
*)
    test "$(cat {cluster}/state)" = Synced || echo unhealthy >> {cluster}/faults
    mkdir {cluster}/inside || echo two at once >> {cluster}/faults
    echo Donor > {cluster}/state
    echo {node} >> {cluster}/upgrades
    rmdir {cluster}/inside
    {more}
    touch {node}/upgraded
    (sleep 1; echo Synced > {cluster}/state) > /dev/null 2>&1 &
    ;;
esac
"""
MYSQL = """#!/bin/sh
case "$*" in
*cluster_size*) printf 'wsrep_cluster_size\\t3\\n' ;;
*) printf 'wsrep_local_state_comment\\t%s\\n' "$(cat {cluster}/state)" ;;
esac
"""


class Nodes:
    """Nodes with stand-ins for yum and mysql, on one cluster."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self._env = env
        (folder / "state").write_text("Synced")

    def start(self, name: str, more: str = "true") -> Process:
        node = self.folder / name
        node.mkdir(exist_ok=True)
        for program, text in (("yum", YUM), ("mysql", MYSQL)):
            (node / program).write_text(text.format(node=node, cluster=self.folder, more=more))
            (node / program).chmod(0o755)
        script = with_stand_ins(
            (EXAMPLE / "upgrade.sh").read_text(),
            ("exec distlock", f"exec {DISTLOCK} --gate-every=0.2"),
            ("/usr/local/bin/all-nodes-synced", str(EXAMPLE / "all-nodes-synced")),
            ("--gate-for=10", "--gate-for=0.5"),
        )
        (node / "upgrade").write_text(script)
        env = {**self._env, "PATH": f"{node}:{self._env['PATH']}"}
        return Process(
            ["sh", str(node / "upgrade")],
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def noted(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def nodes(distlock_env: dict[str, str], tmp_path: Path) -> Nodes:
    return Nodes(tmp_path, distlock_env)


def test_three_nodes_are_upgraded_one_after_the_other_and_each_once(nodes: Nodes, in_etcd: Etcd) -> None:
    for _ in range(2):
        running = [nodes.start(name) for name in ("db1", "db2", "db3")]
        for process in running:
            said = process.communicate(timeout=120)[1]
            assert process.returncode == 0, said
    assert nodes.noted("faults") == []
    assert sorted(os.path.basename(node) for node in nodes.noted("upgrades")) == ["db1", "db2", "db3"]
    in_etcd.assert_nothing_left()


def test_a_failed_upgrade_stops_the_others(nodes: Nodes, run_distlock: Run) -> None:
    first = nodes.start("db1", more="exit 1")
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1, said
    state = json.loads(run_distlock("--show", "--lock-name=percona_prod", "--json").stdout)["locks"][0]
    assert state["frozen"]["reason"].startswith("yum ended with 1 on ")
    second = nodes.start("db2")
    second.stderr.readline()  # it waits, and says why
    second.terminate()
    second.communicate(timeout=120)
    assert [os.path.basename(node) for node in nodes.noted("upgrades")] == ["db1"]
