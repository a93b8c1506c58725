"""The layout is a promise: imports point down only, so that a reader knows what can depend on what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import distlock_core

ROOT = Path(distlock_core.__file__).parent
PAGE = ROOT.parent / "docs" / "internals.md"

# From the top down. `testing` stands beside them: it imports `embedded` and `errors` at most.
ORDER = (
    *("cli", "saltext", "adapters", "aio", "keeper", "command", "connection", "manager", "rollout", "lock"),
    *(
        "doctor",
        "history",
        "settings",
        "events",
        "process",
        "model",
        "etcd",
        "testing",
        "embedded",
        "base",
        "errors",
        "hints",
    ),
)
OF_TUPLES = ("_replace", "_asdict", "_fields", "_make", "_field_defaults")  # public, in spite of their names


def test_imports_point_down_only() -> None:
    """Those that only a type checker sees, too."""
    upward = [
        f"{module} imports {imported}"
        for module, imported in _imports()
        if ORDER.index(_part(imported)) < ORDER.index(_part(module))
    ]
    assert not upward


def test_there_is_no_circle_of_imports() -> None:
    below: dict[str, set[str]] = {}
    for module, imported in _imports():
        below.setdefault(module, set()).add(imported)
    ends = set(below)
    while ends:  # what imports nothing that is left is on no circle
        ends = {module for module, needed in below.items() if not needed & below.keys()}
        below = {module: needed for module, needed in below.items() if module not in ends}
    assert sorted(below) == []


def test_no_module_uses_a_private_member_of_another_modules_object() -> None:
    strange = []
    for path in ROOT.rglob("*.py"):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Attribute) or not re.match(r"_[a-z]", node.attr) or node.attr in OF_TUPLES:
                continue
            owner = ast.unparse(node.value)
            defined = re.search(
                rf"\bdef {node.attr}\b|\bself\.{node.attr}\b|^\s+{node.attr}\s*[:=]", source, re.MULTILINE
            )
            if not defined and owner not in ("self", "cls", "os", "sys", "signal"):
                strange.append(f"{path.relative_to(ROOT)}:{node.lineno}: {owner}.{node.attr}")
    assert strange == []


def test_every_package_has_a_docstring() -> None:
    silent = [
        path for path in ROOT.rglob("__init__.py") if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert not silent


def test_every_file_and_package_that_the_tour_names_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)*(?:\.py|/))`", page))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (ROOT.parent / name).exists()] == []
    packages = {path.parent.relative_to(ROOT).as_posix() + "/" for path in ROOT.rglob("__init__.py")} - {"./"}
    assert {name for name in packages if not name.startswith("saltext/")} - named == set()


def _part(module: str) -> str:
    return module.partition(".")[0]


def _imports() -> Iterator[tuple[str, str]]:
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not module or path.is_symlink():
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distlock_core."):
                package = (node.module or "").partition(".")[2]
                for alias in node.names:
                    within = f"{package}.{alias.name}".replace(".", "/")
                    is_module = (ROOT / f"{within}.py").exists() or (ROOT / within).is_dir()
                    yield module, within.replace("/", ".") if is_module else package
