"""Update: the value or reason of a hold is changed by name, by a process that need not be its holder."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.errors import NotHolder
from distlock_core.etcd.values import KeyValue, LeaseGone
from distlock_core.hints import CHANGE_TOKEN
from distlock_core.lock.listing import read_states
from distlock_core.lock.release import HeldKey
from distlock_core.lock.rewrite import amend, describing, leave_taken
from distlock_core.lock.status import gone, one_of
from distlock_core.model.checks import check_owner, check_text
from distlock_core.model.record import KEPT, Record, in_state, token_of
from distlock_core.model.state import Holder
from distlock_core.model.wording import taken
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.etcd.client import Etcd
    from distlock_core.model.keys import Keys
    from distlock_core.model.state import LockState


def update_by_name(
    etcd: Etcd,
    keys: Keys,
    owner: str | None,
    token: int | None,
    value: str | None,
    reason: str | None,
    timeout: float,
    cancel: Cancel | None,
) -> Holder:
    """Change value and reason of a hold that is there now; None leaves them. Without a token it is that of `owner`.

    `timeout` (seconds) is for each step. Raises as `update_hold()`, and `ConfigError`.
    """
    for text, what in ((value, "value"), (reason, "reason")):
        if text is not None:
            check_text(text, what)
    if token is None:
        owner = hostname() if owner is None else check_owner(owner)
    (state,) = read_states(etcd, [keys], lambda: Patience.lasting(timeout, cancel))
    done = update_hold(etcd, keys, state, owner, token, describing(value, reason), Patience.lasting(timeout, cancel))
    if done is None:
        raise gone(*read_states(etcd, [keys], lambda: Patience.lasting(timeout)))
    return Holder.parse(keys, done)


def update_hold(
    etcd: Etcd,
    keys: Keys,
    state: LockState,
    owner: str | None,
    token: int | None,
    change: Callable[[Record], Record],
    patience: Patience,
) -> KeyValue | None:
    """Change the record of the hold that has this owner and token, and return its key. None: it ended meanwhile.

    Raises `LockNotFound`, `NotHolder`, `EtcdUnavailable`, `AccessDenied`, `OutcomeUnknown`.
    """
    holder = one_of(state, owner, token, CHANGE_TOKEN)
    if holder.since is None:
        raise NotHolder(f"{taken(state)}: its record was not written by distlock: left alone", state=state)

    def is_shown(found: KeyValue) -> bool:
        return token_of(found) == holder.token and Record.parse(found.value).owner == holder.owner

    try:
        (done,) = amend(etcd, [HeldKey(keys, holder.kv, is_shown)], change, patience)
        return done
    except LeaseGone:
        return None


def mark_hold(
    etcd: Etcd, keys: Keys, holder: Holder, changes: Mapping[str, Any], patience: Patience, *, keep: bool
) -> bool:
    """Put `changes` into the record of a hold; to `keep` it, detach it from its lease. False: it has ended since."""
    held = [HeldKey(keys, holder.kv, _is_shown(holder))]
    if keep:
        return any(leave_taken(etcd, held, changes, patience))

    def changed(record: Record) -> Record:
        if "state" in changes:
            return in_state(record, changes)
        return record._replace(details={**record.details, **changes})

    try:
        return any(amend(etcd, held, changed, patience))
    except LeaseGone:
        return False


def keep_shown(etcd: Etcd, holds: Sequence[tuple[Keys, Holder]], reason: str, patience: Patience) -> None:
    """Leave these holds taken, detached from their lease, in one transaction. Those that have ended are left out."""
    held = [HeldKey(keys, holder.kv, _is_shown(holder)) for keys, holder in holds]
    leave_taken(etcd, held, {"state": KEPT, "reason": reason}, patience)


def _is_shown(holder: Holder) -> Callable[[KeyValue], bool]:
    return lambda found: token_of(found) == holder.token and Record.parse(found.value).owner == holder.owner
