#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distlock_freeze
short_description: Freezes a lock in etcd, or all locks of a realm
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - While a lock is frozen nobody acquires it, in any slot or with any tool. While a realm is frozen, nobody acquires
    any lock of it.
  - Present holders are not affected. Waiters keep their places in the queue, and report who has frozen it, when and
    why.
options:
  name:
    description:
      - Name of the lock. Without it, the whole realm is frozen or thawed.
      - The two freezes are independent, so a thawed lock in a frozen realm stays frozen.
    type: str
  state:
    description:
      - V(frozen) makes sure that it is frozen. An existing freeze is left as it is, whoever has set it, unless O(force)
        is set.
      - V(thawed) makes sure that it is not frozen. It ends an existing freeze, whoever has set it.
    type: str
    choices: [frozen, thawed]
    default: frozen
  reason:
    description:
      - Why it is frozen. It is shown to everybody who looks or waits.
      - Required with O(state=frozen).
    type: str
  duration:
    description:
      - How long the freeze lasts, in seconds, or with a unit as V(10m), V(2h) or V(1d). Without it, it lasts until it
        is thawed.
    type: str
  owner:
    description:
      - Who freezes it, as others see it. The default is C(ansible:) and the name of the host in the inventory.
    type: str
  force:
    description:
      - Replace an existing freeze if it has another owner or reason, or if only one of the two has a O(duration).
    type: bool
    default: false
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
- name: Let nobody acquire this lock for two hours
  distlock.distlock.distlock_freeze:
    name: percona_prod
    reason: Replication lags
    duration: 2h
  run_once: true

- name: Let nobody acquire any lock of this realm
  distlock.distlock.distlock_freeze:
    reason: Network maintenance
  run_once: true

- name: Let the roll-out go on
  distlock.distlock.distlock_freeze:
    name: percona_prod
    state: thawed
  run_once: true
"""

RETURN = r"""
lock:
  description: Name of the lock; null for the whole realm.
  returned: always
  type: str
  sample: percona_prod
frozen:
  description:
    - The freeze, or with O(state=thawed) the one that has ended; null if there was none, and in check mode for one that
      would be put. It has C(scope) (V(realm) or V(lock)), C(by), C(since), C(until), C(ttl_left), C(reason) and
      C(exit_code).
  returned: success
  type: dict
  sample: null
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
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.freezing import (
    ensure_frozen,
    ensure_thawed,
    read_duration,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import read_settings
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.base.text import printable
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.cli.json_output import frozen_json
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import ConfigError, DistlockError
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.model.wording import (
    frozen_by,
    is_frozen_by,
    owner_of,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import hostname


def main():
    spec = {
        "name": {"type": "str"},
        "state": {"type": "str", "choices": ["frozen", "thawed"], "default": "frozen"},
        "reason": {"type": "str"},
        "duration": {"type": "str"},
        "owner": {"type": "str"},
        "force": {"type": "bool", "default": False},
        **connection_spec(),
    }
    wanted = [("state", "frozen", ["reason"])]
    module = AnsibleModule(spec, supports_check_mode=True, required_if=wanted)
    try:
        module.exit_json(lock=module.params["name"], **carry_out(module.params, module.check_mode))
    except DistlockError as error:
        module.fail_json(msg=ANSIBLE.said(error), kind=error.kind, lock=module.params["name"])


def carry_out(params, check_mode):
    arguments = {"lockname": params["name"], "id": params["owner"], **connection_arguments(params)}
    settings = read_settings(arguments, "ansible:" + hostname())
    name = None if params["name"] is None else settings.lockname
    if name == "":
        raise ConfigError("no lock is named: name is empty")
    duration = read_duration(params["duration"])
    what = "the realm" if name is None else printable(name)
    if params["state"] == "thawed":
        if duration is not None or params["reason"] is not None or params["force"]:
            raise ConfigError("reason, duration and force apply to a freeze: they go with state: frozen")
        return thawed(what, ensure_thawed(settings, name, dry_run=check_mode), check_mode)
    reason = params["reason"]
    if not reason:
        raise ConfigError(f"{what} is not frozen without a reason")
    done = ensure_frozen(settings, name, reason, duration, force=params["force"], dry_run=check_mode)
    found = done.freeze and frozen_json(done.freeze)
    if not done.changed:
        return {"changed": False, "frozen": found, "msg": "already: " + is_frozen_by(done.freeze)}
    msg = is_frozen_by(done.freeze) if done.freeze else f"{what} would be frozen by {printable(settings.id)}"
    return {
        "changed": True,
        "frozen": found,
        "msg": msg,
        "diff": diff(what, done.before and done.before.by, settings.id),
    }


def thawed(what, freeze, check_mode):
    if freeze is None:
        return {"changed": False, "frozen": None, "msg": what + " is not frozen"}
    would = "would be thawed" if check_mode else "is thawed"
    msg = f"{what} {would}, which was frozen by {frozen_by(freeze)}"
    return {"changed": True, "frozen": frozen_json(freeze), "msg": msg, "diff": diff(what, owner_of(freeze.by), None)}


def diff(what, before, after):
    def line(owner):
        return f"{what}: frozen by {printable(owner)}\n" if owner else f"{what}: not frozen\n"

    return {"before": line(before), "after": line(after)}


if __name__ == "__main__":
    main()
