"""The examples of docs/rollouts.md for a fleet, with Salt: minions at the same time, with stand-ins for packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest

from tests.support.doc_blocks import with_stand_ins
from tests.support.elastic_cluster import EXAMPLE, ElasticCluster
from tests.support.etcd_view import Etcd
from tests.support.salt_minions import Minion, states

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things


def test_an_elasticsearch_in_racks(new_minion: Callable[..., Minion], keys: Etcd, tmp_path: Path) -> None:
    cluster = ElasticCluster(tmp_path)
    package = f"file.managed:\n    - name: {tmp_path}/new-{{{{ grains['id'] }}}}\n    - contents: new"
    work = f"cmd.run:\n    - name: {cluster.work} {{{{ grains['id'] }}}} {{{{ grains['rack'] }}}}\n    - onchanges:\n"
    text = with_stand_ins(
        (EXAMPLE / "upgrade.sls").read_text(),
        ("pkg.latest: []", package),
        ("service.running:\n    - watch:\n", work),
        ("- pkg: elasticsearch", "- file: elasticsearch"),
        ("- service: elasticsearch", "- cmd: elasticsearch"),
        ("/usr/local/bin/cluster-is-green", str(cluster.gate)),
        ("gate_for: 10", "gate_for: 0.3\n    - gate_every: 0.1"),
        ("timeout: -1", "timeout: 250"),
    )
    minions = [new_minion(name, grains={"rack": rack}) for name, rack in (("es1", "r1"), ("es2", "r1"), ("es3", "r2"))]
    for again in (False, True):
        running = []
        for minion in minions:
            (minion.sls / "elastic.sls").write_text(text)
            running.append(minion.start("state.apply", "elastic"))
        for process in running:
            out, err = process.communicate(timeout=280)
            done = states(json.loads(out)["local"])
            assert all(state.result for state in done.values()), (done, err)
            assert not again or not any(state.changes for state in done.values()), done
    assert cluster.faults == []
    assert cluster.upgraded == ["es1", "es2", "es3"]
    assert keys.keys() == ["__policy/elastic_prod"]
