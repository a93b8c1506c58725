"""Holds of other processes: marked, kept, or ended and frozen, by code that looks after them."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.base.text import printable
from distlock_core.errors import Frozen, LockLost
from distlock_core.hints import see
from distlock_core.lock.realm import parts_of
from distlock_core.lock.unlock import end_holds
from distlock_core.lock.update import keep_shown, mark_hold
from distlock_core.model.checks import check_owner, check_text
from distlock_core.model.freeze import freeze_record
from distlock_core.model.state import Holder
from distlock_core.process.identity import hostname, new_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.lock.realm import Realm


def mark(realm: Realm, holder: Holder, changes: Mapping[str, Any], *, keep: bool = False) -> None:
    """Put `changes` into the record of a hold; to `keep` it, detach it from its lease too.

    Raises `LockLost` if it has ended meanwhile, and as `Realm.update()`.
    """
    of = parts_of(realm)
    patience = Patience.lasting(of.connect_timeout)
    if not mark_hold(of.etcd, of.keys(holder.lock), holder, changes, patience, keep=keep):
        raise LockLost(f"{printable(holder.lock)} was lost: the hold has ended meanwhile", hints=[see(holder.lock)])


def keep_holds(realm: Realm, holders: Sequence[Holder], reason: str) -> None:
    """Leave holds taken until an operator unlocks them, in one transaction. Those that have ended are left out."""
    of = parts_of(realm)
    holds = [(of.keys(holder.lock), holder) for holder in holders]
    keep_shown(of.etcd, holds, check_text(reason, "reason"), Patience.lasting(of.release_timeout))


def end_frozen(realm: Realm, holders: Sequence[Holder], owner: str, reason: str) -> None:
    """Release holds, and freeze their locks in the same transaction. A present freeze is left as it is.

    If a hold has ended meanwhile, its lock is frozen all the same. Raises as `Realm.end()`.
    """
    record = freeze_record(check_owner(owner), check_text(reason, "reason"), new_run(), host=hostname())
    of = parts_of(realm)
    patience = Patience.lasting(of.release_timeout)
    holds = [(of.keys(holder.lock), holder) for holder in holders]
    done = end_holds(of.etcd, holds, owner, None, patience, of.state_dir, record)
    for holder in [holder for holder, is_ended in zip(holders, done) if not is_ended]:
        try:
            realm.freeze(holder.lock, reason=reason, owner=owner)
        except Frozen:
            pass
