"""Salt's functions: what its execution module and its runner share, and the results as Salt prints them.

The results have the fields of the command's JSON, without those that are unknown or do not apply.
"""

from __future__ import annotations

from distlock_core.adapters import release
from distlock_core.adapters.breaking import break_hold
from distlock_core.adapters.explaining import explanation
from distlock_core.adapters.freezing import ensure_frozen, ensure_thawed, read_duration
from distlock_core.adapters.past import entries_of
from distlock_core.adapters.salt_reports import known
from distlock_core.adapters.salt_settings import text_of
from distlock_core.adapters.settings import explicit_owner, names_of, read_flag, read_token
from distlock_core.cli.json_output import frozen_json, holder_json, locks_json
from distlock_core.cli.salt.bus import KEPT
from distlock_core.connection import realm_of
from distlock_core.errors import Frozen, LockNotFound, NotFrozen, NotSettled
from distlock_core.events.follow import FROZEN, THAWED
from distlock_core.hints import REPLACE_FREEZE, Hint
from distlock_core.lock.examine import examine
from distlock_core.lock.holder_life import HolderLife
from distlock_core.lock.realm import parts_of
from distlock_core.model.wording import are, is_frozen_by
from distlock_core.process.identity import trace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.adapters.advice import Tool
    from distlock_core.cli.salt.bus import Bus
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

    Result = dict[str, Any]


def holds(holders: Sequence[Holder]) -> list[Result]:
    return [known(holder_json(holder)) for holder in holders]


def one_or_all(found: list[Result], lock_names: object) -> Result | list[Result]:
    """The result for one lock, or a list for a call that has named its locks in a list."""
    return found[0] if lock_names is None else found


def unlock(settings: Settings, token: object, force: object, bus: Bus | None = None) -> list[Result]:
    """Release the locks of the settings' owner. Raises `DistlockError`."""
    named, forced = read_token(token), read_flag(force, "force")
    try:
        holders = release.release(settings, taker=trace_of(), token=named, force=forced)
    except NotSettled as error:
        if bus is not None:
            bus.failed(KEPT, settings.lock_names, settings.id, error.message)
        raise
    if not holders:
        raise LockNotFound(f"{are(settings.lock_names)} not locked")
    if bus is not None:
        bus.ended(holders, settings.id, cools=settings.cooldown is not None)
    return holds(holders)


def break_one(settings: Settings, token: object, bus: Bus | None = None) -> Result:
    """Break the hold with this token, and return it, with what is known here about the life behind it."""
    named = read_token(token)
    lives: list[HolderLife] = []  # read before this machine's notes on the hold are gone with it
    broken = break_hold(settings, named, look=lambda holder: lives.append(HolderLife.of(holder, settings.state_dir)))
    if broken is None:
        raise LockNotFound(f"no hold of {settings.lockname} has token {named}: it ended, or never existed")
    if bus is not None:
        bus.ended([broken], settings.id, why=settings.reason)
    (life,) = lives
    about = {"by": explicit_owner(settings), "why": settings.reason}
    found = {"process": life.process, "machine": life.machine, "keeper_process": life.keeper}
    return known({**holder_json(broken), **about, **found})


def show(settings: Settings) -> list[Result]:
    states = realm_of(settings).show_all(settings.lock_names)
    return [known(lock) for state in states for lock in locks_json(state)]


def list_all(settings: Settings) -> list[Result]:
    return [known(lock) for state in realm_of(settings).list() for lock in locks_json(state)]


def history(settings: Settings, name: object, since: object) -> list[Result]:
    return [known(entry) for entry in entries_of(realm_of(settings), name, since)]


def explain(settings: Settings, tool: Tool) -> Result:
    """Whether the settings' owner would acquire the lock now, and each condition of that, with the tool's advice."""
    found = explanation(settings, realm_of(settings))
    reach = dict(settings.realm_arguments)
    fields = found.fields(lambda hint: tool.advice(hint, reach))
    return known({**fields, "conditions": [known(one) for one in fields["conditions"]]})


def doctor(settings: Settings, name: object, tool: Tool) -> Result:
    """All findings about etcd, this machine's access to it, and these locks or the whole realm."""
    reach = dict(settings.realm_arguments)
    found = examine(parts_of(realm_of(settings)), names_of(name), settings, ())
    fields = found.fields(lambda hint: tool.advice(hint, reach))
    shown = [known(one) for one in fields["settings"] if one["source"] != "default"]
    return {**fields, "findings": [known(one) for one in fields["findings"]], "settings": shown}


def freeze(
    settings: Settings, lock: str | None, reason: object, duration: object, force: object, bus: Bus | None = None
) -> Result:
    """Freeze the lock, or without one the realm. Raises `Frozen` if it is frozen already, and not `force`."""
    text, seconds = text_of(reason, "reason"), read_duration(duration)
    done = ensure_frozen(settings, lock, text, seconds, force=read_flag(force, "force"))
    assert done.freeze is not None
    if not done.changed:
        raise Frozen(f"{is_frozen_by(done.freeze)}: left as it is", hints=[Hint(REPLACE_FREEZE)])
    if bus is not None:
        bus.freeze(FROZEN, done.freeze)
    return _freeze_result(settings, lock, done.freeze)


def thaw(settings: Settings, lock: str | None, bus: Bus | None = None) -> Result:
    """End the freeze of the lock, or without one that of the realm. Raises `NotFrozen`."""
    ended = ensure_thawed(settings, lock)
    if ended is None:
        raise NotFrozen(f"{lock or 'the realm'} is not frozen")
    if bus is not None:
        bus.freeze(THAWED, ended)
    return _freeze_result(settings, lock, ended)


def _freeze_result(settings: Settings, lock: str | None, freeze: Freeze) -> Result:
    return known({"lock": lock, "prefix": settings.prefix, **frozen_json(freeze)})
