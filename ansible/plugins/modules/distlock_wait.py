#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distlock_wait
short_description: Waits until a lock in etcd is free, and takes nothing
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Waits until a lock is free, idle or thawed, and takes nothing, neither the lock nor a place in its queue.
  - It is for what comes before or after the locked work, such as a report, or a deployment that begins when a roll-out
    is over. To do something under the lock, acquire it with M(distlock.distlock.distlock).
  - The condition may no longer be true when the task returns, because nothing is reserved. Others wait too, and the
    first to acquire the lock has it.
  - It watches the lock in etcd, and writes nothing.
options:
  name:
    description:
      - Name of the lock. Either this or O(lock_names) is required.
    type: str
  lock_names:
    description:
      - Names of several locks. The module waits until all of them meet the condition at the same moment.
    type: list
    elements: str
  until:
    description:
      - V(free) waits until a newcomer would acquire the lock at once. One slot is free, nobody with the same or a lower
        O(rank) waits, neither the lock nor its realm is frozen, and its window is open.
      - V(idle) waits until nobody holds it, in any slot, and nobody waits for it.
      - V(thawed) waits until neither the lock nor its realm is frozen.
    type: str
    choices: [free, idle, thawed]
    default: free
  timeout:
    description:
      - Longest wait, in seconds or with a unit as V(10m). After it, the task fails.
      - With V(0) it only looks, and fails at once if the condition is not met. V(-1) waits forever.
      - A timeout in the environment or the config file is meant for acquiring a lock, and has no effect here.
    type: raw
    default: 300
  slots:
    description:
      - With O(until=free), the number of simultaneous holders allowed.
      - The default is the number in the lock's policy, else that of its present holders.
    type: int
  shared:
    description:
      - With O(until=free), wait until a shared holder would acquire it, beside other shared holders.
    type: bool
  rank:
    description:
      - With O(until=free), ignore waiters with a higher rank. The default is V(50).
    type: int
  window:
    description:
      - With O(until=free), also wait for these times, such as V(Mon-Fri 22:00-04:00 Europe/Berlin). If the lock's
        policy has a window, that one counts instead.
    type: str
extends_documentation_fragment:
  - distlock.distlock.connection
  - distlock.distlock.connection.actiongroups
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: It looks once, does not wait, and succeeds. RV(reached) says whether the condition was met.
  diff_mode:
    support: none
  platform:
    platforms: posix
notes:
  - Do not wait for a lock that the same run holds. It would not be released before O(timeout) is over.
seealso:
  - module: distlock.distlock.distlock
  - module: distlock.distlock.distlock_info
  - module: distlock.distlock.distlock_freeze
"""

EXAMPLES = r"""
- name: Wait until the roll-out is over
  distlock.distlock.distlock_wait:
    name: percona_prod
    until: idle
    timeout: 2h
  run_once: true

- name: Wait until one of the three slots is free
  distlock.distlock.distlock_wait:
    name: web
    slots: 3

- name: See whether anything is frozen, without a wait
  distlock.distlock.distlock_wait:
    name: percona_prod
    until: thawed
    timeout: 0
"""

RETURN = r"""
reached:
  description: Whether the condition was met; false in check mode, if a real run would wait.
  returned: success
  type: bool
  sample: true
until:
  description: The condition.
  returned: success
  type: str
  sample: free
waited:
  description: Seconds that the task has waited.
  returned: always
  type: float
  sample: 12.31
waited_for:
  description: What stood in the way at the beginning. Empty if nothing did.
  returned: success
  type: str
  sample: 'percona_prod is held by node-3 since 12:03 (4m12s): "RAM swap"'
revision:
  description: etcd's revision at the moment at which the condition was met.
  returned: when RV(reached) is true
  type: int
  sample: 4711
locks:
  description:
    - The locks as they were last seen, with the fields that M(distlock.distlock.distlock_info) describes. Of the
      waiters only their number is known.
  returned: success, and when the wait has timed out
  type: list
  elements: dict
  sample: []
kind:
  description: Kind of failure in one word, such as V(timeout), V(busy), V(frozen), V(unreachable) or V(config).
  returned: on failure
  type: str
  sample: timeout
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.distlock.distlock.plugins.module_utils import (  # pylint: disable=unused-import
    _installed,  # noqa: F401
    _python,  # noqa: F401
)
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import connection_arguments, connection_spec
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import (
    LOCK_NAMES,
    read_settings,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.waiting import wait_until
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.cli.json_output import locks_json
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import (
    ConfigError,
    DistlockError,
    Frozen,
    LockBusy,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.model.wording import are
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.while_read import WhileRead

DEFAULT_TIMEOUT = 300  # seconds
OF_A_FREE_LOCK = ("slots", "shared", "rank", "window")


def main():
    spec = {
        "name": {"type": "str"},
        LOCK_NAMES: {"type": "list", "elements": "str"},
        "until": {"type": "str", "choices": ["free", "idle", "thawed"], "default": "free"},
        "timeout": {"type": "raw", "default": DEFAULT_TIMEOUT},
        "slots": {"type": "int"},
        "shared": {"type": "bool"},
        "rank": {"type": "int"},
        "window": {"type": "str"},
        **connection_spec(),
    }
    names = ("name", LOCK_NAMES)
    module = AnsibleModule(spec, supports_check_mode=True, mutually_exclusive=[names], required_one_of=[names])
    cancel, started = WhileRead(), time.monotonic()
    try:
        report = carry_out(module.params, module.check_mode, cancel)
    except DistlockError as error:
        seen = {"locks": shown(error.states)} if getattr(error, "states", ()) else {}
        waited = round(time.monotonic() - started, 2)
        module.fail_json(msg=ANSIBLE.said(error), kind=error.kind, waited=waited, **seen)
    module.exit_json(changed=False, **report)


def carry_out(params, check_mode, cancel):
    until = params["until"]
    free = {word: params[word] for word in OF_A_FREE_LOCK}
    if until != "free" and any(value not in (None, False) for value in free.values()):
        word = next(word for word, value in free.items() if value not in (None, False))
        raise ConfigError(f"{word} is about a lock that is free: it goes with until: free")
    timeout = DEFAULT_TIMEOUT if params["timeout"] is None else params["timeout"]
    named = {"lockname": params["name"], LOCK_NAMES: params[LOCK_NAMES], "timeout": timeout}
    settings = read_settings({**named, **free, **connection_arguments(params)}, "ansible")
    if not settings.lockname:
        raise ConfigError("no lock is named: name is empty")
    try:
        found = wait_until(settings, until, cancel=cancel, only_look=check_mode)
    except (LockBusy, Frozen) as error:
        if not check_mode or not error.states:
            raise
        msg = "would wait: " + ANSIBLE.said(error)
        first = {"waited": 0.0, "waited_for": error.message, "locks": shown(error.states)}
        return {"reached": False, "until": until, "msg": msg, **first}
    return {
        "reached": True,
        "until": until,
        "waited": round(found.waited, 2),
        "waited_for": found.waited_for,
        "revision": found.revision,
        "locks": shown(found.states),
        "msg": f"{are(settings.lock_names)} {until}",
    }


def shown(states):
    return [lock for state in states for lock in locks_json(state)]


if __name__ == "__main__":
    main()
