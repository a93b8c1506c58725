#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Finds out whether tasks would change something
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Runs the modules of some tasks in check mode, and reports whether one of them would change something, so that a
    lock is acquired only where there is work. It never changes anything.
  - The role P(distlock.distlock.guarded#role) does so for its variable C(guarded_needed).
options:
  tasks:
    description:
      - Tasks, each with one module, its arguments, and optionally a C(name). Keywords such as C(when) or C(loop) are
        refused. C(become) and the like apply to them if they are set on this task.
      - A task that fails, or whose module does not run in check mode, is an error.
    type: list
    elements: dict
    required: true
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
  - module: distlock.distlock.distlock
"""

EXAMPLES = r"""
- name: Is there an upgrade?
  distlock.distlock.probe:
    tasks:
      - ansible.builtin.package:
          name: percona-server-server
          state: latest
  register: upgrade

- name: Acquire the lock
  distlock.distlock.distlock:
    name: percona_prod
  when: upgrade.needed
"""

RETURN = r"""
needed:
  description: Whether one of the tasks would change something.
  returned: always
  type: bool
  sample: true
changes:
  description: The names of the tasks that would change something; without a name, their modules.
  returned: always
  type: list
  elements: str
  sample: [ansible.builtin.package]
"""
