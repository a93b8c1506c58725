#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distlock
short_description: Acquires, releases or asserts a lock in etcd that everything which changes a cluster honours
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Acquires a lock in etcd v3, releases it, or asserts that it is held. The same locks exclude commands under
    C(distlock), Salt states and Puppet, and the reverse.
  - A lock that this owner already holds is left unchanged.
options:
  name:
    description:
      - Name of the lock. This or O(lock_names) is required.
    type: str
  lock_names:
    description:
      - Several locks instead of O(name), which are acquired together or not at all. While it waits for
        them, the task holds none. Their order makes no difference.
      - O(state=unlocked) releases them in one transaction, or none of them if one may not be released. O(state=held)
        fails unless all of them are held.
    type: list
    elements: str
  state:
    description:
      - V(locked) acquires the lock. The task fails if another holds it, and says who, since when and why.
      - V(unlocked) releases it. It fails if another holds the lock, and leaves that lock alone. The lock of another
        host of the same run counts as this host's own if the task has C(run_once), or that host has failed or is
        unreachable.
      - V(held) fails unless this owner holds the lock now. Use it right before a dangerous step. It changes nothing.
      - V(broken) ends the hold that has this O(token), whoever has it, and leaves O(reason) and O(owner) in the C(last)
        of the lock. Look at it with M(distlock.distlock.distlock_info) first. If that hold has ended, nothing is
        changed; if only its record has changed since it was read, the task fails. Its process is not ended.
    type: str
    choices: [locked, unlocked, held, broken]
    default: locked
  until:
    description:
      - How long O(state=locked) lasts.
      - V(unlocked) lasts until a task or a person releases it, beyond the end of the run and across reboots.
      - V(run_end) lasts until this run of C(ansible-playbook) and all of its workers are gone, however they ended. The
        controller talks to etcd then, not the host, and a process there keeps the lock. The lock belongs to the run,
        and all its hosts share it.
    type: str
    choices: [unlocked, run_end]
    default: unlocked
  reason:
    description:
      - Why the lock is taken. It is shown to everybody who looks or waits.
      - With O(state=broken), why the hold is broken. It is required then.
    type: str
  timeout:
    description:
      - Longest wait, in seconds or as V(10m). V(0) fails at once if another holds the lock or is ahead in the queue,
        V(-1) waits forever. Waiters are served in order of O(rank), then of arrival. The default is V(0).
      - During the wait, the output says for whom, since when and from which position in the queue. A run or task that
        ends in the meantime gives up its place.
      - A wait is refused at once if it could never end, which is the case if a strategy takes all hosts through one
        task after the other and several of them want the lock. Use C(serial=1), a strategy like
        P(ansible.builtin.host_pinned#strategy), or C(guarded_one_by_one) of the role C(distlock.distlock.guarded).
      - A wait under P(ansible.builtin.free#strategy) that would occupy all C(forks) is refused too.
    type: raw
  owner:
    description:
      - Name of the holder. Nobody else releases the lock without O(force).
      - The default is C(ansible:INVENTORY_HOSTNAME@CONTROLLER:PID_OF_THE_RUN.RANDOM), with O(until=run_end) it is
        C(ansible:CONTROLLER:PID_OF_THE_RUN.RANDOM). So each run is a different owner.
      - Name an owner to continue in the next run with a lock that an earlier run has left. That works if the run that
        acquired the lock has ended, which only its controller can tell, or with O(token). Two live runs never share a
        lock.
    type: str
  slots:
    description:
      - Number of simultaneous holders allowed; the same number everywhere. The default is V(1).
    type: int
  shared:
    description:
      - With O(state=locked), hold the lock together with any number of other shared holders, but with no exclusive one.
      - With O(state=held), a shared hold is enough.
    type: bool
  window:
    description:
      - Times outside of which the lock is not acquired, such as V(Mon-Fri 22:00-04:00 Europe/Berlin, !Sat), in UTC
        unless a time zone is named. A policy of the lock comes before it.
    type: str
  expect:
    description:
      - Time that the hold is expected to take, such as V(20m). After it, the hold is shown as OVERDUE.
    type: str
  rank:
    description:
      - Waiters with a lower rank, from 0 to 99, are served first, and those with the same rank in order of arrival. So
        replicas can go before the primary, whichever came first. The default is V(50).
    type: int
  ttl:
    description:
      - With O(until=run_end), how many seconds the lock outlives the machine of the controller. The default is V(60).
      - With O(until=unlocked), the lock expires after this many seconds. Nobody renews it. There is no default.
    type: raw
  on_loss:
    description:
      - With O(until=run_end), what to do if the lock is lost in the middle of the run. V(continue), the default, writes
        a warning to the log of the controller. V(kill) also ends the run.
    type: str
    choices: [continue, kill]
  cooldown:
    description:
      - With O(state=unlocked), seconds (or V(2m)) that the lock stays taken afterwards, so that the node can settle
        before the next one begins.
    type: raw
  gate:
    description:
      - Line of shell that exits with 0 if the cluster is healthy. The host runs it; with O(until=run_end), the
        controller.
      - With O(state=locked), the lock is not acquired before that. The first in the queue asks, and nobody holds the
        lock meanwhile.
      - With O(state=unlocked), the lock is not released before that. If it is not green in time, the task fails, and
        the lock is kept for a person to look at.
    type: str
  gate_timeout:
    description:
      - With O(state=unlocked), longest wait for a green O(gate), in seconds. Also the longest that one answer may take.
        The default is V(600).
    type: raw
  gate_every:
    description:
      - Pause between two questions to O(gate), in seconds. The default is V(5).
    type: raw
  gate_for:
    description:
      - Time for which O(gate) must have been green, in seconds. The default is V(0).
    type: raw
  force:
    description:
      - With O(state=unlocked), release the lock even if another owner holds it. Find out first who does, and why.
    type: bool
    default: false
  token:
    description:
      - With O(state=unlocked) and O(state=held), only the acquisition with this fencing token.
      - With O(state=broken), the fencing token of the hold that is broken. It is required then.
      - With O(state=locked), continue with the lock of this O(owner) that has this fencing token, whichever run
        acquired it.
    type: int
  run:
    description:
      - Facts about the run from the controller. The action plugin sets it; a value from a task is ignored.
    type: dict
  lockstep:
    description:
      - Whether hosts run this task side by side, so that a host which waits for another would wait forever.
      - The default depends on the strategy's name. It is V(false) for C(free) and C(host_pinned), V(true) for all
        others.
    type: bool
attributes:
  check_mode:
    description: Writes nothing, and says what a real run would do, including whom it would wait for.
    support: full
  diff_mode:
    description: Shows the holder of the lock before and after.
    support: full
extends_documentation_fragment:
  - distlock.distlock.connection
  - distlock.distlock.connection.actiongroups
seealso:
  - module: distlock.distlock.distlock_info
  - plugin: distlock.distlock.linear
    plugin_type: strategy
  - plugin: distlock.distlock.host_pinned
    plugin_type: strategy
"""

EXAMPLES = r"""
# With `serial: 1` in the play. `module_defaults` sets the endpoints for all tasks.
- name: Take the lock
  distlock.distlock.distlock:
    name: percona_prod
    reason: Restart of Percona Server
    timeout: -1
  tags: always # or --tags would run the rest without the lock

- name: Work, and always unlock
  block:
    - name: Restart
      ansible.builtin.service:
        name: mysql
        state: restarted

    - name: Run the handlers while the lock is held
      ansible.builtin.meta: flush_handlers
      tags: always
  always:
    - name: Release the lock
      distlock.distlock.distlock:
        name: percona_prod
        state: unlocked
      tags: always

- name: Say where etcd is
  module_defaults:
    group/distlock.distlock.distlock:
      endpoints: [http://10.0.0.1:2379, http://10.0.0.2:2379]
  block:
    - name: Look at all locks
      distlock.distlock.distlock_info:
      register: found

- name: Hold the lock for the rest of this run, and release it at its end
  distlock.distlock.distlock:
    name: percona_prod
    until: run_end
    timeout: 600

- name: Try for a while without waiting in the queue
  distlock.distlock.distlock:
    name: percona_prod
  register: taken
  until: taken is not failed
  retries: 10
  delay: 30

- name: Break the hold of a node that is gone, as it was shown
  distlock.distlock.distlock:
    name: percona_prod
    state: broken
    token: 4711
    reason: db3 is down, and its upgrade was rolled back

- name: Take the lock of the rack and that of the cluster, or none of them
  distlock.distlock.distlock:
    lock_names: ["{{ rack }}", elastic_prod]
    timeout: -1

- name: Stop here unless the lock is still held
  distlock.distlock.distlock:
    name: percona_prod
    state: held
"""

RETURN = r"""
lock:
  description: Name of the lock; with O(lock_names), their names in one phrase.
  returned: always
  type: str
  sample: percona_prod
locks:
  description:
    - The hold of each lock, with C(lock), C(owner), C(token), C(since), C(reason) and C(lifetime). Locks that were
      acquired together have the same token.
  returned: with O(lock_names), unless the task fails
  type: list
  elements: dict
  sample: []
owner:
  description:
    - Present owner of the lock; after O(state=unlocked), the previous one. If the task fails or leaves the lock alone,
      the other owner that holds it.
    - Null if nobody holds it, and if its owner is unknown.
  returned: always
  type: str
  sample: ansible:db1@deploy:4711
token:
  description: Fencing token of that hold. It grows with every acquisition.
  returned: always
  type: int
  sample: 4711
since:
  description: Start of that hold, as Unix time in seconds.
  returned: always
  type: int
  sample: 1795263499
waited_for:
  description: The holder on arrival, since when and why. Empty if the lock was free.
  returned: when O(state=locked) succeeds
  type: str
  sample: 'node-3 since 12:03 (4m12s): "RAM swap"'
waited:
  description: Seconds spent acquiring, mostly waiting.
  returned: always
  type: float
  sample: 12.31
position:
  description:
    - The position in the queue on arrival, counted from 1. 0 if the lock was free.
    - If the task fails without waiting, the position that it would have had.
  returned: always
  type: int
  sample: 2
reason:
  description: Reason given by the owner.
  returned: when somebody holds the lock
  type: str
  sample: Upgrade of Percona Server
lifetime:
  description: How that hold ends. V(persistent), V(leased) or V(bound) to a process.
  returned: when somebody holds the lock
  type: str
  sample: persistent
waiting:
  description: Number of waiters.
  returned: when another holds the lock, or is ahead
  type: int
  sample: 2
kind:
  description: Kind of failure in one word, such as V(busy), V(timeout), V(unreachable), V(config).
  returned: on failure
  type: str
  sample: busy
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.distlock.distlock.plugins.module_utils import (  # pylint: disable=unused-import
    _installed,  # noqa: F401
    _python,  # noqa: F401
)
from ansible_collections.distlock.distlock.plugins.module_utils._states import RULES, argument_spec, carry_out
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.while_read import WhileRead


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True, **RULES)
    report = carry_out(module.params, module.check_mode, WhileRead())
    if report.get("failed"):
        module.fail_json(**report)
    module.exit_json(**report)


if __name__ == "__main__":
    main()
