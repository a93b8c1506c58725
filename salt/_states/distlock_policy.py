"""
Policies of locks in etcd v3: states of the module ``distlock``.

Settings are described in the execution module ``distlock``.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

try:
    from distlock_core.adapters import policy as lock_policy
    from distlock_core.adapters.salt_state import StateCall
    from distlock_core.cli.salt.bus import Bus
    from distlock_core.model.policy import FIELDS
    from distlock_core.model.policy_change import difference

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.model.policy_change import PolicyChange

__virtualname__ = "distlock"


def __virtual__() -> str | bool:
    return __virtualname__ if IS_INSTALLED else False  # distlock.py says what is missing


def policy(
    name: str,
    slots: int | None = None,
    cooldown: str | float | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    reason: str | None = None,
    owner: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that the policy of a lock is exactly this. It applies to everybody who acquires the lock, and overrides the
    settings of minions, plays and catalogs. A change applies at once, whether it allows more slots or fewer; present
    holders are not affected.

    name
        Name of the lock.

    slots
        Number of simultaneous holders allowed.

    cooldown
        Time that the lock stays taken after a success.

    window
        Times outside of which nobody acquires it, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that a hold is expected to take; after it, it is shown as OVERDUE.

    reason, owner
        Shown to everybody who looks.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.

    .. code-block:: yaml

        percona_prod:
          distlock.policy:
            - slots: 3
            - cooldown: 2m
            - window: Mon-Fri 22:00-04:00 Europe/Berlin
    """
    return StateCall("policy", globals(), locals(), Bus).result(_policy)


def _policy(call: StateCall) -> dict[str, Any]:
    settings = call.settings(without=(*FIELDS, "reason"))
    fields = {field: call.given[field] for field in FIELDS}
    change = lock_policy.set_exactly(settings, fields, call.given["reason"], dry_run=call.is_test)
    return _changed(call, change)


def policy_absent(
    name: str,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that a lock has no policy: the settings of each minion, play or catalog apply.

    name
        Name of the lock.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    return StateCall("policy_absent", globals(), locals(), Bus).result(_policy_absent)


def _policy_absent(call: StateCall) -> dict[str, Any]:
    return _changed(call, lock_policy.remove(call.settings(), dry_run=call.is_test))


def _changed(call: StateCall, change: PolicyChange) -> dict[str, Any]:
    dry_run = call.is_test and change.changed
    old, new = lock_policy.report(change.before), lock_policy.report(change.after)
    changes = {call.name: {"old": old, "new": new}} if change.changed else {}
    return call.done(None if dry_run else True, f"{call.name}: {difference(change, dry_run=dry_run)}", changes)
