"""Breaking of a hold for Salt and Ansible: named by its token, so that no later hold is ended."""

from __future__ import annotations

from distlock_core import connection
from distlock_core.adapters.settings import explicit_owner
from distlock_core.base.text import printable
from distlock_core.errors import ConfigError, DistlockError, LockNotFound
from distlock_core.lock.break_hold import hold_to_break
from distlock_core.model.wording import are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings


def break_hold(
    settings: Settings,
    token: int | None,
    *,
    dry_run: bool = False,
    look: Callable[[Holder], object] = lambda _: None,
) -> Holder | None:
    """Make sure that the hold with this token has ended; return it, None if there is no such hold any more.

    The settings have the lock, the reason, and the owner who breaks it. `look` is called with the hold just before.
    Raises as `Realm.break_hold()`, and `ConfigError` without a token: it is what shows that somebody has looked.
    """
    realm, name = connection.realm_of(settings), settings.lockname
    try:
        if len(settings.lock_names) > 1:
            raise ConfigError(f"{are(settings.lock_names)} named, but one hold is broken at a time: name its lock")
        if token is None:
            raise ConfigError(f"which hold of {printable(name)} is to be broken is not said: its token is missing")
        if not settings.reason:
            raise ConfigError(f"{printable(name)} is not broken without a reason")
        state = realm.show(name)
        if all(holder.token != token for holder in state.holders):
            return None
        holder = hold_to_break(state, token)
        look(holder)
        return holder if dry_run else realm.break_hold(holder, settings.reason, explicit_owner(settings))
    except LockNotFound:
        return None  # it has ended meanwhile
    except DistlockError as error:
        error.realm_settings = dict(settings.realm_arguments)
        raise
