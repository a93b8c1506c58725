#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distlock_policy
short_description: Sets or removes the policy of a lock in etcd
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Sets or removes the policy of a lock. It applies to everybody who acquires the lock, with any tool, and overrides
    the settings of nodes, plays and minions.
  - A change applies at once, whether it allows more slots or fewer. Present holders are not affected.
options:
  name:
    description:
      - Name of the lock.
    type: str
    required: true
  state:
    description:
      - V(present) makes the policy exactly what the task names. V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
  slots:
    description:
      - Number of simultaneous holders allowed.
    type: int
  cooldown:
    description:
      - Time that the lock stays taken after a success, such as V(2m).
    type: str
  window:
    description:
      - Times outside of which nobody acquires the lock, such as V(Mon-Fri 22:00-04:00 Europe/Berlin, !Sat), in UTC
        unless a time zone is named.
    type: str
  expect:
    description:
      - Time that a hold is expected to take, such as V(20m). After it, the hold is shown as OVERDUE.
    type: str
  reason:
    description:
      - Why this policy was set. It is shown to everybody who looks.
    type: str
  owner:
    description:
      - Who has set it, as others see it. The default is C(ansible:) and the host name.
    type: str
extends_documentation_fragment:
  - distlock.distlock.connection
  - distlock.distlock.connection.actiongroups
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
seealso:
  - module: distlock.distlock.distlock
  - module: distlock.distlock.distlock_info
"""

EXAMPLES = r"""
- name: At most three at once, and only at night
  distlock.distlock.distlock_policy:
    name: percona_prod
    slots: 3
    cooldown: 2m
    window: Mon-Fri 22:00-04:00 Europe/Berlin
  run_once: true

- name: Back to what each play says
  distlock.distlock.distlock_policy:
    name: percona_prod
    state: absent
  run_once: true
"""

RETURN = r"""
policy:
  description: The fields of the policy that are set; null without a policy.
  returned: success
  type: dict
  sample: {slots: 3, cooldown: 120}
kind:
  description: Kind of failure in one word, such as V(unreachable) or V(config).
  returned: on failure
  type: str
  sample: unreachable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.distlock.distlock.plugins.module_utils import (  # pylint: disable=unused-import
    _installed,  # noqa: F401
    _python,  # noqa: F401
)
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import connection_arguments, connection_spec
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters import policy
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import read_settings
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import ConfigError, DistlockError
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.model.policy_change import difference
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import hostname

FIELDS = {"slots": {"type": "int"}, **{word: {"type": "str"} for word in ("cooldown", "window", "expect")}}


def main():
    spec = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "reason": {"type": "str"},
        "owner": {"type": "str"},
        **FIELDS,
        **connection_spec(),
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    try:
        module.exit_json(**carry_out(module.params, module.check_mode))
    except DistlockError as error:
        module.fail_json(msg=ANSIBLE.said(error), kind=error.kind)


def carry_out(params, check_mode):
    arguments = {"lockname": params["name"], "id": params["owner"], **connection_arguments(params)}
    settings = read_settings(arguments, "ansible:" + hostname())
    if not settings.lockname:
        raise ConfigError("no lock is named: name is empty")
    fields = {word: params[word] for word in FIELDS}
    if params["state"] == "present":
        change = policy.set_exactly(settings, fields, params["reason"], dry_run=check_mode)
    elif any(value is not None for value in fields.values()):
        raise ConfigError("state: absent removes the whole policy: leave out " + ", ".join(FIELDS))
    else:
        change = policy.remove(settings, dry_run=check_mode)
    before, after = policy.report(change.before), policy.report(change.after)
    msg = params["name"] + ": " + difference(change, dry_run=check_mode)
    return {"changed": change.changed, "policy": after, "msg": msg, "diff": {"before": before, "after": after}}


if __name__ == "__main__":
    main()
