"""Release a lock, or several together, after one step of Salt, Ansible or Puppet, or end one that has failed.

Every owner is explicit. All raise `DistlockError`.
"""

from __future__ import annotations

from distlock_core import connection
from distlock_core.adapters.run_holds import ends_with, taker_of
from distlock_core.adapters.settings import check_settles, explicit_owner, reaching
from distlock_core.errors import (
    LockNotFound,
    NotHolder,
)
from distlock_core.hints import see
from distlock_core.lock.reentry import what_of_run
from distlock_core.lock.status import breaks
from distlock_core.model.record import ATTENDED, COOLING
from distlock_core.model.wording import is_held_by
from distlock_core.process.fate import GONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.lock.realm import Realm
    from distlock_core.model.state import Holder, LockState
    from distlock_core.settings.options import Settings


@reaching
def release(
    settings: Settings,
    *,
    run: int | None = None,
    taker: Mapping[str, Any] | None = None,
    token: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    realm: Realm | None = None,
    cancel: Cancel | None = None,
) -> tuple[Holder, ...]:
    """Make sure that the settings' owner does not hold the lock. Return the hold that was ended, none if it was free.

    Of several locks those that are held are released in one transaction, or none if one of them must not be.

    Raises `NotHolder` for a step of another process than `taker` (as for `take()`) that may be alive, unless its
    `token` or `force` is given; and, if `run` or `taker` identifies this run, for a lock that ends with another run
    that may be alive. With a `cooldown` in the settings the lock stays taken for that time; a lock that already cools
    down is left alone. With a `gate` the owner's lock is released once that is green, and kept if it is not in time
    (raises `NotSettled`), unless `force` is given; `cancel` ends that wait. `realm` is the realm of the settings, if
    the caller has it open: its connection is reused.
    """
    names, owner, cooldown = settings.lock_names, explicit_owner(settings), settings.cooldown
    check_settles(settings)
    found, mine = realm or connection.realm_of(settings), taker_of(taker, run)
    any_run = token is not None or force or (run is None and taker is None)
    holders = []
    try:
        for state in found.show_all(names):
            holder = _hold_to_release(state, settings, token, mine, force=force)
            if holder is None or (holder.record.state == COOLING and cooldown is not None):
                continue
            if not any_run:
                _refuse_another_runs(holder, mine, settings)
            holders.append(holder)
    except NotHolder as error:
        if len(names) > 1:
            error.message += "; none of the locks was unlocked"
        raise
    if dry_run or not holders:
        return tuple(holders)
    if settings.gate is not None and "after" in settings.gate_at and not force:
        from distlock_core.rollout.gate import gate_of, settle_steps

        settling = [one for one in holders if one.owner == owner and one.record.state in ATTENDED]
        if settling:
            settle_steps(found, settling, gate_of(settings), cancel)
    try:
        found.end_all(holders, owner, cooldown=cooldown)
    except LockNotFound:
        return () if len(holders) == 1 else tuple(holders)  # another client was faster with one of them
    return tuple(holders)


def _hold_to_release(
    state: LockState, settings: Settings, token: int | None, taker: Mapping[str, Any], *, force: bool
) -> Holder | None:
    """The hold that this owner may end, None if nobody holds the lock. Raises `NotHolder`."""
    from distlock_core.lock.unlock import hold_to_unlock

    try:
        return hold_to_unlock(state, explicit_owner(settings), token, taker, settings.state_dir, force=force)
    except LockNotFound:
        return None


@reaching
def end_failed(
    settings: Settings, reason: str, *, run: int, holders: Sequence[Holder] = (), realm: Realm | None = None
) -> tuple[Holder, ...]:
    """Keep the lock of the settings' owner after a failure, or release and freeze it, as `on_failure` says.

    Several locks are kept, or released and frozen, in one transaction. `holders`: its holds, if they are known. Returns
    them. Raises as `release()`.
    """
    from distlock_core.lock.others_holds import end_frozen, keep_holds

    owner = explicit_owner(settings)
    found = realm or connection.realm_of(settings)
    if not holders:
        mine = taker_of(None, run)
        held = [
            _hold_to_release(state, settings, None, mine, force=False) for state in found.show_all(settings.lock_names)
        ]
        holders = [one for one in held if one is not None]
    if settings.on_failure == "freeze":
        end_frozen(found, holders, owner, reason)
    else:
        keep_holds(found, holders, reason)
    return tuple(holders)


def _refuse_another_runs(holder: Holder, taker: Mapping[str, Any], settings: Settings) -> None:
    if not ends_with(holder, taker) and what_of_run(holder, settings.state_dir)[0] != GONE:
        raise NotHolder(
            f"{is_held_by(holder)}, bound to another run of this owner, which may be running: left alone",
            hints=[breaks(holder), see(holder.lock)],
        )
