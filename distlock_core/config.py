"""Settings: defaults < config file < environment < command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from distlock_core.errors import ConfigError
from distlock_core.model import check_name, check_owner, check_prefix, check_text
from distlock_core.settings import DEFAULT_FILE, SETTINGS, Setting, check_ttl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BY_KEY = {setting.key: setting for setting in SETTINGS}
KILL_AFTER = 5.0  # seconds from SIGTERM to SIGKILL, where no ttl says how much time there is


class Settings(dict[str, "Any"]):
    """Every setting by its key. `given` holds the keys that somebody has set, in whatever way.

    `warnings` are lines for a person: what is not wrong, and should not be so.
    """

    given: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = {key: "***" if value and BY_KEY[key].secret else value for key, value in self.items()}
        return f"Settings({shown})"

    def check(self) -> Settings:
        """Raise `ConfigError` for a value that the type alone does not rule out."""
        if self["lockname"]:
            check_name(self["lockname"], self["internallock"])
        if self["id"] is not None:
            check_owner(self["id"])
        check_text(self["reason"], "reason")
        check_text(self["value"] or "", "value")
        check_prefix(self["prefix"])
        self._check_access()
        if self["ttl"] is not None:
            check_ttl(self["ttl"], self["refresh"], self.kill_after)
        return self

    def _check_access(self) -> None:
        if self["key"] and not self["cert"]:
            raise ConfigError("a key is set, and no certificate for it: set cert too")
        has_password = self["password"] or self["password_file"]
        if has_password and not self["user"]:
            raise ConfigError("a password is set, and no user for it: set user too")
        if self["user"] and not has_password:
            raise ConfigError(
                "a user is set, and no password: put it into the config file, DISTLOCK_PASSWORD, or a file that "
                "password_file names"
            )
        if self["password_file"]:
            from distlock_core.secret import read_password

            read_password(self["password_file"])

    @property
    def kill_after(self) -> float:
        """Seconds from SIGTERM to SIGKILL when the lock is lost."""
        if self["kill_after"] is not None:
            return float(self["kill_after"])
        return KILL_AFTER if self["ttl"] is None else self["ttl"] / 6

    @property
    def on_loss(self) -> str:
        """Kill or continue, when the lock is lost."""
        return self["on_loss"] or ("continue" if self["ttl"] is None else "kill")


def load(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Put the settings together. `options` are those of the command line, by key, read already.

    An empty environment variable counts as unset. Raises `ConfigError`, which names the variable, or the file and key.
    """
    environ = os.environ if environ is None else environ
    variables = _from_environment(environ)
    path = options.get("config", variables.get("config"))
    path_read = path or DEFAULT_FILE
    found = _from_file(path_read, may_be_absent=path is None)
    in_file = "password" in found
    for layer in (variables, options):
        # Two forms of one setting: the layer above decides.
        if "timeout" in layer:
            found.pop("nowait", None)
        if "password_file" in layer:
            found.pop("password", None)
        if "password" in layer:
            found.pop("password_file", None)
        found.update(layer)
    settings = Settings({setting.key: found.get(setting.key, setting.default) for setting in SETTINGS})
    settings.given = frozenset(found)
    if "maxtime" in found and "connect_timeout" not in found:
        settings["connect_timeout"] = found["maxtime"]
    if settings["nowait"]:
        settings["timeout"] = 0.0
    if settings["password"]:
        settings["password_file"] = None  # where both stand side by side
    settings.check()
    readable = [*([path_read] if in_file else []), *filter(None, [settings["password_file"]])]
    settings.warnings = tuple(filter(None, map(_too_open, readable)))
    return settings


def _too_open(path: str) -> str:
    """A warning, where more than its owner may read a file with a password in it."""
    mode = os.stat(path).st_mode
    if not mode & 0o077 or not os.path.isfile(path):
        return ""
    who = "everybody" if mode & 0o007 else "its group"
    return f"{path} has a password in it, and {who} may read or change it. To keep it: chmod 600 {path}"


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for setting in SETTINGS:
        text = environ.get(setting.variable, "")
        if text and "env" in setting.scope:
            found[setting.key] = read_setting(setting, text, setting.variable)
    return found


def _from_file(path: str, *, may_be_absent: bool) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        if may_be_absent:
            return {}
        raise ConfigError(f"config file {path}: it is not there") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"config file {path}: cannot be read: {reason}") from None
    document = _parse_yaml(path, content)
    known = sorted(setting.key for setting in SETTINGS if "file" in setting.scope)
    found = {}
    for key, value in document.items():
        if key not in known:
            # Up to a colon only: `password:secret` without a blank is a key too.
            shown = key.partition(":")[0] if isinstance(key, str) else key
            raise ConfigError(f"config file {path}: unknown key {shown!r}; known are {', '.join(known)}")
        if value is not None and value != "":
            found[key] = read_setting(BY_KEY[key], value, f"config file {path}: {key}")
    return found


def _parse_yaml(path: str, content: bytes) -> dict[Any, Any]:
    try:
        import yaml  # only where there is a file to read
    except ImportError:
        raise ConfigError(
            f"config file {path}: cannot be read: PyYAML is missing in {sys.executable}. To do without the file, say "
            "in another way what it says"
        ) from None
    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        import re

        # What it quotes may be a password: `password: !secret` is a tag to YAML. A single character is no secret.
        problem = re.sub(r"'[^']{3,}'", "'...'", str(problem))
        raise ConfigError(f"config file {path}{where}: not valid YAML: {problem}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"config file {path}: not valid YAML: {type(error).__name__}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"config file {path}: expected 'key: value' lines, found a {type(document).__name__}")
    return document


def read_setting(setting: Setting, value: object, where: str) -> Any:
    """Read one value. Raises `ConfigError` that says where it stands, what was expected and what was found."""
    try:
        return setting.read(value)
    except ConfigError as expected:
        found = "something else" if setting.secret else ascii(value)[:60]
        raise ConfigError(f"{where}: expected {expected}, found {found}") from None
