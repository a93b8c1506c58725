"""A realm that only options or variables name, and the commands that messages about it advise, pasted into a shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import Callable

from distlock_core import connect
from distlock_core.testing import Cluster
from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "it's a lock; or $HOME"
BIN = os.path.dirname(sys.executable)


def pasted(line: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run in a shell that knows nothing of the call."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    env["PATH"] = f"{BIN}:{env['PATH']}"
    words = " ".join([line, *map(shlex.quote, more)])
    return subprocess.run(["sh", "-c", words], env=env, capture_output=True, text=True, timeout=100, check=False)


def behind(words: str, line: str) -> str:
    """The command in a sentence that begins like this."""
    found = re.search(rf"{re.escape(words)}(.*?)(?:\. [A-Z]|$)", line)
    assert found is not None, line
    return found[1]


class Site:
    """A realm that only this call's options, or variables, name."""

    def __init__(self, run: Run, etcd: Cluster, realm: RealmView, by_variables: bool) -> None:
        self.realm, self._run = realm, run
        self.endpoint, self.prefix = etcd.endpoints[0], f"{realm.prefix}else where/"
        self.where = [f"--endpoints={self.endpoint}", f"--prefix={self.prefix}"]
        self.env: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": None, "DISTLOCK_PREFIX": None}
        if by_variables:
            self.where, self.env = [], {"DISTLOCK_ENDPOINTS": self.endpoint, "DISTLOCK_PREFIX": self.prefix}
        self.at = connect(self.endpoint, self.prefix)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(*self.where, f"--lock-name={NAME}", *arguments, env=self.env)

    def said(self, *arguments: str) -> str:
        """The message of a refused call."""
        done = self(*arguments)
        assert done.returncode == 1, done
        return str(one_line(done.stderr))

    def locked(self, *arguments: str) -> int:
        assert self("--lock", *arguments).returncode == 0
        return self.at.show(NAME).holders[-1].token

    def free(self) -> bool:
        return self.at.show(NAME).holders == ()
