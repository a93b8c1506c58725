# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to etcd, as every module and plugin takes it: the one list of its options, with what is said of them.

A word here is the key in the config file; DISTLOCK_ and the word in capitals is the variable.
"""

from __future__ import annotations

from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.settings.table import SETTINGS

_CONNECTION = {
    "endpoints": {
        "type": "list",
        "elements": "str",
        "description": [
            "Members of one etcd cluster, as V(http://HOST:PORT).",
            "What is given nowhere is V(http://127.0.0.1:2379).",
        ],
    },
    "discovery_srv": {
        "type": "str",
        "description": ["DNS domain whose SRV records name the members, where O(endpoints) are not given."],
    },
    "prefix": {
        "type": "str",
        "description": ["The realm, what all its keys in etcd begin with. The default is V(/distlock/)."],
    },
    "config": {
        "type": "path",
        "description": [
            "Config file of distlock. It comes behind all that is said here, and behind the environment.",
            "The default is V(/etc/distlock/distlock.yaml), which need not exist. To read one takes PyYAML.",
        ],
    },
    "transport": {
        "type": "str",
        "choices": ["auto", "http", "grpc"],
        "description": [
            "How etcd is spoken to: by its JSON gateway, or by gRPC, which takes the Python package etcd3.",
            "The default is V(auto), V(http) where that is to be had.",
        ],
    },
    "cacert": {"type": "path", "description": ["File with the certificates of who has signed those of etcd."]},
    "cert": {"type": "path", "description": ["File with the certificate to show to etcd."]},
    "key": {"type": "path", "description": ["File with its key, where that is not in O(cert)."]},
    "tls_server_name": {
        "type": "str",
        "description": ["The name that etcd's certificate is to have, where that is not the one in its URL."],
    },
    "user": {"type": "str", "description": ["User of etcd, where it wants one."]},
    "password": {
        "type": "str",
        "no_log": True,
        "description": ["Password of that user. It is shown nowhere; O(password_file) does not leave its host."],
    },
    "password_file": {"type": "path", "description": ["File with that password and nothing else."]},
    "connect_timeout": {
        "type": "float",
        "description": ["So many seconds for the first contact with etcd. The default is V(5)."],
    },
    "release_timeout": {
        "type": "float",
        "description": ["So many seconds a release is tried while etcd does not answer. The default is V(30)."],
    },
}
_KNOWN = {setting.key: setting for setting in SETTINGS}

CONNECTION = {word: option for word, option in _CONNECTION.items() if word in _KNOWN}


def connection_spec():
    """For the argument_spec of a module."""
    return {
        word: {"no_log": False, **{name: value for name, value in option.items() if name != "description"}}
        for word, option in CONNECTION.items()
    }


def connection_arguments(params):
    """What was said of the connection, by setting."""
    return {word: params[word] for word in CONNECTION}


def documented(sources=False):
    """The options for a documentation, for plugins with the `sources` that Ansible reads for them."""
    options = {}
    for word, option in CONNECTION.items():
        options[word] = {name: value for name, value in option.items() if name != "no_log"}
        if sources:
            options[word]["vars"] = [{"name": "distlock_" + word}]
            options[word]["env"] = [{"name": _KNOWN[word].variable}]
            options[word]["ini"] = [{"section": "distlock", "key": word}]
    return options
