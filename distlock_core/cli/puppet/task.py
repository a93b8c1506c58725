"""`distlock-puppet task NAME`, for Bolt's tasks: parameters as one JSON object on stdin, the result on stdout.

As the task specification has it: parameters that begin with `_` come from the task runner (`_noop`: change nothing), a
failure is an object `_error` with `kind`, `msg` and `details`, and a parameter that is null is one that is not given.
Nothing of it appears in a process list, and no shell interprets it. A wait ends when nobody reads the result any more.
"""

from __future__ import annotations

import json
import os
import re
import sys

from distlock_core.adapters.acquire import take
from distlock_core.adapters.advice import BOLT
from distlock_core.adapters.breaking import break_hold
from distlock_core.adapters.freezing import ensure_frozen, ensure_thawed, read_duration
from distlock_core.adapters.past import entries_of
from distlock_core.adapters.release import release
from distlock_core.adapters.settings import LOCK_NAMES, read_flag, read_settings, read_token, shown_name
from distlock_core.adapters.waiting import wait_until
from distlock_core.base.nearest import did_you_mean
from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.cli.json_output import as_json, frozen_json, holder_json, life_json, locks_json
from distlock_core.cli.outcome import FAILED, out
from distlock_core.connection import realm_of
from distlock_core.errors import ConfigError, DistlockError, Frozen, LockBusy, NotHolder
from distlock_core.hints import CHOOSE_TOKEN, Hint
from distlock_core.lock.holder_life import HolderLife
from distlock_core.model.wording import are, are_held_by, frozen_by, is_frozen_by, listed, owners_of, taken, tokens_of
from distlock_core.process.identity import hostname
from distlock_core.process.while_read import WhileRead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.state import Holder, LockState
    from distlock_core.settings.options import Settings

    Result = dict[str, Any]

LONGEST_INPUT = 2**20  # bytes
WAIT = 300.0  # seconds that `wait` waits unless told otherwise
REACH = (
    *("endpoints", "prefix", "config", "cacert", "cert", "key", "tls_server_name"),
    *("user", "password", "password_file", "connect_timeout"),
)
_CLAIM = ("slots", "shared", "rank", "window")
_GATE = ("gate", "gate_timeout", "gate_every", "gate_for")
# The parameters of each task, besides REACH, which all of them have.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "lock": ("name", LOCK_NAMES, "reason", "timeout", "owner", "token", *_CLAIM, "expect", "ttl", *_GATE),
    "unlock": ("name", LOCK_NAMES, "owner", "token", "force", "cooldown", *_GATE),
    "show": ("name", LOCK_NAMES),
    "freeze": ("name", "reason", "duration", "owner", "force"),
    "thaw": ("name",),
    "break": ("name", "token", "reason", "owner"),
    "history": ("name", "since"),
    "wait": ("name", LOCK_NAMES, "until", "timeout", *_CLAIM),
}
_SETTING = {"name": "lockname", "owner": "id"}
_NO_SETTINGS = ("token", "force", "duration", "since", "until")


class Task(Value):
    """One call of a task. `given`: its parameters, without those that are null. `noop`: change nothing."""

    name: str
    given: Mapping[str, Any]
    noop: bool
    cancel: Cancel | None = None

    def settings(self, owner: str, **more: object) -> Settings:
        """The settings of this call, over those of the target's environment and config file."""
        said = {_SETTING.get(key, key): value for key, value in self.given.items() if key not in _NO_SETTINGS}
        return read_settings({LOCK_NAMES: None, "lockname": None, **more, **said}, owner)

    def settings_of_a_lock(self, owner: str, **more: object) -> Settings:
        """The same, with a lock that is named by this call: the target's config file may name another one."""
        if not (self.given.get("name") or self.given.get(LOCK_NAMES)):
            several = f" (or {LOCK_NAMES})" if LOCK_NAMES in PARAMETERS[self.name] else ""
            raise ConfigError(f"no lock is named: {self.name} needs name{several}")
        return self.settings(owner, **more)

    @property
    def lock(self) -> str | None:
        """The name of the lock; None for the whole realm."""
        name = self.given.get("name")
        if name == "":
            raise ConfigError("no lock is named: name is empty")
        return None if name is None else str(name)

    @property
    def token(self) -> int | None:
        return read_token(self.given.get("token"))

    def flag(self, word: str) -> bool:
        return read_flag(self.given.get(word, False), word)


def run(words: Sequence[str]) -> int:
    """Carry out the task, print its result, and return the exit code."""
    try:
        task = read(words, sys.stdin.buffer.read(LONGEST_INPUT + 1), WhileRead())
        return out(as_json(TASKS[task.name](task)))
    except DistlockError as error:
        return _fail(error.kind, BOLT.said(error), _details(error))
    except Exception as error:  # noqa: BLE001 - a task runner expects one object for any error
        return _fail(DistlockError.kind, f"{type(error).__name__}: {error}", {})


