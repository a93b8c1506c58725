#!/usr/bin/env python3
"""Build the Ansible collection: `ansible/`, and of `distlock_core` what its plugins import, in plugins/module_utils.

There is one source of `distlock_core`. Its internal imports become relative, so it is found under any name, even on
a managed node, to which Ansible ships the modules that it sees imported. Code that ansible-test rejects is replaced by
equivalent code. It needs the standard library and PyYAML, and the same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CORE = "distlock_core"
UTILS = "plugins/module_utils"
SOURCES = f"{UTILS}/_sources.py"
FROM_THE_TOP = {"CHANGELOG.md": "CHANGELOG.md", "LICENSE": "LICENSES/Apache-2.0.txt"}
LEFT_OUT = ("__pycache__", "*.pyc", "*~", ".*", "output")

# It follows the style of its own project, whose checks it has passed; part of it runs as a separate process.
PYLINT = (
    "# pylint: disable=ansible-bad-function,comparison-with-itself,disallowed-name,"
    "raising-non-exception,unidiomatic-typecheck\n"
)

Files = dict[str, bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the Ansible collection.")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="where to; default: dist")
    parser.add_argument(
        "--tree", action="store_true", help="no tarball: the files themselves, below ansible_collections in that folder"
    )
    arguments = parser.parse_args()
    print((write_tree if arguments.tree else write_tarball)(arguments.into))


def write_tree(folder: Path) -> Path:
    """Write the collection where Ansible finds it with ANSIBLE_COLLECTIONS_PATH=folder, and return its own folder."""
    info = collection_info()
    home = folder / "ansible_collections" / str(info["namespace"]) / str(info["name"])
    for name, content in collect().items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return home


def write_tarball(folder: Path) -> Path:
    """Write what `ansible-galaxy collection install` takes, and return its path."""
    info, files = collection_info(), collect()
    del files["galaxy.yml"]
    listed = _as_json({"files": [_entry(name, files.get(name)) for name in _names(files)], "format": 1})
    about = {"collection_info": info, "file_manifest_file": _entry("FILES.json", listed), "format": 1}
    files = {"MANIFEST.json": _as_json(about), "FILES.json": listed, **files}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{info['namespace']}-{info['name']}-{info['version']}.tar.gz"
    partial = path.with_name(f".{path.name}.part")
    with (
        partial.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in _names(files)[1:]:
            _add(archive, name, files.get(name))
    partial.replace(path)
    return path


def collect() -> Files:
    """Every file of the collection by its path in there."""
    files = {
        str(PurePosixPath(path.relative_to(ROOT / "ansible"))): path.read_bytes()
        for path in sorted((ROOT / "ansible").rglob("*"))
        if path.is_file() and not _is_left_out(path.relative_to(ROOT / "ansible"))
    }
    version = collection_info()["version"].encode()
    files["galaxy.yml"] = re.sub(rb"(?m)^version: .*$", b"version: " + version, files["galaxy.yml"])
    for name, target in FROM_THE_TOP.items():
        files[target] = (ROOT / name).read_bytes()
    sources = {}
    for module in sorted(_needed(files)):
        source, package = _source(module)
        sources[source.relative_to(ROOT / CORE).as_posix()] = source.read_bytes()
        files[f"{UTILS}/{source.relative_to(ROOT).as_posix()}"] = _adapted(source, package).encode()
    files[SOURCES] = _list_of_sources(sources).encode()
    return files


def collection_info() -> dict[str, Any]:
    """galaxy.yml, with the version of this project."""
    info: dict[str, Any] = yaml.safe_load((ROOT / "ansible/galaxy.yml").read_text(encoding="utf-8"))
    source = (ROOT / CORE / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    assert version is not None, f"{CORE}/__init__.py: no version"
    return {**info, "version": version.group(1)}


# What of distlock_core goes in.


def _needed(files: Files) -> set[str]:
    """The modules that the plugins import, and all that those import, packages around them too."""
    own = re.compile(rf"ansible_collections(?:\.\w+){{2}}\.plugins\.module_utils\.({CORE}(?:\.\w+)*)$")
    wanted = [
        match.group(1)
        for name, content in files.items()
        if name.endswith(".py") and not name.startswith("tests/")
        for imported in _imports(ast.parse(content, name))
        for match in [own.match(imported)]
        if match
    ]
    found: set[str] = set()
    while wanted:
        module = wanted.pop()
        if module in found or _source(module)[0] is None:
            continue  # seen, or a name inside of a module
        found.add(module)
        wanted.append(module.rpartition(".")[0])
        source = _source(module)[0]
        wanted += [name for name in _imports(ast.parse(source.read_text(encoding="utf-8"))) if name.startswith(CORE)]
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    """All that may be a module's name, in functions and for type checkers too: Ansible looks at it in the same way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _list_of_sources(sources: Files) -> str:
    """The module that tells whether a host has this distlock_core installed: its files, and a digest of them all."""
    digest = hashlib.sha256()
    for name, content in sorted(sources.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    listed = "".join(f'    "{name}",\n' for name in sorted(sources))
    return f'''"""The files of distlock_core that this collection was built from, and the digest of them all."""

from __future__ import annotations

DIGEST = "{digest.hexdigest()}"
FILES = (
{listed})
'''


def _source(module: str) -> Any:
    """The file of a module, and the dots from there to its package; None where there is no such module."""
    path = ROOT / module.replace(".", "/")
    if (path / "__init__.py").is_file():
        return path / "__init__.py", "." * (module.count(".") + 1)
    if module and path.with_suffix(".py").is_file():
        return path.with_suffix(".py"), "." * module.count(".")
    return None, ""


def _adapted(source: Path, dots: str) -> str:
    """The text of a module, for the collection. `dots` lead from it to its package."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == CORE for alias in node.names):
            sys.exit(f"{source}:{node.lineno}: `import {CORE}` cannot be made relative: use `from {CORE} import`")
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == CORE:
            there = (node.module or "")[len(CORE) :].lstrip(".")
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace(f"from {node.module} import", f"from {dots}{there} import", 1)
        if isinstance(node, ast.Assert):
            indent, first, last = " " * node.col_offset, node.lineno - 1, node.end_lineno or node.lineno
            error = "AssertionError" + ("" if node.msg is None else f"({ast.unparse(node.msg)})")
            lines[first:last] = [
                f"{indent}if not ({ast.unparse(node.test)}):\n{indent}    raise {error}\n",
                *[""] * (last - first - 1),  # as many items as before: the numbers of the others stay
            ]
    return PYLINT + "".join(lines)


# The tarball.


def _names(files: Files) -> list[str]:
    """All files, and before them all folders, from the outermost one."""
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    return [*sorted(folders, key=lambda name: (name != ".", name)), *files]


def _entry(name: str, content: bytes | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "ftype": "dir", "chksum_type": None, "chksum_sha256": None, "format": 1}
    if content is not None:
        entry.update(ftype="file", chksum_type="sha256", chksum_sha256=hashlib.sha256(content).hexdigest())
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes | None) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.size = 0o644, len(content or b"")
    if content is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(member, io.BytesIO(content or b""))


def _as_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()


def _is_left_out(path: Path) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in LEFT_OUT)


if __name__ == "__main__":
    main()
