"""
Run a command under a lock in etcd v3: a state of the module ``distlock``.

Settings are described in the execution module ``distlock``.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters import salt_reports
    from distlock_core.adapters.salt_state import StateCall
    from distlock_core.adapters.settings import shown_name
    from distlock_core.cli.salt.bus import Bus
    from distlock_core.errors import ConfigError
    from distlock_core.lock.wait_story import WAITED
    from distlock_core.model.wording import listed

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __salt__: dict[str, Any]

__virtualname__ = "distlock"

LOST = 2  # the exit code of a command whose lock was lost


def __virtual__() -> str | bool:
    return __virtualname__ if IS_INSTALLED else False  # distlock.py says what is missing


def run(
    name: str,
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
    success_retcodes: list[int] | int | None = None,
    output_loglevel: str = "debug",
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
    lock_names: list[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Run a command under the lock, as ``cmd.run`` does without one. The lock is acquired right before the command and
    released right after it. The command never runs without the lock. ``unless``, ``onlyif`` and ``creates`` are checked
    first: a minion with nothing to do never acquires the lock.

    name
        Name of the lock.

    lock_names
        Several locks instead, as for ``distlock.locked``.

    cmd
        The command, a list of words or a string that is split into words. No shell interprets it without
        ``python_shell``.

    success_retcodes : 0
        Exit codes that count as success.

    reason, timeout, owner, slots, shared, window, expect, rank, ttl, on_loss, on_failure, cooldown, beat
        As for the function ``distlock.run``; so are ``gate``, ``gate_every``, ``gate_for``, ``gate_timeout``,
        ``runas``, ``cwd``, ``env``, ``stdin`` and ``output_loglevel``.

    endpoints, prefix, profile, connect_timeout, release_timeout
        As for ``distlock.locked``.

    .. code-block:: yaml

        upgrade:
          distlock.run:
            - name: percona_prod
            - cmd: yum --assumeyes upgrade percona-server-server
            - timeout: -1
            - unless: /usr/local/sbin/is-upgraded
    """
    return StateCall("run", globals(), locals(), Bus).result(_run)


def _run(call: StateCall) -> dict[str, Any]:
    given = {word: value for word, value in call.given.items() if value is not None}
    cmd = given.pop("cmd", None)
    if not cmd:
        raise ConfigError("cmd: nothing to run")
    good = salt_reports.exit_codes(given.pop("success_retcodes", None))
    if call.is_test:
        settings = call.settings()
        changes: dict[str, Any] = {name: {"old": None, "new": settings.id} for name in settings.lock_names}
        return call.done(None, f"the command would be run under {shown_name(settings)}", changes)
    for word in ("name", "more"):
        given.pop(word)
    try:
        done = __salt__["distlock.run"](call.lock_name, cmd, **given)
    except CommandExecutionError as error:
        return call.done(False, str(error))
    locks = listed(given["lock_names"]) if "lock_names" in given else call.name
    changes = {field: done[field] for field in ("pid", "retcode", "stdout", "stderr", *WAITED) if field in done}
    story = f", {done['story']}" if done.get("story") else ""
    if done["retcode"] in good:
        return call.done(True, f"the command was run under {locks}{story}", changes)
    last = done["stderr"].splitlines()[-1:]
    why = [line for line in last if done["retcode"] == LOST or line.startswith("distlock: ")]
    said = f": {why[0]}" if why else ""
    return call.done(False, f"the command, run under {locks}{story}, ended with {done['retcode']}{said}", changes)