def read(words: Sequence[str], text: bytes, cancel: Cancel | None = None) -> Task:
    """The call of a task, from the arguments of `distlock-puppet task` and its input. Raises `ConfigError`."""
    name = words[0] if len(words) == 1 else ""
    if name not in PARAMETERS:
        raise ConfigError(f"expected the name of a task: {', '.join(PARAMETERS)}")
    try:
        found = json.loads(text) if len(text) <= LONGEST_INPUT else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError("stdin: expected one JSON object with the parameters of the task")
    known = (*PARAMETERS[name], *REACH)
    given = {key: value for key, value in found.items() if value is not None and not key.startswith("_")}
    for key in given:
        if key not in known:
            raise ConfigError(f"the task {name} has no parameter {printable(key)}{did_you_mean(key, known)}")
    if not isinstance(given.get("name", ""), str):
        raise ConfigError(f"name: expected a string, found {ascii(given['name'])[:60]}")
    noop = found.get("_noop")
    return Task(name, given, noop is not None and read_flag(noop, "_noop"), cancel)


def _fail(kind: str, message: str, details: Result) -> int:
    out(as_json({"_error": {"kind": f"distlock/{kind}", "msg": message, "details": details}}))
    return FAILED


def _details(error: DistlockError) -> Result:
    states: Sequence[LockState] = getattr(error, "states", ())
    return {"locks": _locks(states)} if states else {}


# The tasks.


def _lock(task: Task) -> Result:
    # Random, so that nobody else enters the lock by accident: not the next run of Bolt, and no other person's.
    settings = task.settings_of_a_lock(f"{_target()}.{os.urandom(4).hex()}")
    done = take(settings, token=task.token, unrenewed=settings.ttl is not None, dry_run=task.noop, cancel=task.cancel)
    waited = done.waited.fields() if done.waited else {"waited_for": "", "waited": 0.0, "position": 0}
    found = {"changed": done.changed, "owner": settings.id, **waited, **_holds(done.holders)}
    name, owner = shown_name(settings), printable(settings.id or "")
    if not done.changed:
        return {**found, "msg": "already: " + are_held_by(done.holders)}
    if not done.holders:
        first = f"would wait: {BOLT.said(done.waits)} Then " if done.waits else ""
        return {**found, "msg": f"{first}{name} would be locked by {owner}"}
    how = "taken over from this owner's run that has ended" if done.before else "locked"
    story = f", {done.waited}" if done.waited else ""
    return {**found, "msg": f"{are(settings.lock_names)} {how} by {owner}, {tokens_of(done.holders)}{story}"}


def _unlock(task: Task) -> Result:
    settings, token, force = task.settings_of_a_lock(_target()), task.token, task.flag("force")
    if "gate" not in task.given:
        settings = settings._replace(gate=None)  # that of environment and file is meant for a lock to be acquired
    if not task.given.get("owner") and token is None and not force:
        settings = settings._replace(id=_owner_of_tasks(settings))
    elif not task.given.get("owner") and token is not None:
        settings = settings._replace(id=_owner_of_token(settings, token))
    ended = release(settings, token=token, force=force, dry_run=task.noop, cancel=task.cancel)
    found = {"changed": bool(ended), **_holds(ended)}
    if not ended:
        return {**found, "msg": are(settings.lock_names) + " not locked"}
    several = len(ended) > 1
    verb = "would be" if task.noop else "are" if several else "is"
    later = "" if settings.cooldown is None else f" in {settings.cooldown}s"
    names = listed([one.lock for one in ended])
    was = "were" if several else "was"
    return {**found, "msg": f"{names}, which {was} held by {owners_of(ended)}, {verb} unlocked{later}"}


def _show(task: Task) -> Result:
    settings = task.settings(_target())
    realm = realm_of(settings)
    if task.lock is None and LOCK_NAMES not in task.given:
        freeze = realm.frozen()
        return {"locks": _locks(realm.list()), "frozen": None if freeze is None else frozen_json(freeze)}
    return {"locks": _locks(realm.show_all(settings.lock_names))}


def _freeze(task: Task) -> Result:
    settings, lock = task.settings(_target()), task.lock
    if not task.given.get("reason"):
        raise ConfigError(f"{_named(lock)} is not frozen without a reason")
    seconds, reason = read_duration(task.given.get("duration")), _reason(task, settings)
    done = ensure_frozen(settings, lock, reason, seconds, force=task.flag("force"), dry_run=task.noop)
    found = {"changed": done.changed, "lock": lock, "frozen": None if done.freeze is None else frozen_json(done.freeze)}
    if done.freeze is None:
        return {**found, "msg": f"{_named(lock)} would be frozen by {printable(settings.id or '')}"}
    return {**found, "msg": ("" if done.changed else "already: ") + is_frozen_by(done.freeze)}


