"""Freezing and thawing for Salt and Ansible: present states, so that a second call changes nothing."""

from __future__ import annotations

from distlock_core import connection
from distlock_core.adapters.settings import explicit_owner
from distlock_core.base.value import Value
from distlock_core.errors import DistlockError, Frozen, NotFrozen
from distlock_core.settings.options import Setting
from distlock_core.settings.readers import read_whole_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.model.freeze import Freeze
    from distlock_core.settings.options import Settings


class Frost(Value):
    """The result of `ensure_frozen()`: the freeze, None for a dry run that would put one, and the one before."""

    freeze: Freeze | None
    changed: bool
    before: Freeze | None = None


def ensure_frozen(
    settings: Settings,
    name: str | None,
    reason: str,
    seconds: int | None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> Frost:
    """Make sure that the lock, or without a name the realm, is frozen. A present freeze is left as it is.

    `force` replaces one of another owner or with another reason, and one that has no time limit if this one has, or the
    reverse. Raises as `Realm.freeze()`, except `Frozen`.
    """
    realm, owner = connection.realm_of(settings), explicit_owner(settings)
    try:
        before = realm.frozen(name)
        if before is not None:
            same = (before.by, before.reason, before.until is None) == (owner, reason, seconds is None)
            if same or not force:
                return Frost(before, False, before)
        if dry_run:
            return Frost(None, True, before)
        try:
            done = realm.freeze(name, reason=reason, seconds=seconds, owner=owner, force=force)
        except Frozen:
            return Frost(realm.frozen(name), False)  # somebody was faster
        return Frost(done, True, before)
    except DistlockError as error:
        error.realm_settings = dict(settings.realm_arguments)
        raise


def ensure_thawed(settings: Settings, name: str | None, *, dry_run: bool = False) -> Freeze | None:
    """Make sure that the lock, or without a name the realm, is not frozen; return the freeze that has ended, if any.

    Raises as `Realm.thaw()`, except `NotFrozen`.
    """
    realm = connection.realm_of(settings)
    try:
        return realm.frozen(name) if dry_run else realm.thaw(name)
    except NotFrozen:
        return None
    except DistlockError as error:
        error.realm_settings = dict(settings.realm_arguments)
        raise


def read_duration(value: object) -> int | None:
    """Seconds that a freeze lasts, None if no time is given. Raises `ConfigError`."""
    if value is None:
        return None
    return int(Setting("duration", "duration", read_whole_seconds, None).value(value, "duration"))
