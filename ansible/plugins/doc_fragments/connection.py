# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the connection to etcd, from their one list."""

from __future__ import annotations

import yaml
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import documented

NOTES = [
    """Arguments override the variables DISTLOCK_* of the controller's environment and the config file that
    C(DISTLOCK_CONFIG) names there. These override the environment and the config file of the host that runs the task.
    Paths are paths of that host.""",
    "That host needs Python 3.9 or later, and nothing else.",
]


class ModuleDocFragment:
    """Filled below, because ansible-test expects only literal texts in this class."""

    ACTIONGROUPS = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/distlock.distlock.distlock) in C(module_defaults) to set their common options.
    support: full
    membership: [distlock.distlock.distlock]
"""


ModuleDocFragment.DOCUMENTATION = yaml.safe_dump({"options": documented(), "notes": NOTES})
ModuleDocFragment.PLUGIN = yaml.safe_dump({"options": documented(sources=True)})
