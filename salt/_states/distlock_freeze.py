"""
Freeze and thaw locks in etcd v3: states of the module ``distlock``.

Settings are described in the execution module ``distlock``.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

try:
    from distlock_core.adapters.freezing import ensure_frozen, ensure_thawed, read_duration
    from distlock_core.adapters.salt_settings import text_of
    from distlock_core.adapters.salt_state import StateCall
    from distlock_core.adapters.settings import read_flag
    from distlock_core.cli.salt.bus import Bus
    from distlock_core.events.follow import FROZEN, THAWED
    from distlock_core.model.wording import frozen_by, is_frozen_by

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__virtualname__ = "distlock"


def __virtual__() -> str | bool:
    return __virtualname__ if IS_INSTALLED else False  # distlock.py says what is missing


def frozen(
    name: str,
    reason: str | None = None,
    duration: int | str | None = None,
    owner: str | None = None,
    force: bool = False,
    realm: bool = False,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that the lock is frozen: nobody acquires it until it is thawed. Present holders are not affected, and waiters
    keep their places. A present freeze is left as it is, whoever has put it, unless ``force`` is set.

    name
        Name of the lock.

    realm : False
        Freeze the whole realm, that is every lock of it; ``name`` is then any text.

    force : False
        Replace a present freeze if it has another owner or reason, or if only one of the two has a ``duration``.

    reason, duration, owner
        As for the function ``distlock.freeze``.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    return StateCall("frozen", globals(), locals(), Bus).result(_frozen)


def _frozen(call: StateCall) -> dict[str, Any]:
    settings = call.settings(without=("reason",))
    lock = None if read_flag(call.given["realm"], "realm") else settings.lockname
    text = text_of(call.given["reason"], "reason")
    forced, seconds = read_flag(call.given["force"], "force"), read_duration(call.given["duration"])
    done = ensure_frozen(settings, lock, text, seconds, force=forced, dry_run=call.is_test)
    if not done.changed:
        assert done.freeze is not None
        return call.done(True, f"already: {is_frozen_by(done.freeze)}")
    changes = {call.name: {"old": done.before and done.before.by, "new": settings.id}}
    if done.freeze is None:
        return call.done(None, f"{lock or 'the realm'} would be frozen by {settings.id}", changes)
    call.bus.freeze(FROZEN, done.freeze)
    return call.done(True, is_frozen_by(done.freeze), changes)


def thawed(
    name: str,
    realm: bool = False,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that the lock is not frozen, and end the present freeze, whoever has put it. A thawed lock in a frozen realm
    stays frozen.

    name
        Name of the lock.

    realm : False
        Thaw the whole realm; ``name`` is then any text.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    return StateCall("thawed", globals(), locals(), Bus).result(_thawed)


def _thawed(call: StateCall) -> dict[str, Any]:
    settings = call.settings()
    lock = None if read_flag(call.given["realm"], "realm") else settings.lockname
    ended = ensure_thawed(settings, lock, dry_run=call.is_test)
    what = lock or "the realm"
    if ended is None:
        return call.done(True, f"{what} is not frozen")
    changes = {call.name: {"old": ended.by, "new": None}}
    if call.is_test:
        return call.done(None, f"{what}, frozen by {frozen_by(ended)}, would be thawed", changes)
    call.bus.freeze(THAWED, ended)
    return call.done(True, f"{what}, which was frozen by {frozen_by(ended)}, is thawed", changes)
