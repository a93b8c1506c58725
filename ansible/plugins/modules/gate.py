#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: Waits until tasks show that the cluster is healthy
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Runs the modules of some tasks again and again, until all of them succeed.
  - The role P(distlock.distlock.guarded#role) does so for its variable C(guarded_gate).
  - The task never reports a change. In check mode it is skipped.
options:
  tasks:
    description:
      - Tasks, each with one module, its arguments, and optionally a C(name). Keywords such as C(when) or C(loop) are
        refused. C(become) and the like apply to them if they are set on this task.
    type: list
    elements: dict
    required: true
  timeout:
    description: How long to wait, in seconds. After that the task fails.
    type: raw
    default: 600
  every:
    description: Pause before the tasks run again, in seconds.
    type: raw
    default: 5
  steady:
    description: Time for which all of them must have succeeded without interruption, in seconds.
    type: raw
    default: 0
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.flow
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: none
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: distlock.distlock.probe
"""

EXAMPLES = r"""
- name: Wait until all nodes are synced
  distlock.distlock.gate:
    tasks:
      - ansible.builtin.command: /usr/local/bin/all-nodes-synced
    timeout: 1800
"""

RETURN = r"""
asked:
  description: How often the tasks have run.
  returned: always
  type: int
  sample: 3
"""
