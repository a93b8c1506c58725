"""Salt's programs, with what its loader imports in the course of a call or a job.

Nothing of distlock is imported here: each call and each job does that itself. Its entry point is known here, and the
names of the files in its folders.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from salt.loader.lazy import LazyLoader
from salt.utils import entrypoints

import salt
from salt import config, loader, scripts
from tests.support.paths import ROOT
from tests.support.preloaded.server import become_requested

DURING_A_CALL = (
    "salt.cli.call",
    "salt.cli.daemons",
    "salt.cli.run",
    "salt.cli.salt",
    "dns.resolver",
    "git",
    "salt.client.ssh",
    "salt.cloud",
    "salt.grains.extra",
    "salt.modules.cmdmod",
    "salt.modules.network",
    "salt.runner",
    "salt.serializers.yaml",
    "salt.utils.dns",
    "salt.utils.gitfs",
    "salt.utils.tarfileutil",
    "salt.utils.thin",
    "salt.utils.yamlloader_old",
    "salt.wheel",
)
# A folder of the loader, and its name in the options, where that is another one.
KINDS = (
    *("executors:executor", "fileserver", "grains:grain", "log_handlers", "matchers", "metaproxy", "modules:module"),
    *(
        "output",
        "pillar",
        "proxy",
        "renderers:render",
        "resources",
        "returners:returner",
        "runners:runner",
        "serializers",
    ),
    *("states", "tops:top", "utils", "wheel"),
)
PROGRAMS = {
    "salt": scripts.salt_main,
    "salt-call": scripts.salt_call,
    "salt-master": scripts.salt_master,
    "salt-minion": scripts.salt_minion,
    "salt-run": scripts.salt_run,
}

# Nobody changes these folders while tests run. A call looks through Salt's own a hundred times.
UNCHANGING = tuple(f"{path}/" for path in (Path(salt.__file__).parent, ROOT / "distlock_core/saltext"))
scan = LazyLoader._refresh_file_mapping
scanned: dict[Any, dict[str, Any]] = {}


def scan_once(self: Any) -> None:
    """In place of a loader's look through its folders, where all that have something in them stay as they are."""
    folders = tuple(folder for folder in self.module_dirs if os.path.isdir(folder) and os.listdir(folder))
    if not all(folder.startswith(UNCHANGING) for folder in folders):
        scan(self)
        return
    key = (folders, tuple(self.static_modules), frozenset(self.disabled))
    if key in scanned:
        given, self.module_dirs = self.module_dirs, []
        scan(self)  # which prepares more than the mapping
        self.module_dirs = given
        self.file_mapping = dict(scanned[key])
    else:
        scan(self)
        scanned[key] = dict(self.file_mapping)


def scan_folders() -> None:
    """Look through the folders of the usual kinds of plugins, with a minion's defaults."""
    options = config.minion_config(None)
    for kind in KINDS:
        name, _, tag = kind.partition(":")
        LazyLoader(loader._module_dirs(options, name, tag or None), options, tag=tag or name)


for name in DURING_A_CALL:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # another version of Salt, or what it can do without
entrypoints.iter_entry_points = functools.cache(entrypoints.iter_entry_points)
LazyLoader._refresh_file_mapping = scan_once
scan_folders()
become_requested()
sys.exit(PROGRAMS[os.path.basename(sys.argv[0])]())
