#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distlock
short_description: Takes, lets go, or asserts a lock in etcd that everything which changes a cluster honours
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Takes a lock in etcd v3, lets it go, or asserts that it is held. The same locks keep out commands under C(distlock),
    Salt states and Puppet, and they this module.
  - A hold that is this owner's already is left as it is.
options:
  name:
    description:
      - Name of the lock.
    type: str
    required: true
  state:
    description:
      - V(locked) takes the lock. The task fails where another holds it, and says who, since when and why.
      - V(unlocked) lets it go. It fails where another holds the lock, and leaves it alone. The lock of another host of
        the same run counts as this host's own if the task has C(run_once), or that host has failed or is unreachable.
      - V(held) fails unless this owner holds the lock now, for use right before a dangerous step. It changes nothing.
    type: str
    choices: [locked, unlocked, held]
    default: locked
  until:
    description:
      - How long O(state=locked) lasts.
      - V(unlocked) lasts until a task or a person lets it go, over the end of the run and over reboots.
      - V(run_end) lasts until this run of C(ansible-playbook) and all of its workers are gone, however they ended. The
        controller asks etcd then, not the host, and a process there keeps the lock. It is the run's, and all its hosts
        share it.
    type: str
    choices: [unlocked, run_end]
    default: unlocked
  reason:
    description:
      - Why; shown to everybody who looks or waits.
    type: str
  timeout:
    description:
      - Wait at most so many seconds. V(0) fails at once when another holds the lock or is ahead in the queue, V(-1)
        waits for ever. Who waits is served in order of arrival. The default is V(0).
      - While it waits, the output says for whom, since when and from which position in the queue. A run or task that
        ends meanwhile gives up its place.
      - To wait where a strategy takes all hosts through one task after the other, and several of them want the lock,
        would never end. It is refused at once. Use C(serial=1), or a strategy like
        P(ansible.builtin.host_pinned#strategy), or C(guarded_one_by_one) of the role C(distlock.distlock.guarded). So
        is waiting under P(ansible.builtin.free#strategy) that would take all C(forks).
    type: float
  owner:
    description:
      - Who holds the lock. Nobody else lets it go without O(force).
      - The default is C(ansible:INVENTORY_HOSTNAME@CONTROLLER:PID_OF_THE_RUN.RANDOM), with O(until=run_end) it is
        C(ansible:CONTROLLER:PID_OF_THE_RUN.RANDOM). So another run is another owner.
      - Name one, to go on in the next run with a lock that was left. It does that when the run that took the lock has
        ended, as its controller can tell, or with O(token). Two runs that live never share a lock.
    type: str
  slots:
    description:
      - So many may hold the lock at once; the same number everywhere. The default is V(1).
    type: int
  ttl:
    description:
      - With O(until=run_end), how many seconds the lock outlives the machine of the controller. The default is V(60).
      - With O(until=unlocked), the lock ends by itself after so many seconds. Nobody renews it. There is no default.
    type: int
  on_loss:
    description:
      - With O(until=run_end), when the lock is lost in the middle of the run. V(continue), the default, writes that to
        the log of the controller, V(kill) also ends the run.
    type: str
    choices: [continue, kill]
  cooldown:
    description:
      - With O(state=unlocked), leave the lock taken for so many seconds more, so that the node can settle before the
        next one begins.
    type: int
  force:
    description:
      - With O(state=unlocked), break another owner's lock too. Look at it before.
    type: bool
    default: false
  token:
    description:
      - With O(state=unlocked) and O(state=held), only the acquisition with this fencing token.
      - With O(state=locked), the lock of this O(owner) that has this fencing token is gone on with, whatever run has
        taken it.
    type: int
  run:
    description:
      - What the controller tells about the run. It is set by the action plugin; what a task says is not used.
    type: dict
  lockstep:
    description:
      - Whether hosts go through this task side by side, so that one which waits for another would wait for ever.
      - The default is what the strategy's name says, V(false) for C(free) and C(host_pinned), V(true) for all others.
    type: bool
attributes:
  check_mode:
    description: Writes nothing, and says what a real run would do, also for whom it would wait.
    support: full
  diff_mode:
    description: Shows who holds the lock before and after.
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
# With `serial: 1` in the play. Where the endpoints are, `module_defaults` says for all tasks.
- name: Take the lock
  distlock.distlock.distlock:
    name: percona_prod
    reason: Restart of Percona Server
    timeout: -1
  tags: always # or --tags would run the rest without the lock

- name: Work, and let go whatever became of it
  block:
    - name: Restart
      ansible.builtin.service:
        name: mysql
        state: restarted

    - name: Run the handlers while the lock is held
      ansible.builtin.meta: flush_handlers
      tags: always
  always:
    - name: Let the next one in
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

- name: Keep the lock for the rest of this run, and let go at its end
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

- name: Stop here unless it is still ours
  distlock.distlock.distlock:
    name: percona_prod
    state: held
"""

RETURN = r"""
name:
  description: Name of the lock.
  returned: always
  type: str
  sample: percona_prod
holder:
  description:
    - Owner of the lock, as it is now; after O(state=unlocked), as it was. Where the task fails or leaves the lock
      alone, the other one who holds it.
    - Null where nobody holds it, and where its owner is unknown.
  returned: always
  type: str
  sample: ansible:db1@deploy:4711
token:
  description: Fencing token of that hold. It only grows, from one acquisition to the next.
  returned: always
  type: int
  sample: 4711
since:
  description: Unix time from which that hold lasts, in seconds.
  returned: always
  type: int
  sample: 1795263499
waited_for:
  description: Who held the lock on arrival, since when and why. Empty where it was free.
  returned: when O(state=locked) succeeds
  type: str
  sample: 'node-3 since 12:03 (4m12s): "RAM swap"'
waited:
  description: Seconds that O(state=locked) took, most of them in the queue.
  returned: always
  type: float
  sample: 12.31
position:
  description:
    - The place in the queue on arrival, counted from 1. 0 where the lock was free.
    - Where the task was not to wait and fails, the place that it would have had.
  returned: always
  type: int
  sample: 2
reason:
  description: Why that hold is, as its owner says.
  returned: when somebody holds the lock
  type: str
  sample: Upgrade of Percona Server
lifetime:
  description: How that hold ends. V(persistent), V(leased) or V(bound) to a process.
  returned: when somebody holds the lock
  type: str
  sample: persistent
waiting:
  description: So many wait in the queue.
  returned: when another holds the lock, or is ahead
  type: int
  sample: 2
kind:
  description: What kind of failure it was, in one word, such as V(busy), V(timeout), V(unreachable), V(config).
  returned: on failure
  type: str
  sample: busy
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.distlock.distlock.plugins.module_utils import _python  # noqa: F401 # pylint: disable=unused-import
from ansible_collections.distlock.distlock.plugins.module_utils._states import argument_spec, carry_out
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.audience import WhileHeard


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    report = carry_out(module.params, module.check_mode, WhileHeard())
    if report.get("failed"):
        module.fail_json(**report)
    module.exit_json(**report)


if __name__ == "__main__":
    main()
