"""Settings on a minion or master: arguments, then `distlock:` in Salt's config, then the command's own sources.

A minion's config is merged with its pillar. A runner at the master has the master's config alone.
"""

from __future__ import annotations

import os

from distlock_core.adapters.settings import LOCK_NAMES, read_settings
from distlock_core.errors import ConfigError
from distlock_core.settings.options import BY_KEY, Setting
from distlock_core.settings.readers import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from distlock_core.settings.options import Settings

SECTION = "distlock"
PROFILES = "profiles"
MINION, MASTER = "minion config or pillar", "the master's config"
KEYS = {"name": "lockname", "owner": "id"}  # of arguments that are not named like their setting


def of_call(
    salt: Mapping[str, Callable[..., Any]],
    opts: Mapping[str, Any],
    given: Mapping[str, Any],
    without: Collection[str] = (),
) -> Settings:
    """Return the settings of a call with these arguments, which are its `locals()`. Raises `ConfigError`.

    Arguments that are no settings are ignored; so are those in `without`, which mean something else in this call.
    """
    return _of_call(salt["config.get"], opts, given, without, MINION)


def of_runner_call(
    runners: Mapping[str, Callable[..., Any]],
    opts: Mapping[str, Any],
    given: Mapping[str, Any],
    without: Collection[str] = (),
) -> Settings:
    """Return the settings of a call of a runner, as `of_call()`. `runners` is its `__salt__`: Salt's other runners."""
    get = runners["config.get"]
    return _of_call(lambda path, default=None, **_: get(path, default), opts, given, without, MASTER)


def _of_call(
    get: Callable[..., Any], opts: Mapping[str, Any], given: Mapping[str, Any], without: Collection[str], source: str
) -> Settings:
    keys = {word: KEYS.get(word, word) for word in given if word not in without}
    arguments = {key: given[word] for word, key in keys.items() if key in (*BY_KEY, LOCK_NAMES)}
    return _read(get, opts, arguments, given.get("profile"), source)


def _read(
    get: Callable[..., Any], opts: Mapping[str, Any], arguments: Mapping[str, Any], profile: str | None, source: str
) -> Settings:
    """Return the settings of one call. `get` is Salt's `config.get`, `opts` its `__opts__`.

    A minion's config overrides the pillar, and a profile overrides the settings beside the profiles. Raises
    `ConfigError`.
    """
    if "lockname" in arguments and arguments["lockname"] is None and arguments.get(LOCK_NAMES) is None:
        raise ConfigError(f"no lock is named: name{f' or {LOCK_NAMES}' if LOCK_NAMES in arguments else ''} is required")
    config, where = _section(get, profile, source)
    owner = f"salt:{opts['id']}"
    settings = read_settings(arguments, owner, config, where)
    if profile is not None:
        settings = settings._replace(realm_arguments=(*settings.realm_arguments, ("profile", profile)))
    for warning in settings.warnings:
        import logging

        logging.getLogger(__name__).warning("distlock: %s", warning)
    log_file = opts.get("log_file")
    if settings.log_file is None and isinstance(log_file, str) and os.path.isabs(log_file):
        # The keeper of a bound lock logs to the minion's log file, or to syslog if it may not write to that.
        settings = settings._replace(log_file=log_file if os.access(log_file, os.W_OK) else None)
    if "lockname" in arguments and not settings.lockname:
        raise ConfigError("no lock is named: name is required")
    return settings


def text_of(value: object, word: str) -> str:
    """A text argument that is no setting, "" if it is not given. Raises `ConfigError`, as for a number from YAML."""
    return "" if value is None else str(Setting(word, word, read_text, "").value(value, word))


def _section(get: Callable[..., Any], profile: str | None, source: str) -> tuple[dict[str, Any], str]:
    config, where = _merged(get, SECTION, source), f"{SECTION}: in {source}"
    profiles = config.pop(PROFILES, None) or {}
    if profile is None:
        return config, where
    if not isinstance(profiles, dict) or profile not in [*profiles]:  # it may be a list, which has no hash
        known = ", ".join(sorted(map(str, profiles))) if isinstance(profiles, dict) and profiles else "none"
        raise ConfigError(f"profile {str(profile)!a}: not in {SECTION}:{PROFILES} of {source}; known: {known}")
    path = f"{SECTION}:{PROFILES}:{profile}"
    return {**config, **_merged(get, path, source)}, path


def _merged(get: Callable[..., Any], path: str, source: str) -> dict[str, Any]:
    """Minion config and pillar merged key by key: a password may be in one, and endpoints in the other."""
    merged: dict[str, Any] = {}
    for leave_out in ({"omit_opts": True}, {"omit_pillar": True, "omit_master": True}):
        found = get(path, {}, omit_grains=True, **leave_out)
        if not isinstance(found, dict):
            raise ConfigError(f"{path}: in {source}: expected keys and values, found {type(found).__name__}")
        for key, value in found.items():
            if key == PROFILES and isinstance(value, dict) and isinstance(merged.get(key), dict):
                merged[key] = {**merged[key], **value}
            elif isinstance(value, str) and value.startswith("sdb://"):
                merged[key] = get(f"{path}:{key}", omit_grains=True, **leave_out)  # Salt resolves single values only
            else:
                merged[key] = value
    return merged
