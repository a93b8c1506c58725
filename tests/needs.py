"""What a test needs beside Python: skipped where it is missing, but not in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from distlock_core.testing import BinaryNotFound, find_etcd, find_etcdctl

_INSTALL = {
    "ansible-playbook": "pip install ansible-core",
    "salt-call": "pip install salt",
    "puppet": "apt-get install puppet-agent",
    "ip": "apt-get install iproute2",
    "openssl": "apt-get install openssl",
    "docker": "apt-get install docker.io",
}


def need(tool: str, install: str | None = None) -> str:
    """The path of a tool; a test that needs one which is missing is skipped, with the line that installs it.

    `tool` is a command, or "etcd", "etcd 3.4", "etcdctl". With CI=true in the environment it fails instead.
    """
    name, _, version = tool.partition(" ")
    if name in ("etcd", "etcdctl"):
        try:
            return (find_etcd if name == "etcd" else find_etcdctl)(version or None)
        except BinaryNotFound as e:
            missing(str(e))
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is missing. To install it: {install or _INSTALL.get(name, f'apt-get install {name}')}")
    return path


def missing(message: str) -> NoReturn:
    """Skip the test for this reason; under CI=true fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
