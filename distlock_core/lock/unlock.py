"""Unlock: holds are ended by name, by a process that need not be their holder; only those that were shown."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.errors import LockNotFound, NotHolder
from distlock_core.hints import BREAK
from distlock_core.lock.lease import GIVE_UP, Lease, drop_lease
from distlock_core.lock.release import HeldKey, release_keys
from distlock_core.lock.rewrite import cool_down
from distlock_core.lock.status import one_of
from distlock_core.model.record import HELD, EndNote, beat_lease_of, token_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue
    from distlock_core.model.keys import Keys
    from distlock_core.model.state import Holder, LockState


def hold_to_unlock(
    state: LockState,
    owner: str | None,
    token: int | None,
    taker: Mapping[str, Any] | None,
    state_dir: str | None,
    *,
    force: bool,
) -> Holder:
    """Select the hold to end. Raises `LockNotFound`, and `NotHolder` if it must not be ended with these arguments."""
    holder = one_of(state, None if force else owner, token, BREAK)
    if owner is not None and token is None and not force:
        from distlock_core.lock.reentry_refusals import refuse_anothers_step

        refuse_anothers_step(holder, taker, state_dir)
    return holder


def holds_to_unlock(
    states: Sequence[LockState],
    owner: str | None,
    token: int | None,
    taker: Mapping[str, Any] | None,
    state_dir: str | None,
    *,
    force: bool,
) -> list[Holder]:
    """Select the hold to end of each lock, as `hold_to_unlock()`: of all or of none."""
    try:
        return [hold_to_unlock(state, owner, token, taker, state_dir, force=force) for state in states]
    except (LockNotFound, NotHolder) as error:
        if len(states) > 1:
            error.message += "; none of the locks was unlocked"
        raise


def end_holds(
    etcd: Etcd,
    holds: Sequence[tuple[Keys, Holder]],
    by: str,
    cooldown: int | None,
    patience: Patience,
    state_dir: str | None,
    freeze: bytes | None = None,
) -> list[bool]:
    """Delete these holds in one transaction, or leave them to cool down for `cooldown` seconds.

    With the record of a `freeze` they are deleted, and their locks frozen, in one transaction.

    The policy's cooldown comes first, for a hold that its own owner ends; of several the longest. Returns for each
    whether this has ended it: False if it has ended in the meantime.
    """
    cooled = [cooldown_of(holder, by, cooldown) if freeze is None else None for _, holder in holds]
    longest = max((seconds for seconds in cooled if seconds is not None), default=None)
    done: dict[bytes, bool] = {}
    deleted = [one for one, seconds in zip(holds, cooled) if seconds is None]
    if deleted:
        notes = [
            EndNote("released" if holder.owner == by else "broken", by, not holder.is_shared) for _, holder in deleted
        ]
        done.update(zip(_keys(deleted), release_keys(etcd, _held(deleted), notes, patience, None, freeze)))
    if longest is not None:
        cooling = [one for one, seconds in zip(holds, cooled) if seconds is not None]
        found = cool_down(etcd, _held(cooling), Lease(etcd, longest, patience), by, patience)
        done.update(zip(_keys(cooling), (kv is not None for kv in found)))
    clean_up(etcd, [holder for _, holder in holds if done[holder.key]], state_dir)
    return [done[holder.key] for _, holder in holds]


def clean_up(etcd: Etcd, ended: Sequence[Holder], state_dir: str | None) -> None:
    """Remove what is left of holds that were ended by name: notes, and leases that no process looks after."""
    for holder in ended:
        if holder.record.explicit:
            from distlock_core.process.run_notes import forget

            forget(state_dir, holder.record.run)
    left = [(holder.lease, holder) for holder in ended if holder.lease and holder.is_unattended]
    left += [(beat_lease_of(holder.record), holder) for holder in ended if beat_lease_of(holder.record)]
    for lease in {lease for lease, _ in left}:
        on_it = [holder for one, holder in left if one == lease]
        # Locks that were taken, or cool down, together have one lease: it must not end those that are left.
        if len(on_it) >= max(holder.record.number("together") or 1 for holder in on_it):
            drop_lease(etcd, lease, Patience.lasting(GIVE_UP))


def cooldown_of(holder: Holder, by: str, cooldown: int | None) -> int | None:
    """Seconds for which a hold stays taken when `by` ends it, None if it does not: as its policy has it, if at all."""
    if holder.cooldown is not None and holder.owner == by and holder.record.state == HELD:
        return holder.cooldown
    return cooldown


def _keys(holds: Sequence[tuple[Keys, Holder]]) -> list[bytes]:
    return [holder.key for _, holder in holds]


def _held(holds: Sequence[tuple[Keys, Holder]]) -> list[HeldKey]:
    return [HeldKey(keys, holder.kv, _is_shown(holder)) for keys, holder in holds]


def _is_shown(holder: Holder) -> Callable[[KeyValue], bool]:
    return lambda found: token_of(found) == holder.token
