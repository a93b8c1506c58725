"""Judgement of a realm: kept, overdue and abandoned holds, freezes, tickets without a life, other clients. Pure."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.doctor.finding import BAD, OK, WARN, Finding
from distlock_core.hints import BREAK, POLICY, THAW, THAW_REALM, Hint, see
from distlock_core.model.freeze import Freeze
from distlock_core.model.keys import RESERVED, policy_prefix
from distlock_core.model.policy import Policy
from distlock_core.model.record import KEPT, Record
from distlock_core.model.wording import duration, held_by, is_held_by, listed, owner_of, sign_of_life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from distlock_core.etcd.values import KeyValue
    from distlock_core.model.state import Holder, LockState

MOST_NAMED = 8  # locks that a message names
# The fields of records, tickets, freezes and notes that this version knows; docs/etcd.md explains them.
KNOWN = frozenset(
    (
        *("reason", "value", "run", "kind", "explicit", "host", "pid", "start", "boot", "machine", "ns", "time_ns"),
        *("taker", "command", "taken_over", "token", "limit", "expect", "took", "state", "state_since", "together"),
        *("waited", "keeper", "step", "step_lease", "until", "exit_code"),
        *("beat", "beat_lease", "every", "ttl", "term"),
        *("how", "owner", "since", "why", "older_than"),
    )
)


class RealmFacts(Value):
    """What one read of a realm shows. `leases` has the seconds that a lease has left; 0 for one that is gone.

    `gone` has the tokens of holds whose process is provably gone, and was one of this machine.
    """

    states: tuple[LockState, ...]
    found: tuple[KeyValue, ...]
    leases: dict[int, int]
    gone: frozenset[int] = frozenset()


def judge_realm(prefix: str, mutex: str, facts: RealmFacts, now: float) -> Iterator[Finding]:
    """The findings about a realm."""
    holders = [holder for state in facts.states for holder in state.holders]
    waiters = sum(state.waiting for state in facts.states)
    message = f"{len(holders)} held, {waiters} waiting below {prefix}"
    yield Finding("locks", OK, message, facts={"held": len(holders), "waiting": waiters})
    yield from _kept(holders)
    yield from _overdue(holders, now)
    yield from _abandoned(holders, facts.gone)
    yield from _silent(holders)
    yield from _unknown(holders)
    yield from _frozen(prefix, facts, now)
    yield from _tickets(facts, prefix)
    yield from _policies(prefix, facts.found)
    yield from _go_clients(prefix, mutex, facts, holders)
    yield from _newer(facts.found, prefix)


def _kept(holders: Sequence[Holder]) -> Iterator[Finding]:
    kept = [holder for holder in holders if holder.record.state == KEPT]
    for holder in kept:
        advice = "look at what failed on that node, then release it"
        yield _about("kept", WARN, f"{printable(holder.lock)} is kept: {held_by(holder)}", holder, advice)
    if not kept:
        yield Finding("kept", OK, "no lock is kept after a failure")


def _overdue(holders: Sequence[Holder], now: float) -> Iterator[Finding]:
    overdue = [holder for holder in holders if holder.is_overdue(now)]
    for holder in overdue:
        advice = "see whether its holder still works"
        yield _about("overdue", WARN, is_held_by(holder), holder, advice)
    if not overdue:
        yield Finding("overdue", OK, "no hold takes longer than expected")


def _abandoned(holders: Sequence[Holder], gone: Collection[int]) -> Iterator[Finding]:
    """Only holds that nothing will end: those without a lease whose process was one of this machine."""
    for holder in holders:
        if holder.token in gone and not holder.lease and holder.record.state != KEPT:
            message = f"{is_held_by(holder)}, and its process on this machine is gone"
            yield _about("abandoned", WARN, message, holder, "nothing releases it by itself: look, then break it")


def _silent(holders: Sequence[Holder]) -> Iterator[Finding]:
    """Only holds that nothing will end, and whose process shows that it is alive: for the others, it is unknown."""
    for holder in holders:
        if holder.alive is False and holder.sign is not None:
            message = f"{is_held_by(holder)}; {sign_of_life(holder.sign)}"
            yield _about("silent", WARN, message, holder, "its process or machine may be gone: look, then break it")


def _unknown(holders: Sequence[Holder]) -> Iterator[Finding]:
    for holder in holders:
        if holder.owner is None:
            message = f"{printable(holder.lock)} is held by a key that is no record of distlock"
            yield _about("record", WARN, message, holder, "find out who writes below this prefix")


def _about(check: str, status: str, message: str, holder: Holder, advice: str) -> Finding:
    hints = (see(holder.lock), Hint(BREAK, lock=holder.lock, token=holder.token))
    facts = {"owner": holder.owner, "since": holder.since, "token": holder.token}
    return Finding(check, status, message, holder.lock, advice, hints, facts)


def _frozen(prefix: str, facts: RealmFacts, now: float) -> Iterator[Finding]:
    whole = (prefix + RESERVED + "freeze").encode()
    freezes = [Freeze.parse(None, kv) for kv in facts.found if kv.key == whole]
    freezes += [freeze for state in facts.states for freeze in state.freezes if freeze.lock is not None]
    for freeze in freezes:
        name = freeze.lock
        what = "the realm is frozen: nobody acquires any lock" if name is None else f"{printable(name)} is frozen"
        words = f"{what}; by {owner_of(freeze.by)}"
        if freeze.since is not None:
            words += f", {duration(now - freeze.since)} ago"
        words += f': "{printable(freeze.reason)}"' if freeze.reason else ""
        hint = Hint(THAW_REALM) if name is None else Hint(THAW, lock=name)
        details = {"by": freeze.by, "since": freeze.since, "until": freeze.until}
        yield Finding("frozen", WARN, words, name or "", "thaw it when its reason is gone", (hint,), details)
    if not freezes:
        yield Finding("frozen", OK, "nothing is frozen")


def _tickets(facts: RealmFacts, prefix: str) -> Iterator[Finding]:
    """Tickets that no lease ends: everybody behind them waits forever."""
    count = 0
    tickets = [kv for kv in facts.found if b"/queue/" in kv.key[len(prefix) :]]
    for kv in tickets:
        if kv.lease and facts.leases.get(kv.lease, 1):
            continue
        count += 1
        key = kv.key.decode(errors="backslashreplace")
        why = "its lease is gone" if kv.lease else "it has no lease"
        message = f"the ticket {printable(key)} of {owner_of(Record.parse(kv.value).owner)} never ends: {why}"
        advice = f"delete it, if that waiter is gone: etcdctl del {printable(key)}"
        yield Finding("ticket", BAD, message, printable(key), advice, facts={"lease": kv.lease})
    if not count:
        yield Finding("ticket", OK, "every waiter's place ends with its lease", facts={"tickets": len(tickets)})


def _policies(prefix: str, found: Iterable[KeyValue]) -> Iterator[Finding]:
    start = policy_prefix(prefix)
    for kv in found:
        if kv.key.startswith(start):
            name = kv.key[len(start) :].decode(errors="backslashreplace")
            policy = Policy.parse(name, kv)
            if policy.trouble:
                message = f"the policy of {printable(name)} lets nobody acquire it: {policy.trouble}"
                advice = "correct the policy, or update distlock here if it is from a newer version"
                yield Finding("policy", BAD, message, name, advice, (Hint(POLICY, lock=name),))


def _go_clients(prefix: str, mutex: str, facts: RealmFacts, holders: Sequence[Holder]) -> Iterator[Finding]:
    inside = (prefix + mutex + "/").encode()
    keys = [kv for kv in facts.found if kv.key.startswith(inside)]
    stuck = [kv for kv in keys if not kv.lease or not facts.leases.get(kv.lease, 1)]
    for kv in stuck:
        key = kv.key.decode(errors="backslashreplace")
        message = f"the mutex of the Go original is taken by a key that never ends ({printable(key)}): nobody acquires"
        yield Finding("go_mutex", BAD, message, "", f"delete it: etcdctl del {printable(key)}")
    theirs = [holder for holder in holders if is_of_go(holder)]
    if not theirs and not keys:
        yield Finding("go_clients", OK, "no client of the Go original is seen")
        return
    names = listed([holder.lock for holder in theirs[:MOST_NAMED]]) if theirs else "its mutex"
    message = f"clients of the Go original are at work here: {names}"
    advice = "they do not queue, and do not respect freezes: replace them"
    yield Finding("go_clients", WARN, message, "", advice, facts={"locks": [holder.lock for holder in theirs]})


def is_of_go(holder: Holder) -> bool:
    """True for a hold that the Go original has written: a record whose reason is plain text."""
    rest = holder.stored.split(b";", 2)[-1].lstrip()
    return holder.owner is not None and not holder.slot and not holder.is_shared and not rest.startswith(b"{")


def _newer(found: Iterable[KeyValue], prefix: str) -> Iterator[Finding]:
    """Fields that this version does not know: a newer distlock writes in this realm.

    Records carry no version: that would be bytes in each of them, for this alone.
    """
    policies = policy_prefix(prefix)
    fields = {
        field
        for kv in found
        if not kv.key.startswith(policies)
        for field in Record.parse(kv.value).details
        if field not in KNOWN
    }
    if not fields:
        yield Finding("versions", OK, "no record has a field that this version does not know")
        return
    shown = ", ".join(printable(field[:60]) for field in sorted(fields)[:MOST_NAMED])
    message = f"another version of distlock, or another program, writes here: unknown fields {shown}"
    yield Finding("versions", WARN, message, "", "run one version in a realm", facts={"fields": sorted(fields)})
