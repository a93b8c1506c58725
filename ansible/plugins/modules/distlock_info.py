#!/usr/bin/python

# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: distlock_info
short_description: Lists locks in etcd, with their holders and waiters
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Reads the locks of one realm in etcd v3, their holders and their queues. It changes nothing.
options:
  name:
    description:
      - Only this lock, whether it is held or not. Without it, every lock that is held or waited for.
    type: str
  lock_names:
    description:
      - Only these locks, whether they are held or not, from one read.
    type: list
    elements: str
  history:
    description:
      - Also return the history of O(name), or of the whole realm, from etcd's revisions.
    type: bool
    default: false
  explain:
    description:
      - Also return whether O(owner) would acquire O(name) now, and if not, why. Every condition is returned with its
        value, who can change it, and how.
    type: bool
    default: false
  owner:
    description:
      - With O(explain=true), who would acquire it. The default is C(ansible:) and the name of the host that runs the
        module, an owner that holds no lock.
    type: str
  slots:
    description:
      - With O(explain=true), the number of slots with which it would be acquired.
    type: int
  shared:
    description:
      - With O(explain=true), whether it would be acquired as a shared hold.
    type: bool
  rank:
    description:
      - With O(explain=true), the rank with which it would be acquired.
    type: int
  window:
    description:
      - With O(explain=true), the times outside of which it would not be acquired.
    type: str
  since:
    description:
      - With O(history=true), leave out what ended before; a number of seconds, or with a unit as V(2h) or V(7d).
    type: str
  doctor:
    description:
      - Also examine etcd, this node's access to it, and the locks of O(name), O(lock_names) or the whole realm.
      - If etcd does not answer, or refuses this user, that is a finding and no failure of the task; the list of locks
        is then empty.
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
    support: none
  platform:
    platforms: posix
seealso:
  - module: distlock.distlock.distlock
  - plugin: distlock.distlock.holder
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Look at all locks
  distlock.distlock.distlock_info:
  register: found

- name: Stop while anybody waits
  ansible.builtin.assert:
    that: found.locks | sum(attribute='waiting') == 0
    quiet: true

- name: Look at one lock
  distlock.distlock.distlock_info:
    name: percona_prod

- name: Stop before a roll-out if something is wrong with etcd or with this node's access to it
  distlock.distlock.distlock_info:
    name: percona_prod
    doctor: true
  register: examined
  failed_when: examined.doctor.status == 'bad'

- name: Look at what happened in the last two hours
  distlock.distlock.distlock_info:
    name: percona_prod
    history: true
    since: 2h
  register: past

- name: Find out why a lock would not be acquired now
  distlock.distlock.distlock_info:
    name: percona_prod
    explain: true
  register: why

- name: Show what stands in the way
  ansible.builtin.debug:
    msg: "{{ why.explained.conditions | rejectattr('holds') | map(attribute='value') }}"

- name: Stop if a node's lock was broken or has expired
  ansible.builtin.assert:
    that: past.history | selectattr('kind', 'eq', 'hold') | selectattr('ended') | map(attribute='ended.how')
      | intersect(['broken', 'expired']) | length == 0
    quiet: true
