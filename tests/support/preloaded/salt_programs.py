"""Salt's programs, with what its loader imports in the course of a call or a job.

Nothing of distlock is imported here: each call and each job does that itself.
"""

from __future__ import annotations

import importlib
import os
import sys

from salt import scripts
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
PROGRAMS = {
    "salt": scripts.salt_main,
    "salt-call": scripts.salt_call,
    "salt-master": scripts.salt_master,
    "salt-minion": scripts.salt_minion,
    "salt-run": scripts.salt_run,
}

for name in DURING_A_CALL:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # another version of Salt, or what it can do without
become_requested()
sys.exit(PROGRAMS[os.path.basename(sys.argv[0])]())
