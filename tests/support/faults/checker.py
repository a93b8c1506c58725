"""The checker: finds broken promises in a history, from the history alone.

The events that it knows:

| what | facts |
|---|---|
| `asked` | a client starts an attempt: `attempt`, `locks`, `leased`, `rank` |
| `alive` | a sign of life of the command under the lock: `lock`, `token`, `key`, `attempt`, `role` |
| `answered` | the attempt has ended: `attempt`, `code`, `said` |
| `killed`, `paused`, `resumed` | a supervisor, by the nemesis: `client`, `attempt` |
| `deleting` | a hold, or its lease, by the nemesis, which may come too late: `key`, `token` |
| `deleted` | the same, when it is certain that the hold was there: `key`, `token` |
| `broken` | a hold that was left behind, by the operator: `client`, `attempt` |
| `put`, `gone` | a key in etcd: `key`, `revision`; of a put also `created` (create_revision) and `owner` |
| `calm` | the faults are over |
| `left` | a key that was in etcd at the end: `key` |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from distlock_core.model.keys import DEFAULT_RANK, Keys, Place
from tests.support.faults.history import Event

EXPECTED = ("__last/", "__policy/", "__pruned/")  # what may be left in etcd at the end


class Rules(NamedTuple):
    """What is promised in this run."""

    prefix: str
    slots: dict[str, int]  # by lock
    kill_after: float  # seconds after which the tree of a hold that was deleted is dead


class Work(NamedTuple):
    """The time in which the command of one hold, or its child, was certainly alive."""

    who: str
    attempt: int
    lock: str
    token: int
    key: str
    role: str
    begin: float
    end: float

    def __str__(self) -> str:
        return f"{self.who}'s {self.role} under {self.lock}, token {self.token}, {self.begin:.3f} to {self.end:.3f}"


def violations(history: Sequence[Event], rules: Rules) -> list[str]:
    """Every broken promise, in plain words. Empty if all were kept."""
    works = _works(history)
    return [
        *_simultaneous_holders(works, history, rules),
        *_tokens(works, history),
        *_survived_its_lock(works, history, rules),
        *_wrongly_successful(works, history),
        *_order(history, rules),
        *_nobody_is_stuck(history),
        *_leftovers(history),
    ]


def _works(history: Iterable[Event]) -> list[Work]:
    found: dict[tuple[object, ...], Work] = {}
    for event in history:
        if event.what != "alive":
            continue
        lock, token, key, attempt, role = (event.facts[name] for name in ("lock", "token", "key", "attempt", "role"))
        which = (event.who, attempt, lock, role)
        work = found.setdefault(which, Work(event.who, attempt, lock, token, key, role, event.at, event.at))
        found[which] = work._replace(end=max(work.end, event.at))
    return sorted(found.values(), key=lambda work: work.begin)


def _simultaneous_holders(works: Sequence[Work], history: Sequence[Event], rules: Rules) -> list[str]:
    """More than `slots` exclusive holders at one moment, or an exclusive one beside a shared one."""
    excused = _excuses(history)
    found = []
    for lock, slots in rules.slots.items():
        here = [work._replace(end=min(work.end, excused(work))) for work in works if work.lock == lock]
        here = [work for work in here if work.end >= work.begin]
        for newer in here:  # in the order of their begin: at each one's begin
            beside = [other for other in here if other.begin <= newer.begin <= other.end and other.token != newer.token]
            shared = [work for work in (*beside, newer) if _is_shared(work)]
            exclusive = {work.token for work in (*beside, newer)} - {work.token for work in shared}
            if len(exclusive) > slots or (shared and exclusive):
                found.append(f"held by too many: {newer}; beside {'; '.join(map(str, beside))}")
    return found


def _is_shared(work: Work) -> bool:
    return "/shared/" in work.key


def _excuses(history: Sequence[Event]) -> Callable[[Work], float]:
    """From when on a work may overlap with others, as docs/losing-a-lock.md says.

    After its key was deleted: others are let in at once, and the tree is dead `kill_after` later, a persistent one's
    not at all. After its supervisor was stopped: it cannot kill before it wakes. After its supervisor was killed: a
    child that the command has started lives on.
    """
    moments: dict[tuple[object, ...], float] = {}
    for event in history:
        if event.what == "deleting":
            moments.setdefault(("key", event.facts["key"], event.facts["token"]), event.at)
        elif event.what == "paused":
            moments.setdefault(("paused", event.facts["client"], event.facts["attempt"]), event.at)
        elif event.what == "killed":
            moments.setdefault(("killed", event.facts["client"], event.facts["attempt"]), event.at)

    def excused(work: Work) -> float:
        which: list[tuple[object, ...]] = [
            ("key", work.key, work.token),
            ("paused", work.who, work.attempt),
        ]
        if work.role == "child":
            which.append(("killed", work.who, work.attempt))
        return min(moments.get(one, float("inf")) for one in which)

    return excused


def _tokens(works: Sequence[Work], history: Sequence[Event]) -> list[str]:
    """A token of two attempts; or one that is smaller than that of a hold which had ended before this was asked for."""
    asked = {(event.who, event.facts["attempt"]): event.at for event in history if event.what == "asked"}
    of: dict[tuple[str, int], tuple[str, int]] = {}
    found = []
    for work in works:
        mine = (work.who, work.attempt)
        if of.setdefault((work.lock, work.token), mine) != mine:
            found.append(f"one token twice: {work}; and {of[work.lock, work.token]}")
        begun = asked.get(mine, work.begin)
        greater = [one for one in works if one.lock == work.lock and one.begin < begun and one.token > work.token]
        found += [f"a token that does not grow: {work}; after {one}" for one in greater]
    return found


def _survived_its_lock(works: Sequence[Work], history: Sequence[Event], rules: Rules) -> list[str]:
    """A leased command that works on for longer than `kill_after` after its hold was deleted."""
    leased = {
        (event.who, event.facts["attempt"]) for event in history if event.what == "asked" and event.facts["leased"]
    }
    disturbed = {
        (event.facts["client"], event.facts["attempt"]) for event in history if event.what in ("paused", "killed")
    }
    deleted = _confirmed_deletions(history)
    found = []
    for work in works:
        at = deleted.get((work.key, work.token))
        mine = (work.who, work.attempt)
        if at is not None and mine in leased - disturbed and work.end > at + rules.kill_after:
            found.append(f"works on {work.end - at:.1f} s after its hold was deleted: {work}")
    return found


def _wrongly_successful(works: Sequence[Work], history: Sequence[Event]) -> list[str]:
    """An exit code 0 although the hold was deleted by another, or left behind."""
    codes = {(event.who, event.facts["attempt"]): event.facts["code"] for event in history if event.what == "answered"}
    deleted = _confirmed_deletions(history)
    lost = [work for work in works if (work.key, work.token) in deleted and work.role == "command"]
    found = [f"lost, and exit 0: {work}" for work in lost if codes.get((work.who, work.attempt)) == 0]
    left = [(event.facts["client"], event.facts["attempt"]) for event in history if event.what == "broken"]
    found += [
        f"left behind, and exit 0: attempt {attempt} of {who}" for who, attempt in left if not codes[who, attempt]
    ]
    return found


def _confirmed_deletions(history: Sequence[Event]) -> dict[tuple[str, int], float]:
    return {(event.facts["key"], event.facts["token"]): event.at for event in history if event.what == "deleted"}


def _order(history: Sequence[Event], rules: Rules) -> list[str]:
    """A claim that etcd has applied, although it had to wait: what etcd says, in the order of its revisions."""
    names = {name: Keys(rules.prefix, name) for name in rules.slots}
    tickets: dict[str, dict[bytes, int]] = defaultdict(dict)
    held: dict[str, dict[bytes, int]] = defaultdict(dict)
    frozen: set[bytes] = set()
    ranks = {f"{event.who}-{event.facts['attempt']}": event.facts["rank"] for event in history if event.what == "asked"}
    found = []
    for changes in _by_revision(history):
        gone = {event.facts["key"].encode() for event in changes if event.what == "gone"}
        before = {name: dict(queue) for name, queue in tickets.items()}
        for name in names:
            for key in gone:
                tickets[name].pop(key, None)
                held[name].pop(key, None)
        frozen -= gone
        for event in changes:
            if event.what != "put":
                continue
            key, revision = event.facts["key"].encode(), event.facts["revision"]
            is_new = event.facts["created"] == revision
            if key.endswith(b"freeze"):
                frozen.add(key)
            for name, keys in names.items():
                if key.startswith(keys.queue) and is_new:
                    tickets[name][key] = revision
                if not keys.is_held_by(key) or not is_new:
                    continue
                place = Place(ranks.get(event.facts["owner"], DEFAULT_RANK), keys.is_shared(key))
                others, queue = held[name], before.get(name, {})
                found += _wrong_claim(keys, place, key, revision, others, queue, gone, rules.slots[name])
                if frozen & {keys.freeze, keys.lock_freeze}:
                    found.append(f"acquired while frozen: {key.decode()} at revision {revision}")
                held[name][key] = revision
    return found


def _wrong_claim(
    keys: Keys,
    place: Place,
    key: bytes,
    revision: int,
    held: dict[bytes, int],
    queue: dict[bytes, int],
    gone: set[bytes],
    slots: int,
) -> list[str]:
    """What is wrong with this new hold, beside these holds and this queue as it was before."""
    found = []
    what = f"{key.decode()} at revision {revision}"
    shared = [other for other in held if keys.is_shared(other)]
    if (place.shared and len(held) > len(shared)) or (not place.shared and (shared or len(held) >= slots)):
        found.append(f"acquired beside others: {what}; {sorted(held)}")
    arrived = min(
        (queue[ticket] for ticket in queue if ticket in gone and keys.place_of(ticket) == place), default=None
    )
    for ticket, since in queue.items():
        other = keys.place_of(ticket)
        if ticket in gone or (place.shared and other.shared and place.rank == other.rank):
            continue
        is_older = arrived is None or since < arrived
        if other.rank < place.rank or (other.rank == place.rank and is_older):
            found.append(f"acquired out of turn: {what}; {ticket.decode()} has waited since revision {since}")
    return found


def _by_revision(history: Sequence[Event]) -> list[list[Event]]:
    """What etcd has said, one list for each revision."""
    changes: dict[int, list[Event]] = defaultdict(list)
    for event in history:
        if event.what in ("put", "gone"):
            changes[event.facts["revision"]].append(event)
    return [changes[revision] for revision in sorted(changes)]


def _nobody_is_stuck(history: Sequence[Event]) -> list[str]:
    """A client that never got its locks after the faults were over, or an attempt that never ended."""
    answered = {(event.who, event.facts["attempt"]) for event in history if event.what == "answered"}
    asked = [event for event in history if event.what == "asked"]
    found = [
        f"never answered: attempt {event.facts['attempt']} of {event.who}, for {event.facts['locks']}"
        for event in asked
        if (event.who, event.facts["attempt"]) not in answered
    ]
    calm = [event.at for event in history if event.what == "calm"]
    if calm:
        worked = {event.who for event in history if event.what == "alive" and event.at > calm[0]}
        found += [f"never in again after the faults: {who}" for who in sorted({one.who for one in asked} - worked)]
    return found


def _leftovers(history: Sequence[Event]) -> list[str]:
    """What is left in etcd at the end, and should not be."""
    left = [event.facts["key"] for event in history if event.what == "left"]
    return [f"left in etcd: {key}" for key in left if not any(word in key for word in EXPECTED)]
