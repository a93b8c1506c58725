"""The options with which a command in a message reaches the realm of this call.

They are options and variables of this call, so that the command works even when it is pasted into another shell. The
default config file needs no option. This module only stores them until a message is worded.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_given: Mapping[str, Any] = {}
_endpoints = ""  # of etcdlocker
_words: Mapping[str, str] = {}  # the sentences of a front end where they differ from those of distlock


def carry(given: Mapping[str, Any], endpoints: str = "", words: Mapping[str, str] | None = None) -> None:
    """Store the settings given as options to this call, by key; for etcdctl the `endpoints`.

    `words`: the sentences, by code, in which a front end differs from `distlock`.
    """
    global _given, _endpoints, _words
    _given, _endpoints, _words = given, endpoints, words or {}


def own_words() -> Mapping[str, str]:
    return _words


def options() -> str:
    """The options for a shell, each with a leading blank."""
    import os

    from distlock_core.settings.reach import as_options, from_environment
    from distlock_core.settings.readers import utf8

    found = from_environment({name: utf8(text) for name, text in os.environ.items() if name.startswith("DISTLOCK_")})
    if "raw_prefix" in found:
        from distlock_core.settings.readers import read_bool

        found["raw_prefix"] = read_bool(found["raw_prefix"])
    return as_options({**found, **_given})


def etcdctl_options() -> str:
    """The endpoints of etcdlocker as an option for etcdctl, with a leading blank."""
    from distlock_core.base.text import for_shell

    return f" --endpoints={for_shell(_endpoints)}" if _endpoints else ""
