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

import json
import os
import pwd
import shlex
import sys
from contextlib import contextmanager

from salt.exceptions import CommandExecutionError

try:
    import distlock_core
    from distlock_core.adapters import salt_settings as minion_settings
    from distlock_core.adapters import steps
    from distlock_core.adapters.advice import SALT
    from distlock_core.adapters.run_holds import bound_to
    from distlock_core.adapters.settings import read_flag, read_token
    from distlock_core.cli.render import holder_json, locks_json
    from distlock_core.connection import realm_of
    from distlock_core.errors import ConfigError, DistlockError, LockNotFound, NotHolder
    from distlock_core.hints import from_fields
    from distlock_core.lock.wait_story import WAITED
    from distlock_core.process.identity import trace_of
    from distlock_core.settings.table import SETTINGS

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from distlock_core.settings.table import Settings

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]
    __context__: dict[str, Any]

__virtualname__ = "distlock"
__func_alias__ = {"list_": "list"}

# Not one option on the command line: that, all who may list processes can read.
COMMAND = "import sys; sys.path.append(sys.argv.pop(1)); from distlock_core.cli.distlock import main; main()"

# Leaves root's rights, and the password for etcd, behind before the command begins. distlock itself keeps them.
AS_USER = """
import os, pwd, sys
user = pwd.getpwnam(sys.argv[1])
for word in ("DISTLOCK_PASSWORD", "DISTLOCK_PASSWORD_FILE"):
    os.environ.pop(word, None)
os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name, SHELL=user.pw_shell)
try:
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"distlock: cannot start {sys.argv[2]} as {user.pw_name}: {error.strerror}")
"""


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
            while_pid=while_pid,
            ttl=ttl,
            on_loss=on_loss,
            endpoints=endpoints,
            prefix=prefix,
            connect_timeout=connect_timeout,
        )
        pid = None if while_pid is None else settings.while_pid
        if pid is None and (ttl is not None or on_loss is not None):
            raise ConfigError("ttl and on_loss are about a lock that is bound to a process: they go with while_pid")
        holder = steps.take(settings, run=pid, taker=trace_of(), bound=pid is not None).holder
        assert holder is not None
        return holder_json(holder)


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
        holder = steps.release(
            settings,
            taker=trace_of(),
            token=read_token(token),
            force=read_flag(force, "force"),
        )
        if holder is None:
            raise LockNotFound(f"{settings.lockname} is not locked")
        return holder_json(holder)


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
            steps.check(settings, read_token(token), taker=trace_of())
        except (LockNotFound, NotHolder):
            return False
        return True


def run(
    name: str,
    cmd: str | list[str],
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    slots: int | None = None,
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
        ``keep`` leaves the lock taken if the command fails, until a person has looked.

    cooldown
        Seconds that the lock stays taken after success.

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
            ttl=ttl,
            on_loss=on_loss,
            on_failure=on_failure,
            cooldown=cooldown,
            endpoints=endpoints,
            prefix=prefix,
            connect_timeout=connect_timeout,
            release_timeout=release_timeout,
        )
        words = _words(cmd, python_shell)
        runas = runas or __context__.get("runas")  # that of a state
        if runas:
            user = _user(runas)
            words = [sys.executable, "-I", "-S", "-c", AS_USER, user.pw_name, *words]
            cwd = cwd or (user.pw_dir if os.path.isdir(user.pw_dir) else "/")
        home = os.path.dirname(os.path.dirname(os.path.abspath(distlock_core.__file__)))
        result: dict[str, Any] = __salt__["cmd.run_all"](
            [sys.executable, "-I", "-c", COMMAND, home, "--json", "--", *words],
            cwd=cwd,
            runas="",  # not that of the state: distlock itself does not run as that user
            env={**(env or {}), **_environment(settings), **_inside(settings)},
            stdin=stdin,
            python_shell=False,
            output_loglevel=output_loglevel,
            ignore_retcode=True,  # or Salt would log every busy lock as an error
        )
        result = _read_story(_read_errors(result, dict(settings.reach)))
        __context__["retcode"] = result["retcode"]
        return result


def _settings(profile: str | None, **arguments: Any) -> Settings:
    return minion_settings.read(__salt__, __opts__, arguments, profile)


