"""A node as in the documentation: distlock in /usr/local/bin, its config file in place, and stand-ins for work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support.needs import missing, need
from tests.support.processes import Process

BIN = Path(sys.executable).parent
BOUND = 90.0  # seconds for one recipe, on a busy machine
ENTER = """
mount --bind "$1/bin" /usr/local/bin && mount --bind "$1/sbin" /usr/local/sbin || exit
shift
exec "$@"
"""


class Node:
    """Runs commands as printed, with all files at their documented places.

    This needs a mount namespace, and so root. Programs that change a machine are stand-ins that record their calls.
    """

    def __init__(self, folder: Path, endpoint: str) -> None:
        if os.getuid() != 0:
            missing("only root can put programs of a test's own into /usr/local/bin. To install it: sudo make test")
        need("unshare", "apt-get install util-linux")
        self._folder = folder
        self._log = folder / "called"
        self.config = folder / "distlock.yaml"
        self.config.write_text(f"endpoints:\n  - {endpoint}\n")
        for name in ("bin", "sbin"):
            (folder / name).mkdir()
        for name in ("distlock", "distlock-etcd", "distlock-puppet", "etcdlocker"):
            # In place of /etc/distlock/distlock.yaml.
            self.program(f"bin/{name}", f'DISTLOCK_CONFIG={self.config} exec {BIN / name} "$@"')

    def program(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def stand_in(self, name: str, script: str = "") -> None:
        """A program in /usr/local (`bin/NAME`, `sbin/NAME`) that records its call, and then runs the script."""
        self.program(name, f'echo "{Path(name).name} $*" >>{self._log}\n{script}')

    @property
    def called(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def start(self, command: str, shell: Iterable[str] = ("bash", "-c")) -> Process:
        """Run it as in a login shell of root; stdout and stderr are merged."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.start_in({"PATH": path, "HOME": str(self._folder), "LANG": "C.UTF-8"}, [*shell, command])

    def start_in(self, environment: dict[str, str], argv: list[str]) -> Process:
        words = [f"{name}={value}" for name, value in environment.items()]
        return Process(
            ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(self._folder), "env", "-i", *words, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            start_new_session=True,
        )

    def run(self, command: str, shell: Iterable[str] = ("bash", "-c")) -> tuple[int, str]:
        return finish(self.start(command, shell))


def finish(process: Process) -> tuple[int, str]:
    said, _ = process.communicate(timeout=BOUND)
    return process.returncode, said
