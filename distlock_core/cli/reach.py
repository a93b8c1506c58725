"""The settings of this call that say where etcd is and which realm is meant, as options for the next call.

A command in a message reaches the realm of this call, even when it is pasted into another shell: options and variables
of this call are carried over. The default config file reaches whoever reads the message as it has reached this call.
Only remembers what was given, until there is a message to be worded.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_given: Mapping[str, Any] = {}
_endpoints = ""  # of etcdlocker


def carry(given: Mapping[str, Any], endpoints: str = "") -> None:
    """Remember the settings that this call was given as options, by key; for etcdctl the `endpoints`."""
    global _given, _endpoints
    _given, _endpoints = given, endpoints


def options() -> str:
    """These options as a shell takes them, each with a blank before it."""
    import os

    from distlock_core.settings.reach import as_options, from_environment
    from distlock_core.settings.readers import utf8

    found = from_environment({name: utf8(text) for name, text in os.environ.items() if name.startswith("DISTLOCK_")})
    if "raw_prefix" in found:
        from distlock_core.settings.readers import read_bool

        found["raw_prefix"] = read_bool(found["raw_prefix"])
    return as_options({**found, **_given})


def etcdctl_options() -> str:
    """The endpoints of etcdlocker, for etcdctl, with a blank before it."""
    from distlock_core.base.text import for_shell

    return f" --endpoints={for_shell(_endpoints)}" if _endpoints else ""
