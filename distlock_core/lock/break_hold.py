"""Breaking a hold: it is ended by another than its holder, exactly as it was shown, and the reason is noted."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import ConfigError, LockNotFound, NotHolder
from distlock_core.hints import BREAK, see
from distlock_core.lock.release import HeldKey, release_keys
from distlock_core.lock.status import one_of
from distlock_core.lock.unlock import clean_up
from distlock_core.model.checks import check_text
from distlock_core.model.record import EndNote
from distlock_core.model.wording import taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue
    from distlock_core.model.keys import Keys
    from distlock_core.model.state import Holder, LockState


def hold_to_break(state: LockState, token: int | None) -> Holder:
    """Select the hold to break: the only one, or the one with this token. Raises `LockNotFound`, `NotHolder`."""
    return one_of(state, None, token, BREAK)


def break_hold(
    etcd: Etcd, keys: Keys, holder: Holder, by: str, why: str, patience: Patience, state_dir: str | None
) -> bool:
    """Delete a hold that is still exactly as it was read, with a note on who has broken it, and why.

    False if its record has changed since, or the hold has ended. It does not matter in which state it is: held,
    settling, kept or cooling. Raises `ConfigError` without a reason, and as `release_keys()`.
    """
    if not check_text(why, "reason"):
        raise ConfigError("a hold is not broken without a reason, and this one is empty")

    def is_shown(found: KeyValue) -> bool:
        return found.mod_revision == holder.mod_revision

    held = HeldKey(keys, holder.kv, is_shown)
    (done,) = release_keys(etcd, [held], [EndNote("broken", by, why=why)], patience)
    if done:
        clean_up(etcd, [holder], state_dir)
    return done


def changed(state: LockState, holder: Holder) -> LockNotFound | NotHolder:
    """The error for a hold that is not as it was shown any more. `state`: that of its lock now."""
    name = printable(state.name)
    if not state.holders:
        return LockNotFound(f"{name} is no longer locked: the hold ended since it was shown", state=state)
    if all(one.token != holder.token for one in state.holders):
        what = f"the hold with token {holder.token} ended since it was shown"
    else:
        what = f"its record has changed since it was shown (revision {holder.mod_revision})"
    return NotHolder(f"{taken(state)}; {what}: left alone", state=state, hints=[see(state.name)])
