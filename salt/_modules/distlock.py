"""
Locks in etcd v3 that Salt shares with everything else that changes a cluster.

.. code-block:: bash

    salt 'db*' distlock.list
    salt db1 distlock.run percona_prod 'yum --assumeyes upgrade' reason='Upgrade RPMs' timeout=-1

The owner of a lock that Salt acquires is ``salt:`` and the minion's id, unless ``owner`` names another. Connection
settings come from ``distlock:`` in minion config or pillar:

.. code-block:: yaml

    distlock:
      endpoints: [http://10.0.0.1:2379, http://10.0.0.2:2379]
      prefix: /distlock/
      profiles:
        staging:
          endpoints: [http://10.9.0.1:2379]

``profile=staging`` uses the settings of that profile, and the settings beside it for the rest.

For an etcd with TLS and users, the same section has ``cacert``, ``cert``, ``key``, ``tls_server_name``, ``user``, and
``password`` or ``password_file`` (a file on the minion). A password can be an ``sdb://`` value. It is not an argument
of any function, and appears in no return:

.. code-block:: yaml

    distlock:
      endpoints: [https://etcd-1.example.com:2379]
      cacert: /etc/distlock/ca.pem
      user: node
      password: sdb://vault/secret/distlock?password

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

import sys

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters import acquire, check
    from distlock_core.adapters.advice import SALT
    from distlock_core.adapters.salt_reports import raised_as
    from distlock_core.adapters.salt_settings import of_call
    from distlock_core.adapters.settings import read_token
    from distlock_core.cli.salt import functions
    from distlock_core.cli.salt.bus import Bus
    from distlock_core.errors import ConfigError, LockNotFound, NotHolder
    from distlock_core.process.identity import trace_of

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


def __virtual__() -> str | tuple[bool, str]:
    if MISSING:
        return False, (
            f"distlock: the Python package distlock-core is missing in {sys.executable} ({MISSING}). "
            "To install it: salt-pip install distlock_core-VERSION-py3-none-any.whl, the wheel that `make wheel` builds"
        )
    return __virtualname__


def lock(
    name: str | None = None,
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    slots: int | None = None,
    shared: bool | str | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    rank: int | None = None,
    while_pid: int | None = None,
    ttl: int | None = None,
    on_loss: str | None = None,
    gate: str | None = None,
    gate_every: float | None = None,
    gate_for: float | None = None,
    gate_timeout: float | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    lock_names: list[str] | None = None,
) -> dict[str, Any] | list[dict[str, Any]]:
    """
    Acquire the lock, and leave it held. A lock that this owner already holds is left unchanged.

    name
        Name of the lock.

    lock_names
        Several locks instead, which are acquired together or not at all. Their order makes no difference.
        The return is then a list.

    reason
        Why the lock is taken; shown to everybody who looks or waits.

    timeout : 0
        Longest wait, in seconds; 0 does not wait, -1 waits forever.

    owner
        Default: ``salt:`` and the minion's id.

    slots : 1
        Number of simultaneous holders allowed; the same number everywhere.

    shared : False
        Hold the lock together with any number of other shared holders, but with no exclusive one.

    window
        Times outside of which the lock is not acquired, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that the hold is expected to take; after it, it is shown as OVERDUE.

    rank : 50
        Waiters with a lower rank, from 0 to 99, are served first; within a rank in the order of arrival.

    while_pid
        Keep the lock while this process lives, and no longer.

    ttl : 60
        With ``while_pid``: how many seconds the lock outlives the machine.

    on_loss : continue
        With ``while_pid``: ``kill`` ends that process and its children when the lock is lost.

    gate
        A line of shell that exits with 0 if the cluster is healthy. Before that, the lock is not acquired. It is asked
        every ``gate_every`` (5) seconds, must have been green for ``gate_for`` (0) seconds, and may take
        ``gate_timeout`` (600) seconds to answer.

    endpoints, prefix, profile
        Where the lock is; by default as minion config or pillar say.

    connect_timeout : 5
        Time limit for the first contact with etcd, in seconds.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.lock percona_prod reason='Replace RAM'
        salt db1 distlock.lock percona_prod timeout=600
        salt db1 distlock.lock lock_names='[rack-7, percona_prod]' timeout=600
    """
    with raised_as(CommandExecutionError):
        settings = of_call(__salt__, __opts__, locals())
        pid = None if while_pid is None else settings.while_pid
        if pid is None and (ttl is not None or on_loss is not None):
            raise ConfigError("ttl and on_loss apply to a lock that is bound to a process: they go with while_pid")
        bus = Bus(__salt__, __opts__)
        taken = acquire.take(
            settings, run=pid, taker=trace_of(), bound=pid is not None, progress=bus.waiter(settings.id)
        )
        if taken.changed:
            bus.acquired(taken.holders)
        return functions.one_or_all(functions.holds(taken.holders), lock_names)


def unlock(
    name: str | None = None,
    owner: str | None = None,
    token: int | None = None,
    force: bool = False,
    cooldown: int | None = None,
    gate: str | None = None,
    gate_every: float | None = None,
    gate_for: float | None = None,
    gate_timeout: float | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
    lock_names: list[str] | None = None,
) -> dict[str, Any] | list[dict[str, Any]]:
    """
    Release the lock, if this owner holds it, and return what was held. It is an error if it was not locked.

    lock_names
        Several locks instead, which are released in one transaction, or none of them if one may not be. Those that are
        not locked are left out of the return, a list.

    token
        Only the acquisition with this fencing token.

    force : False
        Release the lock even if another owner holds it. Look with ``distlock.show`` first.

    cooldown
        Seconds that the lock stays taken afterwards.

    gate, gate_every, gate_for
        As for ``distlock.lock``: the lock is released once the cluster is healthy. Until then its state is
        ``settling``.

    gate_timeout : 600
        How long to wait for that, in seconds. After it the function fails, and the lock is kept.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.unlock percona_prod
        salt db1 distlock.unlock percona_prod token=4711 force=True
    """
    with raised_as(CommandExecutionError):
        settings = of_call(__salt__, __opts__, locals())
        return functions.one_or_all(functions.unlock(settings, token, force, Bus(__salt__, __opts__)), lock_names)


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
    End the hold of another owner, and return what it was, with what this minion knows about its process, machine and
    keeper. Look with ``distlock.show`` first: ``token`` names the hold that was shown, and no later one is ended. It is
    an error if that hold has ended or changed. The process that holds it is not ended.

    token
        The fencing token of the hold.

    reason
        Why it is broken; ``distlock.show`` returns it in ``last``, with the owner that has broken it.

    owner
        Who breaks it. Default: ``salt:`` and the minion's id.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.break percona_prod token=4711 reason='db3 is down, the upgrade was rolled back'
    """
    with raised_as(CommandExecutionError):
        return functions.break_one(of_call(__salt__, __opts__, locals()), token, Bus(__salt__, __opts__))


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

        salt db1 distlock.show percona_prod
    """
    with raised_as(CommandExecutionError):
        return functions.show(of_call(__salt__, __opts__, locals()))


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

        salt '*' distlock.list
        salt db1 distlock.list profile=staging
    """
    with raised_as(CommandExecutionError):
        return functions.list_all(of_call(__salt__, __opts__, locals()))


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

        salt db1 distlock.history percona_prod since=2h
        salt db1 distlock.history
    """
    with raised_as(CommandExecutionError):
        return functions.history(of_call(__salt__, __opts__, locals(), without=("name",)), name, since)


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
    Return whether this owner would acquire the lock now (``lets_in``), and every condition for that: its ``topic``,
    whether it ``holds``, its present ``value``, ``who`` can change it, and ``hints`` with ``advice`` how to do that.
    Nothing is written.

    owner
        Default: ``salt:`` and the minion's id.

    slots, shared, window, rank
        As in the call that does not get the lock.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.explain percona_prod
    """
    with raised_as(CommandExecutionError):
        return functions.explain(of_call(__salt__, __opts__, locals()), SALT)


def doctor(
    name: list[str] | str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Examine etcd and the access of this minion to it, and return the worst ``status`` (ok, warn, bad) and all
    ``findings``: each has its ``check``, its ``status``, a ``message``, and an ``advice`` where there is something to
    do. It changes nothing, and also works while etcd does not answer.

    name
        The lock, or a list of locks, whose state and rights are examined; by default the whole realm.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.doctor
        salt db1 distlock.doctor percona_prod
    """
    with raised_as(CommandExecutionError):
        return functions.doctor(of_call(__salt__, __opts__, locals(), without=("name",)), name, SALT)


def verify(
    name: str | None = None,
    owner: str | None = None,
    token: int | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    lock_names: list[str] | None = None,
) -> bool:
    """
    Return True if this owner holds the lock now (with a token: if that acquisition does), else False. With
    ``lock_names``: if it holds all of them.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.verify percona_prod
        salt db1 distlock.verify percona_prod token=4711
    """
    with raised_as(CommandExecutionError):
        settings = of_call(__salt__, __opts__, locals())
        try:
            check.check(settings, read_token(token), taker=trace_of())
        except (LockNotFound, NotHolder):
            return False
        return True
