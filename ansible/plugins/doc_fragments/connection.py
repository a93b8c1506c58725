# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the connection to etcd, from the one list of them."""

from __future__ import annotations

import yaml
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import documented

NOTES = [
    """What no argument says, the variables DISTLOCK_* of the controller's environment do, and the config file that
    C(DISTLOCK_CONFIG) names there; behind them, environment and config file of the host that the task runs on. Paths
    are those of that host.""",
    "Nothing has to be installed on that host but Python 3.9 or later.",
]


class ModuleDocFragment:
    """What is in here is put together below: yamllint reads a class for texts only."""

    ACTIONGROUPS = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/distlock.distlock.distlock) in C(module_defaults) to set what they have in common.
    support: full
    membership: [distlock.distlock.distlock]
"""


ModuleDocFragment.DOCUMENTATION = yaml.safe_dump({"options": documented(), "notes": NOTES})
ModuleDocFragment.PLUGIN = yaml.safe_dump({"options": documented(sources=True)})
