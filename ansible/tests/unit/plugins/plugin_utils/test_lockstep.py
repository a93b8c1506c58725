# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.distlock.distlock.plugins.plugin_utils._lockstep import is_in_lockstep


class Play:
    def __init__(self, strategy):
        self.strategy = strategy


@pytest.mark.parametrize("strategy", ["linear", "ansible.builtin.linear", "distlock.distlock.linear", "debug", "x.y.z"])
def test_a_strategy_goes_from_task_to_task_unless_it_is_known_not_to(strategy):
    assert is_in_lockstep(Play(strategy))


@pytest.mark.parametrize(
    "strategy", ["free", "ansible.builtin.free", "host_pinned", "distlock.distlock.host_pinned", "mitogen_free"]
)
def test_free_and_host_pinned_do_not(strategy):
    assert not is_in_lockstep(Play(strategy))
