"""Unlock: a hold is ended by name, by a process that need not be its holder; only the hold that was shown."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.errors import DistlockError
from distlock_core.hints import UNLOCK_FORCE
from distlock_core.lock.lease import GIVE_UP, Lease
from distlock_core.lock.release import release_key
from distlock_core.lock.rewrite import cool_down
from distlock_core.lock.status import one_of
from distlock_core.model.record import HELD, EndNote, token_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
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
    holder = one_of(state, None if force else owner, token, UNLOCK_FORCE)
    if owner is not None and token is None and not force:
        from distlock_core.lock.reentry_refusals import refuse_anothers_step

        refuse_anothers_step(holder, taker, state_dir)
    return holder


def end_hold(
    etcd: Etcd, keys: Keys, holder: Holder, by: str, cooldown: int | None, patience: Patience, state_dir: str | None
) -> bool:
    """Delete this hold, or leave it to cool down for `cooldown` seconds. False: it has ended in the meantime.

    The policy's cooldown comes first, for a hold that its own owner ends.
    """

    def is_shown(found: KeyValue) -> bool:
        return token_of(found) == holder.token

    how = "released" if holder.owner == by else "broken"
    if holder.cooldown is not None and how == "released" and holder.record.state == HELD:
        cooldown = holder.cooldown
    if cooldown is None:
        note = EndNote(how, by)
        done = release_key(etcd, keys, holder.kv, is_shown, note, patience)
    else:
        lease = Lease(etcd, cooldown, patience)
        done = cool_down(etcd, keys, holder.kv, is_shown, lease, by, patience)
    if not done:
        return False
    if holder.record.explicit:
        from distlock_core.process.run_notes import forget

        forget(state_dir, holder.record.run)
    if holder.lease and holder.is_unattended:
        _drop_lease(etcd, holder.lease)
    return True


def _drop_lease(etcd: Etcd, lease: int) -> None:
    """Revoke the lease of a deleted hold that has no process to do so."""
    try:
        etcd.revoke(lease, Patience.lasting(GIVE_UP))
    except DistlockError:
        pass  # then it expires
