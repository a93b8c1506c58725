"""The layout is a promise: imports point down only, so that a reader knows what can depend on what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import distlock_core

ROOT = Path(distlock_core.__file__).parent

# From the top down; the modules of one row may import each other.
ROWS = (
    ("cli.start",),
    ("saltext.",),
    ("cli.distlock", "cli.etcdlocker", "cli.distlock_etcd", "cli.puppet"),
    ("cli.",),
    ("adapters",),
    ("mine",),
    ("supervisor", "command", "care", "spawn", "gate", "jobs", "heartbeat", "notify_socket", "teller"),
    ("binding", "deputy"),
    ("keeper",),
    ("aio", "aio."),
    ("manager",),
    ("connection",),
    ("realm",),
    ("survey",),
    ("watching",),
    ("following",),
    (
        "lock",
        "blocks",
        "holding",
        "acquisition",
        "claims",
        "amend",
        "rehang",
        "hold",
        "reentry",
        "release",
        "refusal",
        "view",
        "line",
    ),
    ("session", "lease", "renewal"),
    ("etcd.transport",),
    ("etcd.gateway", "etcd.grpc"),
    ("etcd.",),
    ("config", "inherited"),
    (
        *("settings", "secret", "wording", "whoami", "lifetime", "processes", "tree", "killing", "ended"),
        *("signalfd", "signalmask", "threads", "waking", "ownership", "tidings", "notices", "remarks"),
        *("standby", "finish", "waited", "advice", "memory", "checks", "config_file", "plain_yaml"),
        *("trusted", "nearest"),
    ),
    ("model",),
    ("etcd.api",),
    ("patience",),
    ("errors", "values"),
)

# They hold nothing but their modules; the last two are links to what is in salt/.
PACKAGES = {
    *("cli", "etcd", "saltext", "saltext.modules", "saltext.states"),
    *("saltext.modules.distlock", "saltext.states.distlock"),
}


def test_imports_point_down_only() -> None:
    upward = [
        f"{importer} imports {imported}"
        for path in sorted(ROOT.rglob("*.py"))
        for importer in [_name(path)]
        if importer and not importer.startswith("testing")  # stands beside the rows: it imports none of them
        for imported in _imports(ast.parse(path.read_text()))
        if imported and not imported.startswith("testing") and _row(imported) < _row(importer)
    ]
    assert not upward


def test_every_module_has_its_row() -> None:
    names = {_name(path) for path in ROOT.rglob("*.py")}
    homeless = [name for name in names if name and not name.startswith("testing") and _row(name) < 0]
    assert not homeless


def test_the_map_names_every_module_and_no_other() -> None:
    page = (ROOT.parent / "docs" / "internals.md").read_text(encoding="utf-8").partition("\n## How do I")[0]
    named = set(re.findall(r"`([a-z0-9_.]+)`", page))
    modules = {_name(path) for path in ROOT.rglob("*.py")}
    expected = {name for name in modules if name and not name.startswith("testing")} - PACKAGES
    assert expected - named == set()
    assert named - modules == {"distlock", "distlock_core", "etcd3"}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _row(name: str) -> int:
    exact = [row for row, names in enumerate(ROWS) if name in names]
    inside = [row for row, names in enumerate(ROWS) if f"{name.partition('.')[0]}." in names]
    return (exact or inside or [-1])[0]


def _imports(tree: ast.AST) -> Iterator[str]:
    """What is imported at run time, inside of functions too; not what only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distlock_core"):
            package = (node.module or "").partition(".")[2]
            for alias in node.names:
                submodule = f"{package}.{alias.name}".lstrip(".")
                is_module = (ROOT / (submodule.replace(".", "/") + ".py")).exists()
                yield submodule if is_module else package
        yield from _imports(node)
