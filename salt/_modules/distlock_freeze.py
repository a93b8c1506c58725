"""
Freeze and thaw locks in etcd v3: functions of the module ``distlock``, which describes the settings.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters.salt_reports import raised_as
    from distlock_core.adapters.salt_settings import of_call
    from distlock_core.cli.salt import functions
    from distlock_core.cli.salt.bus import Bus

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.settings.options import Settings

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]

__virtualname__ = "distlock"


def __virtual__() -> str | bool:
    return __virtualname__ if IS_INSTALLED else False  # distlock.py says what is missing


def freeze(
    name: str | None = None,
    reason: str | None = None,
    duration: int | str | None = None,
    owner: str | None = None,
    force: bool = False,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Let nobody acquire the lock, or without a name any lock of the realm, until it is thawed. Present holders are not
    affected; waiters keep their places, and report who has frozen it. It is an error if it is already frozen: that
    freeze is left as it is.

    reason
        Why it is frozen; shown to everybody who looks or waits.

    duration
        How long the freeze lasts, in seconds, or with a unit as ``10m`` or ``2h``. By default until it is thawed.

    owner
        Default: ``salt:`` and the minion's id.

    force : False
        Replace a present freeze.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.freeze percona_prod reason='Replication lags' duration=2h
        salt db1 distlock.freeze reason='Network maintenance'
    """
    with raised_as(CommandExecutionError):
        settings, lock = _settings_and_name(locals())
        return functions.freeze(settings, lock, reason, duration, force, Bus(__salt__, __opts__))


def thaw(
    name: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    End the freeze of the lock, or without a name that of the realm, whoever has put it, and return it. It is an error
    if it is not frozen. A thawed lock in a frozen realm stays frozen.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.thaw percona_prod
        salt db1 distlock.thaw
    """
    with raised_as(CommandExecutionError):
        settings, lock = _settings_and_name(locals())
        return functions.thaw(settings, lock, Bus(__salt__, __opts__))


def _settings_and_name(given: dict[str, Any]) -> tuple[Settings, str | None]:
    """The settings, and the name of the lock: None for the whole realm, whatever else names a lock."""
    if given["name"] is None:
        return of_call(__salt__, __opts__, given, without=("name", "reason")), None
    settings = of_call(__salt__, __opts__, given, without=("reason",))
    return settings, settings.lockname
