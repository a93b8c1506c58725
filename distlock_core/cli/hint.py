"""Hints: a command in a message reaches the realm of this call, also when it is pasted into another shell.

What is given as an option of this call is carried over. What stands in the environment, or in the default config file,
reaches whoever reads the message as it has reached this call.
"""

from __future__ import annotations

from collections.abc import Mapping

from distlock_core.base.text import for_shell
from distlock_core.settings.table import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What says where etcd is, how it is spoken to, and which realm is meant; in this order.
CARRIED = (
    *("config", "endpoints", "discovery_srv", "prefix", "raw_prefix", "transport"),
    *("cacert", "cert", "key", "tls_server_name", "user", "password_file"),
)
_COMMAND = r"(?<![\w-])distlock (?=--(?:show|unlock|list|verify|update|get|watch|lock)\b)"
_ETCDCTL = r"(?<![\w-])etcdctl (?=get )"

_options = ""  # of this call, as a shell takes them
_endpoints = ""


def carry(given: Mapping[str, Any], endpoints: str = "") -> None:
    """Remember the settings that this call was given as options, by key; for etcdctl the `endpoints`."""
    global _options, _endpoints
    words = []
    for setting in SETTINGS if given else ():
        if setting.key in CARRIED and setting.key in given:
            value = given[setting.key]
            text = ",".join(value) if isinstance(value, list) else str(value)
            words.append(f"--{setting.option}" if value is True else f"--{setting.option}={for_shell(text)}")
    _options = " ".join([*words, ""])
    _endpoints = f"--endpoints={for_shell(endpoints)} " if endpoints else ""


def carried(message: str) -> str:
    """Return the message, with those options in every command that it names."""
    import re  # compiled here: most calls end without a message

    if _options:
        message = re.sub(_COMMAND, lambda _: f"distlock {_options}", message)
    if _endpoints:
        message = re.sub(_ETCDCTL, lambda _: f"etcdctl {_endpoints}", message)
    return message
