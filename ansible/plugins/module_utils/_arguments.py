# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the connection to etcd, with their documentation, for all modules and plugins.

The name of an option is its key in the config file; DISTLOCK_ and the name in capitals is its variable.
"""

from __future__ import annotations

from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.settings.options import SETTINGS

_CONNECTION = {
    "endpoints": {
        "type": "list",
        "elements": "str",
        "description": [
            "Members of one etcd cluster, as V(http://HOST:PORT).",
            "Defaults to V(http://127.0.0.1:2379).",
        ],
    },
    "discovery_srv": {
        "type": "str",
        "description": ["DNS domain whose SRV records name the members, if O(endpoints) are not given."],
    },
    "prefix": {
        "type": "str",
        "description": ["The realm, which is the prefix of all its keys in etcd. The default is V(/distlock/)."],
    },
    "config": {
        "type": "path",
        "description": [
            "Config file of distlock. Lowest precedence, so options and environment variables override it.",
            "The default is V(/etc/distlock/distlock.yaml), which need not exist. Reading a file may require PyYAML.",
        ],
    },
    "transport": {
        "type": "str",
        "choices": ["auto", "http", "grpc"],
        "description": [
            "How to talk to etcd: its JSON gateway, or gRPC, which requires the Python package etcd3.",
            "The default is V(auto), which is V(http) if the gateway is available.",
        ],
    },
    "cacert": {"type": "path", "description": ["CA bundle (PEM) for etcd's certificate."]},
    "cert": {"type": "path", "description": ["File with the client certificate for etcd."]},
    "key": {"type": "path", "description": ["File with its private key, if that is not in O(cert)."]},
    "tls_server_name": {
        "type": "str",
        "description": ["Name that etcd's certificate must have, if it differs from the host in the URL."],
    },
    "user": {"type": "str", "description": ["etcd user, if etcd has authentication enabled."]},
    "password": {
        "type": "str",
        "no_log": True,
        "description": ["Password of that user. It is never displayed; O(password_file) does not leave its host."],
    },
    "password_file": {"type": "path", "description": ["File that contains that password and nothing else."]},
    "connect_timeout": {
        "type": "raw",
        "description": ["Time limit for the first contact with etcd, in seconds or as V(10s). The default is V(5)."],
    },
    "release_timeout": {
        "type": "raw",
        "description": [
            "How long to retry a release while etcd is away, in seconds or as V(2m). The default is V(30)."
        ],
    },
}
_KNOWN = {setting.key: setting for setting in SETTINGS}
# Options that take a time: seconds, or with a unit as 10m or 2h.
_TIMES = (
    *("timeout", "ttl", "cooldown", "kill_after", "gate_timeout", "gate_every", "gate_for"),
    *("connect_timeout", "release_timeout"),
)

CONNECTION = {word: option for word, option in _CONNECTION.items() if word in _KNOWN}


def connection_spec():
    """For the argument_spec of a module."""
    return {
        word: {"no_log": False, **{name: value for name, value in option.items() if name != "description"}}
        for word, option in CONNECTION.items()
    }


def with_seconds(arguments, prefix=""):
    """The arguments, with their times as numbers of seconds. Raises `ConfigError`, which names `prefix` and option."""
    times = {word: arguments[word] for word in _TIMES if arguments.get(word) is not None}
    return {**arguments, **{word: _KNOWN[word].value(value, prefix + word) for word, value in times.items()}}


def connection_arguments(params):
    """The connection options of a task, by setting."""
    return {word: params[word] for word in CONNECTION}


def documented(sources=False):
    """The documentation of the options; with `sources`, including where Ansible reads them from for plugins."""
    options = {}
    for word, option in CONNECTION.items():
        options[word] = {name: value for name, value in option.items() if name != "no_log"}
        if sources:
            options[word]["vars"] = [{"name": "distlock_" + word}]
            options[word]["env"] = [{"name": _KNOWN[word].variable}]
            options[word]["ini"] = [{"section": "distlock", "key": word}]
    return options
