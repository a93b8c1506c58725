# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imported by the modules before distlock_core: use the host's installed package if it is exactly the collection's.

Ansible sends distlock_core as source code, which the host would compile for every task. An installed package is
compiled already. It is used only if all its files are, byte for byte, those that this collection was built from. If
not, nothing of it is used: installed and sent modules never meet in one process.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import zipimport
from importlib.machinery import ModuleSpec, PathFinder

from ansible_collections.distlock.distlock.plugins.module_utils._sources import DIGEST, FILES

CORE = "distlock_core"
SENT = __name__.rpartition(".")[0] + "." + CORE


class Installed:
    """A finder (see sys.meta_path) that gives the installed modules the names of the sent ones, too."""

    def __init__(self, stamps):
        """`stamps` has the state of each file at the time of the comparison."""
        self._stamps = stamps

    def find_spec(self, name, path=None, target=None):
        del target
        if name == SENT or name.startswith(SENT + "."):
            return ModuleSpec(name, _SameModule(importlib.import_module(CORE + name[len(SENT) :])))
        if not name.startswith(CORE + "."):
            return None
        spec = PathFinder.find_spec(name, path)
        # A module that is loaded late must not come from another version, which has been installed since.
        if spec is not None and self._stamps.get(spec.origin) != _stamp(os.stat(spec.origin)):
            raise ImportError(f"{spec.origin} was replaced while this task was running: run the task again", name=name)
        return spec


class _SameModule:
    """A loader that returns a module which has been loaded under another name."""

    def __init__(self, module):
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec):
        del spec
        return self._module

    def exec_module(self, module):
        module.__spec__ = self._spec


def stamps_if_same():
    """Return the stamps of the installed files by their paths; None if any of them is missing or differs."""
    spec = importlib.util.find_spec(CORE)
    if spec is None or not spec.origin:
        return None
    folder = os.path.dirname(spec.origin)
    if list(spec.submodule_search_locations or ()) != [folder]:
        return None
    digest, stamps = hashlib.sha256(), {}
    for name in FILES:
        path = os.path.join(folder, *name.split("/"))
        with open(path, "rb") as file:
            stamps[path] = _stamp(os.fstat(file.fileno()))
            content = file.read()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return stamps if digest.hexdigest() == DIGEST else None


def _stamp(stat):
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _use():
    try:
        stamps = stamps_if_same()
    except Exception:  # noqa: BLE001 # pylint: disable=broad-exception-caught
        return  # whatever is wrong with an installed package, what was sent is complete
    if stamps is not None:
        sys.meta_path.insert(0, Installed(stamps))


# Only in what Ansible has sent: with ANSIBLE_KEEP_REMOTE_FILES, people run, and change, the files themselves.
if isinstance(__spec__.loader, zipimport.zipimporter):
    _use()
