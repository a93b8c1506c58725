"""
Show and manage locks in etcd v3 from the master, even while minions are down.

.. code-block:: bash

    salt-run distlock.list
    salt-run distlock.show percona_prod
    salt-run distlock.break percona_prod token=4711 reason='db3 is down'
    salt-run distlock.freeze reason='Network maintenance' duration=2h

Nothing is sent to a minion: the master itself asks etcd. The settings are those of the execution module ``distlock``,
under ``distlock:`` in the master's config:

.. code-block:: yaml

    distlock:
      endpoints: [http://10.0.0.1:2379, http://10.0.0.2:2379]
      prefix: /distlock/

These calls act in the name of the owner ``salt:`` and the master's id, such as ``salt:m_master``, unless ``owner``
names another, such as the person who makes the call.

:depends: Python package distlock-core, in the master's own Python
"""

from __future__ import annotations

import sys

import salt.exceptions

try:
    from distlock_core.adapters.advice import SALT_RUN
    from distlock_core.adapters.salt_reports import raised_as
    from distlock_core.adapters.salt_settings import of_runner_call
    from distlock_core.cli.salt import functions

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]

__virtualname__ = "distlock"
__func_alias__ = {"break_": "break", "list_": "list"}  # both words are Python's


class Refused(salt.exceptions.CommandExecutionError, salt.exceptions.NotImplemented):  # type: ignore[misc] # untyped
    """An error that ``salt-run`` prints in one line: it has a traceback for all but ``NotImplemented``."""


def __virtual__() -> str | tuple[bool, str]:
    if MISSING:
        return False, (
            f"distlock: the Python package distlock-core is missing in {sys.executable} ({MISSING}). "
            "To install it: salt-pip install distlock_core-VERSION-py3-none-any.whl, the wheel that `make wheel` builds"
        )
    return __virtualname__


