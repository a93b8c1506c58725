"""A command under a lock, as Salt runs it: its words, its environment, and its result."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sys

import distlock_core
from distlock_core.adapters.run_holds import bound_to
from distlock_core.connection import realm_of
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.hints import from_fields
from distlock_core.lock.wait_story import WAITED
from distlock_core.settings.options import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.settings.options import Settings

# No options on the command line: every user can read it in the process list.
COMMAND = "import sys; sys.path.append(sys.argv.pop(1)); from distlock_core.cli.distlock import main; main()"

# Drops root's rights and the password for etcd before the command starts. distlock itself keeps them.
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


def words(cmd: str | float | list[str], *, python_shell: bool) -> list[str]:
    """Return the command as a list of words. Raises `ConfigError`."""
    if python_shell:
        if not isinstance(cmd, str):
            raise ConfigError("cmd: with python_shell it is one string, for a shell to read")
        return ["/bin/sh", "-c", cmd]
    if isinstance(cmd, (bool, int, float)):
        cmd = str(cmd).lower()  # `true` comes out of Salt's command line as a boolean
    try:
        found = shlex.split(cmd) if isinstance(cmd, str) else [str(word) for word in cmd]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cmd: cannot be split into words: {error}") from None
    if not found:
        raise ConfigError("cmd: nothing to run")
    return found


def under_lock(words: list[str]) -> list[str]:
    """Return the command line of distlock for a command, in this Python."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(distlock_core.__file__)))
    return [sys.executable, "-I", "-c", COMMAND, home, "--json", "--", *words]


def account(name: str) -> pwd.struct_passwd:
    """Return the account of a user. Raises `ConfigError`."""
    try:
        return pwd.getpwnam(str(name))
    except KeyError:
        raise ConfigError(f"runas: there is no user {name}") from None


def run_as(account: pwd.struct_passwd, words: list[str]) -> list[str]:
    """Return the command line that runs a command as another user."""
    return [sys.executable, "-I", "-S", "-c", AS_USER, account.pw_name, *words]


def home_of(account: pwd.struct_passwd) -> str:
    """Return the folder in which a user's command runs by default."""
    return account.pw_dir if os.path.isdir(account.pw_dir) else "/"


def environment(settings: Settings) -> dict[str, str]:
    """Return the settings as variables: a distlock inside the command uses the same etcd and prefix."""
    skipped = {"nowait", "json", "quiet", "verbose", "while_pid", "log_file", "busy_exit_code", "unreachable_exit_code"}
    found = {}
    for setting in SETTINGS:
        value, is_set = settings.by_key(setting.key), setting.key in (*settings.given, "lockname", "id", "timeout")
        if is_set and "env" in setting.scope and setting.key not in skipped and value is not None:
            text = ",".join(value) if isinstance(value, list) else str(value)
            if setting.key == "config" and not text:
                text = os.devnull  # no file; an empty variable would count as unset
            found[setting.variable] = text.lower() if isinstance(value, bool) else text
    # Two forms of one setting: the other form in the minion's environment must not override this one.
    for one, other in (("PASSWORD", "PASSWORD_FILE"), ("PASSWORD_FILE", "PASSWORD")):
        if f"DISTLOCK_{one}" in found:
            found.setdefault(f"DISTLOCK_{other}", "")
    return found


def enclosing_lock(settings: Settings) -> dict[str, str]:
    """Return the variables with which the command enters locks that end with this state run, if there are any."""
    states = realm_of(settings).show_all(settings.lock_names)
    # A `parallel: true` state is a child of the run.
    for pid in (os.getpid(), os.getppid()):
        held = [holder for state in states for holder in [bound_to(pid, state, settings.id)] if holder is not None]
        if held:
            first, *outer = os.environ.get("DISTLOCK_HELD", "").split("\n")
            around = [f"{os.environ.get('DISTLOCK_TOKEN', '')} {first}", *outer] if first else []
            others = [f"{holder.token} {holder.key.decode()}" for holder in held[1:]]
            return {
                "DISTLOCK_HELD": "\n".join([held[0].key.decode(), *others, *around]),
                "DISTLOCK_TOKEN": str(held[0].token),
            }
    return {}


def outcome(result: dict[str, Any], realm_settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of `cmd.run_all` with the story of the wait. Raises `DistlockError` if the command did not run.

    `realm_settings` are the settings that lead to the same realm, for the advice of that error.
    """
    return _read_story(_read_errors(result, realm_settings))


def was_lost(result: Mapping[str, Any]) -> bool:
    """True if the result of `cmd.run_all` says that the lock was lost while the command ran."""
    last = str(result.get("stderr") or "").rpartition("\n")[2]
    if not last.startswith('{"error": '):
        return False
    try:
        return bool(json.loads(last)["error"]["kind"] == "lost")
    except (ValueError, TypeError, KeyError):
        return False


def _read_errors(result: dict[str, Any], realm_settings: Mapping[str, Any]) -> dict[str, Any]:
    """Raise the error that prevented the command from running; what came after it is part of the result."""
    *lines, last = (result.get("stderr") or "").split("\n")
    try:
        error = json.loads(last)["error"]
        kind, message, hints = error["kind"], error["message"], error.get("hints") or ()
    except (ValueError, TypeError, KeyError):
        return result
    has_run = kind in ("lost", "unreachable") or (kind == "gate" and "locks" not in error)
    if not has_run and result["retcode"] != 0:
        refused = DistlockError(message, hints=from_fields(hints))
        refused.realm_settings = realm_settings
        raise refused
    return {**result, "stderr": "\n".join([*lines, f"distlock: {message}"])}


def _read_story(result: dict[str, Any]) -> dict[str, Any]:
    """Move the reports about the wait, which precede the output of the command, from stderr to fields."""
    lines = (result.get("stderr") or "").split("\n")
    told: dict[str, Any] = {}
    while lines and lines[0].startswith(('{"waiting": ', '{"acquired": ', '{"warning": ')):
        document = json.loads(lines.pop(0))
        if "acquired" in document:
            told = {word: document["acquired"][word] for word in (*WAITED, "story")}
    return {**result, "stderr": "\n".join(lines), **told}
