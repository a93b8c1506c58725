"""What the page about roll-outs says about policies and windows is done as written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import connect
from distlock_core.model.window_syntax import parse_windows
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.paths import ROOT
from tests.support.recipe_node import Node
from tests.support.scene import Scene


@pytest.fixture
def node(start_etcd: Callable[..., Cluster], tmp_path: Path) -> Iterator[Node]:
    """A node of an etcd of the test's own: the recipes have the default prefix."""
    with start_etcd() as cluster:
        node = Node(tmp_path, cluster.endpoints[0])
        node.stand_in("bin/yum")
        yield node


def test_the_commands_of_a_policy(node: Node) -> None:
    code, said = node.run(recipe("policy commands"))
    assert code == 0
    assert "policy set: slots 3, cooldown 120s" in said
    assert "policy changed: window 'Mon-Fri 22:00-04:00 Europe/Berlin' (was not set)" in said
    assert "policy changed: slots 3 -> 2" in said
    assert "policy would be changed: cooldown removed (was 120s), window removed" in said
    assert "policy removed: slots 2, cooldown 120s" in said
    assert "SLOTS" in said


def test_the_command_with_a_window(node: Node) -> None:
    command = recipe("window")
    code, said = node.run(command.replace("distlock ", "distlock --nowait ", 1))
    assert (code, said) == (0, "") or "outside the window 'Mon-Fri 22:00-04:00 Europe/Berlin, Sat-Sun'" in said


def test_the_policy_in_python(scene: Scene) -> None:
    realm = connect(scene.endpoints, scene.prefix)
    exec(recipe("policy"), {"realm": realm})
    assert realm.policies() == []


def test_every_text_in_the_table_of_windows_is_one() -> None:
    page = (ROOT / "docs/rollouts.md").read_text(encoding="utf-8")
    table = page.partition("| text | open |\n|---|---|\n")[2].partition("\n\n")[0]
    texts = [line.split("`")[1] for line in table.splitlines()]
    assert len(texts) >= 8
    for text in texts:
        parse_windows(text)