def list_(
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> list[dict[str, Any]]:
    """
    Return every lock that is held or waited for, each as ``distlock.show`` returns it.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.list
        salt-run distlock.list profile=staging
    """
    with raised_as(Refused, SALT_RUN):
        return functions.list_all(of_runner_call(__salt__, __opts__, locals()))


def show(
    name: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    lock_names: list[str] | None = None,
) -> list[dict[str, Any]]:
    """
    Return who holds the lock, since when and why, and the queue in order, with one entry for each holder. A lock that
    nobody holds has one entry without an owner. Fields that are unknown, or do not apply, are left out. ``lock_names``
    shows several locks, from one read.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.show percona_prod
    """
    with raised_as(Refused, SALT_RUN):
        return functions.show(of_runner_call(__salt__, __opts__, locals()))


def unlock(
    name: str | None = None,
    owner: str | None = None,
    token: int | None = None,
    force: bool = False,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
    lock_names: list[str] | None = None,
) -> dict[str, Any] | list[dict[str, Any]]:
    """
    Release a lock that this owner holds, such as one that an orchestration has left, and return what was held. It is
    an error if it was not locked, or if another owner holds it.

    owner
        Release the lock of this owner, such as ``salt:db1``.

    token
        Only the acquisition with this fencing token.

    force : False
        Release the lock even if another owner holds it. ``distlock.break`` does the same with more care, and leaves the
        reason for all to see.

    lock_names
        Several locks instead, which are released in one transaction, or none of them if one may not be.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.unlock percona_rollout
        salt-run distlock.unlock percona_prod owner=salt:db1 token=4711
    """
    with raised_as(Refused, SALT_RUN):
        settings = of_runner_call(__salt__, __opts__, locals())
        return functions.one_or_all(functions.unlock(settings, token, force), lock_names)


def break_(
    name: str,
    token: int,
    reason: str,
    owner: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
) -> dict[str, Any]:
    """
    End the hold of another owner, and return what it was. Look with ``distlock.show`` first: ``token`` names the hold
    that was shown, and no later one is ended. It is an error if that hold has ended or changed. The process that holds
    it is not ended.

    token
        The fencing token of the hold.

    reason
        Why it is broken; ``distlock.show`` returns it in ``last``, with the owner that has broken it.

    owner
        Who breaks it. Default: ``salt:`` and the master's id.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.break percona_prod token=4711 reason='db3 is down, the upgrade was rolled back' owner=alice
    """
    with raised_as(Refused, SALT_RUN):
        return functions.break_one(of_runner_call(__salt__, __opts__, locals()), token)


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
        Who freezes it. Default: ``salt:`` and the master's id.

    force : False
        Replace a present freeze.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.freeze percona_prod reason='Replication lags' duration=2h
        salt-run distlock.freeze reason='Network maintenance'
    """
    with raised_as(Refused, SALT_RUN):
        settings = of_runner_call(__salt__, __opts__, locals(), without=("reason", *_realm_wide(name)))
        return functions.freeze(settings, None if name is None else settings.lockname, reason, duration, force)


def thaw(
    name: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    End the freeze of the lock, or without a name that of the realm, whoever has set it, and return it. It is an error
    if it is not frozen. A thawed lock in a frozen realm stays frozen.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.thaw percona_prod
        salt-run distlock.thaw
    """
    with raised_as(Refused, SALT_RUN):
        settings = of_runner_call(__salt__, __opts__, locals(), without=_realm_wide(name))
        return functions.thaw(settings, None if name is None else settings.lockname)


def history(
    name: list[str] | str | None = None,
    since: float | str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> list[dict[str, Any]]:
    """
    Return who held the lock, when and for how long, how long each owner waited, and how each hold ended: one entry for
    each hold, wait and freeze. The first entry says how far back the history reaches: to etcd's last compaction.
    Nothing is written. Fields that are unknown, or do not apply, are left out.

    name
        The lock, or a list of locks; by default all locks of the realm.

    since
        Leave out what ended longer ago than this, in seconds, or with a unit as ``2h`` or ``7d``.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.history percona_prod since=2h
        salt-run distlock.history
    """
    with raised_as(Refused, SALT_RUN):
        return functions.history(of_runner_call(__salt__, __opts__, locals(), without=("name",)), name, since)


def explain(
    name: str,
    owner: str | None = None,
    slots: int | None = None,
    shared: bool | str | None = None,
    window: list[str] | str | None = None,
    rank: int | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Return whether an owner would acquire the lock now (``lets_in``), and every condition for that: its ``topic``,
    whether it ``holds``, its present ``value``, ``who`` can change it, and ``hints`` with ``advice`` how to do that.
    Nothing is written.

    owner
        Default: ``salt:`` and the master's id; ``salt:db1`` is a minion's.

    slots, shared, window, rank
        As in the call that does not get the lock.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.explain percona_prod owner=salt:db1
    """
    with raised_as(Refused, SALT_RUN):
        return functions.explain(of_runner_call(__salt__, __opts__, locals()), SALT_RUN)


def doctor(
    name: list[str] | str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Examine etcd and the access of this master to it, and return the worst ``status`` (ok, warn, bad) and all
    ``findings``: each has its ``check``, its ``status``, a ``message``, and an ``advice`` where there is something to
    do. It changes nothing, and also works while etcd does not answer.

    name
        The lock, or a list of locks, whose state and rights are examined; by default the whole realm.

    CLI Example:

    .. code-block:: bash

        salt-run distlock.doctor
        salt-run distlock.doctor percona_prod
    """
    with raised_as(Refused, SALT_RUN):
        return functions.doctor(of_runner_call(__salt__, __opts__, locals(), without=("name",)), name, SALT_RUN)


def _realm_wide(name: str | None) -> tuple[str, ...]:
    """The argument that is not read without a name: then it is about the realm, whatever else names a lock."""
    return ("name",) if name is None else ()
