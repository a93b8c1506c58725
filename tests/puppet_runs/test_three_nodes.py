"""Three runs of `puppet apply` at once: at most one of them is in the guarded part, at every moment."""

from __future__ import annotations

from typing import Callable

import pytest

from tests.support.etcd_view import Etcd
from tests.support.processes import wait_until
from tests.support.puppet_node import (
    CHANGED,
    DISTLOCK_PUPPET,
    FAILED,
    Guarded,
    PuppetNode,
    PuppetRun,
    holder_named,
    quoted,
)

pytestmark = pytest.mark.timeout(240)

NAMES = ("db1", "db2", "db3")
BOUND = 100.0  # seconds for three runs to come so far


def locked_exec(node: PuppetNode, guarded: Guarded, *options: str) -> str:
    under = [DISTLOCK_PUPPET, "exec", "percona_prod", *options, "--", guarded.script, node.certname]
    return f"exec {{ 'upgrade': command => {quoted(*under)} }}"


def plain_exec(node: PuppetNode, guarded: Guarded) -> str:
    return f"exec {{ 'upgrade': command => {quoted(guarded.script, node.certname)} }}"


@pytest.mark.parametrize("whole_run", [False, True], ids=["exec", "whole run"])
def test_with_no_waiting_exactly_one_applies_and_the_others_when_repeated(
    new_node: Callable[..., PuppetNode], guarded: Guarded, seen: Etcd, whole_run: bool
) -> None:
    nodes = {name: new_node(name, whole_run=whole_run) for name in NAMES}
    manifests = {name: (plain_exec if whole_run else locked_exec)(node, guarded) for name, node in nodes.items()}
    runs = {name: node.start(manifests[name]) for name, node in nodes.items()}

    def over() -> dict[str, PuppetRun]:
        return {name: run for name, run in runs.items() if run.process.poll() is not None}

    wait_until(lambda: guarded.began and len(over()) == 2, "one at work, two refused", BOUND)
    (winner,) = guarded.began
    losers = over()
    assert winner not in losers
    for run in losers.values():
        assert run.wait() == (1 if whole_run else FAILED), run.said
        assert holder_named(run.said) == f"puppet:{winner}"
        assert "Traceback" not in run.said
    guarded.gate.touch()
    assert runs[winner].wait() == CHANGED, runs[winner].said
    for name in losers:
        code, said = nodes[name].apply(manifests[name])
        assert code == CHANGED, said
    assert guarded.began == guarded.ended == [winner, *losers]
    wait_until(lambda: not seen.keys() and not seen.new_leases(), "nothing left in etcd")


def test_with_waiting_all_apply_one_after_the_other(
    new_node: Callable[..., PuppetNode], guarded: Guarded, seen: Etcd
) -> None:
    nodes = [new_node(name) for name in NAMES]
    # The first one's command waits until the two others are in the queue.
    options = ("--timeout=-1", f"--command-timeout={BOUND + 30:g}")
    runs = [node.start(locked_exec(node, guarded, *options)) for node in nodes]
    wait_until(lambda: sum("/queue/" in key for key in seen.keys()) == 2, "two in line", BOUND)  # noqa: SIM118 - no dict
    guarded.gate.touch()
    assert [run.wait() for run in runs] == [CHANGED] * 3, [run.said for run in runs]
    assert sorted(guarded.began) == sorted(NAMES)
    assert guarded.began == guarded.ended
    wait_until(lambda: not seen.keys() and not seen.new_leases(), "nothing left in etcd")
