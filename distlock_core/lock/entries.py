"""Entries: how each lock of one attempt can be taken now, under its policy and in its windows."""

from __future__ import annotations

from distlock_core.lock import refusals
from distlock_core.lock.spec import LockSpec, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Union

    from distlock_core.etcd.values import KeyValue
    from distlock_core.hints import Hint
    from distlock_core.lock.queue import Queue
    from distlock_core.lock.reentry import Reentry
    from distlock_core.lock.refusals import Blocked
    from distlock_core.lock.ruling import Closed
    from distlock_core.lock.snapshot import Snapshot, Snapshots
    from distlock_core.model.keys import Keys
    from distlock_core.model.state import LockState

    Entry = Union[int, Reentry]  # how a lock can be taken now: a free slot, or a hold of the same owner


class Entries:
    """The entries of one attempt: for each of its locks a free slot, or a hold of the same owner."""

    def __init__(self, spec: LockSpec, queue: Queue) -> None:
        self._spec = spec
        self._locks = spec.locks
        self._queue = queue
        self._own_rules = Rules.of(spec)
        self._rulings: dict[str, tuple[int, Rules]] = {}  # by lock: revision of its policy, and the rules under it
        self.closed: dict[str, Closed] = {}  # by lock: its windows, if they are closed

    def find(self, snapshots: Snapshots) -> tuple[Entry, ...] | list[Blocked]:
        """How each lock can be taken now; if that is not possible for all of them, those that it is not possible for.

        Notes which windows are closed. Raises `LimitConflict`, `ConfigError` for a policy that cannot be followed, and
        `LockBusy` if the owner holds some of the locks and others are not free, as nobody waits while holding.
        """
        entries: list[Entry] = []
        blocked: list[Blocked] = []
        self.closed = {}
        for keys, snapshot in zip(self._locks, snapshots.each):
            entry: Entry | None = self._reentry(keys, snapshot)
            if entry is None:
                state = snapshot.state(keys.name)
                entry = self._free_slot(snapshot, state, self._rules(keys, snapshot))
                if entry is None or keys.name in self.closed:
                    blocked.append((state, self.why_not_reentered(state)))
                    continue
            entries.append(entry)
        entered = [entry for entry in entries if not isinstance(entry, int)]
        if entered and len(self._locks) > 1:
            refusal = refusals.holds_some(entered, blocked, len(self._locks))
            if refusal is not None:
                raise refusal
        return blocked or tuple(entries)

    def _reentry(self, keys: Keys, snapshot: Snapshot) -> Reentry | None:
        """The hold of the same owner that can be re-entered. Raises if the hold named by its token cannot."""
        if not self._spec.explicit or not (snapshot.holders or self._spec.named):
            return None
        from distlock_core.lock.reentry import find_reentry

        reentry = find_reentry(snapshot.holders, self._spec)
        if reentry is None and self._spec.named is not None:
            from distlock_core.lock.reentry_refusals import refuse_named

            raise refuse_named(snapshot.state(keys.name), self._spec)
        return reentry

    def why_not_reentered(self, state: LockState) -> tuple[str, list[Hint]]:
        """Why the hold of the same owner cannot be re-entered, with hints how it can, and which window is closed."""
        shut = self.closed.get(state.name)
        closed = "" if shut is None else str(shut)
        if not self._spec.explicit or not state.holders:
            return closed, []
        from distlock_core.lock.reentry_refusals import why_not

        why, hints = why_not(state, self._spec)
        return "; ".join(filter(None, (why, closed))), hints

    def _rules(self, keys: Keys, snapshot: Snapshot) -> Rules:
        """The rules for a claim of this lock. Notes whether its windows are closed. Raises as `rules_under()`."""
        rules = self._own_rules
        if snapshot.policy is not None:
            rules = self._under_policy(keys, snapshot.policy)
        if rules.windows is not None:
            from distlock_core.lock.ruling import closed

            shut = closed(rules)
            if shut is not None:
                self.closed[keys.name] = shut
        self._queue.follows = rules.slots == 1 and len(self._locks) == 1
        return rules

    def _under_policy(self, keys: Keys, policy: KeyValue) -> Rules:
        revision, rules = self._rulings.get(keys.name, (0, self._own_rules))
        if revision != policy.mod_revision:
            from distlock_core.lock.ruling import rules_under

            rules = rules_under(self._spec, keys, policy)
            self._rulings[keys.name] = policy.mod_revision, rules
        return rules

    def rules_of(self, snapshots: Snapshots) -> list[Rules]:
        """The rules for each lock, as `find()` has found them."""
        return [
            self._own_rules if one.policy is None else self._rulings.get(keys.name, (0, self._own_rules))[1]
            for keys, one in zip(self._locks, snapshots.each)
        ]

    def _free_slot(self, snapshot: Snapshot, state: LockState, rules: Rules) -> int | None:
        """The slot that can be claimed now, None if this attempt has to wait. Raises `LimitConflict`."""
        conflict = None if rules.sets_slots or rules.shared else refusals.other_limit(state, rules.slots)
        if conflict is not None:
            raise conflict
        return snapshot.free_slot(rules) if snapshot.is_my_turn and not snapshot.freezes else None

    def last_to_open(self) -> Closed | None:
        """The closed windows that open last, None if all are open."""
        if not self.closed:
            return None
        return max(self.closed.values(), key=lambda closed: closed.seconds_left)

    def leaves_the_queue(self, snapshots: Snapshots) -> bool:
        """True outside the caller's own window, unless it is in the queue and its turn has not come yet.

        A first waiter that may not acquire the lock would hold up all others, whose windows may be open.
        """
        if all(closed.for_everybody for closed in self.closed.values()):
            return False
        each = zip(snapshots.each, self.rules_of(snapshots))
        return not self._queue.tickets or any(one.could_be_claimed(rules) for one, rules in each)

    def blocked(self, snapshots: Snapshots, states: Sequence[LockState]) -> list[Blocked]:
        """The locks that this attempt waits for; all of them if none is blocked. `states`: those to be shown."""
        each = zip(states, snapshots.each, self.rules_of(snapshots))
        blocked = [state for state, one, rules in each if not one.could_be_claimed(rules) or state.name in self.closed]
        return [(state, self.why_not_reentered(state)) for state in blocked or states]


def claims_any(entries: Sequence[Entry]) -> bool:
    """True if a free slot would be claimed, which the Go original's mutex has to allow."""
    return any(isinstance(entry, int) for entry in entries)
