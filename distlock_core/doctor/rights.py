"""Rights: what this user may read and write, key by key, compared with what distlock needs. Pure values and judgement.

The keys are those of the least roles in docs/security.md.
"""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.doctor.finding import BAD, OK, WARN, Finding
from distlock_core.etcd.values import prefix_end
from distlock_core.model.keys import RESERVED, Keys, freeze_key, last_prefix, policy_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

READ, WRITE = "read", "write"
ROLE = "docs/security.md has the role that it needs: etcdctl role grant-permission"


class Need(Value):
    """A key, or with `end` a range, and what needs it. `essential`: without it the lock cannot be acquired."""

    right: str
    key: bytes
    end: bytes | None
    purpose: str
    lock: str = ""
    essential: bool = False

    @property
    def shown(self) -> str:
        text = self.key.decode(errors="backslashreplace")
        return text if self.end is None else f"{text}*"


class Granted(Value):
    """A need, and whether it is granted; None if that could not be found out, for the reason `why`."""

    need: Need
    granted: bool | None
    why: str = ""


def whole_realm(prefix: str) -> tuple[Need, Need]:
    """The two rights that are enough for everything."""
    start = prefix.encode()
    end = prefix_end(start)
    return Need(READ, start, end, "everything", "", True), Need(WRITE, start, end, "everything", "", True)


def of_the_realm(prefix: str) -> list[Need]:
    """What the operations on a realm need, for a user who may not do everything."""
    start = prefix.encode()
    mark = (prefix + RESERVED + "pruned/at").encode()
    return [
        Need(READ, start, prefix_end(start), "listing, histories and watching"),
        Need(READ, freeze_key(prefix), None, "acquiring"),
        Need(WRITE, freeze_key(prefix), None, "freezing and thawing the realm"),
        Need(WRITE, mark, None, "pruning"),
        Need(WRITE, last_prefix(prefix), prefix_end(last_prefix(prefix)), "releasing any lock"),
        Need(WRITE, policy_prefix(prefix), prefix_end(policy_prefix(prefix)), "setting any policy"),
    ]


def of_a_lock(keys: Keys) -> list[Need]:
    """What acquiring, waiting and releasing need for one lock."""
    below = keys.lock + b"/"
    name = keys.name
    return [
        Need(READ, keys.lock, None, "acquiring", name, True),
        Need(WRITE, keys.lock, None, "acquiring and releasing", name, True),
        Need(READ, below, prefix_end(below), "acquiring and waiting", name, True),
        Need(WRITE, below, prefix_end(below), "waiting, slots and shared holds", name, True),
        Need(READ, keys.last, None, "acquiring", name, True),
        Need(WRITE, keys.last, None, "releasing", name, True),
        Need(READ, keys.freeze, None, "acquiring", name, True),
        Need(READ, keys.policy, None, "acquiring", name, True),
        Need(READ, keys.prune_mark, None, "acquiring", name, True),
        Need(READ, keys.mutex, prefix_end(keys.mutex), "acquiring", name, True),
        Need(WRITE, keys.policy, None, "setting its policy", name),
    ]


def judge_rights(who: str, prefix: str, granted: Sequence[Granted], names: Sequence[str]) -> list[Finding]:
    """The findings about rights: one, or with lock names one for each of them.

    `who` is the user, as in `etcd's user 'node'`.
    """
    facts = {"keys": [_as_json(one) for one in granted]}
    unknown = next((one.why for one in granted if one.granted is None), "")
    if unknown:
        return [Finding("rights", "skipped", f"what {who} may do could not be found out: {unknown}", facts=facts)]
    whole = {one.need.right: one.granted for one in granted if one.need.purpose == "everything"}
    if all(whole.values()):
        return [Finding("rights", OK, f"{who} may read and write everything below {prefix}", facts=facts)]
    if not names:
        return [_of_realm(who, prefix, granted, facts)]
    return [_of_lock(who, name, [one for one in granted if one.need.lock == name]) for name in names]


def _of_realm(who: str, prefix: str, granted: Sequence[Granted], facts: Mapping[str, object]) -> Finding:
    may = [one.need for one in granted if one.granted]
    lacking = [one.need for one in granted if not one.granted and one.need.purpose != "everything"]
    advice = f"{ROLE}. To check what one lock needs, name it"
    if not may:
        message = f"{who} may neither read nor write below {prefix}"
        return Finding("rights", BAD, message, "", advice, facts=facts)
    message = f"{who} may not {_listed(lacking)}"
    return Finding("rights", WARN, message, "", advice, facts=facts)


def _of_lock(who: str, name: str, granted: Sequence[Granted]) -> Finding:
    facts = {"keys": [_as_json(one) for one in granted]}
    lacking = [one.need for one in granted if not one.granted and one.need.essential]
    if lacking:
        message = f"{who} cannot use {name}: it may not {_listed(lacking)}"
        return Finding("rights", BAD, message, name, ROLE, facts=facts)
    return Finding("rights", OK, f"{who} has all rights that {name} needs", name, facts=facts)


def _listed(needs: Iterable[Need]) -> str:
    by_right: dict[str, list[str]] = {}
    for need in needs:
        keys = by_right.setdefault(need.right, [])
        if need.shown not in keys:
            keys.append(need.shown)
    return ", nor ".join(f"{right} {', '.join(keys)}" for right, keys in by_right.items())


def _as_json(one: Granted) -> dict[str, object]:
    need = one.need
    return {"right": need.right, "key": need.shown, "for": need.purpose, "granted": one.granted}
