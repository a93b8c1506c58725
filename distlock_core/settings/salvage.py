"""Salvage: the settings as far as they can be read, for an examination of what is wrong with them."""

from __future__ import annotations

import os

from distlock_core.errors import ConfigError
from distlock_core.settings.load import BY_VARIABLE, load
from distlock_core.settings.options import DEFAULT_FILE, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def salvage(
    options: Mapping[str, Any], names: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> tuple[Settings, tuple[str, ...]]:
    """`load()` without what is wrong: variables one by one, the config file as a whole. Returns the errors too.

    `config` is the file that was to be read, even if it was left out.
    """
    environ = os.environ if environ is None else environ
    usable, problems = _usable(environ)
    without_file = {**options, "config": ""}
    path = options.get("config") or usable.get("DISTLOCK_CONFIG") or DEFAULT_FILE
    for given, variables in ((options, usable), (without_file, usable), (without_file, {})):
        try:
            settings = load(given, variables, names)
            # The file stays named: what is wrong with it is what the examination is about.
            return settings._replace(config=path if given is without_file else settings.config), tuple(problems)
        except ConfigError as error:
            if error.message not in problems:
                problems.append(error.message)
    shown = {key: options[key] for key in ("json", "quiet", "prefix", "lockname") if key in options}
    return Settings(**shown, config=path), tuple(problems)


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
