"""examples/rollouts/replicas with the command: the primary asks first, and is upgraded last."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.rollout.test_needed import DISTLOCK
from tests.support.doc_blocks import with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import Process, wait_until

SCRIPT = ROOT / "examples" / "rollouts" / "replicas" / "upgrade.sh"
YUM = """#!/bin/sh
case "$*" in
*check-update*) test -e {node}/upgraded || exit 100 ;;
*) echo {name} >> {cluster}/upgrades; touch {node}/upgraded ;;
esac
"""


def start(cluster: Path, env: dict[str, str], name: str, role: int) -> Process:
    """Start the script on a node. `role`: the exit code of is-primary."""
    node = cluster / name
    node.mkdir()
    programs = {
        "yum": YUM.format(node=node, name=name, cluster=cluster),
        "is-primary": f"#!/bin/sh\nexit {role}\n",
        "replicas-upgraded": f"#!/bin/sh\ntest -e {cluster}/db2/upgraded && test -e {cluster}/db3/upgraded\n",
    }
    for program, text in programs.items():
        (node / program).write_text(text)
        (node / program).chmod(0o755)
    script = with_stand_ins(
        SCRIPT.read_text(),
        ("exec distlock", f"exec {DISTLOCK} --gate-every=0.2" if role == 0 else f"exec {DISTLOCK}"),
        ("/usr/local/bin/is-primary\ncase", f"{node}/is-primary\ncase"),
        ("--gate=/usr/local/bin/", f"--gate={node}/"),
    )
    (node / "upgrade").write_text(script)
    return Process(
        ["sh", str(node / "upgrade")],
        env={**env, "PATH": f"{node}:{env['PATH']}"},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_the_primary_is_upgraded_last_though_it_asked_first(
    distlock_env: dict[str, str], in_etcd: Etcd, tmp_path: Path
) -> None:
    primary = start(tmp_path, distlock_env, "db1", 0)
    wait_until(lambda: any("/queue/" in key for key in in_etcd.keys()), "the primary in the queue")  # noqa: SIM118
    nodes = [primary, *(start(tmp_path, distlock_env, name, 1) for name in ("db2", "db3"))]
    for node in nodes:
        said = node.communicate(timeout=120)[1]
        assert node.returncode == 0, said
    order = (tmp_path / "upgrades").read_text().split()
    assert (sorted(order[:2]), order[2:]) == (["db2", "db3"], ["db1"])
    in_etcd.assert_nothing_left()


def test_a_node_of_unknown_role_takes_nothing(distlock_env: dict[str, str], in_etcd: Etcd, tmp_path: Path) -> None:
    node = start(tmp_path, distlock_env, "db1", 2)
    said = node.communicate(timeout=60)[1]
    assert (node.returncode, said) == (1, "the role of this node is unknown\n")
    in_etcd.assert_nothing_left()
