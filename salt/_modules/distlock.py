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
from contextlib import contextmanager

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters import acquire_release, salt_command
    from distlock_core.adapters import policy as lock_policy
    from distlock_core.adapters import salt_settings as minion_settings
    from distlock_core.adapters.advice import SALT
    from distlock_core.adapters.freezing import ensure_frozen, ensure_thawed, read_duration
    from distlock_core.adapters.settings import read_flag, read_token
    from distlock_core.cli.render import frozen_json, holder_json, locks_json
    from distlock_core.connection import realm_of
    from distlock_core.errors import ConfigError, DistlockError, Frozen, LockNotFound, NotFrozen, NotHolder
    from distlock_core.hints import REPLACE_FREEZE, Hint
    from distlock_core.model.wording import is_frozen_by
    from distlock_core.process.identity import trace_of

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from distlock_core.settings.options import Settings

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]
    __context__: dict[str, Any]

__virtualname__ = "distlock"
__func_alias__ = {"list_": "list"}


def __virtual__() -> str | tuple[bool, str]:
    if MISSING:
        return False, (
            f"distlock: the Python package distlock-core is missing in {sys.executable} ({MISSING}). "
            "To install it: salt-pip install distlock_core-VERSION-py3-none-any.whl, the wheel that `make wheel` builds"
        )
    return __virtualname__


