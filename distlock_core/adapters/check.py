"""Check that a lock, or each of several, is held by the owner of one step of Salt, Ansible or Puppet."""

from __future__ import annotations

from distlock_core import connection
from distlock_core.adapters.run_holds import ends_with
from distlock_core.adapters.settings import explicit_owner, reaching
from distlock_core.base.text import printable
from distlock_core.errors import (
    LockNotFound,
    NotHolder,
)
from distlock_core.hints import see
from distlock_core.lock.reentry_refusals import refuse_anothers_step
from distlock_core.model.record import HELD
from distlock_core.model.wording import taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.model.state import Holder, LockState
    from distlock_core.settings.options import Settings


@reaching
def check(
    settings: Settings, token: int | None = None, *, taker: Mapping[str, Any] | None = None
) -> tuple[Holder, ...]:
    """Return the hold of the settings' owner, or the one with this `token`, of each of several locks.

    With a `taker`, as for `take()`, a step of the same owner for another process that may be alive does not count, nor
    does a lock that ends with another run. A shared hold counts only with `shared` in the settings, or by its `token`.
    Raises `LockNotFound`, `NotHolder` for the first lock without a hold.
    """
    states = connection.realm_of(settings).show_all(settings.lock_names)
    return tuple(_check_one(state, settings, token, taker) for state in states)


def _check_one(state: LockState, settings: Settings, token: int | None, taker: Mapping[str, Any] | None) -> Holder:
    name, owner = state.name, explicit_owner(settings)
    for holder in state.holders:
        fits = settings.shared or not holder.is_shared
        mine = holder.owner == owner and fits if token is None else holder.token == token
        if mine and holder.record.state == HELD:
            if taker is not None and token is None:
                refuse_anothers_step(holder, taker, settings.state_dir)
                if not ends_with(holder, taker):
                    raise NotHolder(
                        f"{taken(state)}, bound to another run of this owner, not to this run",
                        state=state,
                        hints=[see(name)],
                    )
            return holder
    if token is None and any(holder.owner == owner and holder.is_shared for holder in state.holders):
        raise NotHolder(f"{taken(state)}: shared, and not exclusively", state=state, hints=[see(name)])
    who = printable(owner) if token is None else f"token {token}"
    if state.holders:
        raise NotHolder(f"{taken(state)}, not by {who}", state=state, hints=[see(name)])
    raise LockNotFound(f"{printable(name)} is not locked, so not held by {who}", state=state)