@contextmanager
def _one_line() -> Iterator[None]:
    """Salt prints this exception as one line, any other with its traceback."""
    try:
        yield
    except DistlockError as error:
        raise CommandExecutionError(SALT.said(error)) from None


def _known(lock: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that say nothing: they would be most of what is printed."""
    waiters = [{word: value for word, value in waiter.items() if value is not None} for waiter in lock["waiters"]]
    return {word: value for word, value in {**lock, "waiters": waiters}.items() if value is not None}


def _words(cmd: str | float | list[str], python_shell: bool) -> list[str]:
    if python_shell:
        if not isinstance(cmd, str):
            raise ConfigError("cmd: with python_shell it is one string, for a shell to read")
        return ["/bin/sh", "-c", cmd]
    if isinstance(cmd, (bool, int, float)):
        cmd = str(cmd).lower()  # `true` comes out of Salt's command line as a boolean
    try:
        words = shlex.split(cmd) if isinstance(cmd, str) else [str(word) for word in cmd]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cmd: cannot be split into words: {error}") from None
    if not words:
        raise ConfigError("cmd: nothing to run")
    return words


def _inside(settings: Settings) -> dict[str, str]:
    """Under a lock that ends with this very state run, the command runs inside of that."""
    state = realm_of(settings).show(settings.lockname)
    # A `parallel: true` state is a child of the run.
    held = [bound_to(pid, state, settings.id) for pid in (os.getpid(), os.getppid())]
    for holder in held:
        if holder is not None:
            first, *outer = os.environ.get("DISTLOCK_HELD", "").split("\n")
            around = [f"{os.environ.get('DISTLOCK_TOKEN', '')} {first}", *outer] if first else []
            return {
                "DISTLOCK_HELD": "\n".join([holder.key.decode(), *around]),
                "DISTLOCK_TOKEN": str(holder.token),
            }
    return {}


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(str(name))
    except KeyError:
        raise ConfigError(f"runas: there is no user {name}") from None


def _environment(settings: Settings) -> dict[str, str]:
    """The settings as the command finds them: a distlock inside of it has the same etcd and prefix."""
    skipped = ("nowait", "json", "quiet", "verbose", "while_pid", "log_file", "busy_exit_code")
    found = {}
    for setting in SETTINGS:
        value, is_set = settings.by_key(setting.key), setting.key in (*settings.given, "lockname", "id", "timeout")
        if is_set and "env" in setting.scope and setting.key not in skipped and value is not None:
            text = ",".join(value) if isinstance(value, list) else str(value)
            if setting.key == "config" and not text:
                text = os.devnull  # no file: a variable that is empty counts as unset
            found[setting.variable] = text.lower() if isinstance(value, bool) else text
    # One setting in two forms: what the minion's own environment has of the other must not come before it.
    for one, other in (("PASSWORD", "PASSWORD_FILE"), ("PASSWORD_FILE", "PASSWORD")):
        if f"DISTLOCK_{one}" in found:
            found.setdefault(f"DISTLOCK_{other}", "")
    return found


def _read_errors(result: dict[str, Any], reach: Mapping[str, Any]) -> dict[str, Any]:
    """Raise what kept the command from running; a loss is part of how it ran."""
    *lines, last = (result.get("stderr") or "").split("\n")
    try:
        error = json.loads(last)["error"]
        kind, message, hints = error["kind"], error["message"], error.get("hints") or ()
    except (ValueError, TypeError, KeyError):
        return result
    if kind not in ("lost", "unreachable") and result["retcode"] != 0:
        refused = DistlockError(message, hints=from_fields(hints))
        refused.reach = reach
        raise CommandExecutionError(SALT.said(refused))
    return {**result, "stderr": "\n".join([*lines, f"distlock: {message}"])}


def _read_story(result: dict[str, Any]) -> dict[str, Any]:
    """Take out what distlock has said of the wait, which comes before all that the command says."""
    lines = (result.get("stderr") or "").split("\n")
    told: dict[str, Any] = {}
    while lines and lines[0].startswith(('{"waiting": ', '{"acquired": ', '{"warning": ')):
        document = json.loads(lines.pop(0))
        if "acquired" in document:
            told = {word: document["acquired"][word] for word in (*WAITED, "story")}
    return {**result, "stderr": "\n".join(lines), **told}
