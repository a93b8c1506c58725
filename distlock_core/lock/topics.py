"""Topics: what a condition of a claim is about, in words: its present value, who can change it, and how.

Each condition has a key, and each key that a claim compares belongs to one topic here. A test fails for a condition
without one.
"""

from __future__ import annotations

from distlock_core.base.text import printable, shortened
from distlock_core.base.value import Value
from distlock_core.errors import ConfigError, LimitConflict
from distlock_core.hints import OPEN_WINDOW, POLICY, THAW, THAW_REALM, Hint, see
from distlock_core.lock.spec import NESTED
from distlock_core.lock.status import breaks
from distlock_core.model.record import COOLING, KEPT
from distlock_core.model.wording import clock, frozen_by, held_by, owner_of, waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Union

    from distlock_core.errors import DistlockError
    from distlock_core.etcd.values import Compare
    from distlock_core.lock.entries import Entry
    from distlock_core.lock.ruling import Closed
    from distlock_core.lock.snapshot import Snapshot
    from distlock_core.lock.spec import LockSpec, Rules
    from distlock_core.model.keys import Keys
    from distlock_core.model.policy import Policy
    from distlock_core.model.state import Holder, LockState

    Told = Union["Condition", None]

MOST_HOLDERS = 8  # that are named, each with the command that breaks its hold


class Condition(Value):
    """One condition of a claim. `value` is its subject as it is now; `who` can change it, and `hints` say how.

    `topic` is one of `TOPICS`; a condition that none of them covers is `other`.
    """

    topic: str
    holds: bool
    value: str
    who: str = ""
    hints: tuple[Hint, ...] = ()
    is_always_told: bool = False  # even if it is no condition of the transaction

    def fields(self, advice: Callable[[Hint], str]) -> dict[str, Any]:
        """The condition for JSON. `advice` words the hints."""
        return {
            "topic": self.topic,
            "holds": self.holds,
            "value": self.value,
            "who": self.who or None,
            "hints": [{**hint.fields(), "advice": advice(hint)} for hint in self.hints],
        }


class Situation(Value):
    """All that an explanation is made from: one lock as it was read, and how this attempt would take it.

    `why` has the reason, with hints, for which a hold of the same owner cannot be entered; `trouble` is the error that
    an attempt would end with at once, without waiting.
    """

    keys: Keys
    spec: LockSpec
    snapshot: Snapshot
    state: LockState
    rules: Rules
    entry: Entry | None
    why: tuple[str, tuple[Hint, ...]]
    trouble: DistlockError | None
    closed: Closed | None

    @property
    def reenters(self) -> bool:
        return self.entry is not None and not isinstance(self.entry, int)


def topic_of(keys: Keys, key: bytes) -> str:
    """The topic of a condition on this key, or on a range that begins with it; "" if there is none."""
    if keys.is_held_by(key):
        return "holders"
    if key.startswith(keys.queue):
        return "queue"
    if key.startswith(keys.mutex):
        return "mutex"
    exact = {
        keys.freeze: "freeze",
        keys.lock_freeze: "freeze",
        keys.policy: "policy",
        keys.last: "last",
        keys.prune_mark: "prune",
    }
    return exact.get(key, "")


def _holders(of: Situation) -> Condition:
    holders, slots = of.state.holders, of.rules.slots
    in_slots = sum(not holder.is_shared for holder in holders)
    number = "" if slots == 1 or of.rules.shared else f"{in_slots} of {slots} slots are taken"
    if not isinstance(of.entry, int) and of.entry is not None:
        around = "; that is the command around this one" if of.entry.how == NESTED else "; it can be entered again"
        return Condition("holders", True, f"held by {held_by(of.entry.holder)}{around}", is_always_told=True)
    named = " and by ".join(held_by(holder) for holder in holders[:MOST_HOLDERS])
    value = "; ".join(filter(None, (number, f"held by {named}" if holders else "nobody holds it", of.why[0])))
    hints = [*of.why[1], *(breaks(holder) for holder in holders[:MOST_HOLDERS])]
    conflict = None if isinstance(of.trouble, ConfigError) else of.trouble  # that is about the policy
    if conflict is not None:
        hints = [*conflict.hints, *hints]
        if isinstance(conflict, LimitConflict):
            value += f"; it is held with {holders[0].record.limit} slot(s), but {slots} were requested"
        else:
            value += "; that is the command around this one, so waiting would never end"
    free = of.snapshot.free_slot(of.rules) is not None and conflict is None
    if free:
        return Condition("holders", True, value)
    return Condition("holders", False, value, _who_ends(holders), tuple(dict.fromkeys(hints)))


