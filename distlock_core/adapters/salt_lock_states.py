"""What Salt's states `distlock.locked`, `unlocked` and `held` do. Their arguments are described in `salt/_states/`."""

from __future__ import annotations

import atexit
import os

from distlock_core.adapters import acquire_release, salt_reports, salt_run_end
from distlock_core.adapters.run_holds import hold_around
from distlock_core.adapters.settings import explicit_owner, in_container, read_flag
from distlock_core.connection import realm_of
from distlock_core.errors import ConfigError
from distlock_core.model.wording import is_held_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.adapters.salt_state import StateCall
    from distlock_core.settings.options import Settings

UNLOCKED, RUN_END = "unlocked", "run_end"  # values of `until`


def locked(call: StateCall) -> dict[str, Any]:
    """Acquire the lock, unless this minion holds it."""
    bound = _is_bound(call)
    settings, run = call.settings(), call.run
    if bound and run is None:
        raise ConfigError(
            f"until: {RUN_END} binds the lock to the process of this run, but with multiprocessing: false the run "
            f"is a thread of the minion, which lives on: use until: {UNLOCKED} and distlock.unlocked, or "
            "multiprocessing: true"
        )
    planned = call.plans.of(settings)
    if planned == "locked":
        return call.done(True, f"{call.name} would be held by {settings.id} at this point")
    if planned == "unlocked":
        taken = acquire_release.Taken(None, True)
    else:
        taken = acquire_release.take(
            settings, run=run, taker=call.taker, bound=bound, children=True, dry_run=call.is_test
        )
    if not taken.changed:
        assert taken.holder is not None
        stays = bound and taken.holder.lifetime == "persistent"
        lifetime = "; it stays until it is unlocked, also after this run" if stays else ""
        return call.done(True, f"already: {is_held_by(taken.holder)}{lifetime}")
    changes = {call.name: salt_reports.change(taken, explicit_owner(settings))}
    end = ", until this run ends" if bound else ""
    if taken.holder is None:
        call.plans.add(settings, "locked")
        first = f"would wait: {salt_reports.said(taken.waits)} Then " if taken.waits else ""
        return call.done(None, f"{first}{call.name} would be locked by {settings.id}{end}", changes)
    if bound and run == os.getpid() and in_container():
        atexit.register(salt_run_end.release, settings, run, taken.holder)
    how = "taken over from this owner's run that has ended" if taken.before else "locked"
    story = f", {taken.waited}" if taken.waited else ""
    said = f"{call.name} is {how} by {settings.id}, token {taken.holder.token}{end}{story}"
    return call.done(True, said, changes)


def _is_bound(call: StateCall) -> bool:
    """True if the lock is to end with the run. Raises `ConfigError`."""
    until = call.given["until"]
    if until not in (UNLOCKED, RUN_END):
        raise ConfigError(f"until: expected {UNLOCKED} or {RUN_END}, found {ascii(until)[:60]}")
    if until == UNLOCKED and (call.given["ttl"] is not None or call.given["on_loss"] is not None):
        raise ConfigError(f"ttl and on_loss apply to a lock that ends with the run: they go with until: {RUN_END}")
    return bool(until == RUN_END)


def unlocked(call: StateCall) -> dict[str, Any]:
    """Release the lock, if this minion holds it."""
    settings = call.settings()
    forced = read_flag(call.given["force"], "force")
    planned = call.plans.of(settings)
    if planned == "locked":
        old: str | None = settings.id
    elif planned:
        old = None
    else:
        realm = realm_of(settings)
        around = None if forced else hold_around(settings.lockname, realm)
        if around is not None:
            return call.done(True, f"{is_held_by(around)}, by the command around this run, which releases it")
        ended = acquire_release.release(
            settings, run=call.run, taker=call.taker, force=forced, dry_run=call.is_test, realm=realm
        )
        old = salt_reports.shown(ended)
    if old is None:
        return call.done(True, f"{call.name} is not locked")
    changes = {call.name: {"old": old, "new": None if settings.cooldown is None else f"{old} (cooling)"}}
    if call.is_test:
        call.plans.add(settings, "unlocked")
        said = f"{call.name}, held by {old}, would be unlocked{_cooling(settings)}"
        return call.done(None, said, changes, warnings=_late(call))
    said = f"{call.name}, which was held by {old}, is unlocked{_cooling(settings)}"
    return call.done(True, said, changes, warnings=_late(call))


def _late(call: StateCall) -> list[str]:
    """A warning of states that act without the lock."""
    late = call.listeners
    if not late:
        return []
    what = f"`listen` acts after all other states, and so without the lock {call.name}: {', '.join(late)}."
    return [f"{what} Use `watch`, or a lock with until: {RUN_END}"]


def _cooling(settings: Settings) -> str:
    return "" if settings.cooldown is None else f" in {settings.cooldown}s"


def held(call: StateCall) -> dict[str, Any]:
    """Fail unless this minion holds the lock now."""
    settings = call.settings()
    planned = call.plans.of(settings)
    if planned == "locked":
        return call.done(True, f"{call.name} would be held by {settings.id} at this point")
    if planned == "unlocked":
        return call.done(False, f"{call.name} would be held by nobody at this point, not by {settings.id}")
    return call.done(True, is_held_by(acquire_release.check(settings, taker=call.taker)))