def _thaw(task: Task) -> Result:
    lock = task.lock
    ended: Freeze | None = ensure_thawed(task.settings(_target()), lock, dry_run=task.noop)
    if ended is None:
        return {"changed": False, "lock": lock, "frozen": None, "msg": f"{_named(lock)} is not frozen"}
    verb = "would be" if task.noop else "is"
    msg = f"{_named(lock)} {verb} thawed, which was frozen by {frozen_by(ended)}"
    return {"changed": True, "lock": lock, "frozen": frozen_json(ended), "msg": msg}


def _break(task: Task) -> Result:
    settings = task.settings_of_a_lock(_target())
    token = task.token
    settings = settings._replace(reason=_reason(task, settings))
    lives: list[HolderLife] = []  # read before this machine's notes on the hold are gone with it
    broken = break_hold(
        settings, token, dry_run=task.noop, look=lambda holder: lives.append(HolderLife.of(holder, settings.state_dir))
    )
    name = printable(settings.lockname)
    if broken is None:
        return {"changed": False, "broken": None, "msg": f"no hold of {name} has token {token}"}
    verb = "would be" if task.noop else "is"
    msg = f"{name}, which was held by {owners_of([broken])}, {verb} broken"
    about = {"by": settings.id, "why": settings.reason, "dry_run": task.noop}
    return {"changed": True, "broken": {**holder_json(broken), **about, **life_json(*lives)}, "msg": msg}


def _history(task: Task) -> Result:
    return {"history": entries_of(realm_of(task.settings(_target())), task.lock, task.given.get("since"))}


def _wait(task: Task) -> Result:
    until = str(task.given.get("until", "free"))
    for word in _CLAIM if until != "free" else ():
        if task.given.get(word) not in (None, False):
            raise ConfigError(f"{word} is about a lock that is free: it goes with until=free")
    settings = task.settings_of_a_lock(_target(), timeout=WAIT)
    try:
        found = wait_until(settings, until, cancel=task.cancel, only_look=task.noop)
    except (LockBusy, Frozen) as error:
        if not task.noop:
            raise
        seen = {"waited": 0.0, "waited_for": error.message, "locks": _locks(error.states)}
        return {"reached": False, "until": until, "msg": f"would wait: {BOLT.said(error)}", **seen}
    return {
        "reached": True,
        "until": until,
        "msg": f"{are(settings.lock_names)} {until}",
        "waited": round(found.waited, 2),
        "waited_for": found.waited_for,
        "revision": found.revision,
        "locks": _locks(found.states),
    }


TASKS: dict[str, Callable[[Task], Result]] = {
    "lock": _lock,
    "unlock": _unlock,
    "show": _show,
    "freeze": _freeze,
    "thaw": _thaw,
    "break": _break,
    "history": _history,
    "wait": _wait,
}


# Shared by the tasks.


def _target() -> str:
    """The owner that a task has by default on this target; that of a lock has a random part behind it."""
    return f"bolt:{hostname()}"


def _reason(task: Task, settings: Settings) -> str:
    """The reason that this call has given. That of the target's environment or file is for locks to be acquired."""
    return settings.reason if "reason" in task.given else ""


def _owner_of_tasks(settings: Settings) -> str:
    """The owner of the hold that an earlier task has taken on this target, else the default one.

    Raises `NotHolder` if there are several, as nothing says which one is meant.
    """
    mine = re.compile(re.escape(_target()) + r"\.[0-9a-f]{8}")
    states = realm_of(settings).show_all(settings.lock_names)
    owners = {
        holder.owner: holder
        for state in states
        for holder in state.holders
        if holder.owner is not None and mine.fullmatch(holder.owner)
    }
    if len(owners) > 1:
        state = next(state for state in states if state.holders)
        tokens = [holder.token for holder in owners.values()]
        hint = Hint(CHOOSE_TOKEN, lock=state.name, owner=next(iter(owners)), tokens=tokens)
        error = NotHolder(taken(state), state=state, hints=[hint])
        error.realm_settings = dict(settings.realm_arguments)
        raise error
    return next(iter(owners), _target())


def _owner_of_token(settings: Settings, token: int) -> str:
    """The owner of the hold with this token, which names it well enough; else the default one."""
    states = realm_of(settings).show_all(settings.lock_names)
    holders = [holder for state in states for holder in state.holders if holder.token == token]
    return next((holder.owner for holder in holders if holder.owner is not None), _target())


def _holds(holders: Sequence[Holder]) -> Result:
    token = holders[0].token if holders else None
    return {"token": token, "locks": [holder_json(holder) for holder in holders]}


def _locks(states: Sequence[LockState]) -> list[Result]:
    return [lock for state in states for lock in locks_json(state)]


def _named(lock: str | None) -> str:
    return "the realm" if lock is None else printable(lock)
