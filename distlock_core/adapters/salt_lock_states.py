"""What Salt's states `distlock.locked`, `unlocked` and `held` do. Their arguments are described in `salt/_states/`."""

from __future__ import annotations

import atexit
import os

from distlock_core.adapters import acquire, check, release, salt_reports, salt_run_end
from distlock_core.adapters.run_holds import holds_around
from distlock_core.adapters.settings import explicit_owner, in_container, read_flag, shown_name
from distlock_core.connection import realm_of
from distlock_core.errors import ConfigError, NotSettled
from distlock_core.model.wording import are, are_held_by, listed, tokens_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.adapters.salt_state import StateCall
    from distlock_core.model.state import Holder
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
        return call.done(True, f"{shown_name(settings)} would be held by {settings.id} at this point")
    if planned == "unlocked":
        taken = acquire.Taken((), True)
    else:
        taken = acquire.take(
            settings,
            run=run,
            taker=call.taker,
            bound=bound,
            children=True,
            dry_run=call.is_test,
            progress=call.bus.waiter(settings.id),
        )
    if not taken.changed:
        stays = bound and any(holder.lifetime == "persistent" for holder in taken.holders)
        lifetime = "; it stays until it is unlocked, also after this run" if stays else ""
        return call.done(True, f"already: {are_held_by(taken.holders)}{lifetime}")
    changes = salt_reports.acquired(taken, settings.lock_names, explicit_owner(settings))
    end = ", until this run ends" if bound else ""
    if not taken.holders:
        call.plans.add(settings, "locked")
        first = f"would wait: {salt_reports.said(taken.waits)} Then " if taken.waits else ""
        return call.done(None, f"{first}{shown_name(settings)} would be locked by {settings.id}{end}", changes)
    call.bus.acquired(taken.holders)
    if bound and run == os.getpid() and in_container():
        atexit.register(salt_run_end.release, settings, run, taken.holders)
    how = "taken over from this owner's run that has ended" if taken.before else "locked"
    story = f", {taken.waited}" if taken.waited else ""
    said = f"{are(settings.lock_names)} {how} by {settings.id}, {tokens_of(taken.holders)}{end}{story}"
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
    ended: Sequence[Holder] = ()
    if planned == "locked":
        old: dict[str, str | None] = dict.fromkeys(settings.lock_names, settings.id)
    elif planned:
        old = {}
    else:
        realm = realm_of(settings)
        around = () if forced else holds_around(settings.lock_names, realm)
        if around:
            return call.done(True, f"{are_held_by(around)}, by the command around this run, which releases it")
        try:
            ended = release.release(
                settings, run=call.run, taker=call.taker, force=forced, dry_run=call.is_test, realm=realm
            )
        except NotSettled as error:
            call.bus.failed("kept", settings.lock_names, settings.id, error.message)
            raise
        old = {holder.lock: salt_reports.shown(holder) for holder in ended}
    if not old:
        return call.done(True, f"{are(settings.lock_names)} not locked")
    cools = settings.cooldown is not None
    changes = {lock: {"old": owner, "new": f"{owner} (cooling)" if cools else None} for lock, owner in old.items()}
    names, owners = listed(list(old)), " and ".join(dict.fromkeys(map(str, old.values())))
    warnings = _late(call, settings)
    if call.is_test:
        call.plans.add(settings, "unlocked")
        said = f"{names}, held by {owners}, would be unlocked{_cooling(settings)}"
        return call.done(None, said, changes, warnings=warnings)
    call.bus.ended(ended, settings.id, cools=cools)
    was, is_now = ("was", "is") if len(old) == 1 else ("were", "are")
    said = f"{names}, which {was} held by {owners}, {is_now} unlocked{_cooling(settings)}"
    return call.done(True, said, changes, warnings=warnings)


def _late(call: StateCall, settings: Settings) -> list[str]:
    """A warning of states that act without the lock."""
    late = call.listeners
    if not late:
        return []
    what = f"`listen` acts after all other states, and so without the lock {shown_name(settings)}: {', '.join(late)}."
    return [f"{what} Use `watch`, or a lock with until: {RUN_END}"]


def _cooling(settings: Settings) -> str:
    return "" if settings.cooldown is None else f" in {settings.cooldown}s"


def held(call: StateCall) -> dict[str, Any]:
    """Fail unless this minion holds the lock now."""
    settings = call.settings()
    planned = call.plans.of(settings)
    if planned == "locked":
        return call.done(True, f"{shown_name(settings)} would be held by {settings.id} at this point")
    if planned == "unlocked":
        return call.done(False, f"{shown_name(settings)} would be held by nobody at this point, not by {settings.id}")
    return call.done(True, are_held_by(check.check(settings, taker=call.taker)))