def lock(
    name: str,
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    slots: int | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    while_pid: int | None = None,
    ttl: int | None = None,
    on_loss: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Acquire the lock, and leave it held. A lock that this owner already holds is left unchanged.

    name
        Name of the lock.

    reason
        Why the lock is taken; shown to everybody who looks or waits.

    timeout : 0
        Longest wait, in seconds; 0 does not wait, -1 waits forever.

    owner
        Default: ``salt:`` and the minion's id.

    slots : 1
        Number of simultaneous holders allowed; the same number everywhere.

    window
        Times outside of which the lock is not acquired, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that the hold is expected to take; after it, it is shown as OVERDUE.

    while_pid
        Keep the lock while this process lives, and no longer.

    ttl : 60
        With ``while_pid``: how many seconds the lock outlives the machine.

    on_loss : continue
        With ``while_pid``: ``kill`` ends that process and its children when the lock is lost.

    endpoints, prefix, profile
        Where the lock is; by default as minion config or pillar say.

    connect_timeout : 5
        Time limit for the first contact with etcd, in seconds.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.lock percona_prod reason='Replace RAM'
        salt db1 distlock.lock percona_prod timeout=600
    """
    with _one_line():
        settings = _settings(
            profile,
            lockname=name,
            reason=reason,
            timeout=timeout,
            id=owner,
            slots=slots,
            window=window,
            expect=expect,
            while_pid=while_pid,
            ttl=ttl,
            on_loss=on_loss,
            endpoints=endpoints,
            prefix=prefix,
            connect_timeout=connect_timeout,
        )
        pid = None if while_pid is None else settings.while_pid
        if pid is None and (ttl is not None or on_loss is not None):
            raise ConfigError("ttl and on_loss apply to a lock that is bound to a process: they go with while_pid")
        holder = acquire_release.take(settings, run=pid, taker=trace_of(), bound=pid is not None).holder
        assert holder is not None
        return _known(holder_json(holder))


def unlock(
    name: str,
    owner: str | None = None,
    token: int | None = None,
    force: bool = False,
    cooldown: int | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Release the lock, if this owner holds it, and return what was held. It is an error if it was not locked.

    token
        Only the acquisition with this fencing token.

    force : False
        Also another owner's lock; look with ``distlock.show`` first.

    cooldown
        Seconds that the lock stays taken afterwards.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.unlock percona_prod
        salt db1 distlock.unlock percona_prod token=4711 force=True
    """
    with _one_line():
        settings = _settings(
            profile,
            lockname=name,
            id=owner,
            cooldown=cooldown,
            endpoints=endpoints,
            prefix=prefix,
            connect_timeout=connect_timeout,
            release_timeout=release_timeout,
        )
        holder = acquire_release.release(
            settings,
            taker=trace_of(),
            token=read_token(token),
            force=read_flag(force, "force"),
        )
        if holder is None:
            raise LockNotFound(f"{settings.lockname} is not locked")
        return _known(holder_json(holder))


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
    Let nobody acquire the lock, or without a name any lock of the realm, until it is thawed. Holders go on, waiters
    keep their places and say who has frozen it. It is an error if it is already frozen: that freeze is left as it is.

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
    with _one_line():
        settings, lock = _frost_settings(profile, name, owner, endpoints, prefix, connect_timeout)
        text = minion_settings.text_of(reason, "reason")
        seconds = read_duration(duration)
        done = ensure_frozen(settings, lock, text, seconds, force=read_flag(force, "force"))
        if not done.changed and done.freeze is not None:
            raise Frozen(f"{is_frozen_by(done.freeze)}: left as it is", hints=[Hint(REPLACE_FREEZE)])
        assert done.freeze is not None
        return _known({"lock": lock, **frozen_json(done.freeze)})


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
    with _one_line():
        settings, lock = _frost_settings(profile, name, None, endpoints, prefix, connect_timeout)
        ended = ensure_thawed(settings, lock)
        if ended is None:
            raise NotFrozen(f"{lock or 'the realm'} is not frozen")
        return _known({"lock": lock, **frozen_json(ended)})


def show(
    name: str,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> list[dict[str, Any]]:
    """
    Return who holds the lock, since when and why, and the queue in order: one entry for each holder. A lock that
    nobody holds has one entry without an owner. Fields that are unknown, or do not apply, are left out.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.show percona_prod
    """
    with _one_line():
        settings = _settings(
            profile, lockname=name, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        return [_known(lock) for lock in locks_json(realm_of(settings).show(settings.lockname))]


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
    with _one_line():
        settings = _settings(profile, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout)
        return [_known(lock) for state in realm_of(settings).list() for lock in locks_json(state)]


def verify(
    name: str,
    owner: str | None = None,
    token: int | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> bool:
    """
    Return True if this owner holds the lock now (with a token: if that acquisition does), else False.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.verify percona_prod
        salt db1 distlock.verify percona_prod token=4711
    """
    with _one_line():
        settings = _settings(
            profile, lockname=name, id=owner, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        try:
            acquire_release.check(settings, read_token(token), taker=trace_of())
        except (LockNotFound, NotHolder):
            return False
        return True


def policy(
    name: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
) -> dict[str, dict[str, Any]]:
    """
    Return what holds for everybody who acquires a lock, by the lock's name: ``slots``, ``cooldown``, ``window`` and
    ``expect``, as far as they are set, who has set them, when and why. Without ``name`` of all locks of the realm.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.policy
        salt db1 distlock.policy percona_prod
    """
    with _one_line():
        settings = _settings(profile, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout)
        realm = realm_of(settings)
        found = realm.policies() if name is None else filter(None, [realm.policy(name)])
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
    Set what holds for everybody who acquires the lock, from now on: exactly what is named. A change applies at once,
    with more slots or fewer; whoever holds the lock goes on. It comes before what a minion, a play or a catalog says.

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
    with _one_line():
        settings = _settings(
            profile, lockname=name, id=owner, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
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
    Remove the policy of the lock: what each minion, play or catalog says applies from now on. Return False if it had
    none.

    CLI Example:

    .. code-block:: bash

        salt db1 distlock.clear_policy percona_prod
    """
    with _one_line():
        settings = _settings(
            profile, lockname=name, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        return bool(lock_policy.remove(settings).changed)


def run(
    name: str,
    cmd: str | list[str],
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    slots: int | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    ttl: int | None = None,
    on_loss: str | None = None,
    on_failure: str | None = None,
    cooldown: int | None = None,
    runas: str | None = None,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdin: str | None = None,
    python_shell: bool = False,
    output_loglevel: str = "debug",
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
) -> dict[str, Any]:
    """
    Run a command under the lock, and return what ``cmd.run_all`` does: ``pid``, ``retcode``, ``stdout``, ``stderr``.

    The command never runs without the lock. If the lock was lost while it ran, ``retcode`` is 2, with a line in
    ``stderr``. The pid is that of distlock, which supervises the command. Under the lock of a step of the same owner
    (``distlock.lock``, ``distlock.locked``) the command runs inside that lock. After a wait the return also has
    ``waited_for``, ``waited`` (seconds) and ``position``.

    cmd
        The command, a list of words or a string that is split into words. No shell interprets it without
        ``python_shell``.

    timeout : 0
        Longest wait for the lock, in seconds; -1 waits forever. It does not limit the command.

    ttl
        Lease the lock for this many seconds. When it is lost, the command is killed, unless ``on_loss`` is
        ``continue``. Without a ttl the lock is persistent, and stays if the machine dies.

    on_failure : release
        What to do if the command fails, until a person has looked: ``keep`` leaves the lock taken; ``freeze`` releases
        it, and lets nobody acquire it, in any slot.

    cooldown
        Seconds that the lock stays taken after success.

    window, expect
        As for ``distlock.lock``.

    runas
        The user that runs the command, in that user's home unless ``cwd`` is given. distlock itself runs as the user
        of Salt, and does not pass an etcd password to that user.

    cwd, env, stdin, output_loglevel
        As for ``cmd.run_all``.

    CLI Example:

    .. code-block:: bash

        salt 'db*' distlock.run percona_prod 'yum --assumeyes upgrade' timeout=-1
        salt db1 distlock.run percona_prod 'cd /srv && ./upgrade | tee log' python_shell=True
    """
    with _one_line():
        settings = _settings(
            profile,
            lockname=name,
            reason=reason,
            timeout=timeout,
            id=owner,
            slots=slots,
            window=window,
            expect=expect,
            ttl=ttl,
            on_loss=on_loss,
            on_failure=on_failure,
            cooldown=cooldown,
            endpoints=endpoints,
            prefix=prefix,
            connect_timeout=connect_timeout,
            release_timeout=release_timeout,
        )
        words = salt_command.words(cmd, python_shell=python_shell)
        runas = runas or __context__.get("runas")  # set by a state
        if runas:
            account = salt_command.account(runas)
            words = salt_command.run_as(account, words)
            cwd = cwd or salt_command.home_of(account)
        result: dict[str, Any] = __salt__["cmd.run_all"](
            salt_command.under_lock(words),
            cwd=cwd,
            runas="",  # not the state's: distlock itself does not run as that user
            env={**(env or {}), **salt_command.environment(settings), **salt_command.enclosing_lock(settings)},
            stdin=stdin,
            python_shell=False,
            output_loglevel=output_loglevel,
            ignore_retcode=True,  # otherwise Salt would log every busy lock as an error
        )
        result = salt_command.outcome(result, dict(settings.realm_arguments))
        __context__["retcode"] = result["retcode"]
        return result


def _frost_settings(
    profile: str | None,
    name: str | None,
    owner: str | None,
    endpoints: list[str] | str | None,
    prefix: str | None,
    connect_timeout: float | None,
) -> tuple[Settings, str | None]:
    """The settings, and the name of the lock: None for the whole realm, whatever else names a lock."""
    words = {"id": owner, "endpoints": endpoints, "prefix": prefix, "connect_timeout": connect_timeout}
    if name is None:
        return _settings(profile, **words), None
    settings = _settings(profile, lockname=name, **words)
    return settings, settings.lockname


def _settings(profile: str | None, **arguments: Any) -> Settings:
    return minion_settings.read(__salt__, __opts__, arguments, profile)


@contextmanager
def _one_line() -> Iterator[None]:
    """Salt prints this exception as one line, any other with its traceback."""
    try:
        yield
    except DistlockError as error:
        raise CommandExecutionError(SALT.said(error)) from None


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out the fields without a value, which would be most of the output."""
    found = {word: value for word, value in fields.items() if value is not None}
    if "waiters" in found:
        found["waiters"] = [_known(waiter) for waiter in found["waiters"]]
    return found