"""

RETURN = r"""
locks:
  description: One entry for each holder. A lock that nobody holds has one entry without an owner.
  returned: success
  type: list
  elements: dict
  contains:
    lock:
      description: Name of the lock.
      type: str
      sample: percona_prod
    owner:
      description: Owner of the hold; null if nobody holds the lock, or if its owner is unknown.
      type: str
      sample: ansible:db1@deploy:4711
    since:
      description: Start of the hold, as Unix time in seconds.
      type: int
      sample: 1795263499
    held_seconds:
      description: Seconds since the start of the hold.
      type: int
      sample: 252
    token:
      description: Fencing token of the hold; null if nobody holds the lock.
      type: int
      sample: 4711
    lifetime:
      description: V(persistent), V(leased) or V(bound).
      type: str
      sample: persistent
    ttl_left:
      description: Seconds until its lease expires; null without a lease.
      type: int
      sample: 55
    host:
      description: Host of the process that acquired it.
      type: str
      sample: db1
    pid:
      description: Process id of that process.
      type: int
      sample: 32182
    reason:
      description: Reason given by its owner.
      type: str
      sample: Upgrade of Percona Server
    value:
      description: Value that the lock carries.
      type: raw
      sample: null
    state:
      description: V(held), V(settling) until its gate is green, V(kept) until a person unlocks it, or V(cooling).
      type: str
      sample: held
    slot:
      description: Number of the slot, counted from 0; null for a shared hold.
      type: int
      sample: 0
    shared:
      description: Whether other shared holders can hold the lock at the same time.
      type: bool
      sample: false
    keeper:
      description: Process id of the keeper that renews a bound lock.
      type: int
      sample: null
    run:
      description: Random id of the acquisition.
      type: str
      sample: 26a859d6eaa464ad12d4e5e4f3bcb17e
    taker:
      description:
        - The process for which the lock was acquired as a step (for example by C(distlock --lock)), with C(host) and
          C(pid); null for any other hold.
      type: dict
      sample: null
    expect:
      description: Seconds that the hold is expected to take; null if nobody has said.
      type: int
      sample: null
    beat:
      description:
        - Signs of life of the process that holds the lock; null if it gives none, as without the setting C(beat). It
          has C(every) (seconds between two signs), C(alive) (false if the process is silent, null if that is unknown),
          C(silent_seconds), C(last) (Unix time of the last sign, on this machine's clock) and C(doubt).
      type: dict
      sample: null
    overdue:
      description: Whether the hold takes longer than expected.
      type: bool
      sample: false
    waiters:
      description: The waiters in the order of the queue, with C(owner), C(host), C(since), C(reason) and C(rank).
      type: list
      elements: dict
      sample: []
    waiting:
      description: Number of waiters.
      type: int
      sample: 0
    last:
      description:
        - How the last hold ended; null if there was none. It has C(how), C(by), C(at), C(owner), C(token), C(took), the
          seconds that up to eight holds took, and C(why), the reason for which it was broken.
      type: dict
      sample: null
    frozen:
      description:
        - The freeze that keeps everybody from acquiring it, that of the realm before that of the lock; null if there is
          none. It has C(scope) (V(realm) or V(lock)), C(by), C(since), C(until), C(ttl_left), C(reason) and
          C(exit_code).
      type: dict
      sample: null
    freezes:
      description: All such freezes, that of the realm first.
      type: list
      elements: dict
      sample: []
    policy:
      description:
        - The policy of the lock, with C(slots), C(cooldown), C(window) and C(expect); null if it has none.
      type: dict
      sample: null
history:
  description:
    - What happened, one entry for each hold, wait and freeze, in the order of their ends; what still lasts comes last.
      The first entry says how far back that reaches. Fields that do not apply to the kind of an entry are missing.
  returned: with O(history=true)
  type: list
  elements: dict
  contains:
    kind:
      description: V(reach), V(hold), V(wait), V(freeze), or V(gap) for a part of the history that could not be read.
      type: str
      sample: hold
    lock:
      description: Name of the lock; null for a freeze of the whole realm.
      type: str
      sample: percona_prod
    owner:
      description: Owner of the hold, the wait or the freeze; null if it is unknown.
      type: str
      sample: ansible:db1@deploy:4711
    host:
      description: Host of its process.
      type: str
      sample: db1
    slot:
      description: Number of the slot, counted from 0; null for a shared hold.
      type: int
      sample: 0
    shared:
      description: Whether other shared holders can hold the lock at the same time.
      type: bool
      sample: false
    token:
      description: Fencing token of the hold.
      type: int
      sample: 4711
    run:
      description: Random id of the acquisition.
      type: str
      sample: 26a859d6eaa464ad12d4e5e4f3bcb17e
    reason:
      description: Reason given by its owner.
      type: str
      sample: Upgrade of Percona Server
    since:
      description: Its beginning, as Unix time in seconds; null if that is not exactly known.
      type: int
      sample: 1795263499
    since_between:
      description: The earliest and the latest possible time of its beginning, if that is not exactly known.
      type: list
      elements: int
      sample: null
    until:
      description: Its end; null if it lasts, or if that is not exactly known.
      type: int
      sample: 1795263751
    until_between:
      description: The earliest and the latest possible time of its end, if that is not exactly known.
      type: list
      elements: int
      sample: null
    waited:
      description: Seconds in the queue before the hold; null if unknown.
      type: int
      sample: 110
    state:
      description: Its last state, V(held), V(settling), V(kept) or V(cooling).
      type: str
      sample: held
    phases:
      description: The states that a hold went through, with C(state), C(since), C(since_between) and C(reason).
      type: list
      elements: dict
      sample: []
    ended:
      description:
        - How it ended; null if it lasts. It has C(how) (V(released), V(broken), V(cooled), V(expired), V(deleted),
          V(taken_over), V(unknown), V(left), V(thawed) or V(replaced)), C(by) whom, C(why), and C(sure), which is
          false if etcd's revisions cannot tell it from another way to end.
      type: dict
      sample:
        how: released
        by: ansible:db1@deploy:4711
        why: null
        sure: true
    froze:
      description: Whether the release of a hold froze the lock.
      type: bool
      sample: false
    limit:
      description: Time at which a freeze was to end by itself; null if never.
      type: int
      sample: null
    revision:
      description:
        - etcd's revision at its beginning, null if that was before the history; of V(reach), the revision from which on
          everything is known.
      type: int
      sample: 4711
    because:
      description: Why the history reaches no further, V(first), V(compacted) or V(asked).
      type: str
      sample: compacted
    at:
      description: When the history begins; null if that is not exactly known.
      type: int
      sample: null
    at_between:
      description: The earliest and the latest possible time of that.
      type: list
      elements: int
      sample: [1795263012, 1795263100]
    after_revision:
      description: The last revision before a gap.
      type: int
      sample: 4722
    before_revision:
      description: The first revision after a gap.
      type: int
      sample: 5000
explained:
  description: Whether the lock would be acquired now, at one revision of etcd. It may change at any moment.
  returned: with O(explain=true)
  type: dict
  contains:
    lock:
      description: Name of the lock.
      type: str
      sample: percona_prod
    owner:
      description: Who would acquire it.
      type: str
      sample: ansible:db1
    lets_in:
      description: Whether it would be acquired now.
      type: bool
      sample: false
    how:
      description: How it would be acquired, V(new), V(nested), V(step) or V(taken over); null if it would not be.
      type: str
      sample: null
    revision:
      description: etcd's revision of that moment.
      type: int
      sample: 4711
    conditions:
      description:
        - Every condition, with C(topic), C(holds), C(value), C(who) can change it (null if nobody can), and C(hints),
          of which each has a C(code), its data and an C(advice).
      type: list
      elements: dict
      sample:
        - topic: freeze
          holds: false
          value: the lock is frozen by admin since 12:03 (4m12s)
          who: anybody, by a thaw
          hints: []
doctor:
  description: What the examination has found.
  returned: with O(doctor=true)
  type: dict
  contains:
    status:
      description: The worst status of all findings, V(ok), V(warn) or V(bad).
      type: str
      sample: warn
    at:
      description: Unix time of the examination.
      type: int
      sample: 1795908688
    prefix:
      description: The realm.
      type: str
      sample: /distlock/
    findings:
      description:
        - One entry for each check, with C(check), C(status) (also V(skipped)), C(about), C(message), C(advice),
          C(hints) and C(facts).
      type: list
      elements: dict
      sample:
        - check: version
          status: warn
          about: http://10.0.0.1:2379
          message: n1 (http://10.0.0.1:2379) is etcd 3.4.35
          advice: update it to 3.4.36 or later
          hints: []
          facts:
            version: 3.4.35
    settings:
      description: Each setting that counts, with C(key), C(value), C(secret), C(source) and C(where).
      type: list
      elements: dict
      sample: []
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
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.explaining import explanation
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.past import entries_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import (
    LOCK_NAMES,
    read_settings,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.cli.json_output import locks_json
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.connection import realm_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import (
    AccessDenied,
    ConfigError,
    DistlockError,
    EtcdUnavailable,
)
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.lock.examine import examine
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.lock.realm import parts_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import hostname

OF_AN_ATTEMPT = ("slots", "shared", "rank", "window")


def main():
    own = {
        "name": {"type": "str"},
        LOCK_NAMES: {"type": "list", "elements": "str"},
        "history": {"type": "bool", "default": False},
        "since": {"type": "str"},
        "explain": {"type": "bool", "default": False},
        "doctor": {"type": "bool", "default": False},
        "owner": {"type": "str"},
        "slots": {"type": "int"},
        "shared": {"type": "bool"},
        "rank": {"type": "int"},
        "window": {"type": "str"},
    }
    module = AnsibleModule(
        {**own, **connection_spec()}, supports_check_mode=True, mutually_exclusive=[("name", LOCK_NAMES)]
    )
    try:
        module.exit_json(changed=False, **look(module.params))
    except DistlockError as error:
        module.fail_json(msg=ANSIBLE.said(error), kind=error.kind)


def look(params):
    named = {"lockname": params["name"], LOCK_NAMES: params[LOCK_NAMES], "id": params["owner"]}
    wanted = {word: params[word] for word in OF_AN_ATTEMPT}
    settings = read_settings({**named, **wanted, **connection_arguments(params)}, "ansible:" + hostname())
    for word in (*OF_AN_ATTEMPT, "owner"):
        if params[word] not in (None, False) and not params["explain"]:
            raise ConfigError(f"{word} is about an attempt to acquire the lock: it needs explain: true")
    if params["explain"] and params["name"] is None:
        raise ConfigError("explain is about one lock: it needs name")
    if params["since"] is not None and not params["history"]:
        raise ConfigError("since is about the history: it needs history: true")
    if params["history"] and params[LOCK_NAMES] is not None:
        raise ConfigError("history is that of one lock, or of the whole realm: it does not go with lock_names")
    realm = realm_of(settings)
    if params["doctor"]:
        reach = dict(settings.realm_arguments)
        names = () if params["name"] is None and params[LOCK_NAMES] is None else settings.lock_names
        examined = examine(parts_of(realm), names, settings, ()).fields(lambda hint: ANSIBLE.advice(hint, reach))
        try:
            return {**listed(realm, settings, params), "doctor": examined}
        except (EtcdUnavailable, AccessDenied):
            return {"locks": [], "doctor": examined}
    return listed(realm, settings, params)


def listed(realm, settings, params):
    if params["name"] is None and params[LOCK_NAMES] is None:
        states = realm.list()
    elif settings.lockname:
        states = realm.show_all(settings.lock_names)
    else:
        raise ConfigError("no lock is named: name is empty")
    found = {"locks": [lock for state in states for lock in locks_json(state)]}
    if params["history"]:
        found["history"] = entries_of(realm, params["name"], params["since"])
    if params["explain"]:
        reach = dict(settings.realm_arguments)
        found["explained"] = explanation(settings, realm).fields(lambda hint: ANSIBLE.advice(hint, reach))
    return found


if __name__ == "__main__":
    main()
