"""
Run a command under a lock in etcd v3: a function of the module ``distlock``, which describes the settings.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters import salt_command
    from distlock_core.adapters.salt_reports import raised_as
    from distlock_core.adapters.salt_settings import of_call
    from distlock_core.cli.salt.bus import LOST, Bus

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]
    __context__: dict[str, Any]

__virtualname__ = "distlock"


def __virtual__() -> str | bool:
    return __virtualname__ if IS_INSTALLED else False  # distlock.py says what is missing


def run(
    name: str | None = None,
    cmd: str | list[str] | None = None,
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    slots: int | None = None,
    shared: bool | str | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    rank: int | None = None,
    ttl: int | None = None,
    on_loss: str | None = None,
    on_failure: str | None = None,
    cooldown: int | None = None,
    beat: str | float | None = None,
    gate: str | None = None,
    gate_every: float | None = None,
    gate_for: float | None = None,
    gate_timeout: float | None = None,
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
    lock_names: list[str] | None = None,
) -> dict[str, Any]:
    """
    Run a command under the lock, and return what ``cmd.run_all`` does: ``pid``, ``retcode``, ``stdout``, ``stderr``.

    The command never runs without the lock. If the lock was lost while it ran, ``retcode`` is 2, with a line in
    ``stderr``. The pid is that of distlock, which supervises the command. Under the lock of a step of the same owner
    (``distlock.lock``, ``distlock.locked``) the command runs inside that lock. After a wait the return also has
    ``waited_for``, ``waited`` (seconds) and ``position``.

    lock_names
        Several locks instead of ``name``, as for ``distlock.lock``.

    cmd
        The command, a list of words or a string that is split into words. No shell interprets it without
        ``python_shell``.

    timeout : 0
        Longest wait for the lock, in seconds; -1 waits forever. It does not limit the command.

    ttl
        Lease the lock for this many seconds. When it is lost, the command is killed, unless ``on_loss`` is
        ``continue``. Without a ttl the lock is persistent, and stays if the machine dies.

    on_failure : release
        What to do with the lock if the command fails: ``keep`` leaves it taken until an operator unlocks it; ``freeze``
        releases it, and nobody can acquire it, in any slot, until an operator thaws it.

    cooldown
        Seconds that the lock stays taken after success.

    beat
        Seconds between two signs of life of distlock beside a lock without a ttl, so that ``distlock.show`` and
        ``distlock.list`` tell from anywhere whether it is ``alive``, and when it was last.

    slots, shared, window, expect, rank
        As for ``distlock.lock``.

    gate, gate_every, gate_for
        As for ``distlock.lock``, and asked again after the command: the lock is released once the cluster is healthy.

    gate_timeout : 600
        How long to wait for that, in seconds. After it the lock is kept, ``retcode`` is 1 if the command has succeeded,
        and ``stderr`` has a line about it.

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
    with raised_as(CommandExecutionError):
        settings = of_call(__salt__, __opts__, locals())
        words = salt_command.words("" if cmd is None else cmd, python_shell=python_shell)
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
        if salt_command.was_lost(result):
            Bus(__salt__, __opts__).failed(LOST, settings.lock_names, settings.id, "lost while a command ran under it")
        result = salt_command.outcome(result, dict(settings.realm_arguments))
        __context__["retcode"] = result["retcode"]
        return result
