"""Names of locks for the completion of a command line in a shell.

The shell calls `distlock --complete-lock-names WORD ...` with the words before the cursor, and ends it after 0.3 s.
"""

from __future__ import annotations

import os

from distlock_core.base.text import printable
from distlock_core.cli.command_line import take
from distlock_core.connection import realm_of
from distlock_core.lock.known_names import known_names
from distlock_core.settings.load import load
from distlock_core.settings.realm_options import REALM_SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.settings.options import Settings


LONGEST = 1.0  # seconds for etcd's answer, if the shell does not end this before


def print_names(words: Sequence[str]) -> int:
    """Print the names of the realm that these words lead to, one a line. Every error is silent: a person is typing."""
    try:
        names = known_names(realm_of(_settings(words)))
        # A name with invisible characters was put there by another client; distlock accepts none.
        os.write(1, "".join(f"{name}\n" for name in names if name == printable(name)).encode())
    except Exception:  # noqa: BLE001, S110 - no error may appear in the line that is being typed
        pass
    return 0


def _settings(words: Sequence[str]) -> Settings:
    """The settings that lead to a realm: those among the words come before environment and config file."""
    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        if not rest[0].startswith("-"):
            rest.pop(0)  # for distlock-puppet: the operation
            continue
        name, setting, text = take(rest)
        if setting is not None and setting.key in REALM_SETTINGS and text is not None:
            options[setting.key] = setting.value(setting.as_utf8(text), f"option --{name}")
    return load(options)._replace(connect_timeout=LONGEST)
