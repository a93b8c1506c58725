"""
Policies of locks in etcd v3: functions of the module ``distlock``, which describes the settings.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters import policy as lock_policy
    from distlock_core.adapters.salt_reports import raised_as
    from distlock_core.adapters.salt_settings import of_call, text_of
    from distlock_core.connection import realm_of
    from distlock_core.model.policy import FIELDS

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]

__virtualname__ = "distlock"


def __virtual__() -> str | bool:
    return __virtualname__ if IS_INSTALLED else False  # distlock.py says what is missing


def policy(
    name: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, dict[str, Any]]:
    """
    Return the policy of a lock, by the lock's name: ``slots``, ``cooldown``, ``window`` and ``expect`` as far as they
    are set, and who has set them, when and why. Without ``name``, return the policies of all locks of the realm.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.policy
        salt db1 distlock.policy percona_prod
    """
    with raised_as(CommandExecutionError):
        realm = realm_of(of_call(__salt__, __opts__, locals(), without=("name",)))
        found = realm.policies() if name is None else filter(None, [realm.policy(text_of(name, "name"))])
        about = ("by", "since", "reason", "trouble")
        return {
            one.lock: {**one.fields, **{word: value for word in about if (value := getattr(one, word))}}
            for one in found
        }


def set_policy(
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
) -> dict[str, Any]:
    """
    Set the policy of a lock to exactly what is named. It applies to everybody who acquires the lock, and overrides the
    settings of minions, plays and catalogs. A change applies at once, whether it allows more slots or fewer; present
    holders are not affected.

    slots
        Number of simultaneous holders allowed.

    cooldown
        Time that the lock stays taken after a success.

    window
        Times outside of which nobody acquires it, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that a hold is expected to take; after it, it is shown as OVERDUE.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.set_policy percona_prod slots=3 cooldown=2m
    """
    with raised_as(CommandExecutionError):
        settings = of_call(__salt__, __opts__, locals(), without=(*FIELDS, "reason"))
        fields = {"slots": slots, "cooldown": cooldown, "window": window, "expect": expect}
        change = lock_policy.set_exactly(settings, fields, reason)
        return {"changed": change.changed, "policy": lock_policy.report(change.after)}


def clear_policy(
    name: str,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> bool:
    """
    Remove the policy of the lock: from now on the settings of each minion, play or catalog apply. Return False if it
    had none.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.clear_policy percona_prod
    """
    with raised_as(CommandExecutionError):
        return bool(lock_policy.remove(of_call(__salt__, __opts__, locals())).changed)