def _who_ends(holders: tuple[Holder, ...]) -> str:
    found = []
    for holder in holders[:MOST_HOLDERS]:
        state, host = holder.record.state, printable(holder.record.text("host"))
        if state == COOLING:
            found.append("it ends by itself")
        elif state == KEPT:
            found.append("a person who has looked: it was left taken after a failure")
        else:
            where = f" on {host}" if host and host != holder.owner else ""
            found.append(f"{owner_of(holder.owner)}{where}, when it is done")
    return "; ".join(dict.fromkeys(found))


def _queue(of: Situation) -> Told:
    if of.reenters:
        return None  # whoever holds the lock does not queue
    number = of.state.waiting
    if of.snapshot.is_my_turn:
        others = "shared too, or with higher ranks" if of.spec.shared else "with higher ranks"
        return Condition("queue", True, f"{waiting(number)}, {others}" if number else "nobody is waiting")
    who = "those who wait, by giving up; or their turns come: whoever waits too is served after them"
    ahead = of.state.position - 1
    which = "exclusive, or with a lower rank" if of.spec.shared else "with the same or a lower rank"
    value = waiting(number) if ahead == number else f"{waiting(number)}, {ahead} of them {which}"
    return Condition("queue", False, value, who, (see(of.state.name),))


def _mutex(of: Situation) -> Told:
    if of.reenters:
        return None
    if not of.snapshot.mutex_busy:
        return Condition("mutex", True, "no client of the Go original is inside it")
    key = of.keys.mutex.decode()
    who = "that client; what it has left there ends by itself within about a minute"
    return Condition("mutex", False, "a client of the Go original is inside it", who, (see(key),))


def _freeze(of: Situation) -> Told:
    if of.reenters:
        return None  # a freeze keeps nobody from entering again
    freezes = of.snapshot.freezes
    if not freezes:
        return Condition("freeze", True, "neither the lock nor the realm is frozen")
    value = " and ".join(
        f"the {'realm' if one.lock is None else 'lock'} is frozen by {frozen_by(one)}" for one in freezes
    )
    hints = tuple(Hint(THAW_REALM) if one.lock is None else Hint(THAW, lock=of.state.name) for one in freezes)
    return Condition("freeze", False, value, "anybody, by a thaw", hints)


def _policy(of: Situation) -> Told:
    if of.reenters:
        return None
    policy = of.state.policy
    if policy is None:
        return Condition("policy", True, "the lock has no policy")
    if policy.trouble:
        value = f"it cannot be followed: {policy.trouble}"
        return Condition("policy", False, value, _who_rules(policy), (Hint(POLICY, lock=of.state.name),))
    from distlock_core.model.policy import shown

    return Condition("policy", True, ", ".join(f"{word} {shown(word, one)}" for word, one in policy.fields.items()))


def _who_rules(policy: Policy) -> str:
    return f"whoever sets the policy: {owner_of(policy.by)} has set it"


def _window(of: Situation) -> Told:
    if of.reenters or of.rules.windows is None:
        return None
    name, closed = of.state.name, of.closed
    if closed is None:
        return Condition("window", True, f"'{printable(of.rules.windows.text)}' is open", is_always_told=True)
    if not closed.for_everybody:
        return Condition("window", False, f"it is {closed}", "the caller, whose own setting it is")
    policy = of.state.policy
    who = "" if policy is None else _who_rules(policy)
    return Condition("window", False, f"it is {closed}", who, (Hint(OPEN_WINDOW, lock=name),))


def _last(of: Situation) -> Told:
    end = of.state.last
    if end is None or not end.how:
        return Condition("last", True, "no end of a hold is noted")
    when = "" if end.at is None else f" at {clock(end.at)}"
    why = f': "{shortened(end.why)}"' if end.why else ""
    return Condition("last", True, f"unchanged: {printable(end.how)} by {owner_of(end.by)}{when}{why}")


def _prune(of: Situation) -> Condition:
    return Condition("prune", True, f"no notes on ended holds were deleted since revision {of.snapshot.revision}")


def unknown_condition(compare: Compare, holds: bool) -> Condition:
    """A condition that has no topic here: its key shows what it is about."""
    key = compare.key.decode("utf-8", "backslashreplace")
    return Condition("other", holds, f"a condition on the key {printable(key)}", "", (see(key),))


# In the order of the explanation.
TOPICS: dict[str, Callable[[Situation], Told]] = {
    "holders": _holders,
    "queue": _queue,
    "freeze": _freeze,
    "window": _window,
    "policy": _policy,
    "mutex": _mutex,
    "last": _last,
    "prune": _prune,
}
