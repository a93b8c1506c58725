"""The examples of docs/rollouts.md for a fleet, with Ansible: hosts of one run, with stand-ins for packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.ansible_controller import Controller
from tests.support.elastic_cluster import EXAMPLE, ElasticCluster
from tests.support.etcd_view import Etcd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


def test_an_elasticsearch_in_racks(controller: Controller, keys: Etcd, tmp_path: Path) -> None:
    cluster = ElasticCluster(tmp_path)
    package = {"ansible.builtin.package": {"name": "elasticsearch", "state": "latest"}}
    upgrade, restart = yaml.safe_load((EXAMPLE / "upgrade_tasks.yml").read_text())
    assert upgrade == {"name": "Upgrade Elasticsearch", **package}
    assert restart["ansible.builtin.service"] == {"name": "elasticsearch", "state": "restarted"}
    copy = {"ansible.builtin.copy": {"content": "new", "dest": f"{tmp_path}/new-{{{{ inventory_hostname }}}}"}}
    work = {"ansible.builtin.command": f"{cluster.work} {{{{ inventory_hostname }}}} {{{{ rack }}}}"}
    (controller.folder / "upgrade_tasks.yml").write_text(yaml.safe_dump([copy, work]))
    plays = yaml.safe_load((EXAMPLE / "upgrade.yml").read_text())
    words = plays[1]["tasks"][0]["vars"]
    assert words["guarded_needed"] == [package]
    words["guarded_needed"] = [copy]
    assert words["guarded_gate"] == [{"ansible.builtin.command": "/usr/local/bin/cluster-is-green"}]
    words.update(guarded_gate=[{"ansible.builtin.command": str(cluster.gate)}], guarded_gate_for=0.3)
    words["guarded_gate_every"] = 0.2
    playbook = controller.folder / "upgrade.yml"
    playbook.write_text(yaml.safe_dump(plays))
    given = {"rack": "{{ 'r2' if inventory_hostname == 'h3' else 'r1' }}", "target": "all"}
    for _ in range(2):
        code, output = controller.run(playbook, "-e", json.dumps(given), "--forks=3", hosts="h1,h2,h3")
        assert code == 0, output
        assert cluster.upgraded == ["h1", "h2", "h3"]
    assert cluster.faults == []
    assert keys.keys() == ["__policy/elastic_prod"]
