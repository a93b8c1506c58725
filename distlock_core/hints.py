"""Hints: the next step after an error, as a code and its data. Each front end words them for its own users.

A message says what is wrong and where. A hint names the next step, independent of any tool: `distlock`, Salt, Ansible
and Puppet each have a table with one sentence per code. The table for Python, which `str(error)` uses, is here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

SHOW = "show"  # lock
SHOW_KEY = "show_key"  # key: a raw key, outside any realm
ENTER = "enter"  # lock, owner, token (of the same owner's step)
UNLOCK_DEAD_RUN = "unlock_dead_run"  # lock, owner, token
BREAK = "break"  # lock, token: of another owner's hold
UNLOCK_STEP = "unlock_step"  # lock, owner, token
UNLOCK_LATER = "unlock_later"  # lock, owner, token: the release has failed
CHOOSE_TOKEN = "choose_token"  # noqa: S105 - lock, owner (null: anyone's), tokens: several holds match
CHANGE_TOKEN = "change_token"  # noqa: S105 - lock, tokens (of other owners' holds)
SAME_OWNER = "same_owner"  # lock
SAME_SLOTS = "same_slots"  # lock, slots (the holder's number of them)
THAW = "thaw"  # lock
THAW_REALM = "thaw_realm"
REPLACE_FREEZE = "replace_freeze"
POLICY = "policy"  # lock: its policy cannot be followed
OPEN_WINDOW = "open_window"  # lock: the window of its policy is closed
RESOLVE = "resolve"  # lock, owner, run: it is unknown whether this run holds it
RAW_PREFIX = "raw_prefix"  # setting
SET_ENDPOINTS = "set_endpoints"  # no endpoint is configured

# The data of each code. Every table of sentences has all of these codes; a test checks that.
DATA = {
    SHOW: ("lock",),
    SHOW_KEY: ("key",),
    ENTER: ("lock", "owner", "token"),
    UNLOCK_DEAD_RUN: ("lock", "owner", "token"),
    BREAK: ("lock", "token"),
    UNLOCK_STEP: ("lock", "owner", "token"),
    UNLOCK_LATER: ("lock", "owner", "token"),
    CHOOSE_TOKEN: ("lock", "owner", "tokens"),
    CHANGE_TOKEN: ("lock", "tokens"),
    SAME_OWNER: ("lock",),
    SAME_SLOTS: ("lock", "slots"),
    THAW: ("lock",),
    THAW_REALM: (),
    REPLACE_FREEZE: (),
    POLICY: ("lock",),
    OPEN_WINDOW: ("lock",),
    RESOLVE: ("lock", "owner", "run"),
    RAW_PREFIX: ("setting",),
    SET_ENDPOINTS: (),
}

PYTHON = {
    SHOW: "See: realm.show({lock})",
    SHOW_KEY: "See the key {key} in etcd",
    ENTER: "To enter it anyway: realm.lock({lock}, {owner}, token={token})",
    UNLOCK_DEAD_RUN: "If you are sure that it has ended: realm.unlock({lock}, token={token})",
    BREAK: "To break it: realm.break_hold(realm.to_unlock({lock}, token={token}), 'WHY')",
    UNLOCK_STEP: "To release it anyway: realm.unlock({lock}, token={token})",
    UNLOCK_LATER: "When etcd is back: realm.unlock({lock}, token={token})",
    CHOOSE_TOKEN: "Choose one with token= ({tokens})",
    CHANGE_TOKEN: "To change it anyway, name it with token= ({tokens})",
    SAME_OWNER: "Give both the same owner=, so that the inner one can enter it",
    SAME_SLOTS: "Use the same number everywhere: slots={slots}",
    THAW: "To thaw it: realm.thaw({lock})",
    THAW_REALM: "To thaw it: realm.thaw()",
    REPLACE_FREEZE: "To replace it: force=True",
    POLICY: "See: realm.policy({lock})",
    OPEN_WINDOW: "To open it at all times: realm.set_policy({lock}, window='Mon-Sun')",
    RESOLVE: "Check with realm.show({lock}); if that run holds it: realm.unlock({lock})",
    RAW_PREFIX: "If the Go original uses this prefix: connect(..., raw_prefix=True)",
    SET_ENDPOINTS: "No endpoint is given: connect('http://HOST:2379')",
}


class Hint:
    """The next step after an error: a code and its data."""

    __slots__ = ("code", "data")

    def __init__(self, code: str, **data: Any) -> None:
        self.code = code
        self.data = data

    def __repr__(self) -> str:
        return f"Hint({self.code!r}, {', '.join(f'{key}={value!r}' for key, value in self.data.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hint) and (self.code, self.data) == (other.code, other.data)

    def __hash__(self) -> int:
        return hash(repr(self))

    def fields(self) -> dict[str, Any]:
        """The hint for JSON: `{"code": "enter", "lock": "x", "owner": "me", "token": 17}`."""
        return {"code": self.code, **self.data}


def see(name: str) -> Hint:
    """The hint that shows a lock. A name with a slash is a raw key in etcd, outside any realm."""
    return Hint(SHOW_KEY, key=name) if "/" in name else Hint(SHOW, lock=name)


def resolve(name: str, owner: str, run: str) -> Hint:
    """The hint to find out whether this run holds a lock. For a raw key it is the key that shows it."""
    return see(name) if "/" in name else Hint(RESOLVE, lock=name, owner=owner, run=run)


def from_fields(found: Iterable[Mapping[str, Any]]) -> tuple[Hint, ...]:
    """The hints for objects that `fields()` has made. Unknown codes, and what a front end has added, are left out."""
    known = [(one["code"], DATA[one["code"]], one) for one in found if one.get("code") in DATA]
    return tuple(
        Hint(code, **{name: one[name] for name in names}) for code, names, one in known if all(n in one for n in names)
    )


def sentence(hint: Hint, table: Mapping[str, str], quoted: Callable[[str], str], **more: str) -> str:
    """One hint in the words of a front end's table. `quoted` escapes texts for its reader; `more` is inserted as is."""
    data = {key: quoted(value) if isinstance(value, str) else _listed(value) for key, value in hint.data.items()}
    return table[hint.code].format(**data, **more)


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def in_words(
    message: str, hints: Iterable[Hint], table: Mapping[str, str], quoted: Callable[[str], str], **more: str
) -> str:
    """An error's message, followed by its hints in the words of a table."""
    return ". ".join([message, *(sentence(hint, table, quoted, **more) for hint in hints)])
