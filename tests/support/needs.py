"""Tools that tests need besides Python: a test is skipped if one is missing, except in CI."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

from distlock_core.testing import BinaryNotFound
from tests.support import etcd_servers

SALT = "apt-get install gcc libc6-dev python3-dev && make .venv/.ready"  # it has parts in C, as source only
_INSTALL = {
    "ansible-playbook": "make .venv/.ready",
    "salt-call": SALT,
    "puppet": "apt-get install puppet-agent",
    "ip": "apt-get install iproute2",
    "man": "apt-get install man-db",
    "nginx": "apt-get install nginx-light",
    "openssl": "apt-get install openssl",
    "gcc": "apt-get install gcc libc6-dev",
    "docker": "apt-get install docker.io",
    "faketime": "apt-get install faketime",
}


def need(tool: str, install: str | None = None) -> str:
    """The path of a tool. If it is missing, the test is skipped with the command that installs it.

    `tool` is a command, or "etcd" (the newest), "etcd 3.4", "etcdctl": see `etcd_servers`.
    With CI=true in the environment it fails instead.
    """
    name, _, version = tool.partition(" ")
    if name in ("etcd", "etcdctl"):
        try:
            return etcd_servers.find(name, version or etcd_servers.NEWEST)
        except BinaryNotFound as e:
            missing(str(e))
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")  # daemons are not on everybody's PATH
    if path is None:
        missing(f"{name} is missing. To install it: {install or _INSTALL.get(name, f'apt-get install {name}')}")
    return path


def missing(message: str) -> NoReturn:
    """Skip the test for this reason; under CI=true fail."""
    if etcd_servers.IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def summary(reasons: Iterable[str]) -> list[str]:
    """A summary of skipped tests by missing tool, with one command that installs all of them."""
    counted = Counter(reasons)
    packages: set[str] = set()
    others: set[str] = set()
    lines = []
    for reason, count in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])):
        lines.append(f"{count:5} test{'' if count == 1 else 's'}: {reason}")
        for command in reason.partition(" To install it: ")[2].split(" && "):
            names = re.fullmatch(r"apt-get install ([\w .+-]+)", command)
            if names:
                packages.update(names.group(1).split())
            elif command.startswith("make "):
                others.add(command)
    commands = [f"apt-get install {' '.join(sorted(packages))}"] if packages else []
    commands += sorted(others)
    if commands:
        lines.append(f"To install it all: {' && '.join(commands)}")
    return lines
