"""Explanation: would a claim of a lock succeed now, and which of its conditions stands in the way?

The conditions are the ones that `lock/claim.py` would send, made by the same functions. Each is compared with what a
read shows, and explained by what its key is about. Nothing is written.
"""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError, DistlockError, LimitConflict
from distlock_core.etcd.values import Compare, Get, KeyValue
from distlock_core.lock import refusals
from distlock_core.lock.entries import Entries
from distlock_core.lock.queue import Queue
from distlock_core.lock.snapshot import claim_conditions, once, reentry_conditions
from distlock_core.lock.spec import NESTED, NEW
from distlock_core.lock.topics import TOPICS, Condition, Situation, topic_of, unknown_condition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.hints import Hint
    from distlock_core.lock.spec import LockSpec


class Explanation(Value):
    """Whether this owner would be let in at this revision of etcd, and all that this depends on.

    `how` it would be let in: new, nested, step or taken over (as for re-entry); "" if it would not be.
    """

    lock: str
    owner: str
    lets_in: bool
    how: str
    revision: int
    conditions: tuple[Condition, ...]

    def fields(self, advice: Callable[[Hint], str]) -> dict[str, Any]:
        """The explanation for JSON. `advice` words the hints."""
        return {
            "lock": self.lock,
            "owner": self.owner,
            "lets_in": self.lets_in,
            "how": self.how or None,
            "revision": self.revision,
            "conditions": [one.fields(advice) for one in self.conditions],
        }


def explain(etcd: Etcd, spec: LockSpec, patience: Callable[[], Patience]) -> Explanation:
    """Explain the claim of one lock that this attempt would send now. Two reads; raises as they do."""
    (keys,) = spec.locks
    queue = Queue(etcd, spec.locks, spec.place)
    snapshots = queue.read(patience())
    entries = Entries(spec, queue)
    trouble: DistlockError | None = None
    entry = None
    why: tuple[str, tuple[Hint, ...]] = "", ()
    try:
        found = entries.find(snapshots)
        if isinstance(found, tuple):
            (entry,) = found
        else:
            ((_, (words, hints)),) = found
            why = words, tuple(hints)
    except (LimitConflict, ConfigError) as error:
        trouble = error
    (snapshot,), (rules,) = snapshots.each, entries.rules_of(snapshots)
    state = snapshot.state(keys.name)
    if trouble is None and entry is None:
        trouble = refusals.waits_for_itself(state, spec)
    situation = Situation(keys, spec, snapshot, state, rules, entry, why, trouble, entries.closed.get(keys.name))
    if entry is None or isinstance(entry, int):
        key = keys.shared_hold("this-one") if spec.shared else keys.slot(entry or 0)
        compares = claim_conditions(keys, spec.place, snapshot, None, key, rules.slots)
    else:
        compares = [] if entry.how == NESTED else reentry_conditions(keys, snapshot, entry.holder)
    failing, revision = _failing(etcd, compares, patience()) if compares else ([], snapshots.revision)
    topics = {topic_of(keys, compare.key) for compare in compares}
    conditions = [
        told._replace(holds=told.holds and topic not in {topic_of(keys, one.key) for one in failing})
        for topic, tell in TOPICS.items()
        if (told := tell(situation)) is not None and (topic in topics or not told.holds or told.is_always_told)
    ]
    conditions += [unknown_condition(one, one not in failing) for one in compares if not topic_of(keys, one.key)]
    lets_in = all(one.holds for one in conditions)
    how = "" if not lets_in else NEW if entry is None or isinstance(entry, int) else entry.how
    return Explanation(keys.name, spec.owner, lets_in, how, revision, tuple(conditions))


def _failing(etcd: Etcd, compares: Sequence[Compare], patience: Patience) -> tuple[list[Compare], int]:
    """Those of the conditions that do not hold now, and the revision of that moment."""
    gets = [Get(one.key, one.range_end, keys_only=one.target != "VALUE") for one in compares]
    union = once(gets)
    outcome = etcd.read(union, patience)
    found = dict(zip(union, outcome.ranges()))
    return [one for one, get in zip(compares, gets) if not is_met(one, found[get].kvs)], outcome.revision


def is_met(compare: Compare, found: Sequence[KeyValue]) -> bool:
    """Whether etcd would find that the condition holds for these keys, which are all of its range."""
    return all(_meets(compare, kv) for kv in found or [KeyValue(compare.key, b"", 0, 0, 0)])


def _meets(compare: Compare, kv: KeyValue) -> bool:
    values = {"CREATE": kv.create_revision, "MOD": kv.mod_revision, "VALUE": kv.value}
    value, operand = values[compare.target], compare.operand
    if compare.target == "VALUE" and not kv.create_revision:
        return False  # no key has no value
    if compare.result == "EQUAL":
        return value == operand
    above = value > operand  # type: ignore[operator]
    return above if compare.result == "GREATER" else not above and value != operand
