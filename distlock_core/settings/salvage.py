"""Salvage: the settings as far as they can be read, for an examination of what is wrong with them."""

from __future__ import annotations

import os

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError
from distlock_core.settings.load import BY_VARIABLE, checked, load
from distlock_core.settings.options import BY_KEY, DEFAULT_FILE, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Settings that are checked together, and so left out together.
GROUPS = (
    *(("user", "password", "password_file"), ("cert", "key"), ("ttl", "refresh", "kill_after"), ("lockname",)),
    *(("id",), ("reason", "value"), ("tls_server_name",), ("discovery_srv",), ("internallock",)),
)


class Problems(Value):
    """What is wrong with the settings of a call: those settings are left out.

    `lacks_file`: so is the config file as a whole, and with it all that only the file says.
    """

    messages: tuple[str, ...] = ()
    lacks_file: bool = False


def salvage(
    options: Mapping[str, Any], names: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> tuple[Settings, Problems]:
    """`load()` without what is wrong: variables and checked settings one by one, the config file as a whole.

    `config` is the file that was to be read, even if it was left out.
    """
    usable, problems = _usable(os.environ if environ is None else environ)
    lacks_file = False
    try:
        settings = load(options, usable, names, check=False)
    except ConfigError as error:
        problems.append(error.message)
        path = options.get("config") or usable.get("DISTLOCK_CONFIG") or DEFAULT_FILE
        settings = load({**options, "config": ""}, usable, names, check=False)._replace(config=path)
        lacks_file = True
    return _checked(settings, problems), Problems(tuple(problems), lacks_file)


def _usable(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables without those that have a wrong value, and the error of each of these."""
    usable, problems = dict(environ), []
    for name, setting in BY_VARIABLE.items():
        text = environ.get(name, "")
        try:
            if text:
                setting.value(setting.as_utf8(text), name)
        except ConfigError as error:
            problems.append(error.message)
            del usable[name]
    return usable, problems


def _checked(settings: Settings, problems: list[str]) -> Settings:
    """The settings without those that are wrong, or contradict each other. Adds the error of each to `problems`."""
    left = list(GROUPS)
    while True:
        error = _error_of(settings)
        if error is None:
            return settings
        problems.append(error)
        # The group that the error is about: without it there is none, or another one.
        wrong = next((group for group in left if _error_of(_without(settings, group)) != error), None)
        if wrong is None:
            # The prefix: examined as it stands, as no other realm is meant.
            settings = settings._replace(raw_prefix=True)
            return settings if _error_of(settings) is None else Settings(json=settings.json, config=settings.config)
        left.remove(wrong)
        settings = _without(settings, wrong)


def _error_of(settings: Settings) -> str | None:
    try:
        checked(settings)
    except ConfigError as error:
        return error.message
    return None


def _without(settings: Settings, keys: tuple[str, ...]) -> Settings:
    defaults = {key: BY_KEY[key].default for key in keys}
    return settings._replace(**defaults, given=settings.given - set(keys))
