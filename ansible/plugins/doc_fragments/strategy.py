# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that both strategies have."""

from __future__ import annotations

import re

import yaml
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import documented

OWN = r"""
options:
  distlock_name:
    description:
      - Name of the lock. This or O(distlock_lock_names) must be set.
    type: str
    vars: [{name: distlock_name}]
    env: [{name: DISTLOCK_LOCKNAME}]
    ini: [{section: distlock, key: name}]
  distlock_lock_names:
    description:
      - Several locks instead, which are acquired together or not at all. Their order makes no difference.
    type: list
    elements: str
    vars: [{name: distlock_lock_names}]
    ini: [{section: distlock, key: lock_names}]
  distlock_timeout:
    description:
      - Longest wait for the lock, in seconds or as V(10m). V(0), the default, fails at once if another holds it or is
        ahead in the queue, V(-1) waits forever. Waiters are served in order of O(distlock_rank), then of arrival.
    type: raw
    vars: [{name: distlock_timeout}]
    env: [{name: DISTLOCK_TIMEOUT}]
    ini: [{section: distlock, key: timeout}]
  distlock_reason:
    description:
      - Why the lock is taken. It is shown to everybody who looks or waits. The default is the name of the play.
    type: str
    vars: [{name: distlock_reason}]
    env: [{name: DISTLOCK_REASON}]
    ini: [{section: distlock, key: reason}]
  distlock_owner:
    description:
      - The owner that others see. Two runs never hold the lock together because they share an owner. The next run with
        the same owner on the same controller takes over a lock that a dead one has left.
      - The default names controller and process, and is different for each run.
    type: str
    vars: [{name: distlock_owner}]
    env: [{name: DISTLOCK_ID}]
    ini: [{section: distlock, key: owner}]
  distlock_on_failure:
    description:
      - What to do with the lock if the work under it has failed, a host was unreachable, or a signal ended the run.
      - V(release), the default, releases it. V(keep) leaves it taken until an operator unlocks it.
      - V(freeze) releases it, and freezes it in the same transaction. Nobody can acquire it, in any slot or with any
        tool, until an operator thaws it.
    type: str
    choices: [release, keep, freeze]
    vars: [{name: distlock_on_failure}]
    env: [{name: DISTLOCK_ON_FAILURE}]
    ini: [{section: distlock, key: on_failure}]
  distlock_cooldown:
    description:
      - Seconds that the lock stays taken after success, so that the cluster can settle before the next one begins.
    type: raw
    vars: [{name: distlock_cooldown}]
    env: [{name: DISTLOCK_COOLDOWN}]
    ini: [{section: distlock, key: cooldown}]
  distlock_slots:
    description:
      - Number of simultaneous holders allowed; the same number everywhere. The default is 1.
    type: int
    vars: [{name: distlock_slots}]
    env: [{name: DISTLOCK_SLOTS}]
    ini: [{section: distlock, key: slots}]
  distlock_shared:
    description:
      - Hold the lock together with any number of other shared holders, but with no exclusive one.
    type: bool
    vars: [{name: distlock_shared}]
    env: [{name: DISTLOCK_SHARED}]
    ini: [{section: distlock, key: shared}]
  distlock_window:
    description:
      - Times outside of which the lock is not acquired, such as V(Mon-Fri 22:00-04:00 Europe/Berlin, !Sat), in UTC
        unless a time zone is named. A policy of the lock comes before it.
    type: str
    vars: [{name: distlock_window}]
    env: [{name: DISTLOCK_WINDOW}]
    ini: [{section: distlock, key: window}]
  distlock_expect:
    description:
      - Time that a hold is expected to take, such as V(20m). After it, the hold is shown as OVERDUE.
    type: str
    vars: [{name: distlock_expect}]
    env: [{name: DISTLOCK_EXPECT}]
    ini: [{section: distlock, key: expect}]
  distlock_gate:
    description:
      - Line of shell that exits with 0 if the cluster is healthy. The controller asks it, without facts of the hosts.
      - It is asked before the lock is acquired, by the first in the queue, and before the lock is released. In the
        meantime the state of the lock is C(settling).
      - If it is not green in time after the work, the lock is kept for a person to look at, or frozen with
        O(distlock_on_failure=freeze). The play, or the host, has failed then.
    type: str
    vars: [{name: distlock_gate}]
    env: [{name: DISTLOCK_GATE}]
    ini: [{section: distlock, key: gate}]
  distlock_gate_timeout:
    description:
      - Longest wait for a green O(distlock_gate) after the work, in seconds, and the longest that one answer may take.
        The default is 600.
    type: raw
    vars: [{name: distlock_gate_timeout}]
    env: [{name: DISTLOCK_GATE_TIMEOUT}]
    ini: [{section: distlock, key: gate_timeout}]
  distlock_gate_every:
    description:
      - Pause between two questions to O(distlock_gate), in seconds. The default is 5.
    type: raw
    vars: [{name: distlock_gate_every}]
    env: [{name: DISTLOCK_GATE_EVERY}]
    ini: [{section: distlock, key: gate_every}]
  distlock_gate_for:
    description:
      - Time for which O(distlock_gate) must have been green, in seconds. The default is 0.
    type: raw
    vars: [{name: distlock_gate_for}]
    env: [{name: DISTLOCK_GATE_FOR}]
    ini: [{section: distlock, key: gate_for}]
  distlock_gate_at:
    description:
      - When O(distlock_gate) is asked. V(before,after), the default, is both.
    type: str
    choices: ["before,after", before, after]
    vars: [{name: distlock_gate_at}]
    env: [{name: DISTLOCK_GATE_AT}]
    ini: [{section: distlock, key: gate_at}]
  distlock_rank:
    description:
      - Waiters with a lower rank, from 0 to 99, are served first, and those with the same rank in order of arrival. So
        replicas can go before the primary. The default is 50.
    type: int
    vars: [{name: distlock_rank}]
    env: [{name: DISTLOCK_RANK}]
    ini: [{section: distlock, key: rank}]
  distlock_ttl:
    description:
      - How many seconds the lock outlives the controller's machine. It is renewed while the run lives.
        The default is 60.
    type: raw
    vars: [{name: distlock_ttl}]
    env: [{name: DISTLOCK_TTL}]
    ini: [{section: distlock, key: ttl}]
  distlock_kill_after:
    description:
      - How many seconds before its lease can expire the lock counts as lost, if etcd confirms no renewal.
        The default is a sixth of O(distlock_ttl).
    type: raw
    vars: [{name: distlock_kill_after}]
    env: [{name: DISTLOCK_KILL_AFTER}]
    ini: [{section: distlock, key: kill_after}]
  distlock_log_file:
    description:
      - Log file of the process that keeps the lock. The default is syslog.
    type: path
    vars: [{name: distlock_log_file}]
    env: [{name: DISTLOCK_LOG_FILE}]
    ini: [{section: distlock, key: log_file}]
"""


def _connection():
    """The connection to etcd, from the one list; the options are called as the variables are here."""
    text = re.sub(r"\bO\((\w+)\)", r"O(distlock_\1)", yaml.safe_dump(documented(sources=True)))
    return {f"distlock_{word}": option for word, option in yaml.safe_load(text).items()}


class ModuleDocFragment:
    """Filled below, because ansible-test expects only literal texts in this class."""


ModuleDocFragment.DOCUMENTATION = yaml.safe_dump({"options": {**yaml.safe_load(OWN)["options"], **_connection()}})
