"""Nodes with the module, each a `puppet apply` with its own confdir."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.support.preloaded.client import Preloaded
from tests.support.puppet_module_node import MODULE, ModuleNode
from tests.support.puppet_node import BIN


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "distlock").symlink_to(MODULE)
    return folder


@pytest.fixture
def new_node(
    need: Callable[..., str],
    distlock_env: dict[str, str],
    ruby_env: dict[str, str],
    puppet: Preloaded,
    tmp_path: Path,
    modules: Path,
) -> Iterator[Callable[..., ModuleNode]]:
    """new_node("db1", **env) -> a node of this name in the test's own realm."""
    need("puppet")
    nodes: list[ModuleNode] = []

    def new(certname: str = "db1", **env: Any) -> ModuleNode:
        path = f"{BIN}:{distlock_env['PATH']}"
        full = {**distlock_env, **ruby_env, "PATH": path, **env}
        nodes.append(ModuleNode(tmp_path, certname, full, modules, puppet.start))
        return nodes[-1]

    yield new
    for node in nodes:
        node.end()


@pytest.fixture
def node(new_node: Callable[..., ModuleNode]) -> ModuleNode:
    return new_node()
