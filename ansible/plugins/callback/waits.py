# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A callback that lists the waits of a run at its end."""

from __future__ import annotations

DOCUMENTATION = r"""
name: waits
type: aggregate
short_description: Lists all waits for locks at the end of a run
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Adds a list to the end of the output. A line says which host waited for which lock, for whom and how long. There is
    one for each wait of a task of P(distlock.distlock.distlock#module) and of the strategies of this collection, and
    one for each lock that was refused.
  - During a wait, the module and the strategies report it themselves, with or without this callback.
requirements:
  - Enable it with C(callbacks_enabled=distlock.distlock.waits) in the section C([defaults]) of C(ansible.cfg), or with
    E(ANSIBLE_CALLBACKS_ENABLED).
seealso:
  - module: distlock.distlock.distlock
  - plugin: distlock.distlock.linear
    plugin_type: strategy
  - plugin: distlock.distlock.host_pinned
    plugin_type: strategy
"""

from ansible.plugins.callback import CallbackBase
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.lock.wait_story import Waited
from ansible_collections.distlock.distlock.plugins.plugin_utils._story import WAITS, Wait

ACTIONS = ("distlock", "distlock.distlock.distlock")
REFUSALS = ("busy", "timeout", "frozen")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "distlock.distlock.waits"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result):
        self._note(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):  # noqa: ARG002
        self._note(result)

    def v2_playbook_on_stats(self, stats):  # noqa: ARG002
        if WAITS:
            self._display.banner("DISTLOCK WAITS")
            for wait in WAITS:
                self._display.display(f"{wait.host}: {wait.lock}: {wait.story}")

    def _note(self, result):
        told = result._result
        if result._task.action not in ACTIONS or not isinstance(told, dict):
            return
        host = result._host.get_name()
        if told.get("kind") in REFUSALS:
            WAITS.append(Wait(host, told.get("lock"), f"refused: {told.get('msg')}"))
        elif told.get("position") and told.get("changed"):
            story = Waited(told.get("waited_for") or "", told["waited"], told["position"])
            WAITS.append(Wait(host, told.get("lock"), f"locked {story}"))
