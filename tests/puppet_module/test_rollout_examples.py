"""The examples of docs/rollouts.md for a fleet, with Puppet: nodes at the same time, with stand-ins for packages."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.support.doc_blocks import with_stand_ins
from tests.support.elastic_cluster import EXAMPLE, ElasticCluster
from tests.support.etcd_view import Etcd
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, UNCHANGED

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


def test_an_elasticsearch_in_racks(new_node: Callable[..., ModuleNode], seen: Etcd, tmp_path: Path) -> None:
    cluster = ElasticCluster(tmp_path)
    nodes = {"es1": "r1", "es2": "r1", "es3": "r2"}

    def manifest(name: str, rack: str) -> str:
        package, service = "package { 'elasticsearch':\n    ensure => latest,", "service { 'elasticsearch':"
        text = with_stand_ins(
            (EXAMPLE / "upgrade.pp").read_text(),
            (package, f"file {{ '{tmp_path}/new-{name}':\n    content => 'new',"),
            ("Package['elasticsearch']", f"File['{tmp_path}/new-{name}']"),
            (service, f"exec {{ 'elasticsearch':\n    command => ['{cluster.work}', '{name}', '{rack}'],"),
            ("    ensure    => running,", "    refreshonly => true,"),
            ("Service['elasticsearch']", "Exec['elasticsearch']"),
            ("/usr/local/bin/cluster-is-green", str(cluster.gate)),
            ("gate_for     => 10,", "gate_for     => 0.3,\n    gate_every   => 0.1,"),
        )
        policy = f"Distlock::Policy {{ program => '{BIN}/distlock-puppet' }}"
        return f"{policy}\n{text}\nclass {{ 'elasticsearch_upgrade': rack => '{rack}' }}"

    made = {name: new_node(name) for name in nodes}
    for codes in ((CHANGED,), (UNCHANGED,)):
        runs = [node.start(manifest(name, nodes[name])) for name, node in made.items()]
        for run in runs:
            assert run.wait() in codes, run.said
    assert cluster.faults == []
    assert cluster.upgraded == ["es1", "es2", "es3"]
    assert seen.keys() == ["__policy/elastic_prod"]
