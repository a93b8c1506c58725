"""The settings that lead to a realm, as options with which `distlock` finds it again from another shell."""

from __future__ import annotations

import os

from distlock_core.base.text import for_shell
from distlock_core.settings.options import SETTINGS
from distlock_core.settings.readers import read_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# The address of etcd, the connection to it, and the realm. No password: the file that has it is named.
REALM_SETTINGS = (
    *("config", "endpoints", "discovery_srv", "prefix", "raw_prefix", "transport"),
    *("cacert", "cert", "key", "tls_server_name", "user", "password_file"),
)


def as_options(settings: Mapping[str, Any]) -> str:
    """Settings by key as options for a shell, each with a leading blank; only those in `REALM_SETTINGS`."""
    words = []
    for setting in SETTINGS:
        value = settings.get(setting.key)
        if setting.key not in REALM_SETTINGS or value is None or value is False:
            continue
        text = ",".join(value) if isinstance(value, (list, tuple)) else str(value)
        if setting.read is read_path and text:
            text = _absolute(text)  # the reader's shell may be in another directory
        words.append(f" --{setting.option}" if value is True else f" --{setting.option}={for_shell(text)}")
    return "".join(words)


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings in `REALM_SETTINGS` that environment variables set."""
    return {
        setting.key: environ[setting.variable]
        for setting in SETTINGS
        if setting.key in REALM_SETTINGS and environ.get(setting.variable)
    }


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:
        return path
