"""examples/rollouts/elasticsearch with the command: nodes of three racks, at most one of each, and two in all."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import connect
from distlock_core.testing import Cluster
from tests.rollout.test_needed import DISTLOCK
from tests.support.doc_blocks import with_stand_ins
from tests.support.elastic_cluster import EXAMPLE, ElasticCluster
from tests.support.etcd_view import Etcd
from tests.support.processes import Process, wait_until

Run = Callable[..., "subprocess.CompletedProcess[str]"]
YUM = """#!/bin/sh
case "$*" in
*check-update*) test -e {node}/upgraded || exit 100 ;;
*) {work} && touch {node}/upgraded ;;
esac
"""


class Nodes:
    """Nodes with stand-ins for yum and systemctl."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.cluster = ElasticCluster(folder)
        self._env = env
        script = with_stand_ins((EXAMPLE / "policy.sh").read_text(), ("exec distlock", f"exec {DISTLOCK}"))
        subprocess.run(["sh", "-c", script], env=env, check=True, timeout=60)

    def start(self, name: str, rack: str, work: str | None = None) -> Process:
        node = self.cluster.folder / name
        node.mkdir(exist_ok=True)
        (node / "rack").write_text(rack)
        work = work or f"{self.cluster.work} {name} {rack}"
        for program, text in (("yum", YUM.format(node=node, work=work)), ("systemctl", "#!/bin/sh\n")):
            (node / program).write_text(text)
            (node / program).chmod(0o755)
        script = with_stand_ins(
            (EXAMPLE / "upgrade.sh").read_text(),
            ("exec distlock", f"exec {DISTLOCK} --gate-every=0.1"),
            ("/etc/rack)", f"{node}/rack)"),
            ("/usr/local/bin/cluster-is-green", str(self.cluster.gate)),
            ("--gate-for=10", "--gate-for=0.3"),
        )
        env = {**self._env, "PATH": f"{node}:{self._env['PATH']}"}
        return Process(
            ["sh", "-c", script],
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture
def nodes(distlock_env: dict[str, str], tmp_path: Path) -> Nodes:
    return Nodes(tmp_path, distlock_env)


RACKS = {"es1": "r1", "es2": "r1", "es3": "r2", "es4": "r2", "es5": "r3", "es6": "r3"}


def test_each_node_is_upgraded_once_and_never_two_of_a_rack_or_three_of_the_cluster(
    nodes: Nodes, in_etcd: Etcd
) -> None:
    for _ in range(2):
        running = [nodes.start(name, rack) for name, rack in RACKS.items()]
        for process in running:
            said = process.communicate(timeout=200)[1]
            assert process.returncode == 0, said
    assert nodes.cluster.faults == []
    assert nodes.cluster.upgraded == [*RACKS]
    assert in_etcd.keys() == ["__policy/elastic_prod"]
    assert in_etcd.new_leases() == set()


def test_a_failed_upgrade_stops_its_rack_and_the_cluster(
    nodes: Nodes, etcd: Cluster, realm_prefix: str, run_distlock: Run
) -> None:
    first = nodes.start("es1", "r1", work="false")
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1, said
    realm = connect(etcd.endpoints, realm_prefix)
    for state in realm.show_all(["elastic_r1", "elastic_prod"]):
        assert (state.holders, state.frozen and state.frozen.reason[:18]) == ((), "sh ended with 1 on")
    others = [nodes.start("es2", "r1"), nodes.start("es3", "r2")]
    wait_until(lambda: realm.show("elastic_prod").waiting == 2, "both wait", 60)
    assert nodes.cluster.upgraded == []
    for process in others:
        process.terminate()
        process.communicate(timeout=120)
